"""Commands and their versions. Every run has a Command row, kept or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from commands.errors import Invalid
from commands.models.ids import new_command_uid
from commands.models.resource_group import ResourceGroup
from commands.models.team import Region, Team, User
from commands.rules import limits
from commands.rules.content import CommandType, Termination
from commands.rules.schema import ParameterSchema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.contrib.auth.models import AnonymousUser
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models.sql.compiler import SQLCompiler
    from django_stubs_ext import StrOrPromise


class Type(models.TextChoices):
    """Kinds of script, as people read them."""

    SHELL = CommandType.SHELL.value, "Shell"
    BAT = CommandType.BAT.value, "Bat"
    POWERSHELL = CommandType.POWERSHELL.value, "PowerShell"


def type_choices() -> list[tuple[str, str]]:
    """Kinds of script for forms; a function, so that migrations hold no copy of them."""
    return Type.choices


class TerminationChoice(models.TextChoices):
    """What a timeout or a stop ends, as people read it."""

    PROCESS_TREE = Termination.PROCESS_TREE.value, _("The script and everything it started")
    PROCESS = Termination.PROCESS.value, _("Only the script itself")


def termination_choices() -> Sequence[tuple[str, StrOrPromise]]:
    """Terminations for forms; a function, so that migrations hold no copy of them."""
    return TerminationChoice.choices


class OctetLength(models.Func):
    """Bytes of a text, which databases count as characters otherwise."""

    function = "OCTET_LENGTH"
    arity = 1
    output_field = models.PositiveIntegerField()

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> tuple[str, Any]:
        """SQLite has another name for it."""
        template = "LENGTH(CAST(%(expressions)s AS BLOB))"
        return self.as_sql(compiler, connection, template=template, **context)


class Definition(models.Model):
    """What to run and how: the columns that a version, and a task's frozen copy of it, share.

    ``parameters`` are the schemas of parameters by key (``ParameterSchema.to_dict``).
    """

    content = models.TextField()
    workdir = models.CharField(max_length=limits.WORKDIR_CHARS, blank=True, default="")
    timeout = models.PositiveIntegerField(default=limits.TIMEOUT_DEFAULT)
    use_params = models.BooleanField(default=False)
    parameters = models.JSONField(default=dict, blank=True)
    launcher = models.CharField(max_length=limits.LAUNCHER_BYTES, blank=True, default="")
    run_as = models.CharField(max_length=limits.RUN_AS_CHARS, blank=True, default="")
    termination = models.CharField(
        max_length=16, choices=termination_choices, default=TerminationChoice.PROCESS_TREE
    )

    class Meta:
        abstract = True

    def schemas(self) -> dict[str, ParameterSchema]:
        """The schema of every parameter that has one, by key.

        Raises Invalid if the rules of today refuse one that was kept before.
        """
        return {key: ParameterSchema.from_dict(data) for key, data in self.parameters.items()}

    def schemas_as_kept(self) -> dict[str, ParameterSchema]:
        """The same to be shown and edited, whatever the rules of today say."""
        return {key: ParameterSchema.as_kept(data) for key, data in self.parameters.items()}

    def refused(self) -> dict[str, str]:
        """Why schemas that were kept before are refused today, by key: then nothing can run."""
        found: dict[str, str] = {}
        for key, data in self.parameters.items():
            try:
                ParameterSchema.from_dict(data)
            except Invalid as error:
                found[key] = error.message
        return found


class CommandQuerySet(models.QuerySet["Command"]):
    """Commands, and who may see them."""

    def kept(self) -> CommandQuerySet:
        """Commands in the library: the only ones that are listed and counted."""
        return self.filter(kept=True)

    def visible_to(self, user: User | AnonymousUser) -> CommandQuerySet:
        """Commands of the teams of ``user``."""
        return self.filter(team__in=Team.objects.of(user))

    def search(self, text: str) -> CommandQuerySet:
        """Commands with every word of ``text`` in their name, description or newest content.

        Sets ``rank``: 0 where all of it is in the name, 1 with the description, else 2.
        """
        found, in_name, in_words = self, Q(), Q()
        # Not every database takes NUL in a comparison; no command has it.
        for word in text.replace("\0", " ").split()[: limits.SEARCH_WORDS]:
            newest = CommandVersion.objects.newest().filter(content__icontains=word)
            name, words = Q(name__icontains=word), Q(description__icontains=word)
            found = found.filter(
                name | words | models.Exists(newest.filter(command=models.OuterRef("pk")))
            )
            in_name, in_words = in_name & name, in_words & (name | words)
        return found.annotate(rank=_rank(in_name, in_words))

    def pinned_first(self, user: User) -> CommandQuerySet:
        """Those that ``user`` pinned on top, then by name; sets ``pinned``."""
        pins = CommandPin.objects.filter(user=user, command=models.OuterRef("pk"))
        rank = ["rank"] if "rank" in self.query.annotations else []
        return self.annotate(pinned=models.Exists(pins)).order_by(
            "-pinned", *rank, Lower("name"), "uid"
        )

    def used_first(self, user: User) -> CommandQuerySet:
        """Those that ``user`` pinned on top, then what that user ran last, then by name."""
        pins = CommandPin.objects.filter(user=user, command=models.OuterRef("pk"))
        used = (
            self.model.objects.filter(pk=models.OuterRef("pk"), invocations__created_by=user)
            .order_by("-invocations__created_at")
            .values("invocations__created_at")
        )
        return self.annotate(pinned=models.Exists(pins), used=models.Subquery(used[:1])).order_by(
            "-pinned", models.F("used").desc(nulls_last=True), Lower("name"), "uid"
        )

    def most_used_first(self, user: User) -> CommandQuerySet:
        """Those that ``user`` pinned on top, then what the team ran most often, then by name."""
        used = models.F("times_run").desc()
        return (
            self.pinned_first(user)
            .with_use()
            .order_by(models.F("pinned").desc(), used, Lower("name"), "uid")
        )

    def with_use(self) -> CommandQuerySet:
        """Sets ``times_run``, a number of tasks, and ``last_task``, the newest one's key."""
        same = self.model.objects.filter(pk=models.OuterRef("pk")).order_by()
        tasks = same.annotate(number=models.Count("invocations"))
        last = same.order_by("-invocations__created_at", "-invocations__pk")
        return self.annotate(
            times_run=models.Subquery(tasks.values("number")),
            last_task=models.Subquery(last.values("invocations__pk")[:1]),
        )

    def with_newest(self) -> CommandQuerySet:
        """Brings the newest version along, as the only one in the list ``newest``."""
        newest = models.Prefetch(
            "versions", queryset=CommandVersion.objects.newest(), to_attr="newest"
        )
        return self.prefetch_related(newest)


def _rank(in_name: Q, in_words: Q) -> models.Case | models.Value:
    """Where a command stands among what was found; nothing was looked for without conditions."""
    if not in_name:
        return models.Value(0)
    whens = models.When(in_name, then=0), models.When(in_words, then=1)
    return models.Case(*whens, default=2, output_field=models.IntegerField())


class Command(models.Model):
    """A script with a name. With Save Command off it has ``kept=False`` and is listed nowhere.

    ``latest`` is the number of its newest version, whose name, description, tags and
    ``runners_may_type`` it repeats.
    """

    Type = Type

    uid = models.CharField(max_length=40, unique=True, default=new_command_uid, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="commands")
    region = models.ForeignKey(Region, on_delete=models.PROTECT, related_name="commands")
    resource_group = models.ForeignKey(
        ResourceGroup, on_delete=models.PROTECT, related_name="commands"
    )
    name = models.CharField(max_length=limits.NAME_CHARS)
    description = models.CharField(max_length=limits.DESCRIPTION_CHARS, blank=True, default="")
    type = models.CharField(max_length=24, choices=type_choices)
    kept = models.BooleanField(default=False)
    latest = models.PositiveIntegerField(default=1)
    runners_may_type = models.BooleanField(default=False)
    tags = models.JSONField(default=dict, blank=True)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField()
    updated_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    updated_at = models.DateTimeField()

    objects = CommandQuerySet.as_manager()

    class Meta:
        ordering = ["name", "uid"]
        indexes = [models.Index(fields=["team", "region", "kept"], name="command_library")]
        constraints = [
            models.CheckConstraint(condition=Q(uid__startswith="c-"), name="command_uid"),
            models.CheckConstraint(condition=~Q(name=""), name="command_has_name"),
            models.CheckConstraint(
                condition=Q(type__in=[kind.value for kind in CommandType]), name="command_type"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class CommandVersionQuerySet(models.QuerySet["CommandVersion"]):
    """Versions, and which of them are in force."""

    def newest(self) -> CommandVersionQuerySet:
        """The newest version of each command."""
        return self.filter(number=models.F("command__latest"))


class CommandVersion(Definition):
    """What a command said at one time. Versions are immutable: an edit adds one.

    ``runners_may_type``: whether members that only run saved commands may give values that are
    inserted as typed, so that those can be code. ``tags`` are values by key. ``restored_from`` is
    the number of the older version that this one brought back.
    """

    command = models.ForeignKey(Command, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    name = models.CharField(max_length=limits.NAME_CHARS)
    description = models.CharField(max_length=limits.DESCRIPTION_CHARS, blank=True, default="")
    runners_may_type = models.BooleanField(default=False)
    tags = models.JSONField(default=dict, blank=True)
    restored_from = models.PositiveIntegerField(null=True)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField()

    objects = CommandVersionQuerySet.as_manager()

    class Meta:
        ordering = ["command", "-number"]
        constraints = [
            models.UniqueConstraint(fields=["command", "number"], name="command_version_number"),
            models.CheckConstraint(condition=Q(number__gte=1), name="command_version_from_1"),
            models.CheckConstraint(
                condition=Q(timeout__gte=limits.TIMEOUT_MIN, timeout__lte=limits.TIMEOUT_MAX),
                name="command_version_timeout",
            ),
            models.CheckConstraint(
                condition=Q(termination__in=[value.value for value in Termination]),
                name="command_version_termination",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.command} v{self.number}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert. Raises TypeError for a stored version: those never change."""
        if not self._state.adding:
            raise TypeError("A command version is immutable; add a new one.")
        super().save(*args, **kwargs)


class CommandPin(models.Model):
    """A command that somebody wants on top of the library."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="command_pins")
    command = models.ForeignKey(Command, on_delete=models.CASCADE, related_name="pins")

    class Meta:
        ordering = ["user", "command"]
        constraints = [models.UniqueConstraint(fields=["user", "command"], name="command_pin_once")]

    def __str__(self) -> str:
        return f"{self.command} of {self.user}"

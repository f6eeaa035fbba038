"""What was asked to run (Invocation), where it runs (Run), and what it prints (OutputChunk)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q, Value
from django.utils.translation import gettext_lazy as _

from commands.models.command import Command, CommandVersion, Definition, type_choices
from commands.models.fields import EncryptedTextField
from commands.models.ids import new_invocation_uid
from commands.models.instance import Instance, storable
from commands.models.resource_group import ResourceGroup
from commands.models.team import Region, Team, User
from commands.rules import limits, sameness
from commands.rules.content import CommandType, Termination
from commands.rules.rate import Rate
from commands.rules.status import FAILURES, FINAL, STOPS, Phase, RunStatus, TaskStatus

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser

_FINAL = sorted(FINAL)
_MOVING = sorted(frozenset(RunStatus) - FINAL)


class InvocationQuerySet(models.QuerySet["Invocation"]):
    """Tasks, and who may see them."""

    def visible_to(self, user: User | AnonymousUser) -> InvocationQuerySet:
        """Tasks of the teams of ``user``; values are decrypted only where they are read."""
        return self.filter(team__in=Team.objects.of(user)).defer("values")

    def active(self) -> InvocationQuerySet:
        """Tasks with a run that has not ended."""
        return self.filter(_has_run(*_MOVING))

    def in_state(self, status: str) -> InvocationQuerySet:
        """Tasks of which ``rules.status.roll_up`` says ``status``."""
        return self.annotate(state=_state()).filter(state=status)

    def finished(self) -> InvocationQuerySet:
        """Tasks of which ``rules.status.legacy_roll_up`` says Finished: no matter what came out."""
        by_itself, other = (RunStatus.SUCCESS, RunStatus.FAILED), FAILURES - {RunStatus.FAILED}
        return self.exclude(_has_run(*_MOVING, *other)).filter(_has_run(*by_itself))

    def unapproved(self) -> InvocationQuerySet:
        """Tasks that wait for another member's approval."""
        return self.filter(approval__state="waiting")

    def under_way(self) -> InvocationQuerySet:
        """Tasks that have not ended, and wait for nobody's approval."""
        return self.active().exclude(approval__state="waiting")

    def failed(self) -> InvocationQuerySet:
        """Tasks that have ended, with a run that failed."""
        return self.exclude(_has_run(*_MOVING)).filter(_has_run(*FAILURES))

    def on_instance(self, name: str) -> InvocationQuerySet:
        """Tasks with a run on the instance of that id, or of that name in any case."""
        runs = Run.objects.filter(Q(instance_uid=name) | Q(instance_name__iexact=name))
        return self.filter(models.Exists(runs.filter(invocation=models.OuterRef("pk"))))

    def search(self, text: str) -> InvocationQuerySet:
        """Tasks that every word of ``text`` fits: a part of their name, or of their id."""
        found = self
        for word in storable(text).split()[: limits.SEARCH_WORDS]:
            found = found.filter(Q(name__icontains=word) | Q(uid__icontains=word))
        return found


def _state() -> models.Case:
    """What ``rules.status.roll_up`` says of a task's runs, rule by rule."""
    run, task = RunStatus, TaskStatus
    waiting = models.Case(
        models.When(_has_run(*_FINAL), then=Value(task.RUNNING.value)),
        default=Value(task.PENDING.value),
    )
    failed = models.Case(
        models.When(_has_run(run.SUCCESS), then=Value(task.PARTIAL_FAILED.value)),
        default=Value(task.FAILED.value),
    )
    return models.Case(
        models.When(_has_run(run.STOPPING), then=Value(task.STOPPING.value)),
        models.When(_has_run(run.RUNNING), then=Value(task.RUNNING.value)),
        models.When(_has_run(run.PENDING), then=waiting),
        models.When(_has_run(*FAILURES), then=failed),
        models.When(_has_run(run.SUCCESS), then=Value(task.SUCCESS.value)),
        models.When(_has_run(*STOPS), then=Value(task.STOPPED.value)),
        default=Value(task.PENDING.value),
        output_field=models.CharField(),
    )


def _has_run(*statuses: str) -> models.Exists:
    """Whether a task has a run in one of ``statuses``."""
    values = sorted(str(status) for status in statuses)
    return models.Exists(Run.objects.filter(invocation=models.OuterRef("pk"), status__in=values))


class Invocation(Definition):
    """One request to run something on some instances: a "task", with a frozen copy of it.

    ``values`` are its parameters' values by key, as JSON; those of the keys in ``hidden`` are
    never shown. ``saved`` says that its command was in the library; ``permission`` is what
    its creator needs, at creation and again at dispatch. How fast it spreads is ``rate``, and
    ``batch_end`` how many of its runs, in order, may have begun by now. ``again_of`` is the task
    that it repeats, and ``again_kind`` in which way (``rules.again.Again``); NULL and "" if none.
    ``tell_me`` says that its creator wants an e-mail when it ends; ``settled_at`` when its end was
    noticed, and notices of it were made (``services.notices``).
    """

    uid = models.CharField(max_length=40, unique=True, default=new_invocation_uid, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="invocations")
    region = models.ForeignKey(Region, on_delete=models.PROTECT, related_name="invocations")
    resource_group = models.ForeignKey(
        ResourceGroup, on_delete=models.PROTECT, related_name="invocations"
    )
    command = models.ForeignKey(
        Command, null=True, on_delete=models.SET_NULL, related_name="invocations"
    )
    version = models.ForeignKey(
        CommandVersion, null=True, on_delete=models.SET_NULL, related_name="invocations"
    )
    name = models.CharField(max_length=limits.NAME_CHARS)
    command_uid = models.CharField(max_length=40)
    saved = models.BooleanField(default=False)
    permission = models.CharField(max_length=40, default="invocation:create")
    type = models.CharField(max_length=24, choices=type_choices)
    timeout_asked = models.BigIntegerField()
    values = EncryptedTextField(blank=True, default="")
    hidden = models.JSONField(default=list, blank=True)
    tags = models.JSONField(default=dict, blank=True)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_by_name = models.CharField(max_length=150)
    created_at = models.DateTimeField()
    client_token = models.CharField(max_length=limits.CLIENT_TOKEN_CHARS, blank=True, default="")
    request_digest = models.CharField(max_length=64, blank=True, default="")
    again_of = models.ForeignKey(
        "self", null=True, on_delete=models.SET_NULL, related_name="repeats"
    )
    again_kind = models.CharField(max_length=8, blank=True, default="")

    concurrency = models.PositiveIntegerField(default=0)
    canary = models.PositiveIntegerField(default=0)
    batch_pause = models.PositiveIntegerField(default=0)
    batch_confirm = models.BooleanField(default=False)
    max_failures = models.CharField(max_length=limits.MAX_FAILURES_CHARS, blank=True, default="")
    batch_end = models.PositiveIntegerField(default=0)

    tell_me = models.BooleanField(default=False)
    settled_at = models.DateTimeField(null=True)

    objects = InvocationQuerySet.as_manager()

    class Meta:
        verbose_name = _("task")
        verbose_name_plural = _("tasks")
        ordering = ["-created_at", "-pk"]
        indexes = [
            models.Index(fields=["team", "region", "-created_at"], name="invocation_listing"),
            models.Index(
                fields=["created_at"],
                condition=Q(settled_at__isnull=True),
                name="invocation_unsettled",
            ),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(uid__startswith="t-"), name="invocation_uid"),
            models.CheckConstraint(condition=~Q(name=""), name="invocation_has_name"),
            models.CheckConstraint(
                condition=Q(type__in=[kind.value for kind in CommandType]), name="invocation_type"
            ),
            models.CheckConstraint(
                condition=Q(timeout__gte=limits.TIMEOUT_MIN, timeout__lte=limits.TIMEOUT_MAX),
                name="invocation_timeout",
            ),
            models.CheckConstraint(
                condition=Q(termination__in=[value.value for value in Termination]),
                name="invocation_termination",
            ),
            models.UniqueConstraint(
                fields=["team", "created_by", "client_token"],
                condition=~Q(client_token=""),
                name="invocation_client_token",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.uid} {self.name}"

    @property
    def rate(self) -> Rate:
        """How fast it spreads over its instances."""
        return Rate(
            concurrency=self.concurrency,
            max_failures=self.max_failures,
            pause_s=self.batch_pause,
            confirm=self.batch_confirm,
            canary=self.canary,
        )


class RunQuerySet(models.QuerySet["Run"]):
    """Runs, and which of them still need somebody."""

    def unfinished(self) -> RunQuerySet:
        """Runs that have not ended."""
        return self.exclude(status__in=_FINAL)

    def going_on(self) -> RunQuerySet:
        """Runs that have not ended, and wait for nobody's approval."""
        return self.unfinished().exclude(phase=Phase.UNAPPROVED.value)

    def held(self) -> RunQuerySet:
        """Runs that their task does not let begin yet."""
        return self.unfinished().filter(phase=Phase.HELD.value)

    def released(self) -> RunQuerySet:
        """Runs that a worker may take, or has taken."""
        return self.exclude(phase__in=[Phase.UNAPPROVED.value, Phase.HELD.value])

    def unapproved(self) -> RunQuerySet:
        """Runs that begin only if another member approves their task."""
        return self.unfinished().filter(phase=Phase.UNAPPROVED.value)

    def seen_before(self, run_id: int, *, instance_id: int, team_id: int) -> Run | None:
        """The team's last run on an instance before the run ``run_id`` that saw its machine."""
        same = self.filter(instance=instance_id, invocation__team=team_id, pk__lt=run_id)
        return same.exclude(machine_id="", host_key_fingerprint="").order_by("-pk").first()

    def uncompared(self) -> RunQuerySet:
        """Runs that have ended, of whose output no digest by the rules of now is stored yet."""
        compared = Q(same_exactly__startswith=sameness.VERSION)
        return self.filter(~compared, status__in=_FINAL)

    def locked(self) -> list[int]:
        """Their ids, with their rows locked for the present transaction.

        One after the other by id: an UPDATE of many locks them in any order, and two of those
        can wait for each other in a circle.
        """
        rows = self.select_for_update(of=("self",), no_key=True).order_by("pk")
        return list(rows.values_list("pk", flat=True))


class Run(models.Model):
    """One invocation on one instance. Columns of the instance are copies: it may go away.

    ``digest`` binds it to exactly what runs (``services.scripts``). The sizes count the bytes
    that are stored; ``stdout_masked`` and ``stderr_masked`` say how many bytes after those
    belong to a secret that was masked up to there.

    ``deadline`` is by when it must have left the state that it is in: queued, it must have been
    taken, later the script must have ended; NULL while it is held. ``stop_asked_at`` and
    ``stop_by`` say when it was to be stopped, and by whom; ``stop_due`` when a worker tells the
    instance so (again), NULL once that has confirmed. ``processes_left`` is how many processes a
    timeout or a stop left alive; NULL is "not verified". ``survivors`` names some of them.

    ``way`` is a digest of the way to its instance as it was when a worker first took it
    (``services.approved``); "" until then. ``taken_at`` is when a worker took it over, or had it
    back, after nobody did: from then on it has some time, also past its deadline
    (``services.runs``).

    ``boot_id``, ``machine_id``, ``hostname`` and ``host_key_fingerprint`` are what was seen of
    the instance when the script started there; "" where nothing did, or nothing was told.

    ``stalled_since`` says that a process of it waits for input from a terminal (``stall_info``
    names it), as seen then; output takes that back. ``stall_asked_at`` is when that was last
    looked at (``services.stalls``).
    """

    invocation = models.ForeignKey(Invocation, on_delete=models.CASCADE, related_name="runs")
    instance = models.ForeignKey(
        Instance, null=True, on_delete=models.SET_NULL, related_name="runs"
    )
    instance_uid = models.CharField(max_length=32)
    instance_name = models.CharField(max_length=128)
    address = models.CharField(max_length=270)
    digest = models.CharField(max_length=64)

    status = models.CharField(max_length=16, default=RunStatus.PENDING.value)
    phase = models.CharField(max_length=16, default=Phase.QUEUED.value)
    exit_code = models.BigIntegerField(null=True)
    error_code = models.CharField(max_length=64, blank=True, default="")
    error_info = models.TextField(blank=True, default="")
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    deadline = models.DateTimeField(null=True)
    stop_asked_at = models.DateTimeField(null=True)
    stop_by = models.CharField(max_length=150, blank=True, default="")
    stop_due = models.DateTimeField(null=True)
    stop_confirmed_at = models.DateTimeField(null=True)
    processes_left = models.PositiveIntegerField(null=True)
    survivors = models.CharField(max_length=200, blank=True, default="")

    lease_owner = models.CharField(max_length=64, blank=True, default="")
    lease_until = models.DateTimeField(null=True)
    taken_at = models.DateTimeField(null=True)
    way = models.CharField(max_length=64, blank=True, default="")
    base = models.CharField(max_length=255, blank=True, default="")
    boot_id = models.CharField(max_length=64, blank=True, default="")
    machine_id = models.CharField(max_length=64, blank=True, default="")
    hostname = models.CharField(max_length=255, blank=True, default="")
    host_key_fingerprint = models.CharField(max_length=64, blank=True, default="")

    stdout_size = models.BigIntegerField(default=0)
    stderr_size = models.BigIntegerField(default=0)
    stdout_masked = models.PositiveIntegerField(default=0)
    stderr_masked = models.PositiveIntegerField(default=0)
    next_sequence = models.BigIntegerField(default=0)
    # Of much output a head and a tail are kept. Chunks before number head_chunks (None while it
    # is not full) are the head, head_bytes in all; those from number tail_from on are the tail.
    # Between them dropped_bytes are missing; tail_lines says where counting of lines stands there.
    head_chunks = models.PositiveBigIntegerField(null=True)
    head_bytes = models.PositiveBigIntegerField(default=0)
    dropped_bytes = models.PositiveBigIntegerField(default=0)
    tail_from = models.PositiveBigIntegerField(default=0)
    tail_lines = models.JSONField(default=list)
    # What came last and found no room on the instance's disk; no size counts it. None: maybe some.
    lost_bytes = models.PositiveBigIntegerField(default=0, null=True)
    last_line = models.CharField(max_length=limits.LAST_LINE_CHARS, blank=True, default="")
    stalled_since = models.DateTimeField(null=True)
    stall_info = models.CharField(max_length=100, blank=True, default="")
    stall_asked_at = models.DateTimeField(null=True)
    # Runs with the same digest printed the same (rules.sameness); "" until they are compared.
    same_exactly = models.CharField(max_length=64, blank=True, default="")
    same_loosely = models.CharField(max_length=64, blank=True, default="")

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        indexes = [
            models.Index(
                fields=["lease_until"],
                condition=~Q(status__in=_FINAL),
                name="run_unfinished_lease",
            ),
            models.Index(
                fields=["deadline"], condition=~Q(status__in=_FINAL), name="run_unfinished_deadline"
            ),
            models.Index(
                fields=["stop_due"],
                condition=Q(status=RunStatus.STOPPING.value),
                name="run_stopping_due",
            ),
            models.Index(
                fields=["invocation"], condition=Q(phase=Phase.HELD.value), name="run_held"
            ),
            models.Index(fields=["status", "invocation"], name="run_status_of_task"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["invocation", "instance_uid"], name="run_once"),
            models.CheckConstraint(
                condition=Q(status__in=[status.value for status in RunStatus]), name="run_status"
            ),
            models.CheckConstraint(
                condition=Q(status__in=_FINAL, finished_at__isnull=False)
                | (~Q(status__in=_FINAL) & Q(finished_at__isnull=True)),
                name="run_finished_when_final",
            ),
            models.CheckConstraint(
                condition=~Q(status=RunStatus.SUCCESS.value) | Q(exit_code=0, error_code=""),
                name="run_success_is_exit_0",
            ),
            models.CheckConstraint(
                condition=~Q(status=RunStatus.FAILED.value)
                | (Q(exit_code__isnull=False) & ~Q(exit_code=0)),
                name="run_failed_has_exit_code",
            ),
            models.CheckConstraint(
                condition=Q(stdout_size__gte=0, stderr_size__gte=0, next_sequence__gte=0),
                name="run_sizes",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.instance_name}: {self.status}"

    @property
    def execution_id(self) -> str:
        """The run's name on the instance: unique for ever, readable by a person there."""
        return f"{self.invocation.uid}.{self.instance_uid}"


class OutputChunk(models.Model):
    """Some consecutive bytes that a run printed, in order of arrival."""

    class Stream(models.IntegerChoices):
        """The two streams, by their number in the database."""

        STDOUT = 1, "stdout"
        STDERR = 2, "stderr"

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="chunks")
    sequence = models.BigIntegerField()
    stream = models.PositiveSmallIntegerField()
    offset = models.BigIntegerField()
    data = models.BinaryField()
    arrived_at = models.DateTimeField()

    class Meta:
        ordering = ["run", "sequence"]
        constraints = [
            models.UniqueConstraint(fields=["run", "sequence"], name="output_sequence"),
            models.UniqueConstraint(fields=["run", "stream", "offset"], name="output_offset"),
            models.CheckConstraint(condition=Q(stream__in=[1, 2]), name="output_stream"),
            models.CheckConstraint(
                condition=Q(sequence__gte=0, offset__gte=0), name="output_from_0"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.run_id} #{self.sequence}"

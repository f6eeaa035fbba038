"""The form of an instance: where it is, how the console signs in there, which host key is right.

What is allowed is said by the rules; their sentences are put beside the fields. Secrets are taken
from the form or, where it has none, from those that are kept since the last try.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db.models import Exists, OuterRef
from django.http import HttpRequest, QueryDict
from django.utils.translation import gettext as _

from commands.errors import CommandConsoleError, Invalid
from commands.models import Credential, Instance, Region, ResourceGroup, Team
from commands.models.instance import InstanceQuerySet
from commands.rules import addressing, limits
from commands.rules.tags import check_tags
from commands.services import credentials
from commands.services.instances import NewCredential, Place, check_private_key
from console import grouping
from console.forms.fields import IdsField, SwitchField, TextField
from console.forms.run import new_client_token

EXISTING, KEY, PASSWORD, GENERATE = "existing", "key", "password", "generate"
Value = TypeVar("Value")

WAYS = (EXISTING, KEY, PASSWORD, GENERATE)
"""Where the credential comes from."""

SECRETS = ("private_key", "passphrase", "password")
"""Fields whose values no page ever holds."""

LISTED = 200
"""Instances that are offered as jump hosts: those that are some, then others by name."""

_FIELDS = {"jump_host": "jump", "secret": "private_key", "os_type": "os"}
"""Where the services call a field by another name."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What can be chosen: credentials, instances to connect through, resource groups."""

    credentials: list[Credential]
    jump_hosts: list[Instance]
    hosts: InstanceQuerySet
    """All that can be connected through; ``jump_hosts`` are those that are listed."""
    groups: list[ResourceGroup]

    @classmethod
    def of(cls, team: Team, region: Region, instance: Instance | None = None) -> Offer:
        """What a team has in a region, for ``instance`` if there is one already."""
        # Secrets stay where they are: one that can't be decrypted must not hide the others.
        own = Credential.objects.filter(team=team, region=region)
        hosts: InstanceQuerySet = Instance.objects.usable_by(team)
        hosts = hosts.filter(region=region, jump_host=None)
        if instance is not None:
            hosts = hosts.exclude(pk=instance.pk)
        serving = Exists(Instance.objects.filter(jump_host=OuterRef("pk")))
        listed = hosts.order_by(serving.desc(), "name", "uid")[:LISTED]
        credentials = list(own.defer("secret", "passphrase"))
        return cls(credentials, list(listed), hosts, grouping.choices(team))

    def jump_host(self, uid: str) -> Instance | None:
        """The instance to connect through that is called ``uid``."""
        possible = uid.isascii() and uid.isprintable()
        return self.hosts.filter(uid=uid).first() if possible else None


class InstanceForm(forms.Form):
    """An instance as the pages for adding and editing one show it.

    ``key`` is the host key that was read at ``key_at``, for a person to compare; ``confirmed``
    says that this was done.
    """

    name = TextField()
    host = TextField()
    port = TextField(initial="22")
    user = TextField(initial="root")
    os = TextField(initial=Instance.Os.LINUX.value)
    jump = TextField()
    group = TextField()
    tag = IdsField()
    tags = TextField()
    way = TextField()
    credential = TextField()
    credential_name = TextField()
    private_key = TextField()
    key_file = forms.FileField(required=False, allow_empty_file=True)
    passphrase = TextField()
    password = TextField()
    key = TextField()
    key_at = TextField()
    confirmed = SwitchField()
    token = TextField()

    def __init__(
        self, *args: Any, offer: Offer, kept: Mapping[str, str] | None = None, **kwargs: Any
    ) -> None:
        self.offer = offer
        self.kept = dict(kept or {})
        super().__init__(*args, **kwargs)

    @property
    def shown_way(self) -> str:
        """Where the credential comes from, as the page shows it."""
        way = str(self["way"].value() or "")
        fallback = EXISTING if self.offer.credentials else KEY
        return way if way in WAYS else fallback

    @property
    def shown_tags(self) -> list[str]:
        """The tags so far, as chips; what was typed for more stays in its field."""
        return list(dict.fromkeys(self["tag"].value() or []))

    @property
    def shown_name(self) -> str:
        """What the name would be if nobody types one."""
        return addressing.proposed_name(str(self["host"].value() or ""))

    @property
    def shown_key(self) -> str:
        """The host key that was read where the fields say that the instance is; "" if none was."""
        host, port, jump, key, at = (
            str(self[name].value() or "").strip()
            for name in ("host", "port", "jump", "key", "key_at")
        )
        return key if at == f"{host.strip('[]')} {port} {jump}".strip() else ""

    @property
    def target(self) -> str:
        """Where a host key is read, as ``key_at`` says it. Only for a form that is valid."""
        data = self.cleaned_data
        return f"{data['host']} {data['port']} {data['jump'].uid if data['jump'] else ''}".strip()

    @property
    def has_key(self) -> bool:
        """Whether a host key was read where the form says that the instance is."""
        return bool(self.cleaned_data["key"]) and self.cleaned_data["key_at"] == self.target

    def clean_host(self) -> str:
        """The host."""
        allowed = settings.CONSOLE_ALLOWED_NETWORKS
        return _said(addressing.check_host, self.cleaned_data["host"], allowed)

    def clean_port(self) -> int:
        """The port as a number."""
        return _said(addressing.check_port, self.cleaned_data["port"])

    def clean_user(self) -> str:
        """The user to sign in as."""
        return _said(addressing.check_user, self.cleaned_data["user"])

    def clean_os(self) -> str:
        """The operating system."""
        if self.cleaned_data["os"] not in Instance.Os.values:
            raise forms.ValidationError(_("Choose an operating system."))
        return str(self.cleaned_data["os"])

    def clean_jump(self) -> Instance | None:
        """The instance to connect through, if any."""
        uid = self.cleaned_data["jump"]
        if not uid:
            return None
        found = self.offer.jump_host(uid)
        if found is None:
            raise forms.ValidationError(_("Choose a jump host of the list."))
        if found not in self.offer.jump_hosts:
            self.offer.jump_hosts.append(found)
        return found

    def clean_group(self) -> ResourceGroup | None:
        """The resource group; None where there is nothing to choose, or nothing was chosen."""
        uid = self.cleaned_data["group"]
        found = grouping.chosen(self.offer.groups, uid)
        if uid and found is None:
            raise forms.ValidationError(_("Choose a resource group of the list."))
        return found

    def clean(self) -> dict[str, Any]:
        """What depends on several fields: the name, the tags, the credential."""
        data = self.cleaned_data
        if "host" in data:
            name = data["name"].strip() or addressing.proposed_name(data["host"])
            self._try("name", lambda: addressing.check_name(name))
        self._try("tags", self._tags)
        way = self.shown_way
        if way == EXISTING:
            data["credential"] = self._existing()
        else:
            self._try(
                "credential_name",
                lambda: addressing.check_credential_name(self._credential_name(way)),
            )
        if way == KEY:
            self._check_key()
        elif way == PASSWORD and not self.secret("password"):
            self.add_error("password", _("Enter the password."))
        return data

    def add_domain_error(self, error: CommandConsoleError) -> None:
        """Put a service's sentence beside the field that it is about."""
        field = error.field if isinstance(error, Invalid) else ""
        field = _FIELDS.get(field, field)
        self.add_error(field if field in self.fields else None, error.message)

    def secret(self, name: str) -> str:
        """A secret that was typed now, else the one that is kept."""
        return str(self.cleaned_data.get(name) or "") or self.kept.get(name, "")

    def secrets(self) -> dict[str, str]:
        """All secrets that are known, by field, to be kept until the next try."""
        return {name: value for name in SECRETS if (value := self.secret(name))}

    def place(self) -> Place:
        """Where the instance is, and how the console signs in there. Only for a valid form."""
        data = self.cleaned_data
        return Place(
            name=data["name"],
            host=data["host"],
            port=data["port"],
            user=data["user"],
            credential=self._chosen(),
            os_type=data["os"],
            jump_host=data["jump"],
        )

    def _chosen(self) -> Credential | NewCredential:
        data = self.cleaned_data
        if self.shown_way == EXISTING:
            chosen: Credential = data["credential"]
            return chosen
        name = data["credential_name"]
        if self.shown_way == PASSWORD:
            return NewCredential(name, password=self.secret("password"))
        return NewCredential(
            name, private_key=self.secret("private_key"), passphrase=self.secret("passphrase")
        )

    def _try(self, field: str, check: Callable[[], object]) -> None:
        try:
            self.cleaned_data[field] = check()
        except Invalid as error:
            self.add_error(field, error.message)

    def _tags(self) -> list[tuple[str, str]]:
        pairs = tag_pairs(self.cleaned_data["tag"], self.cleaned_data["tags"])
        return list(check_tags(pairs).items())

    def _existing(self) -> Credential | None:
        pk = self.cleaned_data["credential"]
        known = {str(one.pk): one for one in self.offer.credentials}
        if pk not in known:
            self.add_error("credential", _("Choose a credential of the list."))
            return None
        found = credentials.readable(known[pk].pk)
        if found is None:
            self.add_error(
                "credential",
                _("The console lacks the encryption key of this credential. Choose another one."),
            )
        return found

    def _credential_name(self, way: str) -> str:
        if given := self.cleaned_data["credential_name"].strip():
            return str(given)
        name = self.cleaned_data.get("name") or _("the new instance")
        words = {KEY: _("Key of %(name)s"), PASSWORD: _("Password of %(name)s")}
        whole = words.get(way, _("Generated key of %(name)s")) % {"name": name}
        return str(whole)[: limits.CREDENTIAL_NAME_CHARS]

    def _check_key(self) -> None:
        file = self.cleaned_data.get("key_file")
        if file is not None:
            self._take_file(file)
        key = self.secret("private_key")
        if self.has_error("private_key") or self.has_error("key_file"):
            return
        if not key.strip():
            self.add_error("private_key", _("Paste the private key, or choose its file."))
        elif len(key.encode()) > limits.PRIVATE_KEY_BYTES:
            self.add_error("private_key", _("This is too long for a private key."))
        else:
            try:
                check_private_key(key, self.secret("passphrase"))
            except Invalid as error:
                at = "passphrase" if "passphrase" in error.message else "private_key"
                self.add_error(at, error.message)

    def _take_file(self, file: UploadedFile[Any]) -> None:
        """Read the key out of a file, instead of what was pasted."""
        if (file.size or 0) > limits.PRIVATE_KEY_BYTES:
            self.add_error("key_file", _("This file is too large for a private key."))
            return
        try:
            self.cleaned_data["private_key"] = file.read().decode()
        except ValueError:
            self.add_error("key_file", _("This file is no text, so it is no private key."))


def blank(offer: Offer) -> InstanceForm:
    """The form of an instance that nobody has described yet."""
    return InstanceForm(offer=offer, initial={"token": new_client_token()})


def to_edit(offer: Offer, instance: Instance) -> InstanceForm:
    """The form of an instance as it is."""
    if instance.jump_host is not None and instance.jump_host not in offer.jump_hosts:
        offer.jump_hosts.append(instance.jump_host)
    initial = {
        "name": instance.name,
        "host": instance.host,
        "port": str(instance.port),
        "user": instance.user,
        "os": instance.os_type,
        "jump": instance.jump_host.uid if instance.jump_host else "",
        "group": instance.resource_group.uid,
        "tag": [str(tag) for tag in instance.tags.all()],
        "way": EXISTING,
        "credential": str(instance.credential_id),
        "token": new_client_token(),
    }
    return InstanceForm(offer=offer, initial=initial)


def sent(request: HttpRequest, offer: Offer, kept: Mapping[str, str]) -> InstanceForm:
    """What was sent."""
    return InstanceForm(request.POST, request.FILES, offer=offer, kept=kept)


def changed(form: InstanceForm, **values: str) -> InstanceForm:
    """The form with other values, shown before it is complete, so without a word about errors."""
    data = cast("QueryDict", form.data).copy()
    for name, value in values.items():
        data[name] = value
    after = InstanceForm(data, offer=form.offer, kept=form.kept)
    after.is_valid()
    after.errors.clear()
    return after


def tag_pairs(chips: Iterable[str], typed: str) -> list[tuple[str, str]]:
    """Keys and values of tags: those that are chips, then those typed, by comma or line."""
    words = (word.strip() for word in (*chips, *typed.replace("\n", ",").split(",")))
    parts = [word.partition("=") for word in dict.fromkeys(words) if word]
    return [(key, value) for key, _equals, value in parts]


def _said(check: Callable[..., Value], *values: Any) -> Value:
    try:
        return check(*values)
    except Invalid as error:
        raise forms.ValidationError(error.message) from None

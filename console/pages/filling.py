"""What the form of the wizard begins with, and what becomes of it when its source changes.

Two sources share one form. The fields of a new command that are not on the page while a saved
one is shown travel in hidden fields whose names begin with ``new-``, so that switching there
and back loses nothing. Hidden values don't travel; they wait in the session.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from django.core.exceptions import ImproperlyConfigured
from django.http import QueryDict
from django.utils.translation import gettext as _

from commands.models import Command, CommandVersion, Invocation, User
from commands.models.command import CommandQuerySet
from commands.rules import limits
from commands.rules.content import TEMPLATES, CommandType, is_beginning
from commands.rules.schema import looks_secret
from console.forms import definition, parameters
from console.forms.run import EXISTING, NEW, RunForm, new_client_token
from console.resolve import Scope

STASH = "new-"
OLD = "old-"
"""The same for a saved command: ``old-<uid>-``."""
STASHED = 400
"""Most fields that a page carries for other sources: the newest."""
CARRIED = 12 * limits.PARAMETERS
"""Most fields about parameters that a page carries while they are switched off."""
SHOWN_SOURCE, SHOWN_COMMAND = "shown-source", "shown-command"
_OF_NEW = {*definition.DefinitionForm.base_fields, "save"}
_ABOUT_PARAMETERS = (
    parameters.VALUE,
    parameters.HIDE,
    parameters.SEEN,
    parameters.KEPT,
    parameters.ABOUT,
)


def saved(scope: Scope, uid: str) -> CommandVersion | None:
    """The newest version of a command of the library; None if there is none of that id."""
    if not (uid and uid.isascii() and uid.isprintable()):
        return None
    newest = CommandVersion.objects.newest().select_related("command", "created_by")
    return newest.filter(command__in=_library(scope).filter(uid=uid)).first()


def taken(scope: Scope, name: str) -> bool:
    """Whether a saved command has this name already. That is allowed, but people should know."""
    wanted = name.strip()
    # Not every database takes NUL in a comparison; no name has it.
    return bool(wanted) and "\0" not in wanted and _library(scope).filter(name=wanted).exists()


def offered(scope: Scope, user: User) -> CommandQuerySet:
    """Saved commands, what ``user`` probably wants first."""
    return _library(scope).used_first(user)


def _library(scope: Scope) -> CommandQuerySet:
    return Command.objects.kept().filter(team=scope.team, region=scope.region)


def last_values(user: User, version: CommandVersion | None) -> dict[str, str]:
    """The values that ``user`` gave this command last, by key, without hidden ones."""
    if version is None or not version.use_params:
        return {}
    task = Invocation.objects.filter(created_by=user, command=version.command).defer("values")
    found = task.order_by("-created_at").first()
    if found is None:
        return {}
    try:
        values: dict[str, str] = json.loads(found.values or "{}")
    except ImproperlyConfigured:
        return {}
    return {key: value for key, value in values.items() if key not in found.hidden}


def last_type(scope: Scope, user: User) -> CommandType:
    """The type of what ``user`` ran or wrote last here; Shell for somebody new."""
    here = {"team": scope.team, "region": scope.region}
    tasks = Invocation.objects.filter(created_by=user, **here).order_by("-pk")
    versions = CommandVersion.objects.filter(
        created_by=user, **{f"command__{name}": value for name, value in here.items()}
    ).order_by("-pk")
    found = [
        *tasks.values_list("created_at", "type")[:1],
        *versions.values_list("created_at", "command__type")[:1],
    ]
    return CommandType(max(found)[1]) if found else CommandType.SHELL


def blank(kind: CommandType, *, save: bool) -> QueryDict:
    """The fields of a new command that nobody has written yet."""
    usual = ("timeout", "termination")
    data = {name: str(RunForm.base_fields[name].initial) for name in usual}
    data["type"], data["content"] = kind.value, TEMPLATES[kind]
    return as_new(data, save=save)


def first_try(*, save: bool) -> QueryDict:
    """The fields of a command that does no harm, for somebody's first task."""
    data = blank(CommandType.SHELL, save=save)
    data["name"] = data["content"] = "uname -a"
    return data


def is_blank(data: QueryDict) -> bool:
    """Whether these are the fields of a new command that nobody has written yet."""
    written = data.get("name", "").strip() or not is_beginning(data.get("content", ""))
    return data.get("source") == NEW and not written


def copied(version: CommandVersion, *, save: bool) -> QueryDict:
    """The fields of a new command that is a copy of a saved one."""
    suffix = _(" (copy)")
    fields = definition.fields_of(version.command, version)
    fields["name"] = version.name[: limits.NAME_CHARS - len(suffix)] + suffix
    return as_new(fields, save=save)


def as_new(fields: Mapping[str, str], *, save: bool) -> QueryDict:
    """The form with the fields of a new command."""
    data = QueryDict(mutable=True)
    data.update(fields)
    data["source"] = data[SHOWN_SOURCE] = NEW
    data["client_token"] = new_client_token()
    if save:
        data["save"] = "on"
    return data


def out_of_step(data: QueryDict) -> bool:
    """Whether another source or command was chosen than the fields on the page belong to.

    Programs post no marks of what was on their page, and always mean what they send.
    """
    if data.get(SHOWN_SOURCE, data.get("source")) != data.get("source"):
        return True
    is_existing = data.get("source") == EXISTING
    return is_existing and data.get(SHOWN_COMMAND, data.get("command")) != data.get("command")


def as_shown(data: QueryDict) -> QueryDict:
    """What was sent, with the source and the command that its fields belong to."""
    found = data.copy()
    found["source"] = data.get(SHOWN_SOURCE, data.get("source", NEW))
    found["command"] = data.get(SHOWN_COMMAND, data.get("command", ""))
    return found


def switched(data: QueryDict, source: str, version: CommandVersion | None) -> QueryDict:
    """The form with the fields of another source, or of another saved command."""
    found = data.copy()
    _put_away(found, _prefix(data.get(SHOWN_SOURCE, NEW), data.get(SHOWN_COMMAND, "")))
    if source == EXISTING:
        _load(found, version)
        _bring_back(found, _prefix(EXISTING, version.command.uid if version else ""))
    else:
        _bring_back(found, STASH)
    found["source"] = found[SHOWN_SOURCE] = source
    return found


def catch_up(data: QueryDict, version: CommandVersion) -> None:
    """Take over what a newer version says, except where something else was typed."""
    number = data.get("version", "")
    before = CommandVersion.objects.filter(
        command=version.command_id, number=int(number) if number.isdecimal() else 0
    ).first()
    if before is not None and data.get("workdir") == before.workdir:
        data["workdir"] = version.workdir
    if before is not None and data.get("timeout") == str(before.timeout):
        data["timeout"] = str(version.timeout)
    data["version"] = str(version.number)


def _prefix(source: str, uid: str) -> str:
    return f"{OLD}{uid}-" if source == EXISTING else STASH


def carried(form: RunForm) -> list[tuple[str, str]]:
    """What was typed about parameters while they are switched off, and so not on the page.

    Whoever switches them on again finds it. Hidden values wait in the session instead.
    """
    if form.existing or form["use_params"].value():
        return []
    sent = {name.lower() for name in form.sent}
    kept = [(parameters.KEPT + key, "1") for key in hidden_values(form.sent)]
    open_ones = [
        (name, str(form.sent[name]))
        for name in form.sent
        if name.startswith(_ABOUT_PARAMETERS) and not _secret_key(name, sent)
    ]
    return [*kept, *open_ones][:CARRIED]


def hidden_values(data: QueryDict) -> dict[str, str]:
    """The values in what was sent, by key, that may be secret, whatever the command says now."""
    sent = {name.lower() for name in data}
    values = {
        name.lower().removeprefix(parameters.VALUE): str(data[name])
        for name in data
        if name.lower().startswith(parameters.VALUE) and data[name]
    }
    return {key: value for key, value in values.items() if _may_be_secret(key, sent)}


def stash(data: QueryDict) -> list[tuple[str, str]]:
    """Names and values of the hidden fields that a page carries for other sources."""
    found = [(name, str(data[name])) for name in data if name.startswith((STASH, OLD))]
    return found[-STASHED:]


def _is_field(name: str) -> bool:
    return name in _OF_NEW or name.startswith(_ABOUT_PARAMETERS)


def _put_away(data: QueryDict, prefix: str) -> None:
    """Give all fields of a source names that begin with ``prefix``."""
    sent = {name.lower() for name in data}
    for name in [name for name in data if _is_field(name)]:
        secret = _secret_key(name, sent)
        if not secret:
            data[prefix + name] = str(data[name])
        elif data[name] and name.lower().startswith(parameters.VALUE):  # it waits in the session
            data[f"{prefix}{parameters.KEPT}{secret}"] = "1"
        del data[name]
    data.pop("version", None)


def _secret_key(name: str, sent: set[str]) -> str:
    """The key of the parameter that a field holds a secret of; "" if it holds none."""
    for beginning in (parameters.VALUE, f"{parameters.ABOUT}default-"):
        key = name.lower().removeprefix(beginning)
        if key != name.lower() and _may_be_secret(key, sent):
            return key
    return ""


def _may_be_secret(key: str, sent: set[str]) -> bool:
    """Whether a value is hidden, or would be if the command had this parameter just now."""
    if parameters.HIDE + key in sent:
        return True
    return parameters.SEEN + key not in sent and looks_secret(key)


def _bring_back(data: QueryDict, prefix: str) -> None:
    for name in [name for name in data if name.startswith(prefix)]:
        data[name.removeprefix(prefix)] = str(data[name])
        del data[name]


def _load(data: QueryDict, version: CommandVersion | None) -> None:
    data[SHOWN_COMMAND] = version.command.uid if version else ""
    if version is None:
        return
    data["command"] = version.command.uid
    data["version"] = str(version.number)
    data["workdir"] = version.workdir
    data["timeout"] = str(version.timeout)

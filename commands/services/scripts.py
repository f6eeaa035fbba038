"""The script that really runs on one instance, how people may see it, and what binds it.

A run's *digest* is computed when its task is created, over everything that decides what happens
on its instance; before the script is sent, it is computed again. So a row that was changed in
between runs nothing. It is keyed and holds the task's id, so nobody can find out a weak secret by
trying values: neither who reads it, nor who has the console compute others. What people compare
is the digest of the text as it is shown, with marks for hidden values.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from django.utils.crypto import constant_time_compare, salted_hmac

from commands.models import Instance, Invocation, Region, Run, Team
from commands.rules import content as rules
from commands.rules import parameters, redaction
from commands.rules.grammar import Builtin, scan
from commands.rules.quoting import Insertion
from commands.rules.schema import ParameterSchema, check_values
from commands.services import definitions, quotas
from commands.words import gettext_noop

_LONGEST_UID = "x" * 22
"""Ids of tasks and commands are assigned at creation; all have this length."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a script runs: what its built-in placeholders are filled with there."""

    region: str
    account: str
    instance: str
    instance_name: str
    invocation: str = _LONGEST_UID
    command: str = _LONGEST_UID

    @classmethod
    def of(cls, instance: Instance, *, account: str, region: str) -> Place:
        """The place for a task that has no ids yet."""
        return cls(region, account, instance.uid, instance.name)

    def builtins(self) -> dict[Builtin, str]:
        """The value of every built-in placeholder."""
        return {
            Builtin.REGION_ID: self.region,
            Builtin.ACCOUNT_ID: self.account,
            Builtin.INSTANCE_ID: self.instance,
            Builtin.INSTANCE_NAME: self.instance_name,
            Builtin.INVOKE_ID: self.invocation,
            Builtin.COMMAND_ID: self.command,
        }


@dataclass(frozen=True, slots=True)
class Script:
    """A command's text with the values of one task; ``values`` is None with parameters off.

    ``hidden`` are the keys whose values nobody may see.
    """

    content: str
    type: rules.CommandType
    values: Mapping[str, str] | None = field(repr=False)
    insertions: Mapping[str, Insertion]
    hidden: frozenset[str]

    @classmethod
    def of(cls, invocation: Invocation) -> Script:
        """The script of a task. Raises ImproperlyConfigured if values can't be decrypted."""
        return cls(
            content=invocation.content,
            type=rules.CommandType(invocation.type),
            values=json.loads(invocation.values or "{}") if invocation.use_params else None,
            insertions=definitions.insertions_of(invocation),
            hidden=frozenset(invocation.hidden),
        )

    def filled(self, place: Place) -> str:
        """The text that runs there, line ends LF. Raises Invalid where a value can't go in."""
        if self.values is None:
            return self.content
        known = place.builtins()
        return parameters.fill(
            self.content, self.values, known, self.insertions, command_type=self.type
        )

    def data(self, place: Place) -> bytes:
        """The exact bytes that run there: Bat reads lines that end in CRLF."""
        text = self.filled(place)
        if self.type is rules.CommandType.BAT:
            text = text.replace("\n", "\r\n")
        return text.encode()

    def shown(self, place: Place) -> str:
        """The text as people may see it, with a mark for every hidden value."""
        if self.values is None:
            return self.content
        return parameters.show(
            self.content,
            self.values,
            place.builtins(),
            self.insertions,
            command_type=self.type,
            hidden=self.hidden,
        )

    def names_ids(self, *, command_is_known: bool) -> bool:
        """Whether it holds ids that are assigned only when the task is created."""
        if self.values is None:
            return False
        assigned = {Builtin.INVOKE_ID, *([] if command_is_known else [Builtin.COMMAND_ID])}
        return bool(assigned & set(scan(self.content).builtins))

    def secrets(self) -> frozenset[bytes]:
        """All byte strings as which output may show a hidden value."""
        values = self.values or {}
        found = (redaction.forms(values[key]) for key in self.hidden & values.keys())
        return frozenset().union(*found)


def values_of(
    content: str, given: Mapping[str, str], schemas: Mapping[str, ParameterSchema]
) -> dict[str, str]:
    """The value of every parameter of ``content``, by key. Raises Invalid, InvalidFields.

    What is wrong with the placeholders themselves is said by ``definitions.check``.
    """
    unix = {name: value.replace("\r\n", "\n") for name, value in given.items()}
    return check_values(scan(content).parameters, unix, schemas)


def check_filled(script: Script, places: Iterable[Place], *, team: Team, region: Region) -> None:
    """Raise Invalid if a value can't go in, or makes the script too long for ``team``."""
    longest = max(places, key=lambda place: len(place.instance_name.encode()))
    what = gettext_noop("Command with its values")
    quotas.check_content(team=team, region=region, text=script.filled(longest), what=what)


def place_of(run: Run) -> Place:
    """The place of a run that exists; with its invocation, team and region."""
    invocation = run.invocation
    return Place(
        region=invocation.region.uid,
        account=invocation.team.uid,
        instance=run.instance_uid,
        instance_name=run.instance_name,
        invocation=invocation.uid,
        command=invocation.command_uid,
    )


def shown(run: Run) -> str:
    """What ran, or will run, in a run, with a mark for every hidden value.

    Raises ImproperlyConfigured if the values can't be decrypted.
    """
    return Script.of(run.invocation).shown(place_of(run))


def shown_digest(text: str) -> str:
    """SHA-256 of a script as people see it, in 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Binding:
    """Everything that decides what happens on the instance of a run."""

    task: str
    instance: str
    type: str
    script: bytes = field(repr=False)
    workdir: str
    timeout: int
    launcher: str
    run_as: str
    termination: str

    @classmethod
    def of(cls, run: Run, script: bytes) -> Binding:
        """What a run would do with ``script``."""
        task = run.invocation
        return cls(
            task=task.uid,
            instance=run.instance_uid,
            type=task.type,
            script=script,
            workdir=task.workdir,
            timeout=task.timeout,
            launcher=task.launcher,
            run_as=task.run_as,
            termination=task.termination,
        )

    def digest(self) -> str:
        """64 hexadecimal digits, keyed with the console's secret."""
        plain = [
            self.task,
            self.instance,
            self.script.decode(),
            self.workdir,
            self.timeout,
            self.launcher,
            self.run_as,
            self.termination,
            # Left out for the type that was there first: tasks that wait outlive an upgrade.
            *([] if self.type == rules.CommandType.SHELL else [self.type]),
        ]
        return salted_hmac("binding", json.dumps(plain), algorithm="sha256").hexdigest()

    def matches(self, digest: str) -> bool:
        """Whether ``digest`` is of this."""
        return constant_time_compare(self.digest(), digest)

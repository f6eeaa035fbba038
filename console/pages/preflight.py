"""The part of ``/run/`` that looks at the chosen instances before a task is created there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from commands.errors import CommandConsoleError, InvalidFields
from commands.models import Preflight, PreflightCheck
from commands.rules.preflight import Mark, Step, marks
from commands.services import preflight as service
from console import resolve
from console.forms.run import RunForm
from console.resolve import Scope

CHECK, LOOK, KEEP = "check", "check-look", "check-keep"
LATE = timedelta(seconds=20)
"""How long a worker may take before it is told that none has begun."""
TARGET = "preflight"
"""The id of the panel, and the field that says which preflight it shows."""

_LABELS = {
    Step.REACH: gettext_lazy("Reachable"),
    Step.HOST_KEY: gettext_lazy("Host key"),
    Step.SIGN_IN: gettext_lazy("Sign-in"),
    Step.USER: gettext_lazy("User"),
    Step.PATH: gettext_lazy("Path"),
    Step.INTERPRETER: gettext_lazy("Interpreter"),
    Step.SPACE: gettext_lazy("Disk space"),
}
_WORDS = {
    Mark.OK: gettext_lazy("fine"),
    Mark.BAD: gettext_lazy("not fine"),
    Mark.SKIPPED: gettext_lazy("not checked"),
}
_ICONS = {Mark.OK: "ok", Mark.BAD: "bad", Mark.SKIPPED: "off"}
_PROBLEMS_FIRST = ("bad", "warn", "ok")
_STATES = {Mark.OK: "ok", Mark.BAD: "bad", Mark.SKIPPED: "idle"}


class StepView(NamedTuple):
    """One step of a row: its name, what came of it in a word, colour and shape."""

    label: str
    word: str
    state: str
    icon: str


@dataclass(frozen=True, slots=True)
class Row:
    """One instance: how it is, why, and what is to be known besides."""

    check: PreflightCheck
    label: str
    state: str
    icon: str
    steps: list[StepView] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def uid(self) -> str:
        """The id of the instance."""
        return self.check.instance.uid


@dataclass(frozen=True, slots=True)
class Panel:
    """What is shown: nothing yet, what was wrong with the form, or the instances of ``asked``."""

    asked: Preflight | None = None
    rows: list[Row] = field(default_factory=list)
    errors: Sequence[str] = ()
    unselected: int = 0
    """How many instances were taken out of the selection just now."""

    @property
    def done(self) -> int:
        """How many instances were looked at."""
        return sum(row.check.done for row in self.rows)

    @property
    def active(self) -> bool:
        """Whether there is more to come."""
        return self.done < len(self.rows)

    @property
    def late(self) -> bool:
        """Whether nobody has begun, although somebody should have."""
        if self.asked is None or self.done or not self.active:
            return False
        waits = all(row.check.claimed_until is None for row in self.rows)
        return waits and timezone.now() - self.asked.created_at > LATE

    @property
    def failed(self) -> list[str]:
        """Ids of the instances on which the command could not start."""
        return [row.uid for row in self.rows if row.state == "bad"]

    @property
    def passed(self) -> int:
        """How many instances are ready."""
        return self.done - len(self.failed)


def knows(action: str) -> bool:
    """Whether a button of this part has this value."""
    return action in {CHECK, LOOK, KEEP}


def act(request: HttpRequest, scope: Scope, form: RunForm, action: str) -> Panel:
    """Do what was pressed: begin to look, or show what was found so far."""
    return _begin(request, scope, form) if action == CHECK else shown(request, form.sent)


def shown(request: HttpRequest, data: QueryDict) -> Panel:
    """What was found by the preflight that a form carries; an empty panel without one."""
    found = resolve.preflight(request, data.get(TARGET, ""))
    return Panel() if found is None else _panel(found)


def kept(panel: Panel, form: RunForm) -> QueryDict:
    """What the form holds without the instances on which the command could not start."""
    data = form.sent.copy()
    failed = set(panel.failed)
    data.setlist("instances", [uid for uid in form.selected() if uid not in failed])
    return data


def is_asked_for(request: HttpRequest) -> bool:
    """Whether a script wants this part of the page only."""
    return request.headers.get("HX-Target") == TARGET


def part(request: HttpRequest, panel: Panel) -> HttpResponse:
    """The panel alone."""
    return render(request, "run/_preflight.html", {"preflight": panel})


@resolve.signed_in
@require_safe
def progress(request: HttpRequest, uid: str) -> HttpResponse:
    """What was found so far, as a fragment of the form; empty again once it is forgotten."""
    found = resolve.preflight(request, uid)
    return part(request, _forgotten() if found is None else _panel(found))


def _begin(request: HttpRequest, scope: Scope, form: RunForm) -> Panel:
    if not form.is_valid():
        return Panel(errors=[str(text) for texts in form.errors.values() for text in texts])
    try:
        made = service.begin(
            actor=resolve.person(request),
            team=scope.team,
            region=scope.region,
            command=form.saved_command() if form.existing else form.definition(),
            values=form.values(),
            instance_uids=form.selected(),
            now=timezone.now(),
        )
    except InvalidFields as error:
        return Panel(errors=[text for texts in error.errors.values() for text in texts])
    except CommandConsoleError as error:
        return Panel(errors=[error.message])
    return _panel(made)


def _panel(asked: Preflight) -> Panel:
    checks = asked.checks.select_related("instance").order_by("pk")
    rows = [_row(asked, check) for check in checks]
    if not rows:  # since it was looked for: none is not all of them
        return _forgotten()
    if all(row.check.done for row in rows):
        rows.sort(key=lambda row: _PROBLEMS_FIRST.index(row.state))
    return Panel(asked, rows)


def _forgotten() -> Panel:
    """In the place of what is kept no longer, or whose instances were all removed."""
    return Panel(errors=[_("What was found is no longer kept. Check again.")])


def _row(asked: Preflight, check: PreflightCheck) -> Row:
    if not check.done:
        return Row(check, _("Checking"), "run", "run")
    steps = _steps(asked, check)
    if check.problems:
        return Row(check, _("Not ready"), "bad", "bad", steps, [])
    notes, low = _notes(check)
    if low:
        return Row(check, _("Ready, little space"), "warn", "warn", steps, notes)
    return Row(check, _("Ready"), "ok", "ok", steps, notes)


def _steps(asked: Preflight, check: PreflightCheck) -> list[StepView]:
    known = bool(check.interpreter or asked.launcher)
    codes = [code for code, _sentence in check.problems]
    found = marks(codes, whole=check.whole, interpreter=known)
    return [
        StepView(str(_LABELS[step]), str(_WORDS[mark]), _STATES[mark], _ICONS[mark])
        for step, mark in found.items()
    ]


def _notes(check: PreflightCheck) -> tuple[list[str], bool]:
    """What is to be known of an instance that is ready, and whether little space is left there."""
    if not check.whole:
        return [_("On Windows, only the connection is checked.")], False
    if check.free is None:
        return [], False
    room = {"size": filesizeformat(check.free), "base": check.base}
    if check.free < service.room_for_output():
        low = _("Only %(size)s are free in %(base)s. Of much output, the end would be lost.")
        return [low % room], True
    return [_("%(size)s free for output") % room], False

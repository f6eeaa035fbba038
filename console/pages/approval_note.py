"""``/run/approval/``: whether a task would wait for approval, said before it is created."""

from __future__ import annotations

from collections.abc import Sequence

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from commands import access
from commands.models import CommandVersion, Instance, Invocation, Team
from commands.rules import limits
from commands.rules.approval import Rule
from commands.services import approval_rules
from commands.words import retold
from console import resolve
from console.forms.run import EXISTING, RunForm
from console.pages import filling
from console.resolve import Scope


@resolve.signed_in
@require_safe
def note(request: HttpRequest) -> HttpResponse:
    """The note for what the form says now, as a fragment of it."""
    scope = resolve.scope_of(request, request.GET.get("scope", ""))
    if scope is None:
        return HttpResponse(status=204)
    existing = request.GET.get("source") == EXISTING
    version = filling.saved(scope, request.GET.get("command", "")) if existing else None
    why = reasons(scope, RunForm(request.GET, saved=version))
    return render(request, "run/_approval_note.html", {"approval_why": why})


def asks(scope: Scope) -> bool:
    """Whether any task of the team needs approval."""
    return approval_rules.of(scope.team).asks


def reasons(scope: Scope, form: RunForm) -> list[str]:
    """Why the task that ``form`` describes would wait, as far as it is known yet."""
    rule = approval_rules.of(scope.team)
    if not rule.asks:
        return []
    saved = form.saved
    run_as = (saved.run_as if saved else "") if form.existing else str(form["run_as"].value() or "")
    possible = [uid for uid in form.selected() if uid.isascii() and uid.isprintable()]
    usable = Instance.objects.usable_by(scope.team).filter(
        region=scope.region, uid__in=possible[: limits.CONCURRENCY_MAX]
    )
    found = access.narrowing(scope.user, scope.team).instances(usable)
    return told(scope.team, list(found), run_as.strip(), rule)


def of_repeat(
    task: Invocation, version: CommandVersion | None, instances: Sequence[Instance]
) -> list[str]:
    """Why running ``task`` again on ``instances`` would wait; ``version`` is what runs instead."""
    run_as = task.run_as if version is None else version.run_as
    return told(task.team, instances, run_as)


def told(
    team: Team, instances: Sequence[Instance], run_as: str, rule: Rule | None = None
) -> list[str]:
    """Why a task of ``team`` on ``instances`` would wait, in the reader's language."""
    found = approval_rules.reasons(team=team, instances=instances, run_as=run_as, rule=rule)
    return [retold(sentence) for sentence in found]

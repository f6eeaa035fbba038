"""``/team/approvals/``: which tasks another member has to approve."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_http_methods

from commands import access
from commands.access import Permission
from commands.errors import Invalid
from commands.models import Approval
from commands.rules import limits
from commands.rules.approval import Rule
from commands.services import approval_rules
from console import resolve
from console.forms.team import ApprovalForm, refuse
from console.pages.answers import SeeOther
from console.pages.team import place
from console.resolve import Scope


@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
@cache_control(private=True)
def approvals(request: HttpRequest) -> HttpResponse:
    """The rule (GET), and to keep what the form says (POST, 303)."""
    scope = place.chosen(request, needs=Permission.TEAM_MANAGE)
    shown = _shown(scope)
    if request.method != "POST":
        left = place.left(request)
        form = ApprovalForm(initial=left.dict() if left else _initial(shown["rule"]))
        return place.show(request, "approvals", {**shown, "form": form})
    form = ApprovalForm(request.POST)
    form.is_valid()
    data = form.cleaned_data
    try:
        approval_rules.set_rule(
            actor=resolve.person(request),
            team=scope.team,
            tags=data["tags"].splitlines(),
            run_as=data["run_as"].splitlines(),
            more_than=data["more_than"],
            hours=data["hours"],
            now=timezone.now(),
        )
    except Invalid as error:
        refuse(form, error)
        return place.show(request, "approvals", {**shown, "form": form}, form=form, error=error)
    messages.success(request, _("The rule is saved. It counts for tasks created from now on."))
    return SeeOther(reverse("team-approvals"))


def _shown(scope: Scope) -> dict[str, Any]:
    rule = approval_rules.of(scope.team)
    waiting = Approval.objects.waiting().filter(invocation__team=scope.team)
    return {
        "team": scope.team,
        "rule": rule,
        "most": limits.APPROVAL_HOURS_MAX,
        "waiting": waiting.count(),
        "alone": len(access.approvers(scope.team, None)) < 2,
    }


def _initial(rule: Rule) -> dict[str, str]:
    return {
        "tags": "\n".join(rule.tags),
        "run_as": "\n".join(rule.run_as),
        "more_than": "" if rule.more_than is None else str(rule.more_than),
        "hours": str(rule.hours),
    }

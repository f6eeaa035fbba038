"""Deciding on a task that waits for approval: asked first, in a dialog or on a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods
from django.views.decorators.vary import vary_on_headers

from commands import access
from commands.access import Permission
from commands.errors import CommandConsoleError, Conflict, Invalid, QuotaExceeded
from commands.models import Approval, Invocation
from commands.rules import limits
from commands.services import approvals
from console import errors, resolve
from console.pages.answers import SeeOther
from console.task_approval import ApprovalView, approval_view

State = Approval.State


@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_headers("HX-Target")
def approve(request: HttpRequest, uid: str) -> HttpResponse:
    """Ask whether a task is to run as it was read (GET), and let it (POST, 303)."""
    invocation = _approved(request, uid)
    if request.method != "POST":
        return _ask(request, "approve", invocation)
    try:
        done = approvals.approve(
            actor=resolve.person(request),
            invocation=invocation,
            digest=request.POST.get("digest", ""),
            comment=request.POST.get("comment", ""),
            now=timezone.now(),
        )
    except (Conflict, Invalid) as error:
        return _ask(request, "approve", invocation, error)
    return _told(request, done, _("Approved. It starts now."))


@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_headers("HX-Target")
def decline(request: HttpRequest, uid: str) -> HttpResponse:
    """Ask why a task is not to run (GET), and have it never run (POST, 303)."""
    invocation = _approved(request, uid)
    if request.method != "POST":
        return _ask(request, "decline", invocation)
    try:
        done = approvals.decline(
            actor=resolve.person(request),
            invocation=invocation,
            comment=request.POST.get("comment", ""),
            now=timezone.now(),
        )
    except (Conflict, Invalid) as error:
        return _ask(request, "decline", invocation, error)
    return _told(request, done, _("Declined. Nothing of it runs."))


@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_headers("HX-Target")
def withdraw(request: HttpRequest, uid: str) -> HttpResponse:
    """Ask whether one's own task is to be taken back (GET), and take it back (POST, 303)."""
    invocation = resolve.task(request, uid)
    person = resolve.person(request)
    own = invocation.created_by_id == person.pk
    if not own or not access.allows(person, Permission.COMMAND_RUN, invocation.team):
        raise Http404
    if request.method != "POST":
        return _ask(request, "withdraw", invocation)
    try:
        done = approvals.withdraw(actor=person, invocation=invocation, now=timezone.now())
    except Conflict as error:
        return _ask(request, "withdraw", invocation, error)
    return _told(request, done, _("Withdrawn. Nothing of it runs."))


def _approved(request: HttpRequest, uid: str) -> Invocation:
    """The task called ``uid``, for who may approve tasks of its team. Raises Http404."""
    invocation = resolve.task(request, uid)
    if not access.allows(request.user, Permission.INVOCATION_APPROVE, invocation.team):
        raise Http404
    return invocation


def _ask(
    request: HttpRequest,
    what: str,
    invocation: Invocation,
    error: CommandConsoleError | None = None,
) -> HttpResponse:
    """The question, with what was wrong about an answer that came before."""
    view = approval_view(resolve.person(request), invocation)
    part = request.headers.get("HX-Target") == "asked"
    sent: Mapping[str, Any] = request.POST if request.method == "POST" else request.GET
    comment_errors: Sequence[str] = ()
    problem = ""
    if isinstance(error, Invalid) and not isinstance(error, QuotaExceeded):
        comment_errors = [error.message]
    elif error is not None:
        problem = error.message
    context = {
        "task": invocation,
        "what": what,
        "ask": f"tasks/_{what}.html",
        "in_dialog": part,
        "approval": view,
        "waits": view is not None and view.row.waits,
        # What the person has read: the page says so, and what is there now may be another.
        "digest": sent.get("digest") or (view.digest if view else ""),
        "comment": sent.get("comment", ""),
        "comment_errors": comment_errors,
        "comment_chars": limits.APPROVAL_COMMENT_CHARS,
        "problem": problem or _obstacle(view, what),
        "own": view is not None and view.own,
    }
    status = 200 if error is None else errors.status_code(error)
    return render(request, context["ask"] if part else "tasks/ask.html", context, status=status)


def _obstacle(view: ApprovalView | None, what: str) -> str:
    """Why the person can't answer this, or what would come of it; "" if nothing is to be said."""
    if view is None or what == "withdraw":
        return ""
    return view.refusal or (view.problem if what == "approve" else "")


def _told(request: HttpRequest, done: Approval, sentence: str) -> HttpResponse:
    """Back to the task, with what became of it."""
    if done.state == State.EXPIRED:
        messages.warning(request, _("It had expired: nobody decided in time. Nothing of it runs."))
    elif done.state == State.OUTDATED:
        messages.warning(
            request,
            _("What would run had changed since it was put up for approval. Nothing of it runs."),
        )
    else:
        messages.success(request, sentence)
    return SeeOther(reverse("task", args=[done.invocation.uid]))

"""Stopping a task, and letting a paused one go on: asked first, in a dialog or on a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods
from django.views.decorators.vary import vary_on_headers

from commands import access
from commands.models import Invocation, Run
from commands.rules.status import Phase, RunStatus, is_final
from commands.services import invocations
from commands.services.stopping import Stop
from console import presentation, resolve
from console.pages.answers import SeeOther


@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_headers("HX-Target")
def stop(request: HttpRequest, uid: str) -> HttpResponse:
    """Ask whether a task is to be stopped (GET), and stop it (POST, 303).

    ``instance``, repeated, are the ids of instances; without it the task is stopped everywhere.
    """
    invocation = _controlled(request, uid)
    sent = request.POST if request.method == "POST" else request.GET
    runs = [resolve.run(invocation, wanted) for wanted in sent.getlist("instance")]
    if request.method != "POST":
        return _ask(request, "stop", invocation, _stop_context(invocation, runs))
    done = invocations.stop_invocation(
        actor=resolve.person(request),
        invocation=invocation,
        instance_uids=[run.instance_uid for run in runs] or None,
        now=timezone.now(),
    )
    messages.success(request, _stop_sentence(done))
    return _back(invocation, runs)


@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_headers("HX-Target")
def go_on(request: HttpRequest, uid: str) -> HttpResponse:
    """Ask whether the next batch of a paused task is to begin (GET), and let it (POST, 303)."""
    invocation = _controlled(request, uid)
    if request.method != "POST":
        held = presentation.held(invocation, list(invocation.runs.all()), timezone.now())
        return _ask(request, "continue", invocation, {"held": held})
    after = request.POST.get("after", "")
    continued = invocations.continue_invocation(
        actor=resolve.person(request),
        invocation=invocation,
        after=int(after) if after.isascii() and after.isdecimal() and len(after) < 10 else None,
        now=timezone.now(),
    )
    if not continued:
        messages.info(request, _("This task does not wait for anybody now."))
    return _back(invocation, [])


def _controlled(request: HttpRequest, uid: str) -> Invocation:
    invocation = resolve.task(request, uid)
    if not access.may_control(request.user, invocation):
        raise Http404
    return invocation


def _stop_context(invocation: Invocation, runs: Sequence[Run]) -> dict[str, Any]:
    chosen = [run for run in runs or invocation.runs.all() if not is_final(run.status)]
    pending = sum(run.status == RunStatus.PENDING for run in chosen)
    stopping = sum(run.status == RunStatus.STOPPING for run in chosen)
    return {
        "runs": runs,
        "count": len(chosen) - stopping,
        "pending": pending,
        "running": len(chosen) - stopping - pending,
        "stopping": stopping,
        "unapproved": bool(chosen) and all(run.phase == Phase.UNAPPROVED for run in chosen),
    }


def _ask(
    request: HttpRequest, what: str, invocation: Invocation, context: dict[str, Any]
) -> HttpResponse:
    part = request.headers.get("HX-Target") == "asked"
    context |= {"task": invocation, "what": what, "in_dialog": part, "ask": f"tasks/_{what}.html"}
    return render(request, context["ask"] if part else "tasks/ask.html", context)


def _stop_sentence(done: Stop) -> str:
    if done.nothing:
        return _("There was nothing left to stop.")
    parts = []
    if done.stopping:
        # It stays on the page while they stop, and when they have.
        text = ngettext(
            "%(n)d instance was asked to stop.",
            "%(n)d instances were asked to stop.",
            done.stopping,
        )
        parts.append(text % {"n": done.stopping})
    if done.cancelled:
        text = ngettext(
            "%(n)d had not started and never will.",
            "%(n)d had not started and never will.",
            done.cancelled,
        )
        parts.append(text % {"n": done.cancelled})
    return " ".join(parts)


def _back(invocation: Invocation, runs: Sequence[Run]) -> HttpResponse:
    url = reverse("task", args=[invocation.uid])
    return SeeOther(f"{url}?instance={runs[0].instance_uid}" if len(runs) == 1 else url)

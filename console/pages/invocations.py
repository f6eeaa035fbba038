"""``/tasks/<uid>/``: one task, and its states as JSON."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from commands import access
from commands.models import Approval, Invocation, Run
from commands.outputs import store
from commands.rules.status import RunStatus, roll_up
from commands.services import stalls
from console import presentation, resolve
from console.blocks import Block, last_lines, lines_after, lines_before
from console.cursor import Cursor
from console.pages import listing
from console.task_again import again_view
from console.task_approval import approval_view
from console.task_command import command_view

SHOWN_LINES = 2_000


@resolve.signed_in
@require_safe
@cache_control(private=True)
@vary_on_headers("HX-Target")
def task(request: HttpRequest, uid: str) -> HttpResponse:
    """One task, with the output of one of its instances.

    Its end shows, or the lines ``?before=`` or ``?after=`` one. With ``HX-Target: log`` the answer
    is these lines only.
    """
    invocation = resolve.task(request, uid)
    if request.headers.get("HX-Target") == "approval":
        return _approval(request, invocation)
    now = timezone.now()
    runs = list(invocation.runs.all())
    if "at" in request.GET:
        return redirect(_at(request, runs))
    shown = _shown(request, invocation, runs)
    current = shown.pk if shown else None
    listed = listing.listing(invocation, runs, request.GET, now, current=current)
    context = {
        "listing": listed,
        "may_create": access.allows(
            request.user, access.Permission.INVOCATION_CREATE, invocation.team
        ),
        "task_url": reverse("task", args=[invocation.uid]),
    }
    if request.headers.get("HX-Target") == "listed":
        return render(request, "tasks/_listed.html", context)
    block = _block(request, shown)
    output = {
        "lines": block.lines,
        "earlier": block.earlier,
        "later": block.later,
        "cursor": _cursor(shown, block) if shown else "",
    }
    if request.headers.get("HX-Target") == "log":
        return render(request, "parts/_block.html", output)
    approval = approval_view(resolve.person(request), invocation)
    view = presentation.task_view(invocation, runs, now)
    panel = presentation.run_views(invocation, [shown] if shown else [], now, current=current)
    again = again_view(request.user, invocation)
    may_control = access.may_control(request.user, invocation)
    context |= {
        "task": view,
        "progress": view.progress,
        "runs": runs,
        "query": listed.query,
        "grid": presentation.in_grid(runs) if listed.many else [],
        "squares": presentation.squares(runs) if listed.many else "",
        "shown": panel[0] if panel else None,
        "chosen": "instance" in request.GET,
        "may_control": may_control,
        "again": again,
        "may_ask": again.offered or (view.active and may_control) or bool(approval),
        "approval": approval,
        "command": command_view(invocation, shown or runs[0]),
        **output,
        "quiet_s": _quiet_seconds(shown, now),
        "has_output": bool(block.lines),
        "log_url": _log_url(invocation, shown) if shown else "",
        "events_url": _events_url(invocation, shown, block),
    }
    return render(request, "tasks/detail.html", context)


def _approval(request: HttpRequest, invocation: Invocation) -> HttpResponse:
    """What was decided, for a page that shows that nobody has; nothing while that is so."""
    if not Approval.objects.filter(invocation=invocation).exclude(state="waiting").exists():
        return HttpResponse(status=204)
    approval = approval_view(resolve.person(request), invocation)
    view = presentation.task_view(invocation, list(invocation.runs.all()), timezone.now())
    return render(request, "tasks/_approval.html", {"approval": approval, "task": view})


@resolve.signed_in
@require_safe
def status(request: HttpRequest, uid: str) -> JsonResponse:
    """States of a task and its runs in Cloud Assistant's words."""
    invocation = resolve.task(request, uid)
    runs = list(invocation.runs.all())
    return JsonResponse(
        {
            "id": invocation.uid,
            "status": roll_up(run.status for run in runs).value,
            "approval": _approval_of(invocation),
            "again_of": invocation.again_of.uid if invocation.again_of else "",
            "again_kind": invocation.again_kind,
            "counts": Counter(run.status for run in runs),
            "runs": [
                {
                    "instance_id": run.instance_uid,
                    "status": run.status,
                    "exit_code": run.exit_code,
                    "error_code": run.error_code,
                    "processes_left": run.processes_left,
                    "dropped_bytes": run.dropped_bytes,
                    "lost_bytes": run.lost_bytes,
                    "hostname": run.hostname,
                    "host_key_fingerprint": run.host_key_fingerprint,
                    "machine_id": run.machine_id,
                    "digest": run.digest,
                    "waits_for_input": run.stall_info if run.status == RunStatus.RUNNING else "",
                }
                for run in runs
            ],
        },
        headers={"Cache-Control": "no-store"},
    )


def _approval_of(invocation: Invocation) -> dict[str, Any] | None:
    """The approval of a task; None if it needs none."""
    found = Approval.objects.filter(invocation=invocation).first()
    if found is None:
        return None
    return {
        "state": found.state,
        "why": found.why,
        "digest": found.digest,
        "expires": found.expires_at.isoformat(),
        "by": found.decided_by_name,
        "comment": found.comment,
    }


def _shown(request: HttpRequest, invocation: Invocation, runs: list[Run]) -> Run | None:
    if wanted := request.GET.get("instance"):
        return resolve.run(invocation, wanted)
    return presentation.most_telling(runs)


def _at(request: HttpRequest, runs: list[Run]) -> str:
    """The address of the run in one square of the grid, with the rest of the address as it is."""
    ordered, at = presentation.in_grid(runs), request.GET["at"]
    if not (at.isascii() and at.isdecimal() and len(at) < 7 and int(at) < len(ordered)):
        raise Http404
    query = request.GET.copy()
    del query["at"]
    query["instance"] = ordered[int(at)].instance_uid
    return f"{request.path}?{query.urlencode()}"


def _quiet_seconds(run: Run | None, now: datetime) -> float | None:
    """How long a running run has printed nothing."""
    if run is None or run.status != RunStatus.RUNNING:
        return None
    last = stalls.last_output_at(run)
    return max(0.0, (now - last).total_seconds()) if last else None


def _log_url(invocation: Invocation, run: Run) -> str:
    return reverse("log", args=[invocation.uid, run.instance_uid])


def _block(request: HttpRequest, run: Run | None) -> Block:
    """The lines of ``run`` that are asked for."""
    chunks = store.stream(run.pk) if run else iter(())
    if (before := _number(request, "before")) is not None:
        return lines_before(chunks, before, SHOWN_LINES)
    if (after := _number(request, "after")) is not None:
        return lines_after(chunks, after, SHOWN_LINES)
    return last_lines(chunks, SHOWN_LINES)


def _number(request: HttpRequest, name: str) -> int | None:
    """A line's number in the query; None for none, and for what is no number."""
    digits = request.GET.get(name, "")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 16 else None


def _cursor(run: Run, block: Block) -> Cursor:
    """From where on output is news to who sees ``block``: not before what is stored already."""
    return Cursor(run.instance_uid, run.next_sequence - 1 if block.later else block.sequence)


def _events_url(invocation: Invocation, run: Run | None, block: Block) -> str:
    url = reverse("events", args=[invocation.uid])
    if run is None:
        return url
    query = {"after": str(_cursor(run, block)), "watch": run.instance_uid}
    return f"{url}?{urlencode(query)}"

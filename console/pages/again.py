"""Running a task again, or on those of its instances where it failed: asked first.

Asked in a dialog of the task's page or, without JavaScript, on a page of its own. ``only``,
``instance`` and ``group`` (the key of instances with the same result) say where,
``version=latest`` that what the saved command says now is meant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_http_methods
from django.views.decorators.vary import vary_on_headers

from commands.errors import CommandConsoleError, Conflict, Invalid, InvalidFields
from commands.models import CommandVersion, Invocation, Run
from commands.rules.again import Again, Only
from commands.rules.quotas import Quota, exceeded
from commands.services import invocations, quotas, repeating, sameness
from commands.services.repeating import Question, Where
from console import errors, resolve
from console.forms import parameters
from console.forms.run import new_client_token
from console.pages import approval_note
from console.pages.answers import SeeOther, listed
from console.templatetags.console_ui import clock, grouped

LATEST = "latest"
_NOTHING = {
    Only.FAILED: gettext_lazy("It has failed on no instance"),
    Only.STOPPED: gettext_lazy("It was stopped on no instance"),
}


@dataclass(frozen=True, slots=True)
class _Wish:
    """What is asked for: on which instances, and of which version of the saved command.

    ``runs`` are the runs of the earlier task on those instances. ``version`` is None for what ran
    then.
    """

    task: Invocation
    only: Only | None
    named: bool
    runs: list[Run]
    version: CommandVersion | None = None

    @property
    def kind(self) -> Again:
        """In which way the new task will repeat the earlier one."""
        if self.version is not None:
            return Again.LATEST
        return Again.RETRY if self.only or self.named else Again.AGAIN

    @property
    def uids(self) -> list[str]:
        """Ids of the instances, empty where all are meant."""
        return [run.instance_uid for run in self.runs] if self.only or self.named else []


@dataclass(frozen=True, slots=True)
class _Field:
    """A value that has to be given anew, as the form shows it."""

    question: Question
    errors: Sequence[str] = ()
    typed: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """What the field is called in the form."""
        return parameters.VALUE + self.question.key

    @property
    def shown(self) -> str:
        """What was typed, unless nobody may see it."""
        return "" if self.question.hidden else self.typed or self.question.schema.default


@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_headers("HX-Target")
def again(request: HttpRequest, uid: str) -> HttpResponse:
    """Ask whether a task is to run again (GET), and create a task that does so (POST, 303)."""
    wish = _wish(request, resolve.task(request, uid))
    if request.method != "POST":
        return _ask(request, wish)
    try:
        return _create(request, wish)
    except InvalidFields as error:
        return _ask(request, wish, error, error.errors)
    except Invalid as error:
        return _ask(request, wish, error, {error.field: [error.message]})
    except Conflict as error:
        return _ask(request, wish, error, {"": [error.message]})


def _wish(request: HttpRequest, task: Invocation) -> _Wish:
    """What is asked for. Raises Http404 for what the person may not do, or is not there."""
    sent = request.POST if request.method == "POST" else request.GET
    only = sent.get("only", "")
    if only not in {"", *Only} or sent.get("version", "") not in {"", LATEST}:
        raise Http404
    latest = sent.get("version") == LATEST
    may = repeating.may_run_latest if latest else repeating.may_repeat
    if not may(request.user, task):
        raise Http404
    named = sent.getlist("instance") or _of_group(task, sent)
    try:
        runs = repeating.chosen(task, only=Only(only) if only else None, instance_uids=named)
    except Invalid:
        raise Http404 from None
    version = repeating.changed_since(task) if latest else None
    return _Wish(task, Only(only) if only else None, bool(named), runs, version)


def _of_group(task: Invocation, sent: QueryDict) -> list[str]:
    """Ids of the instances with the same result, where a group of them is meant."""
    if "group" not in sent:
        return []
    key = str(sent["group"])
    runs = sameness.runs_of_group(task, key, loose=bool(sent.get("loose")))
    if not runs:
        raise Http404
    return [run.instance_uid for run in runs]


def _create(request: HttpRequest, wish: _Wish) -> HttpResponse:
    if not wish.runs:
        raise Invalid(_("There is no such instance in this task now."), field="instances")
    number = request.POST.get("number", "")
    now = timezone.now()
    made = invocations.repeat_invocation(
        actor=resolve.person(request),
        invocation=wish.task,
        kind=wish.kind,
        instance_uids=wish.uids,
        values=_typed(request.POST),
        version=int(number) if re.fullmatch(r"[0-9]{1,9}", number) else None,
        client_token=request.POST.get("client_token", ""),
        now=now,
    )
    if made.created_at != now:
        at = {"time": clock(made.created_at)}
        messages.info(request, _("This task was already created at %(time)s.") % at)
    elif skipped := _skipped(wish, made):
        messages.warning(request, skipped)
    return SeeOther(reverse("task", args=[made.uid]))


def _skipped(wish: _Wish, made: Invocation) -> str:
    """A sentence about the instances that were left out; "" if there are none."""
    there = set(made.runs.values_list("instance_uid", flat=True))
    names = [run.instance_name for run in wish.runs if run.instance_uid not in there]
    text = ngettext(
        "%(n)s instance can't be used now and was skipped: %(names)s.",
        "%(n)s instances can't be used now and were skipped: %(names)s.",
        len(names),
    )
    return text % {"n": grouped(len(names)), "names": listed(names)} if names else ""


def _ask(
    request: HttpRequest,
    wish: _Wish,
    error: CommandConsoleError | None = None,
    told: Mapping[str, list[str]] | None = None,
) -> HttpResponse:
    """The question, with what was wrong about an answer that came before."""
    told = dict(told or {})
    where = repeating.where(wish.task, wish.runs)
    usage = quotas.usage(
        team=wish.task.team, region=wish.task.region, key=Quota.TASKS_PER_DAY, now=timezone.now()
    )
    try:
        fields = _fields(wish, request.POST, told)
    except Invalid as unreadable:
        fields, told = [], {"": [unreadable.message]}
    if usage.full and not told:
        told = {"": [exceeded(usage).message]}
    in_dialog = request.headers.get("HX-Target") == "asked"
    context: dict[str, Any] = {
        "what": "again",
        "ask": "tasks/_again.html",
        "in_dialog": in_dialog,
        "task": wish.task,
        "wish": wish,
        "where": where,
        "heading": _heading(wish, where),
        "changed": repeating.changed_since(wish.task) if wish.version is None else None,
        "fields": fields,
        "problems": _elsewhere(told, fields),
        "usage": usage,
        "approval_why": approval_note.of_repeat(wish.task, wish.version, where.usable),
        "client_token": new_client_token(),
    }
    template = "tasks/_again.html" if in_dialog else "tasks/ask.html"
    status = errors.status_code(error) if error is not None else 200
    return render(request, template, context, status=status)


def _heading(wish: _Wish, where: Where) -> str:
    """What is asked, as one sentence."""
    count, total = len(where.usable), len(wish.runs)
    if not total and wish.only:
        return str(_NOTHING[wish.only])
    if not count:
        return _("None of these instances can be used now")
    words = {"n": grouped(count), "total": grouped(total), "name": where.usable[0].name}
    words["what"] = _what(wish)
    if total == 1 and wish.kind is Again.RETRY:
        return _("Retry on %(name)s?") % words
    if wish.only is Only.FAILED:
        text = ngettext(
            "Retry on %(n)s failed instance?", "Retry on %(n)s failed instances?", count
        )
        return text % words
    if wish.only is Only.STOPPED:
        text = ngettext(
            "Retry on %(n)s stopped instance?", "Retry on %(n)s stopped instances?", count
        )
        return text % words
    if wish.named:
        return ngettext("Retry on %(n)s instance?", "Retry on %(n)s instances?", count) % words
    if total == 1:
        return _("Run %(what)s on %(name)s again?") % words
    if count < total:
        return _("Run %(what)s on %(n)s of the same %(total)s instances?") % words
    return _("Run %(what)s on the same %(n)s instances?") % words


def _what(wish: _Wish) -> str:
    """What would run, within a sentence: a version of a saved command, or just the command."""
    ran = wish.task.version if wish.task.saved else None
    if wish.version is not None:
        return _("the latest version, v%(number)s,") % {"number": wish.version.number}
    return f"v{ran.number}" if ran is not None else _("the command")


def _elsewhere(told: Mapping[str, list[str]], fields: Sequence[_Field]) -> list[str]:
    """The sentences that stand beside no field."""
    shown = {one.name for one in fields}
    return [text for name, texts in told.items() if name not in shown for text in texts]


def _fields(wish: _Wish, sent: QueryDict, told: Mapping[str, list[str]]) -> list[_Field]:
    typed = _typed(sent)
    return [
        _Field(one, told.get(parameters.VALUE + one.key, []), typed.get(one.key, ""))
        for one in repeating.questions(wish.task, wish.version)
    ]


def _typed(sent: QueryDict) -> dict[str, str]:
    """What was typed for parameters, by key."""
    return {
        name.lower().removeprefix(parameters.VALUE): str(sent[name])
        for name in sent
        if name.lower().startswith(parameters.VALUE)
    }

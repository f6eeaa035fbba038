"""``/run/``: write or pick a command, select instances, create the task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from commands import access
from commands.access import Permission
from commands.errors import CommandConsoleError, Conflict, Invalid, InvalidFields
from commands.models import Command, CommandVersion, Invocation
from commands.rules.again import Only
from commands.rules.content import CommandType, check_name
from commands.rules.problems import Problems
from commands.rules.quotas import Quota, exceeded
from commands.services import invocations, library, plans, quotas, repeating
from commands.services.definitions import CommandInput
from commands.services.invocations import Preview
from commands.services.plans import SavedInput
from console import errors, hidden_values, kept, resolve
from console.forms import definition
from console.forms.parameters import ParameterRow
from console.forms.run import EXISTING, NEW, RunForm, new_client_token
from console.pages import approval_note, filling, picker, prefill, preflight
from console.resolve import Scope
from console.templatetags.console_ui import clock

LISTED = 200
"""Saved commands that the plain list offers; the library finds the others."""
QUICK = 3
"""Saved commands that one click chooses: those pinned, then those used last."""


@resolve.signed_in(keep_form=True)
@require_http_methods(["GET", "HEAD", "POST"])
def run(request: HttpRequest) -> HttpResponse:
    """Show the form (GET), or do what was pressed (POST): create a task, or fill in further."""
    left = not resolve.adopt_scope(request, request.POST.get("scope", ""))
    scope = resolve.scope(request)
    if scope is None or not resolve.may(request, Permission.COMMAND_RUN, scope):
        return _without_form(request, scope)
    if request.method != "POST":
        return _begin(request, scope)
    action = picker.pressed(request.POST)
    if filling.out_of_step(request.POST) or action in {"source", "load"}:
        return _switch(request, scope)
    looks = action == "parameters" or picker.knows(action)
    sent = definition.with_beginning(request.POST) if looks else request.POST
    form = _form(request, scope, sent)
    if left:
        return _page(request, scope, _moved(form), status=409)
    if action == "parameters":
        return _page(request, scope, _unchecked(form))
    if preflight.knows(action):
        return _look(request, scope, form, action)
    if picker.knows(action):
        data = picker.apply(scope, action, sent, _kind(form), timezone.now())
        return _page(request, scope, _unchecked(_form(request, scope, data)))
    doing = {"preview": _preview, "save": _save}.get(action, _create)
    return _attempt(request, scope, form, doing)


@resolve.signed_in
@require_http_methods(["GET", "HEAD"])
def instances(request: HttpRequest) -> HttpResponse:
    """The rows of the picker, searched and filtered, as a fragment of the form."""
    scope = resolve.scope_of(request, request.GET.get("scope", ""))
    if scope is None:
        return HttpResponse(status=204)
    return picker.rows(request, scope, _kind(_form(request, scope, request.GET)))


@resolve.signed_in
@require_http_methods(["GET", "HEAD"])
def name_note(request: HttpRequest) -> HttpResponse:
    """A note if another saved command has this name already, as a fragment of the form."""
    scope = resolve.scope_of(request, request.GET.get("scope", ""))
    name = request.GET.get("name", "")
    taken = scope is not None and filling.taken(scope, name)
    return render(request, "run/_name_note.html", {"taken": taken, "name": name.strip()})


def _moved(form: RunForm) -> RunForm:
    """The form, with a word about why nothing was done with it."""
    form = _unchecked(form)
    form.add_error(
        None,
        _("You are no longer in the team that this form was made for. Check it and create again."),
    )
    return form


def _without_form(request: HttpRequest, scope: Scope | None) -> HttpResponse:
    """For people without a team, or who may only look; what they sent anyway does nothing."""
    if scope is not None and request.method == "POST":
        access.require(request.user, Permission.COMMAND_RUN, scope.team)
    status = 200 if request.method != "POST" else 422
    return render(request, "run/wizard.html", {"may_run": False}, status=status)


def _begin(request: HttpRequest, scope: Scope) -> HttpResponse:
    body = kept.take(request)
    if body is not None:
        messages.info(request, _("Your form is back as you left it. Check it and create the task."))
        resolve.adopt_scope(request, body.get("scope", ""))
        scope = resolve.scope(request) or scope
        if filling.out_of_step(body):  # another source was chosen, and its fields never came
            body = filling.as_shown(body)
        form = _unchecked(_form(request, scope, body))
        _keep_hidden(request, form)
        return _page(request, scope, form)
    if "from" in request.GET:
        return _page(request, scope, _from_task(request, scope), fresh="no")
    save = _saves_by_default(request, scope)
    writes = resolve.may_create(request, scope)
    wanted = request.GET.get("copy") or request.GET.get("command")
    version = _saved(request, scope, wanted) if wanted else None
    first = "first" in request.GET
    kind = filling.last_type(scope, resolve.person(request))
    blank = filling.first_try(save=save) if first else filling.blank(kind, save=save)
    if version and writes and "copy" in request.GET:
        data = filling.copied(version, save=save)
    elif version or not writes:
        data = filling.switched(blank, EXISTING, version)
    else:
        data = blank
    selected = picker.present(scope, request.GET.getlist("instance"))
    data.setlist("instances", selected)
    form = _unchecked(_form(request, scope, data, fill=True))
    known = wanted or first or selected
    return _page(request, scope, form, fresh="no" if known else "yes")


def _from_task(request: HttpRequest, scope: Scope) -> RunForm:
    """The form with what a task ran; ``only`` and ``instance`` say on which of its instances."""
    task = resolve.task(request, request.GET["from"])
    writes = resolve.may_create(request, scope)
    blank = filling.blank(CommandType(task.type), save=False)
    data = blank if writes else filling.switched(blank, EXISTING, None)
    only = request.GET.get("only", "")
    if only not in {"", *Only}:
        raise Http404
    if _is_here(request, scope, task.name, task):
        named = [resolve.run(task, uid).instance_uid for uid in request.GET.getlist("instance")]
        runs = repeating.chosen(task, only=Only(only) if only else None, instance_uids=named)
        filled = prefill.of_task(task, runs, writes=writes)
        for note in filled.notes:
            messages.info(request, note)
        data = filled.data
    return _unchecked(_form(request, scope, data, fill=True))


def _saved(request: HttpRequest, scope: Scope, uid: str) -> CommandVersion | None:
    """The saved command that a link names; None, and a word about it, if it is elsewhere."""
    command = resolve.command(request, uid)
    if _is_here(request, scope, command.name, command):
        return resolve.command_version(command, str(command.latest))
    return None


def _is_here(request: HttpRequest, scope: Scope, name: str, one: Command | Invocation) -> bool:
    """Whether what a link names is of the chosen team and region; a word about it if not."""
    if (one.team, one.region) == (scope.team, scope.region):
        return True
    where = {"name": name, "team": one.team.name, "region": one.region.name}
    messages.warning(
        request,
        _("%(name)s belongs to %(team)s in %(region)s. Choose those at the top first.") % where,
    )
    return False


def _saves_by_default(request: HttpRequest, scope: Scope) -> bool:
    if not resolve.may(request, Permission.COMMAND_MANAGE, scope):
        return False
    return not _usage(scope, Quota.SAVED_COMMANDS).full


def _switch(request: HttpRequest, scope: Scope) -> HttpResponse:
    source = EXISTING if request.POST.get("source") == EXISTING else NEW
    version = filling.saved(scope, request.POST.get("command", ""))
    _keep_hidden(request, _form(request, scope, filling.as_shown(request.POST)))
    data = filling.switched(request.POST, source, version)
    form = _unchecked(_form(request, scope, data, fill=True))
    if source == EXISTING and request.POST.get("command") and version is None:
        form.add_error("command", _(plans.DELETED))
        return _page(request, scope, form, status=422)
    return _page(request, scope, form, fresh="yes" if filling.is_blank(data) else "")


def _form(request: HttpRequest, scope: Scope, data: QueryDict, *, fill: bool = False) -> RunForm:
    """The form that holds ``data``; with ``fill``, values begin with those used last.

    Who may not give values as typed does not get back those from when that was allowed.
    """
    existing = data.get("source") == EXISTING
    version = filling.saved(scope, data.get("command", "")) if existing else None
    fill = fill and resolve.may_create(request, scope)
    form = RunForm(
        data,
        saved=version,
        last=filling.last_values(resolve.person(request), version) if fill else None,
    )
    form.kept = hidden_values.known(request, data.get("client_token", ""), form.slot)
    return form


def _unchecked(form: RunForm) -> RunForm:
    """The same form, shown before it is complete, so without a word about errors."""
    form.errors.clear()
    return form


def _attempt(
    request: HttpRequest,
    scope: Scope,
    form: RunForm,
    doing: Callable[[HttpRequest, Scope, RunForm], HttpResponse],
) -> HttpResponse:
    """Do what was pressed; where something is wrong, show the form with sentences about it."""
    if not form.is_valid():
        return _page(request, scope, form, status=422)
    try:
        return doing(request, scope, form)
    except InvalidFields as error:
        form.add_domain_errors(error)
    except Invalid as error:
        form.add_domain_errors(InvalidFields({error.field: [error.message]}))
        form = _with_new_token(request, scope, form)
        return _page(request, scope, form, status=errors.status_code(error))
    except Conflict as error:
        form = _caught_up(request, scope, form, error)
        return _page(request, scope, form, status=errors.status_code(error))
    return _page(request, scope, form, status=422)


def _create(request: HttpRequest, scope: Scope, form: RunForm) -> HttpResponse:
    if waiting := picker.waiting(scope, form.sent, form.selected()):
        _refuse(request, scope, form, waiting)
    what = _what(form)
    now = timezone.now()
    make: Any = (
        invocations.invoke_command if isinstance(what, SavedInput) else invocations.run_command
    )
    more = {} if isinstance(what, SavedInput) else {"save": form.cleaned_data["save"]}
    invocation = make(
        actor=resolve.person(request),
        team=scope.team,
        region=scope.region,
        command=what,
        values=form.values(),
        instance_uids=form.selected(),
        rate=form.rate(),
        tell_me=form.cleaned_data["tell_me"],
        client_token=form.cleaned_data["client_token"],
        now=now,
        **more,
    )
    if invocation.created_at != now:
        at = {"time": clock(invocation.created_at)}
        messages.info(request, _("This task was already created at %(time)s.") % at)
    return _see_other(reverse("task", args=[invocation.uid]))


def _save(request: HttpRequest, scope: Scope, form: RunForm) -> HttpResponse:
    command = library.create_command(
        actor=resolve.person(request),
        team=scope.team,
        region=scope.region,
        command=form.definition(),
        now=timezone.now(),
    )
    messages.success(request, _("Saved %(name)s. Nothing was run.") % {"name": command.name})
    return _see_other(reverse("command", args=[command.uid]))


def _refuse(request: HttpRequest, scope: Scope, form: RunForm, waiting: str) -> NoReturn:
    """Raise InvalidFields: a pasted list is ``waiting``. Whatever else is wrong is said too."""
    none: list[Preview] = []
    problems = Problems()
    problems.add("paste", waiting)
    if not form.existing:
        problems.collect(lambda: check_name(form.cleaned_data["name"]), "")
    problems.collect(lambda: _previews(request, scope, form), none)
    problems.raise_any()
    raise AssertionError(waiting)


def _previews(request: HttpRequest, scope: Scope, form: RunForm) -> list[Preview]:
    return invocations.preview(
        actor=resolve.person(request),
        team=scope.team,
        region=scope.region,
        command=_what(form),
        values=form.values(),
        instance_uids=form.selected(),
        mark=_("‹assigned at creation›"),
    )


def _preview(request: HttpRequest, scope: Scope, form: RunForm) -> HttpResponse:
    found = _previews(request, scope, form)
    wanted = request.POST.get("preview-instance", "")
    shown = next((one for one in found if one.instance and one.instance.uid == wanted), found[0])
    return _page(request, scope, form, previews=found, preview=shown)


def _look(request: HttpRequest, scope: Scope, form: RunForm, action: str) -> HttpResponse:
    """Look at the chosen instances, or go on with those on which the command can start."""
    panel = preflight.act(request, scope, form, action)
    if preflight.is_asked_for(request):
        return preflight.part(request, panel)
    if action == preflight.KEEP:
        before = len(form.selected())
        form = _form(request, scope, preflight.kept(panel, form))
        panel = replace(panel, unselected=before - len(form.selected()))
    return _page(request, scope, _unchecked(form), looked=panel)


def _what(form: RunForm) -> CommandInput | SavedInput:
    return form.saved_command() if form.existing else form.definition()


def _with_new_token(request: HttpRequest, scope: Scope, form: RunForm) -> RunForm:
    """The same form and its errors, as a new request."""
    _keep_hidden(request, form)
    data = form.sent.copy()
    data["client_token"] = new_client_token()
    known = hidden_values.known(request, form.sent.get("client_token", ""), form.slot)
    hidden_values.keep(request, str(data["client_token"]), form.slot, known)
    fresh = _form(request, scope, data)
    fresh.errors.clear()
    fresh.errors.update(form.errors)
    return fresh


def _caught_up(
    request: HttpRequest, scope: Scope, form: RunForm, error: CommandConsoleError
) -> RunForm:
    """The form as a new request, with the newest version of the command if there is one."""
    form = _with_new_token(request, scope, form)
    if form.saved is not None and form.sent.get("version"):
        filling.catch_up(form.sent, form.saved)
    form.add_error(None, error.message)
    return form


def _keep_hidden(request: HttpRequest, form: RunForm) -> None:
    token = str(form["client_token"].value() or "")
    typed = {row.key: row.value for row in form.parameters() if row.hidden and row.value}
    if not form.existing:  # also what was typed before parameters were switched off
        typed = filling.hidden_values(form.sent) | typed
    hidden_values.keep(request, token, form.slot, typed)


def _rows(request: HttpRequest, form: RunForm) -> list[ParameterRow]:
    """The parameters as they are shown: hidden values that were typed are kept from now on."""
    known = hidden_values.known(request, str(form["client_token"].value() or ""), form.slot)
    return [
        replace(row, kept=row.key in known) if row.hidden and row.value else row
        for row in form.parameters()
    ]


def _page(
    request: HttpRequest,
    scope: Scope,
    form: RunForm,
    *,
    status: int = 200,
    previews: list[Preview] | None = None,
    preview: Preview | None = None,
    looked: preflight.Panel | None = None,
    fresh: str = "",
) -> HttpResponse:
    """The page with the form; ``fresh`` is whether a draft may take its place: ``yes`` or ``no``.

    It is empty where the form is itself what was typed.
    """
    now = timezone.now()
    tasks = _usage(scope, Quota.TASKS_PER_DAY)
    if request.method == "POST":
        _keep_hidden(request, form)
    context = {
        **definition.page_context(form, scope.team, scope.region),
        "parameters": _rows(request, form),
        "owner": kept.owner_mark(resolve.person(request)),
        "stash": filling.stash(form.sent),
        "carried": filling.carried(form),
        "picker": picker.picker(scope, form.sent, _kind(form), form.selected(), now),
        "may_run": True,
        "may_create": resolve.may_create(request, scope),
        "may_manage": resolve.may(request, Permission.COMMAND_MANAGE, scope),
        "saved_usage": _usage(scope, Quota.SAVED_COMMANDS),
        "tasks_usage": tasks,
        "tasks_full": exceeded(tasks).message if tasks.full else "",
        "previews": previews,
        "preview": preview,
        "preflight": looked or preflight.shown(request, form.sent),
        "fresh": fresh,
        "approval_asks": approval_note.asks(scope),
        "approval_why": approval_note.reasons(scope, form),
        **_library(request, scope, form),
    }
    return render(request, "run/wizard.html", context, status=status)


def _library(request: HttpRequest, scope: Scope, form: RunForm) -> dict[str, Any]:
    """What of the library the page offers."""
    mine = filling.offered(scope, resolve.person(request))
    name = "" if form.existing else str(form["name"].value() or "")
    return {
        "quick": list(mine[:QUICK]),
        "commands": list(mine[:LISTED]) if form.existing else [],
        "taken": bool(form["save"].value()) and filling.taken(scope, name),
        "adds_command": not form.existing and bool(form["save"].value()),
    }


def _usage(scope: Scope, key: Quota) -> Any:
    return quotas.usage(team=scope.team, region=scope.region, key=key, now=timezone.now())


def _kind(form: RunForm) -> CommandType:
    value = form.saved.command.type if form.existing and form.saved else form["type"].value()
    return CommandType(value) if value in set(CommandType) else CommandType.SHELL


def _see_other(url: str) -> HttpResponse:
    response = HttpResponseRedirect(url)
    response.status_code = 303
    return response

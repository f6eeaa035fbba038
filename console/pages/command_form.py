"""``/commands/new/`` and ``/commands/<uid>/edit/``: writing a command of the library."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_http_methods

from commands.access import Permission
from commands.errors import Conflict, EditConflict, Invalid, InvalidFields, QuotaExceeded
from commands.models import Command, Region, ResourceGroup, Team
from commands.services import definitions, resource_groups
from commands.services import library as service
from console import errors, grouping, kept, resolve
from console.forms import command as forms
from console.forms.command import CommandForm
from console.forms.definition import page_context, with_beginning
from console.pages import filling, library
from console.pages.answers import SeeOther
from console.pages.commands import usage
from console.resolve import Scope


@resolve.signed_in(keep_form=True)
@require_http_methods(["GET", "HEAD", "POST"])
@cache_control(private=True)
def new(request: HttpRequest) -> HttpResponse:
    """Show the form of a new command, or of a copy (``from``); keep what it says (POST, 303)."""
    left = not resolve.adopt_scope(request, request.POST.get("scope", ""))
    scope = _managed_scope(request)
    if request.method != "POST":
        form = _left(request)
        return _new_page(request, scope, form or _blank(request, scope), fresh=form is None)
    form = CommandForm(request.POST)
    if left:
        form.add_error(None, _("You are no longer in the team that this form was made for."))
        return _new_page(request, scope, form, status=409)
    if request.POST.get("action") == "parameters":
        form = CommandForm(with_beginning(request.POST))
        return _new_page(request, scope, _unchecked(form))
    if form.is_valid():
        try:
            command = service.create_command(
                actor=resolve.person(request),
                team=scope.team,
                region=scope.region,
                command=form.definition(),
                group=_group(form, scope.team),
                now=timezone.now(),
            )
        except Invalid as error:
            _explain(form, error)
        else:
            messages.success(request, _("Saved %(name)s.") % {"name": command.name})
            return SeeOther(reverse("command", args=[command.uid]))
    return _new_page(request, scope, form, status=422)


@resolve.signed_in(keep_form=True)
@require_http_methods(["GET", "HEAD", "POST"])
@cache_control(private=True)
def edit(request: HttpRequest, uid: str) -> HttpResponse:
    """Show the form of a command; keep what it says as a new version (POST, 303)."""
    command = resolve.managed_command(request, uid)
    if request.method != "POST":
        newest = resolve.command_version(command, str(command.latest))
        form = _left(request)
        shown = form or forms.to_edit(command, newest)
        refused = newest.refused()
        return _edit_page(request, command, shown, fresh=form is None, refused=refused)
    form = CommandForm(request.POST)
    if request.POST.get("action") == "parameters":
        return _edit_page(request, command, _unchecked(form))
    if not form.is_valid():
        return _edit_page(request, command, form, status=422)
    try:
        return _save(request, command, form)
    except EditConflict as error:
        found = _conflict(request, command, form, error)
        return _edit_page(request, command, form, status=409, **found)
    except (Invalid, Conflict) as error:
        _explain(form, error)
        return _edit_page(request, command, form, status=errors.status_code(error))


def _save(request: HttpRequest, command: Command, form: CommandForm) -> HttpResponse:
    base, person, moved = form.base(), resolve.person(request), []
    with transaction.atomic():
        version = service.edit_command(
            actor=person,
            command=command,
            definition=form.definition(),
            based_on=base,
            now=timezone.now(),
        )
        if group := _group(form, command.team):
            moved = resource_groups.move_commands(actor=person, group=group, commands=[command])
    done = _("Saved v%(number)d.") if version.number != base else _("Nothing was changed.")
    if moved:
        done = _("Saved. It is v%(number)d, and in another resource group.")
    messages.success(request, done % {"number": version.number})
    return SeeOther(reverse("command", args=[command.uid]))


def _group(form: CommandForm, team: Team) -> ResourceGroup | None:
    """The resource group that was chosen, if one was. Raises Invalid."""
    uid = form.cleaned_data["group"]
    return resource_groups.find(team=team, uid=uid) if uid else None


def _managed_scope(request: HttpRequest) -> Scope:
    """The chosen team and region, if the person may keep commands there. Raises Http404."""
    scope = resolve.scope(request)
    if scope is None or not resolve.may(request, Permission.COMMAND_MANAGE, scope):
        raise Http404
    return scope


def _left(request: HttpRequest) -> CommandForm | None:
    """The form that the person sent while she was signed out, if there is one."""
    body = kept.take(request)
    if body is None:
        return None
    messages.info(request, _("Your form is back as you left it. Check it and save it."))
    return _unchecked(CommandForm(body))


def _blank(request: HttpRequest, scope: Scope) -> CommandForm:
    if not (uid := request.GET.get("from")):
        return forms.blank(filling.last_type(scope, resolve.person(request)))
    command = resolve.command(request, uid)
    version = resolve.command_version(command, str(command.latest))
    return forms.to_clone(command, version, _(" (copy)"))


def _unchecked(form: CommandForm) -> CommandForm:
    """The same form, shown before it is complete, so without a word about errors."""
    form.errors.clear()
    return form


def _explain(form: CommandForm, error: Invalid | Conflict) -> None:
    """Put the services' sentences beside the fields they are about."""
    if isinstance(error, InvalidFields):
        form.add_domain_errors(error)
    elif isinstance(error, QuotaExceeded):
        # Theirs is about a switch that is not on this page.
        full = ngettext(
            "Your team has used its only saved command. Delete it, or request more.",
            "Your team has used all %(limit)d saved commands. Delete one, or request more.",
            error.limit,
        )
        form.add_error(None, full % {"limit": error.limit})
    elif isinstance(error, Invalid):
        form.add_domain_errors(InvalidFields({error.field: [error.message]}))
    else:
        form.add_error(None, error.message)


def _conflict(
    request: HttpRequest, command: Command, form: CommandForm, error: EditConflict
) -> dict[str, Any]:
    """What the page says of a newer version: whose it is, and what differs from what was typed."""
    theirs = resolve.command_version(resolve.command(request, command.uid), str(error.number))
    stored = definitions.of_version(theirs.command, theirs)
    return {
        "conflict": error,
        "difference": library.difference(stored, form.definition()),
        "next_number": error.number + 1,
    }


def _context(
    request: HttpRequest, form: CommandForm, team: Team, region: Region, *, fresh: bool
) -> dict[str, Any]:
    """What the page takes; ``fresh`` says that a draft of the same may take the form's place."""
    return {
        **page_context(form, team, region),
        "groups": grouping.choices(team),
        "owner": kept.owner_mark(resolve.person(request)),
        "fresh": "yes" if fresh else "",
    }


def _new_page(
    request: HttpRequest,
    scope: Scope,
    form: CommandForm,
    *,
    status: int = 200,
    fresh: bool = False,
) -> HttpResponse:
    context = {
        **_context(request, form, scope.team, scope.region, fresh=fresh),
        "usage": usage(scope),
        "cancel": reverse("commands"),
        "draft": f"new {request.GET.get('from', '')}",
    }
    return render(request, "commands/form.html", context, status=status)


def _edit_page(
    request: HttpRequest,
    command: Command,
    form: CommandForm,
    *,
    status: int = 200,
    fresh: bool = False,
    **more: Any,
) -> HttpResponse:
    context = {
        **_context(request, form, command.team, command.region, fresh=fresh),
        "command": command,
        "draft": command.uid,
        "fixed_type": command.get_type_display(),
        "cancel": reverse("command", args=[command.uid]),
        **more,
    }
    return render(request, "commands/form.html", context, status=status)

"""``/run/``: write a command, select instances, create the task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.datastructures import MultiValueDict
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from commands.errors import IdempotencyMismatch, Invalid, InvalidFields
from commands.models import Instance
from commands.rules import limits, parameters
from commands.rules.content import CommandType
from commands.services import invocations
from console import resolve
from console.forms.run import RunForm, new_client_token


@dataclass(frozen=True, slots=True)
class Choice:
    """An instance in the selection; ``reason`` says why it can't be chosen."""

    uid: str
    name: str
    address: str
    user: str
    system: str
    tags: list[str]
    selected: bool
    selectable: bool
    reason: str


@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def run(request: HttpRequest) -> HttpResponse:
    """Show the form (GET), or create a task and go to its page (POST, 303)."""
    if request.method != "POST":
        return _page(request, _blank_form(), status=200)
    scope = resolve.scope(request)
    form = RunForm(request.POST)
    if request.POST.get("action") == "parameters":
        return _page(request, _unchecked(form), status=200)
    if scope is None:
        form.add_error(None, _("You are not a member of any team yet. Ask an admin."))
        return _page(request, form, status=422)
    if not form.is_valid():
        return _page(request, form, status=422)
    try:
        invocation = invocations.run_command(
            actor=resolve.person(request),
            team=scope.team,
            region=scope.region,
            command=form.command(),
            instance_uids=form.cleaned_data["instances"],
            client_token=form.cleaned_data["client_token"],
            now=timezone.now(),
        )
    except InvalidFields as error:
        form.add_domain_errors(error)
        return _page(request, form, status=422)
    except Invalid as error:
        form.add_error(error.field if error.field in form.fields else None, error.message)
        return _page(request, _with_new_token(form), status=422)
    except IdempotencyMismatch as error:
        form.add_error(None, error.message)
        return _page(request, _with_new_token(form), status=409)
    response = HttpResponseRedirect(reverse("task", args=[invocation.uid]))
    response.status_code = 303
    return response


def _blank_form() -> RunForm:
    return RunForm(initial={"client_token": new_client_token()})


def _unchecked(form: RunForm) -> RunForm:
    """The same form, shown again before it is complete, so without a word about errors."""
    shown = RunForm(form.data)
    shown.errors.clear()
    return shown


def _with_new_token(form: RunForm) -> RunForm:
    form.data = MultiValueDict(dict(cast("QueryDict", form.data).lists()))
    form.data["client_token"] = new_client_token()
    return form


def _page(request: HttpRequest, form: RunForm, *, status: int) -> HttpResponse:
    scope = resolve.scope(request)
    context = {
        "form": form,
        "choices": _choices(request, form),
        "limits": _Limits(),
        "parameters": form.parameters(),
        "builtins": form.builtins(),
        "grammar": _Grammar(),
        "may_create": scope is None or resolve.may_create(request, scope),
    }
    return render(request, "run/wizard.html", context, status=status)


def _choices(request: HttpRequest, form: RunForm) -> list[Choice]:
    scope = resolve.scope(request)
    if scope is None:
        return []
    kind = _kind(form)
    usable = Instance.objects.usable_by(scope.team).filter(region=scope.region)
    selected = form.selected()
    return [
        _choice(instance, kind, selected) for instance in usable.prefetch_related("tags").distinct()
    ]


def _kind(form: RunForm) -> CommandType:
    value = form["type"].value()
    return CommandType(value) if value in set(CommandType) else CommandType.SHELL


def _choice(instance: Instance, kind: CommandType, selected: set[str]) -> Choice:
    reason = invocations.unfit(instance, kind)
    return Choice(
        uid=instance.uid,
        name=instance.name,
        address=instance.address,
        user=instance.user,
        system=instance.get_os_type_display(),
        tags=[str(tag) for tag in instance.tags.all()],
        selected=instance.uid in selected and not reason,
        selectable=not reason,
        reason=reason,
    )


class _Grammar:
    """What the browser needs to find parameters while somebody types; the server decides."""

    placeholder = parameters.PLACEHOLDER
    name = parameters.NAME
    white_space = parameters.WHITE_SPACE
    sensitive_name = parameters.SENSITIVE_NAME


class _Limits:
    """The numbers that the form shows."""

    parameters = limits.PARAMETERS
    parameter_name_bytes = limits.PARAMETER_NAME_BYTES

    content_bytes = limits.CONTENT_BYTES
    name_chars = limits.NAME_CHARS
    workdir_chars = limits.WORKDIR_CHARS
    timeout_min = limits.TIMEOUT_MIN
    timeout_default = limits.TIMEOUT_DEFAULT
    timeout_max = limits.TIMEOUT_MAX
    instances = limits.INSTANCES_PER_TASK

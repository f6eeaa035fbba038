"""``/instances/add/`` and ``/instances/<uid>/edit/``: describing an instance.

Nothing is kept before a person has compared the host key. Adding goes on from there only if the
console could sign in; until then every answer shows the form as it was sent, without its secrets,
which wait in ``hidden_values``.
"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_http_methods

from commands.access import Permission
from commands.errors import Conflict, ConnectFailed, Invalid
from commands.models import Credential, Instance
from commands.rules.status import ErrorCode
from commands.services import credentials, hostkeys, resource_groups, trying
from commands.services import instances as service
from commands.services.hostkeys import ShownKey
from console import errors, hidden_values, resolve
from console.forms import instance as forms
from console.forms.instance import EXISTING, GENERATE, InstanceForm, Offer
from console.pages.answers import SeeOther
from console.pages.instance import answered
from console.resolve import Scope

_SLOT = "instance"


@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
@cache_control(private=True)
def add(request: HttpRequest) -> HttpResponse:
    """Describe an instance (GET); read its host key, sign in, and keep it (POST, 303)."""
    left = not resolve.adopt_scope(request, request.POST.get("scope", ""))
    scope = _managed_scope(request)
    if request.method != "POST":
        return _page(request, forms.blank(Offer.of(scope.team, scope.region)))
    form = _sent(request, scope)
    if left:
        form.add_error(None, _("You are no longer in the team that this form was made for."))
        return _page(request, form, status=409)
    return _attempt(request, scope, form, None)


@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
@cache_control(private=True)
def edit(request: HttpRequest, uid: str) -> HttpResponse:
    """Show an instance as it is described (GET); keep what is said now (POST, 303)."""
    instance = resolve.managed_instance(request, uid)
    scope = Scope(instance.team, instance.region)
    if request.method != "POST":
        return _page(
            request, forms.to_edit(Offer.of(scope.team, scope.region, instance), instance), instance
        )
    return _attempt(request, scope, _sent(request, scope, instance), instance)


def _attempt(
    request: HttpRequest, scope: Scope, form: InstanceForm, instance: Instance | None
) -> HttpResponse:
    """Go as far as what was sent allows, and show the form again where that is not the end."""
    if not form.is_valid():
        return _page(request, form, instance, status=422)
    if form.shown_way == GENERATE:
        return _generate(request, scope, form, instance)
    return _go_on(request, scope, form, instance)


def _go_on(
    request: HttpRequest, scope: Scope, form: InstanceForm, instance: Instance | None
) -> HttpResponse:
    try:
        if _wants_key(form, instance):
            return _read(request, scope, form, instance)
        if instance is None:
            return _add(request, scope, form)
        return _save(request, form, instance)
    except ConnectFailed as error:
        if error.code == ErrorCode.HOST_KEY_CHANGED:
            form = forms.changed(form, key="", key_at="")
        form.add_error(None, f"{error.message} ({error.code})")
        return _page(request, form, instance, status=422)
    except (Invalid, Conflict) as error:
        form.add_domain_error(error)
        return _page(request, form, instance, status=errors.status_code(error))


def _wants_key(form: InstanceForm, instance: Instance | None) -> bool:
    """Whether a person has yet to compare the key of where the form says that it is."""
    data = form.cleaned_data
    if instance is not None and (instance.host, instance.port) == (data["host"], data["port"]):
        return False
    return not (form.has_key and data["confirmed"])


def _read(
    request: HttpRequest, scope: Scope, form: InstanceForm, instance: Instance | None
) -> HttpResponse:
    """Read the host key for the person to compare, or ask to have that done."""
    data = form.cleaned_data
    if form.has_key and request.POST.get("action") != "read":
        form.add_error("confirmed", _("Compare the fingerprint on the server, then tick this."))
        return _page(request, form, instance, status=422)
    shown = hostkeys.ask_host_key(
        actor=resolve.person(request),
        team=scope.team,
        region=scope.region,
        host=data["host"],
        port=data["port"],
        jump_host=data["jump"],
    )
    after = forms.changed(form, key=shown.key, key_at=form.target, confirmed="")
    return _page(request, after, instance)


def _add(request: HttpRequest, scope: Scope, form: InstanceForm) -> HttpResponse:
    person, place, key = resolve.person(request), form.place(), form.cleaned_data["key"]
    where: dict[str, Any] = {"actor": person, "team": scope.team, "region": scope.region}
    answer = trying.test_connection(**where, place=place, host_key=key)
    instance = service.add_instance(
        **where,
        name=place.name,
        host=place.host,
        port=place.port,
        user=place.user,
        credential=place.credential,
        host_key=key,
        tags=dict(form.cleaned_data["tags"]),
        os_type=place.os_type,
        jump_host=place.jump_host,
        group=form.cleaned_data["group"],
    )
    _forget(request, form)
    messages.success(request, answered(instance.name, answer) + " " + _("It was added."))
    return SeeOther(reverse("instance", args=[instance.uid]))


def _save(request: HttpRequest, form: InstanceForm, instance: Instance) -> HttpResponse:
    person, group = resolve.person(request), form.cleaned_data["group"]
    with transaction.atomic():
        service.update_instance(
            actor=person,
            instance=instance,
            place=form.place(),
            tags=form.cleaned_data["tags"],
            host_key=form.cleaned_data["key"],
            now=timezone.now(),
        )
        if group is not None:
            resource_groups.move_instances(actor=person, group=group, instances=[instance])
    _forget(request, form, instance)
    messages.success(request, _("Saved %(name)s.") % {"name": form.cleaned_data["name"]})
    return SeeOther(reverse("instance", args=[instance.uid]))


def _generate(
    request: HttpRequest, scope: Scope, form: InstanceForm, instance: Instance | None
) -> HttpResponse:
    """Make a key pair, and choose it: its public half has to be installed before it serves."""
    try:
        made = credentials.generate_credential(
            actor=resolve.person(request),
            team=scope.team,
            region=scope.region,
            name=form.cleaned_data["credential_name"],
        )
    except Conflict as error:
        form.add_error("credential_name", error.message)
        return _page(request, form, instance, status=409)
    form.offer = Offer.of(scope.team, scope.region, instance)
    after = forms.changed(form, way=EXISTING, credential=str(made.pk), credential_name="")
    if instance is not None:
        return _page(request, after, instance)  # nothing is saved before it can serve
    return _go_on(request, scope, after, instance)


def _managed_scope(request: HttpRequest) -> Scope:
    """The chosen team and region, if the person may add instances there. Raises Http404."""
    scope = resolve.scope(request)
    if scope is None or not resolve.may(request, Permission.INSTANCE_MANAGE, scope):
        raise Http404
    return scope


def _sent(request: HttpRequest, scope: Scope, instance: Instance | None = None) -> InstanceForm:
    """What was sent; its secrets are kept, so that nobody types them twice."""
    token = request.POST.get("token", "")
    kept = hidden_values.known(request, token, _slot(instance))
    form = forms.sent(request, Offer.of(scope.team, scope.region, instance), kept)
    form.is_valid()
    form.kept = form.secrets()
    hidden_values.keep(request, token, _slot(instance), form.kept)
    return form


def _forget(request: HttpRequest, form: InstanceForm, instance: Instance | None = None) -> None:
    """Let go of secrets that are kept elsewhere by now."""
    hidden_values.forget(request, form.cleaned_data["token"], _slot(instance))


def _slot(instance: Instance | None) -> str:
    return _SLOT if instance is None else instance.uid


def _page(
    request: HttpRequest, form: InstanceForm, instance: Instance | None = None, *, status: int = 200
) -> HttpResponse:
    key, chosen = ShownKey(form.shown_key), _chosen(form)
    context = {
        "form": form,
        "instance": instance,
        "shown_key": key if key.fingerprint else None,
        "chosen": chosen,
        "public_line": credentials.public_line(chosen) if chosen else "",
        "os_choices": Instance.Os.choices,
    }
    return render(request, "instances/form.html", context, status=status)


def _chosen(form: InstanceForm) -> Credential | None:
    """The credential that is chosen, if it is one that is kept already."""
    pk = str(form["credential"].value() or "")
    known = {str(one.pk) for one in form.offer.credentials}
    return credentials.readable(int(pk)) if form.shown_way == EXISTING and pk in known else None

"""``/instances/<uid>/``: one instance, checking it now, its tags, switching it off, removing it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Page, Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django.views.decorators.vary import vary_on_headers

from commands import access
from commands.access import Permission
from commands.errors import CommandConsoleError, Conflict, Invalid
from commands.models import Instance, Run, Team
from commands.rules.connection import USABLE
from commands.services import credentials, trying
from commands.services import instances as service
from commands.services.trying import Checked
from commands.words import retold
from console import errors, grouping, resolve
from console.forms.instance import tag_pairs
from console.pages import instances, inventory
from console.pages.answers import SeeOther, local
from console.pages.causes import causes
from console.pages.picker import connection_look

PAGE_SIZE = 20
CHANGES = 10
"""Changes of the host key that the page lists."""


@resolve.signed_in
@require_safe
@cache_control(private=True)
@vary_on_headers("HX-Target")
def instance(request: HttpRequest, uid: str) -> HttpResponse:
    """One instance: what is known of it, how it can be reached, what ran there."""
    found = resolve.instance(request, uid)
    context = about(request, found)
    if request.headers.get("HX-Target") == "verdict":
        return _state(request, context)
    manages = bool(context["may_manage"])
    credential = credentials.readable(found.credential_id) if manages else None
    context |= {
        "page": _tasks(request, found),
        "credential": credential,
        "public_line": credentials.public_line(credential) if credential else "",
        "grants": found.grants.select_related("team") if manages else [],
        "behind": _behind(request, found) if manages else [],
        "changes": found.host_key_changes.all()[:CHANGES],
        "tags": found.tags.all(),
        "group": None if context["lender"] else grouping.shown(found),
    }
    return render(request, "instances/detail.html", context)


@resolve.signed_in
@require_POST
def check(request: HttpRequest, uid: str) -> HttpResponse:
    """Connect now, and say what came of it."""
    found = resolve.instance(request, uid)
    scope = resolve.scope(request)
    try:
        checked = trying.check_now(actor=resolve.person(request), instance=found)
    except Conflict as error:
        fine, told = False, error.message
    else:
        fine, told = checked.answer is not None, _sentence(found, checked)
    if request.headers.get("HX-Target") == "presence" and scope is not None:
        return instances.presence(request, scope, (found.uid,), {found.uid: told})
    (messages.success if fine else messages.error)(request, told)
    return SeeOther(local(request, request.POST.get("next", ""), _address(found)))


@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_headers("HX-Target")
def tags(request: HttpRequest, uid: str) -> HttpResponse:
    """Ask for the tags (GET), and keep them (POST, 303)."""
    found = resolve.managed_instance(request, uid)
    back = request.GET.get("next") or request.POST.get("next", "")
    context: dict[str, Any] = {
        "instance": found,
        "next": local(request, back, _address(found)),
        "chips": [str(tag) for tag in found.tags.all()],
    }
    if request.method == "POST":
        typed = request.POST.get("tags", "")
        chips = request.POST.getlist("tag")
        pairs = tag_pairs(chips, typed)
        try:
            service.set_tags(actor=resolve.person(request), instance=found, tags=pairs)
        except Invalid as error:
            context |= {"chips": chips, "typed": typed, "tag_errors": [error.message]}
            return render(request, "instances/tags.html", context, status=422)
        messages.success(request, _("Tags of %(name)s saved.") % {"name": found.name})
        return SeeOther(context["next"])
    part = request.headers.get("HX-Target") == "asked"
    context["in_dialog"] = part
    return render(request, f"instances/{'_tags' if part else 'tags'}.html", context)


@resolve.signed_in
@require_POST
def enabled(request: HttpRequest, uid: str) -> HttpResponse:
    """Switch an instance on or off."""
    found = resolve.managed_instance(request, uid)
    on = request.POST.get("enabled") == "on"
    service.set_enabled(actor=resolve.person(request), instance=found, enabled=on)
    done = _("%(name)s is switched on. It is checked now.") if on else _("%(name)s is off.")
    messages.success(request, done % {"name": found.name})
    return SeeOther(_address(found))


@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_headers("HX-Target")
def remove(request: HttpRequest, uid: str) -> HttpResponse:
    """Ask whether an instance is to be removed (GET), and remove it (POST, 303)."""
    found = resolve.managed_instance(request, uid)
    if request.method != "POST":
        return _confirm(request, found)
    name = found.name
    try:
        service.remove_instance(actor=resolve.person(request), instance=found)
    except Conflict as error:
        return _confirm(request, found, error)
    messages.success(request, _("%(name)s was removed.") % {"name": name})
    return SeeOther(reverse("instances"))


def about(request: HttpRequest, instance: Instance) -> dict[str, Any]:
    """What every page about one instance shows."""
    user = request.user
    reachable = instance.enabled and instance.connection in USABLE
    own = Team.objects.of(user).filter(pk=instance.team_id).exists()
    through = _through(request, instance)
    return {
        "instance": instance,
        "look": connection_look(instance, timezone.now()),
        "shown": instance.connection if instance.enabled else "off",
        "causes": [] if reachable or not instance.enabled else causes(instance, through),
        "through": through,
        "may_run": access.may_try(user, instance) and instance.enabled,
        "may_manage": access.allows(user, Permission.INSTANCE_MANAGE, instance.team),
        "lender": "" if own else instance.team.name,
    }


def _state(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """How it is now. Only where it is another state than the page shows, all about it is new."""
    if request.GET.get("shown") == context["shown"]:
        return render(request, "instances/_verdict.html", context)
    response = render(request, "instances/_state.html", context)
    response.headers["HX-Retarget"] = "#state"
    return response


def _sentence(instance: Instance, checked: Checked) -> str:
    """What a check found, for a person."""
    if checked.answer is None:
        return f"{instance.name}: {retold(checked.info)}"
    return answered(instance.name, checked.answer)


def answered(name: str, answer: trying.Answer) -> str:
    """That an instance answered, and how fast."""
    told = _("%(name)s answered in %(ms)d ms.") % {"name": name, "ms": answer.milliseconds}
    return f"{told} {answer.system}." if answer.system else told


def _tasks(request: HttpRequest, instance: Instance) -> Page[Any]:
    teams = Team.objects.of(request.user)
    runs = Run.objects.filter(instance=instance, invocation__team__in=teams)
    found = runs.select_related("invocation").order_by("-pk")
    paginator: Paginator[Any] = Paginator(found, PAGE_SIZE)
    page = paginator.get_page(request.GET.get("page"))
    page.object_list = [(run, inventory.last_task(run)) for run in page.object_list]
    return page


def _behind(request: HttpRequest, instance: Instance) -> list[Instance]:
    """Instances whose jump host it is, as far as they are any of the person's business."""
    return list(instance.behind.visible_to(request.user).order_by("name"))


def _through(request: HttpRequest, instance: Instance) -> Instance | None:
    """The jump host of an instance, for who may see it: who borrows the instance need not."""
    jump_host = instance.jump_host
    seen = jump_host is not None and access.may_see(request.user, jump_host)
    return jump_host if seen else None


def _confirm(
    request: HttpRequest, instance: Instance, error: CommandConsoleError | None = None
) -> HttpResponse:
    part = request.headers.get("HX-Target") == "asked"
    behind = _behind(request, instance)
    context = {
        "instance": instance,
        "runs": instance.runs.count(),
        "active": instance.runs.going_on().count(),
        "unapproved": instance.runs.unapproved().count(),
        "behind": behind,
        "others_behind": instance.behind.count() - len(behind),
        "error": error.message if error else "",
        "in_dialog": part,
    }
    template = f"instances/{'_remove' if part else 'remove'}.html"
    return render(request, template, context, status=errors.status_code(error) if error else 200)


def _address(instance: Instance) -> str:
    return reverse("instance", args=[instance.uid])

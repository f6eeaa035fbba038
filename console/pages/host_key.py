"""``/instances/<uid>/host-key/``: comparing a changed host key, and accepting it with a reason."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_http_methods

from commands.errors import CommandConsoleError, Conflict, ConnectFailed, Invalid
from commands.models import Instance
from commands.rules import limits
from commands.services import hostkeys
from commands.services.hostkeys import ShownKey
from console import errors, resolve
from console.pages.answers import SeeOther
from console.pages.instance import about


@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
@cache_control(no_store=True)
def host_key(request: HttpRequest, uid: str) -> HttpResponse:
    """Show the pinned key and the one that the server shows now; pin that one (POST, 303)."""
    instance = resolve.instance(request, uid)
    if request.method != "POST":
        return _page(request, instance)
    instance = resolve.managed_instance(request, uid)
    reason = request.POST.get("reason", "")
    if not request.POST.get("confirmed"):
        error = Invalid(
            _("Compare the new fingerprint on the server, then tick this."), field="confirmed"
        )
        return _page(request, instance, error, reason)
    try:
        hostkeys.accept_host_key(
            actor=resolve.person(request),
            instance=instance,
            host_key=request.POST.get("key", ""),
            reason=reason,
            now=timezone.now(),
        )
    except (Invalid, Conflict, ConnectFailed) as error:
        return _page(request, instance, error, reason)
    messages.success(
        request,
        _("The new host key of %(name)s is pinned. It is checked now.") % {"name": instance.name},
    )
    return SeeOther(reverse("instance", args=[instance.uid]))


def _page(
    request: HttpRequest,
    instance: Instance,
    error: CommandConsoleError | None = None,
    reason: str = "",
) -> HttpResponse:
    context: dict[str, Any] = {
        **about(request, instance),
        "old": ShownKey(instance.host_key),
        "error": error,
        "reason": reason,
        "reason_chars": limits.REASON_CHARS,
    }
    if context["may_manage"]:
        try:
            context["new"] = hostkeys.shown_now(actor=resolve.person(request), instance=instance)
        except (ConnectFailed, Conflict) as failure:
            context["unread"] = failure.message
    if error is None:
        status = 200
    else:
        status = 422 if isinstance(error, ConnectFailed) else errors.status_code(error)
    return render(request, "instances/host_key.html", context, status=status)

"""``/scope/``: choose the team and region that all pages show; ``/healthz``."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST, require_safe

from console import resolve


@resolve.signed_in
@require_POST
def choose(request: HttpRequest) -> HttpResponse:
    """Remember another team and region, and go back to the page."""
    resolve.choose_scope(request, request.POST.get("team", ""), request.POST.get("region", ""))
    target = request.POST.get("next", "")
    if not url_has_allowed_host_and_scheme(
        target, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    ):
        target = "/"
    response = HttpResponseRedirect(target)
    response.status_code = 303
    return response


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Say that the process answers."""
    return HttpResponse("ok\n", content_type="text/plain")

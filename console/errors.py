"""The only place where domain errors become HTTP answers.

Denied is 404, so that nothing shows of what belongs to others; a page that has a form catches
Invalid and Conflict itself and shows the form again.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseNotFound, JsonResponse
from django.template import loader
from django.utils.deprecation import MiddlewareMixin

from commands.errors import CommandConsoleError, Conflict, Denied, Invalid
from commands.models import AuditEvent, User
from commands.services import audit

STATUS_CODES: dict[type[CommandConsoleError], int] = {Denied: 404, Invalid: 422, Conflict: 409}
"""HTTP status of each kind of domain error; anything else is 500."""


def status_code(error: CommandConsoleError) -> int:
    """The HTTP status that answers ``error``."""
    for kind, status in STATUS_CODES.items():
        if isinstance(error, kind):
            return status
    return 500


class DomainErrorMiddleware(MiddlewareMixin):
    """Answers domain errors that a page did not catch."""

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """A 404 page for Denied, a short JSON answer for others of the tree, else nothing."""
        if isinstance(error, Denied):
            note(request, error)
            return HttpResponseNotFound(loader.render_to_string("404.html", request=request))
        if isinstance(error, CommandConsoleError):
            body = {"code": error.code, "message": error.message}
            return JsonResponse(body, status=status_code(error))
        return None


def note(request: HttpRequest, error: Denied) -> None:
    """Note in the audit trail what somebody who is signed in was refused.

    The page by its name, and not by its address: some addresses are secrets.
    """
    user = getattr(request, "user", None)
    if not isinstance(user, User):
        return
    match = request.resolver_match
    audit.record(
        actor=user,
        action="page:denied",
        team=error.team,
        target_name=match.view_name if match else "",
        outcome=AuditEvent.Outcome.REFUSED,
        details={"method": request.method or "", "permission": error.permission},
    )

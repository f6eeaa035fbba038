"""What the pages of the admin site share: reading only, and saying what a service refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.db import transaction
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse

from commands.errors import CommandConsoleError, Denied
from commands.models import User
from console import errors, resolve

_M = TypeVar("_M", bound=Model)

if TYPE_CHECKING:

    class _ModelAdmin(admin.ModelAdmin[_M]):
        pass

else:

    class _ModelAdmin(admin.ModelAdmin):
        def __class_getitem__(cls, _model: type[Model]) -> type:
            return cls


class ServiceAdmin(_ModelAdmin[_M]):
    """A model whose rows change through services.

    What a service refuses is said on top of the page, and nothing is changed.
    """

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """The form; again, with a sentence, where a service refused it."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except CommandConsoleError as error:
            return self.refused(request, error)

    def delete_view(
        self,
        request: HttpRequest,
        object_id: str,
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """Deleting one; asked again, with a sentence, where a service refused it."""
        try:
            return super().delete_view(request, object_id, extra_context)
        except CommandConsoleError as error:
            return self.refused(request, error)

    def refused(self, request: HttpRequest, error: CommandConsoleError) -> HttpResponse:
        """Say why nothing was changed, on the same page."""
        tell(request, error)
        return HttpResponseRedirect(request.get_full_path())

    def has_delete_permission(self, request: HttpRequest, obj: _M | None = None) -> bool:
        """Nobody, unless there is a service for it."""
        return False

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Django's own deletes all rows or stops in between, and notes first what it may not do."""
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions


class ReadOnlyAdmin(ServiceAdmin[_M]):
    """A model that nobody changes here."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: _M | None = None) -> bool:
        """Nobody."""
        return False


def tell(request: HttpRequest, error: CommandConsoleError) -> None:
    """Show what a service refused, and note that it was asked for what is not allowed."""
    if isinstance(error, Denied):
        errors.note(request, error)
    messages.error(request, error.message)


def each(request: HttpRequest, rows: Iterable[_M], do: Callable[[User, _M], object]) -> int:
    """Do something with each of ``rows``; how many times it was done. The rest is told."""
    actor, done = resolve.person(request), 0
    for row in rows:
        try:
            with transaction.atomic():
                do(actor, row)
        except CommandConsoleError as error:
            tell(request, error)
        else:
            done += 1
    return done


def ask_first(
    model_admin: _ModelAdmin[_M],
    request: HttpRequest,
    rows: Sequence[_M],
    *,
    action: str,
    title: str,
    explanation: str,
    button: str,
) -> TemplateResponse:
    """The page on which ``action`` with ``rows`` is confirmed; it posts ``confirmed`` to itself."""
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": title,
        "action": action,
        "rows": rows,
        "checkbox": helpers.ACTION_CHECKBOX_NAME,
        "explanation": explanation,
        "button": button,
    }
    return TemplateResponse(request, "admin/commands/ask.html", context)

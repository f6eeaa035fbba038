"""Access keys on the admin site: whose there are and when they were used. No secret is read."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from commands.models import AccessKey, User
from commands.services import administration
from console.admin.base import ReadOnlyAdmin, ask_first, each


@admin.register(AccessKey)
class AccessKeyAdmin(ReadOnlyAdmin[AccessKey]):
    """Keys of all teams, their owners' to make. Revoking asks for the permission to change them."""

    list_display = ["uid", "name", "owner", "team", "created_at", "last_used_at", "revoked_at"]
    list_filter = ["team"]
    search_fields = ["uid", "name", "owner__username"]
    fields = [
        "uid",
        "name",
        "owner",
        "team",
        "created_at",
        "expires_at",
        "last_used_at",
        "last_used_from",
        "revoked_at",
        "revoked_by_name",
    ]
    actions = ["revoke"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[AccessKey]:
        """All keys, without their secrets."""
        return super().get_queryset(request).defer("secret").select_related("owner", "team")

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Whoever may change access keys."""
        return request.user.has_perm("commands.change_accesskey")

    @admin.action(description=gettext_lazy("Revoke selected access keys"), permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[AccessKey]) -> HttpResponse | None:
        """Ask first, then revoke those that are not revoked."""
        keys = list(queryset)
        if "confirmed" not in request.POST:
            return ask_first(
                self,
                request,
                keys,
                action="revoke",
                title=_("Revoke access keys"),
                explanation=_(
                    "They stop working at once, for good. Programs that use them are refused; what "
                    "those have started goes on. Members of the teams see who revoked them."
                ),
                button=_("Revoke these access keys"),
            )

        def revoke(actor: User, key: AccessKey) -> None:
            administration.revoke_key(actor=actor, key=key, now=timezone.now())

        done = each(request, keys, revoke)
        if done:
            text = ngettext("%(n)d access key is revoked.", "%(n)d access keys are revoked.", done)
            self.message_user(request, text % {"n": done}, messages.SUCCESS)
        return None

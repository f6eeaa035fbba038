"""The audit trail on the admin site: read, filter, search. Nobody changes it."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from commands.models import AuditEvent
from console.admin.base import ReadOnlyAdmin

RESOURCES = (
    "access-key",
    "api",
    "approval",
    "approval_rule",
    "audit",
    "command",
    "credential",
    "encryption-keys",
    "group",
    "instance",
    "invitation",
    "lender",
    "member",
    "notice_rule",
    "output",
    "page",
    "password",
    "quota",
    "region",
    "resource-group",
    "second-factor",
    "session",
    "task",
    "team",
    "user",
)
"""What actions are done to: the first word of each."""


class ResourceFilter(admin.SimpleListFilter):
    """Events of one kind of thing."""

    title = _("what it is about")
    parameter_name = "about"

    def lookups(self, _request: HttpRequest, _admin: Any) -> list[tuple[str, str]]:
        """All kinds of things; to look for those that there are would read the whole trail."""
        return [(each, each) for each in RESOURCES]

    def queryset(
        self, _request: HttpRequest, queryset: QuerySet[AuditEvent]
    ) -> QuerySet[AuditEvent]:
        """Those whose action begins so."""
        value = self.value()
        return queryset.filter(action__startswith=f"{value}:") if value else queryset


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin[AuditEvent]):
    """What was done, by whom, from where, on what; ``manage.py verify_audit`` proves it whole."""

    list_display = [
        "at",
        "actor_name",
        "action",
        "outcome",
        "team_name",
        "target_name",
        "origin",
    ]
    list_filter = ["outcome", ResourceFilter, "at"]
    search_fields = ["actor_name", "action", "team_name", "target_name", "target_uid", "origin"]
    show_full_result_count = False
    fields = [
        "at",
        "actor_name",
        "origin",
        "action",
        "outcome",
        "team_name",
        "team_uid",
        "target_name",
        "target_uid",
        "shown_details",
        "number",
        "digest",
    ]
    readonly_fields = ["shown_details"]

    @admin.display(description=_("details"))
    def shown_details(self, event: AuditEvent) -> SafeString:
        """The details, one a line."""
        return format_html("<pre>{}</pre>", json.dumps(event.details, indent=1, sort_keys=True))

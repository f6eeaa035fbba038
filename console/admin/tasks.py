"""Tasks and saved commands on the admin site: which there are, and stopping what runs.

What scripts say, and the values of their parameters, belongs to the teams and is not shown.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from commands.models import Command, Invocation, User
from commands.rules.status import FINAL
from commands.services import invocations
from console.admin.base import ReadOnlyAdmin, ask_first, each


class RunningFilter(admin.SimpleListFilter):
    """Running tasks, unless others are asked for."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, _request: HttpRequest, _admin: Any) -> list[tuple[str, Any]]:
        """The default has no value."""
        return [("all", gettext_lazy("All"))]

    def choices(self, changelist: Any) -> Any:
        """Two choices, the first of which is the default."""
        for value, label in ((None, _("Running")), ("all", _("All"))):
            yield {
                "selected": self.value() == value,
                "query_string": changelist.get_query_string(
                    {self.parameter_name: value} if value else {}, [self.parameter_name]
                ),
                "display": label,
            }

    def queryset(
        self, _request: HttpRequest, queryset: QuerySet[Invocation]
    ) -> QuerySet[Invocation]:
        """Tasks that have not ended, or all."""
        if self.value() == "all":
            return queryset
        return queryset.filter(pk__in=Invocation.objects.active().values("pk"))


@admin.register(Invocation)
class TaskAdmin(ReadOnlyAdmin[Invocation]):
    """Tasks of all teams. Stopping one asks for the permission to change tasks."""

    list_display = ["uid", "name", "team", "region", "created_by_name", "created_at", "left"]
    list_select_related = ["team", "region"]
    list_filter = [RunningFilter, "team"]
    search_fields = ["uid", "name", "team__name", "created_by_name"]
    fields = [
        "uid",
        "name",
        "type",
        "team",
        "region",
        "created_by_name",
        "created_at",
        "left",
    ]
    readonly_fields = ["left"]
    actions = ["stop"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Invocation]:
        """Tasks with their runs counted; without what they hold of the team's."""
        final = Q(runs__status__in=sorted(FINAL))
        found = super().get_queryset(request).defer("values", "content", "parameters")
        return found.annotate(runs_in_all=Count("runs"), runs_left=Count("runs", filter=~final))

    @admin.display(description=gettext_lazy("instances left"))
    def left(self, task: Any) -> str:
        """How many of its instances have not ended."""
        return f"{task.runs_left:,} / {task.runs_in_all:,}"

    def has_stop_permission(self, request: HttpRequest) -> bool:
        """Whoever may change tasks."""
        return request.user.has_perm("commands.change_invocation")

    @admin.action(description=gettext_lazy("Stop selected tasks"), permissions=["stop"])
    def stop(self, request: HttpRequest, queryset: QuerySet[Invocation]) -> HttpResponse | None:
        """Ask first, then stop what has not ended."""
        tasks = list(queryset)
        if "confirmed" not in request.POST:
            return ask_first(
                self,
                request,
                tasks,
                action="stop",
                title=_("Stop tasks"),
                explanation=_(
                    "What has not started never will. What runs is ended on its instances, with "
                    "everything that it started. Members of the teams see who stopped it."
                ),
                button=_("Stop these tasks"),
            )

        def stop(actor: User, task: Invocation) -> None:
            invocations.stop_by_staff(actor=actor, invocation=task, now=timezone.now())

        done = each(request, tasks, stop)
        if done:
            text = ngettext("%(n)d task was stopped.", "%(n)d tasks were stopped.", done)
            self.message_user(request, text % {"n": done}, messages.SUCCESS)
        return None


@admin.register(Command)
class CommandAdmin(ReadOnlyAdmin[Command]):
    """Saved commands of all teams, without what they say."""

    list_display = ["name", "uid", "team", "region", "type", "latest", "updated_by", "updated_at"]
    list_select_related = ["team", "region", "updated_by"]
    list_filter = ["type", "team"]
    search_fields = ["name", "uid", "team__name"]
    fields = [
        "name",
        "uid",
        "description",
        "type",
        "team",
        "region",
        "latest",
        "created_by",
        "created_at",
        "updated_by",
        "updated_at",
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Command]:
        """Those in libraries; the others were made for one task each."""
        return super().get_queryset(request).filter(kept=True)

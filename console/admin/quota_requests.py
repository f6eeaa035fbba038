"""Requests for higher limits on the admin site: looking at them, and deciding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from commands.errors import Invalid
from commands.models import QuotaRequest, User
from commands.rules import limits
from commands.rules import quotas as rules
from commands.rules.quotas import Quota
from commands.services import quota_requests, quotas
from console import resolve
from console.admin import charts
from console.admin.base import ServiceAdmin, each

if TYPE_CHECKING:
    _RequestForm = forms.ModelForm[QuotaRequest]
else:
    _RequestForm = forms.ModelForm

APPROVE, DECLINE = "approve", "decline"


class StateFilter(admin.SimpleListFilter):
    """Requests that wait, unless others are asked for."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, _request: HttpRequest, _admin: Any) -> list[tuple[str, Any]]:
        """The default has no value."""
        decided = [
            (value, label)
            for value, label in QuotaRequest.State.choices
            if value != QuotaRequest.State.PENDING
        ]
        return [*decided, ("all", gettext_lazy("All"))]

    def choices(self, changelist: Any) -> Any:
        """The default first."""
        first = (None, QuotaRequest.State.PENDING.label)
        for value, label in (first, *self.lookup_choices):
            yield {
                "selected": self.value() == value,
                "query_string": changelist.get_query_string(
                    {self.parameter_name: value} if value else {}, [self.parameter_name]
                ),
                "display": label,
            }

    def queryset(
        self, _request: HttpRequest, queryset: QuerySet[QuotaRequest]
    ) -> QuerySet[QuotaRequest]:
        """Those in that state."""
        if self.value() == "all":
            return queryset
        return queryset.filter(state=self.value() or QuotaRequest.State.PENDING)


class CommentForm(forms.Form):
    """Why requests are declined."""

    comment = forms.CharField(
        label=gettext_lazy("Why they are declined"),
        max_length=limits.REASON_CHARS_MAX,
        widget=forms.Textarea(attrs={"rows": 4, "cols": 60}),
        help_text=gettext_lazy("Who asked reads it."),
        error_messages={"required": gettext_lazy("Say why: who asked reads it.")},
    )


class DecisionForm(_RequestForm):
    """Approve, with a limit, or decline, with a reason."""

    decision = forms.ChoiceField(
        label=gettext_lazy("Decision"),
        choices=[(APPROVE, gettext_lazy("Approve")), (DECLINE, gettext_lazy("Decline"))],
        widget=forms.RadioSelect,
        error_messages={"required": gettext_lazy("Choose a decision.")},
    )
    granted = forms.IntegerField(
        label=gettext_lazy("Granted limit"),
        required=False,
        help_text=gettext_lazy("What was asked for, unless you grant another limit."),
    )
    comment = forms.CharField(
        label=gettext_lazy("Comment"),
        required=False,
        max_length=limits.REASON_CHARS_MAX,
        widget=forms.Textarea(attrs={"rows": 4, "cols": 60}),
        help_text=gettext_lazy("Required to decline. Who asked reads it."),
    )

    class Meta:
        model = QuotaRequest
        fields: tuple[str, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What the row says, nothing yet, would stand in the place of the field's initial value.
        self.initial["granted"] = self.instance.wanted

    def clean(self) -> dict[str, Any]:
        """A limit that can be, or a reason."""
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("decision") == DECLINE and not cleaned.get("comment", "").strip():
            self.add_error("comment", _("Say why: who asked reads it."))
        if cleaned.get("decision") == APPROVE:
            granted = cleaned.get("granted")
            if granted is None:
                self.add_error("granted", _("Enter the limit that you grant."))
            else:
                try:
                    rules.check_limit(Quota(self.instance.key), granted)
                except Invalid as error:
                    self.add_error("granted", ValidationError(error.message))
        return cleaned


@admin.register(QuotaRequest)
class QuotaRequestAdmin(ServiceAdmin[QuotaRequest]):
    """Requests of teams. What is decided stays decided."""

    form = DecisionForm
    list_display = [
        "shown_key",
        "team",
        "region",
        "present",
        "wanted",
        "state",
        "asked_by_name",
        "asked_at",
        "decided_by_name",
    ]
    list_display_links = ["shown_key"]
    list_select_related = ["team", "region"]
    list_filter = [StateFilter, "key"]
    search_fields = ["team__name", "team__uid", "asked_by_name", "reason"]
    actions = ["approve", "decline"]
    _ASKED = ("shown_key", "team", "region", "asked_by_name", "asked_at", "reason")
    _NUMBERS = ("present", "used", "chart", "wanted")
    _DECIDED = ("state", "granted", "comment", "decided_by_name", "decided_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody: members of the team ask."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: QuotaRequest | None = None) -> bool:
        """Nobody, once it is decided."""
        waits = obj is None or obj.state == QuotaRequest.State.PENDING
        return waits and super().has_change_permission(request, obj)

    def get_fieldsets(self, request: HttpRequest, obj: QuotaRequest | None = None) -> Any:
        """What is asked, how much is used, and the decision."""
        deciding = self.has_change_permission(request, obj)
        decision = ("decision", "granted", "comment") if deciding else self._DECIDED
        return [
            (_("Request"), {"fields": self._ASKED}),
            (_("Use"), {"fields": self._NUMBERS}),
            (_("Decision"), {"fields": decision}),
        ]

    def get_readonly_fields(
        self, request: HttpRequest, obj: QuotaRequest | None = None
    ) -> tuple[str, ...]:
        """All but the decision."""
        return (*self._ASKED, *self._NUMBERS, "state", "decided_by_name", "decided_at")

    @admin.display(description=gettext_lazy("quota"), ordering="key")
    def shown_key(self, request: QuotaRequest) -> str:
        """Which quota it is."""
        return rules.DEFINITIONS[Quota(request.key)].label

    @admin.display(description=gettext_lazy("current limit"))
    def present(self, request: QuotaRequest) -> str:
        """The limit that is in force."""
        key = Quota(request.key)
        return charts.number(quotas.limit(team=request.team, region=request.region, key=key))

    @admin.display(description=gettext_lazy("used"))
    def used(self, request: QuotaRequest) -> SafeString:
        """How much is used now."""
        return charts.bar(self._usage(request))

    @admin.display(description=gettext_lazy("last 30 days"))
    def chart(self, request: QuotaRequest) -> SafeString:
        """How much was used day by day."""
        return charts.past(
            team=request.team,
            region=request.region,
            key=Quota(request.key),
            usage=self._usage(request),
            now=timezone.now(),
        )

    def save_model(self, request: HttpRequest, obj: QuotaRequest, form: Any, change: bool) -> None:
        """Decide."""
        actor, given, now = resolve.person(request), form.cleaned_data, timezone.now()
        if given["decision"] == DECLINE:
            quota_requests.decline(actor=actor, request=obj, comment=given["comment"], now=now)
        else:
            quota_requests.approve(
                actor=actor,
                request=obj,
                granted=given["granted"],
                comment=given["comment"],
                now=now,
            )

    @admin.action(description=gettext_lazy("Approve selected"), permissions=["change"])
    def approve(self, request: HttpRequest, queryset: QuerySet[QuotaRequest]) -> None:
        """Grant what was asked for."""

        def approve(actor: User, asked: QuotaRequest) -> None:
            quota_requests.approve(
                actor=actor, request=asked, granted=asked.wanted, now=timezone.now()
            )
            self.log_change(request, asked, _("Approved: %(n)d") % {"n": asked.wanted})

        done = each(request, queryset.select_related("team", "region"), approve)
        if done:
            text = ngettext("%(n)d request approved.", "%(n)d requests approved.", done)
            self.message_user(request, text % {"n": done}, messages.SUCCESS)

    @admin.action(description=gettext_lazy("Decline selected"), permissions=["change"])
    def decline(
        self, request: HttpRequest, queryset: QuerySet[QuotaRequest]
    ) -> HttpResponse | None:
        """Ask why, then decline all of them."""
        confirmed = "confirmed" in request.POST
        form = CommentForm(request.POST if confirmed else None)
        if not (confirmed and form.is_valid()):
            context = {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "title": _("Decline requests"),
                "explanation": _("Each of these requests is declined with the same comment."),
                "action": "decline",
                "rows": queryset.select_related("team", "region"),
                "checkbox": helpers.ACTION_CHECKBOX_NAME,
                "field": form["comment"],
                "button": _("Decline these requests"),
            }
            status = 422 if confirmed else 200
            return TemplateResponse(request, "admin/commands/ask.html", context, status=status)
        comment = form.cleaned_data["comment"]

        def decline(actor: User, asked: QuotaRequest) -> None:
            quota_requests.decline(actor=actor, request=asked, comment=comment, now=timezone.now())
            self.log_change(request, asked, _("Declined: %(why)s") % {"why": comment})

        done = each(request, queryset.select_related("team", "region"), decline)
        if done:
            text = ngettext("%(n)d request declined.", "%(n)d requests declined.", done)
            self.message_user(request, text % {"n": done}, messages.SUCCESS)
        return None

    def _usage(self, request: QuotaRequest) -> rules.Usage:
        return quotas.usage(
            team=request.team,
            region=request.region,
            key=Quota(request.key),
            now=timezone.now(),
        )

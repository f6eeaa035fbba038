"""Teams, who is in them, and who may sign in, on the admin site."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from commands.errors import Conflict
from commands.models import Membership, Team, User
from commands.rules import limits
from commands.services import administration, audit, retention, second_factor
from console import resolve
from console.admin.base import ServiceAdmin, each

NOT_MOVED = "A membership stays its holder's. End it, and make {name} a member beside."

if TYPE_CHECKING:
    _MembershipInline = admin.TabularInline[Membership, Team]
    _TeamForm = forms.ModelForm[Team]
    _UserAdmin = UserAdmin[User]
    _GroupAdmin = GroupAdmin
else:
    _MembershipInline = admin.TabularInline
    _TeamForm = forms.ModelForm
    _UserAdmin = UserAdmin
    _GroupAdmin = GroupAdmin


class MembershipInline(_MembershipInline):
    """Members of a team, on the team's page."""

    model = Membership
    extra = 0
    raw_id_fields = ["user"]
    fields = ["user", "role"]


class NewTeamForm(_TeamForm):
    """A team and its first admin."""

    admin = forms.ModelChoiceField(
        User.objects.filter(is_active=True),
        label=_("Team admin"),
        help_text=_("Who leads the team, and invites the others."),
    )

    class Meta:
        model = Team
        fields = ["name"]


class TeamForm(_TeamForm):
    """What a team's admins decide on, too."""

    class Meta:
        model = Team
        fields = ["keep_days", "second_factor_required"]
        labels = {
            "keep_days": _("Days that tasks are kept"),
            "second_factor_required": _("Requires a second factor"),
        }

    def clean_keep_days(self) -> int:
        """As ``retention.set_days`` takes it."""
        days: int = self.cleaned_data["keep_days"]
        if not limits.KEEP_DAYS_MIN <= days <= limits.KEEP_DAYS_MAX:
            raise forms.ValidationError(
                _("Enter a number from %(least)d to %(most)d."),
                params={"least": limits.KEEP_DAYS_MIN, "most": limits.KEEP_DAYS_MAX},
            )
        return days


@admin.register(Team)
class TeamAdmin(ServiceAdmin[Team]):
    """Teams and their members. Teams are not deleted: too much hangs on them."""

    list_display = ["name", "uid", "people", "keep_days", "second_factor_required", "created_at"]
    search_fields = ["name", "uid"]
    inlines = [MembershipInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Team]:
        """Teams with their members counted."""
        return super().get_queryset(request).annotate(people=Count("memberships"))

    @admin.display(description=_("members"), ordering="people")
    def people(self, team: Any) -> int:
        """How many members it has."""
        return int(team.people)

    def get_fields(self, request: HttpRequest, obj: Team | None = None) -> Any:
        """Name and admin of a new team; of another one what can be changed."""
        if obj is None:
            return ["name", "admin"]
        return ["name", "uid", "created_at", "keep_days", "second_factor_required"]

    def get_readonly_fields(self, request: HttpRequest, obj: Team | None = None) -> list[str]:
        """What stays as it was made."""
        return [] if obj is None else ["name", "uid", "created_at"]

    def get_form(
        self, request: HttpRequest, obj: Team | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        """Two forms: a new team is another thing."""
        kwargs["form"] = TeamForm if obj is not None else NewTeamForm
        return super().get_form(request, obj, change, **kwargs)

    def get_inlines(self, request: HttpRequest, obj: Team | None) -> list[Any]:
        """A new team has its admin, and nobody else."""
        return [] if obj is None else [MembershipInline]

    def save_model(self, request: HttpRequest, obj: Team, form: Any, change: bool) -> None:
        """Make the team, or change what was changed."""
        actor = resolve.person(request)
        if not change:
            made = administration.create_team(
                actor=actor, name=form.cleaned_data["name"], admin=form.cleaned_data["admin"]
            )
            obj.pk, obj.uid = made.pk, made.uid
            return
        if "keep_days" in form.changed_data:
            retention.set_days(actor=actor, team=obj, days=form.cleaned_data["keep_days"])
        if "second_factor_required" in form.changed_data:
            required = form.cleaned_data["second_factor_required"]
            second_factor.set_required(actor=actor, team=obj, required=required)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Change who is in the team."""
        actor, team = resolve.person(request), form.instance
        # What Django's history says was changed, where it does not change it itself.
        formset.new_objects, formset.changed_objects, formset.deleted_objects = [], [], []
        for each_form in formset.forms:
            membership = each_form.instance
            is_new = membership.pk is None
            if each_form in formset.deleted_forms:
                if not is_new:
                    administration.remove_member(
                        actor=actor, membership=membership, now=timezone.now()
                    )
                    formset.deleted_objects.append(membership)
            elif each_form.has_changed():
                if not is_new and "user" in each_form.changed_data:
                    raise Conflict(NOT_MOVED.format(name=membership.user.username))
                given = each_form.cleaned_data
                administration.set_member(
                    actor=actor,
                    team=team,
                    user=given["user"],
                    role=given["role"],
                    now=timezone.now(),
                )
                if is_new:
                    formset.new_objects.append(membership)
                else:
                    formset.changed_objects.append((membership, each_form.changed_data))


@admin.register(User)
class PersonAdmin(_UserAdmin):
    """Who may sign in. People are deactivated and not deleted: what they did stays theirs.

    What makes somebody an administrator is a superuser's to give.
    """

    list_display = ["username", "first_name", "last_name", "email", "is_active", "is_staff"]
    actions = ["activate", "deactivate", "reset_second_factor"]
    _POWERS = ("is_staff", "is_superuser", "groups", "user_permissions")

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        """Active is changed by an action, which ends sessions; powers by superusers."""
        mine = [] if self._is_super(request) else list(self._POWERS)
        return ["is_active", "last_login", "date_joined", *mine]

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Nobody changes a superuser but another, and nobody takes one over by a new password."""
        if obj is not None and (obj.is_superuser or obj.is_staff) and obj.pk != request.user.pk:
            return self._is_super(request) and super().has_change_permission(request, obj)
        return super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Nobody."""
        return False

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> Any:  # noqa: A002 - Django's name
        """Another password, its note in the audit trail, and an end of access keys, or nothing.

        One's own is changed where the old one is asked for.
        """
        user = self.get_object(request, unquote(id))
        if user == request.user:  # the number may be written in more than one way
            return HttpResponseRedirect(reverse("password"))
        with transaction.atomic():
            answer = super().user_change_password(request, id, form_url)
            # Django shows its form again where that was not valid.
            if user is not None and isinstance(answer, HttpResponseRedirect):
                administration.password_replaced(
                    actor=resolve.person(request), user=user, now=timezone.now()
                )
            return answer

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Note a new user."""
        note(request, "user:add", obj.username)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Note what was changed."""
        note(request, "user:edit", obj.username, message)
        return super().log_change(request, obj, message)

    @admin.action(description=_("Let selected users sign in"), permissions=["change"])
    def activate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Activate them."""
        self._set_active(request, queryset, active=True)

    @admin.action(
        description=_("Deactivate selected users, sign them out, and revoke their access keys"),
        permissions=["change"],
    )
    def deactivate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Deactivate them."""
        self._set_active(request, queryset, active=False)

    @admin.action(
        description=_(
            "Take the second factor off selected users, sign them out, and revoke their access keys"
        ),
        permissions=["change"],
    )
    def reset_second_factor(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """For people who have lost it: they set up another one."""

        def reset(actor: User, user: User) -> None:
            administration.reset_second_factor(actor=actor, user=user, now=timezone.now())

        done = each(request, queryset, reset)
        if done:
            text = ngettext(
                "%(n)d user signs in with the password alone now.",
                "%(n)d users sign in with the password alone now.",
                done,
            )
            self.message_user(request, text % {"n": done}, messages.SUCCESS)

    def _set_active(self, request: HttpRequest, users: QuerySet[User], *, active: bool) -> None:
        def change(actor: User, user: User) -> None:
            administration.set_active(actor=actor, user=user, active=active, now=timezone.now())

        done = each(request, users, change)
        if done and active:
            text = ngettext("%(n)d user may sign in.", "%(n)d users may sign in.", done)
            self.message_user(request, text % {"n": done}, messages.SUCCESS)
        elif done:
            text = ngettext("%(n)d user is deactivated.", "%(n)d users are deactivated.", done)
            self.message_user(request, text % {"n": done}, messages.SUCCESS)

    def _is_super(self, request: HttpRequest) -> bool:
        return request.user.is_active and request.user.is_superuser


admin.site.unregister(Group)


@admin.register(Group)
class PowersAdmin(_GroupAdmin):
    """Groups of administrators, by what they may do here. They are the superusers' business."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Superusers."""
        return request.user.is_active and request.user.is_superuser

    def has_view_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        """Superusers."""
        return self.has_module_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Superusers."""
        return self.has_module_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        """Superusers."""
        return self.has_module_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        """Superusers."""
        return self.has_module_permission(request)

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Note a new group."""
        note(request, "group:add", obj.name)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Note what was changed."""
        note(request, "group:edit", obj.name, message)
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        """Note which groups go."""
        for group in queryset:
            note(request, "group:delete", group.name)
        return super().log_deletions(request, queryset)


def note(request: HttpRequest, action: str, name: str, message: Any = ()) -> None:
    """Note in the audit trail what Django's own forms do: which fields, and of no value."""
    parts = message if isinstance(message, list) else []
    fields = [str(one) for part in parts for one in part.get("changed", {}).get("fields", [])]
    audit.record(
        actor=resolve.person(request),
        action=action,
        target_name=name,
        details={"fields": fields} if fields else None,
    )

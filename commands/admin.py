"""The admin site's first tables: who is there, and what they may reach. Secrets are write-only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.forms import ModelForm

from commands.errors import CommandConsoleError
from commands.models import Instance, Membership, Region, Team, User
from commands.services import instances

if TYPE_CHECKING:
    from django.http import HttpRequest

    _InstanceAdmin = admin.ModelAdmin[Instance]
    _InstanceForm = ModelForm[Instance]
    _MembershipInline = admin.TabularInline[Membership, Team]
    _TeamAdmin = admin.ModelAdmin[Team]
    _RegionAdmin = admin.ModelAdmin[Region]
else:
    _MembershipInline = admin.TabularInline
    _TeamAdmin = _RegionAdmin = _InstanceAdmin = admin.ModelAdmin
    _InstanceForm = ModelForm


class MembershipInline(_MembershipInline):
    """Members of a team, on the team's page."""

    model = Membership
    extra = 0


@admin.register(Team)
class TeamAdmin(_TeamAdmin):
    """Teams and their members."""

    list_display = ["name", "uid", "created_at"]
    readonly_fields = ["uid", "created_at"]
    search_fields = ["name", "uid"]
    inlines = [MembershipInline]


@admin.register(Region)
class RegionAdmin(_RegionAdmin):
    """Regions."""

    list_display = ["uid", "name"]


class InstanceForm(_InstanceForm):
    """How an instance is reached. ``user`` is who asks."""

    user: User

    def clean(self) -> dict[str, Any]:
        """Say in a sentence why a jump host can't be it."""
        cleaned = super().clean() or self.cleaned_data
        try:
            instances.check_jump_host(
                actor=self.user, instance=self.instance, jump_host=cleaned.get("jump_host")
            )
        except CommandConsoleError as error:
            raise ValidationError(error.message) from None
        return cleaned


@admin.register(Instance)
class InstanceAdmin(_InstanceAdmin):
    """Instances, and the hosts they are reached through; ``add_instance`` adds them.

    Changes are those of a team's admin, as anywhere else.
    """

    form = InstanceForm
    list_display = ["name", "team", "address", "jump_host", "connection"]
    list_select_related = ["team", "jump_host"]
    search_fields = ["name", "uid", "host"]
    fields = ["name", "team", "region", "host", "port", "user", "fingerprint", "jump_host"]
    readonly_fields = ["name", "team", "region", "host", "port", "user", "fingerprint"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody: a host key is read and confirmed where an instance is added."""
        return False

    def get_form(
        self, request: HttpRequest, obj: Instance | None = None, change: bool = False, **kwargs: Any
    ) -> type[ModelForm[Instance]]:
        """The form, which knows who asks."""
        kwargs["form"] = type("InstanceForm", (InstanceForm,), {"user": request.user})
        return super().get_form(request, obj, change, **kwargs)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Offer as jump hosts what is reached directly."""
        if db_field.name == "jump_host":
            kwargs["queryset"] = Instance.objects.filter(jump_host=None)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(
        self, request: HttpRequest, obj: Instance, form: InstanceForm, change: bool
    ) -> None:
        """Change the jump host, and nothing else."""
        instances.set_jump_host(actor=form.user, instance=obj, jump_host=obj.jump_host)

    def delete_model(self, request: HttpRequest, obj: Instance) -> None:
        """Remove it as anywhere else."""
        instances.remove_instance(actor=request.user, instance=obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Instance]) -> None:
        """Remove each of them."""
        for instance in queryset:
            self.delete_model(request, instance)


admin.site.register(User, UserAdmin)

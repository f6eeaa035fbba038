"""Regions, resource groups, instances, credentials, loans and host keys on the admin site.

Instances and what belongs to them are changed as a team's admin, as anywhere else. Secrets are
write-only: no page shows one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters

from commands.errors import CommandConsoleError
from commands.models import (
    Command,
    Credential,
    Grant,
    HostKeyChange,
    Instance,
    Region,
    ResourceGroup,
    User,
)
from commands.services import administration, credentials, instances, lending, resource_groups
from console import resolve
from console.admin.base import ReadOnlyAdmin, ServiceAdmin, ask_first, each

if TYPE_CHECKING:
    _InstanceForm = forms.ModelForm[Instance]
    _CredentialForm = forms.ModelForm[Credential]
else:
    _InstanceForm = _CredentialForm = forms.ModelForm

_SECRETS = ("private_key", "passphrase", "password")


@admin.register(Region)
class RegionAdmin(ServiceAdmin[Region]):
    """Regions. Their ids are in scripts and logs, so they stay."""

    list_display = ["uid", "name"]
    search_fields = ["uid", "name"]

    def get_readonly_fields(self, request: HttpRequest, obj: Region | None = None) -> list[str]:
        """The id, once it is given."""
        return [] if obj is None else ["uid"]

    def save_model(self, request: HttpRequest, obj: Region, form: Any, change: bool) -> None:
        """Make the region, or call it something else."""
        actor = resolve.person(request)
        if change:
            administration.rename_region(actor=actor, region=obj, name=obj.name)
        else:
            made = administration.create_region(actor=actor, uid=obj.uid, name=obj.name)
            obj.pk = made.pk


@admin.register(ResourceGroup)
class ResourceGroupAdmin(ServiceAdmin[ResourceGroup]):
    """Resource groups of all teams, and how much is in them. Nothing moves to another team."""

    list_display = ["name", "team", "uid", "is_default", "instances", "commands"]
    list_select_related = ["team"]
    list_filter = ["team"]
    search_fields = ["name", "uid", "team__name"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ResourceGroup]:
        """Groups with what they have counted."""
        return (
            super()
            .get_queryset(request)
            .annotate(
                instance_count=_number(Instance.objects.all()),
                command_count=_number(Command.objects.kept()),
            )
        )

    @admin.display(description=_("instances"), ordering="instance_count")
    def instances(self, group: Any) -> int:
        """How many instances are in it."""
        return int(group.instance_count)

    @admin.display(description=_("saved commands"), ordering="command_count")
    def commands(self, group: Any) -> int:
        """How many saved commands are in it."""
        return int(group.command_count)

    def get_fields(self, request: HttpRequest, obj: ResourceGroup | None = None) -> Any:
        """Team and name of a new group; of another one all that is known."""
        return ["name", "team", *([] if obj is None else ["uid", "is_default", "created_at"])]

    def get_readonly_fields(
        self, request: HttpRequest, obj: ResourceGroup | None = None
    ) -> list[str]:
        """All but the name, once the group is there."""
        return [] if obj is None else ["team", "uid", "is_default", "created_at"]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Groups are removed one by one: each may have something in it."""
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def has_delete_permission(self, request: HttpRequest, obj: ResourceGroup | None = None) -> bool:
        """Whoever has Django's permission; nobody removes a default group."""
        allowed = request.user.has_perm("commands.delete_resourcegroup")
        return allowed and not (obj and obj.is_default)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """The group alone: the service looks at what is in it."""
        return [str(one) for one in objs], {}, set(), []

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Ask, then remove it; or say what is in it."""
        try:
            return super().delete_view(request, object_id, extra_context)
        except CommandConsoleError as error:
            return self.refused(request, error)

    def save_model(self, request: HttpRequest, obj: ResourceGroup, form: Any, change: bool) -> None:
        """Make the group, or call it something else."""
        actor = resolve.person(request)
        if change:
            resource_groups.rename(actor=actor, group=obj, name=obj.name)
        else:
            made = resource_groups.create(actor=actor, team=obj.team, name=obj.name)
            obj.pk, obj.uid = made.pk, made.uid

    def delete_model(self, request: HttpRequest, obj: ResourceGroup) -> None:
        """Remove it, if nothing is in it."""
        resource_groups.remove(actor=resolve.person(request), group=obj)


def _number(rows: QuerySet[Any]) -> Coalesce:
    """How many of ``rows`` are in the group of an outer query."""
    inside = rows.filter(resource_group=OuterRef("pk")).order_by().values("resource_group")
    return Coalesce(Subquery(inside.annotate(number=Count("pk")).values("number")), 0)


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
class InstanceAdmin(ServiceAdmin[Instance]):
    """Instances, and the hosts they are reached through; they are added in the console itself."""

    form = InstanceForm
    list_display = ["name", "team", "address", "jump_host", "connection"]
    list_select_related = ["team", "jump_host"]
    list_filter = ["connection", "region", "team"]
    search_fields = ["name", "uid", "host"]
    fields = ["name", "team", "region", "host", "port", "user", "fingerprint", "jump_host"]
    readonly_fields = ["name", "team", "region", "host", "port", "user", "fingerprint"]
    actions = ["remove"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody: a host key is read and confirmed where an instance is added."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Instance | None = None) -> bool:
        """Whoever has Django's permission, and is the team's admin."""
        return request.user.has_perm("commands.delete_instance")

    def get_form(
        self, request: HttpRequest, obj: Instance | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        """The form, which knows who asks."""
        kwargs["form"] = type("InstanceForm", (InstanceForm,), {"user": request.user})
        return super().get_form(request, obj, change, **kwargs)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Offer as jump hosts what is reached directly."""
        if db_field.name == "jump_host":
            kwargs["queryset"] = Instance.objects.filter(jump_host=None)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: Instance, form: Any, change: bool) -> None:
        """Change the jump host, and nothing else."""
        instances.set_jump_host(actor=form.user, instance=obj, jump_host=obj.jump_host)

    def delete_model(self, request: HttpRequest, obj: Instance) -> None:
        """Remove it as anywhere else."""
        instances.remove_instance(actor=request.user, instance=obj)

    @admin.action(description=_("Remove selected instances"), permissions=["delete"])
    def remove(self, request: HttpRequest, queryset: QuerySet[Instance]) -> HttpResponse | None:
        """Ask first, then remove each that may be, those behind jump hosts before these."""
        chosen = sorted(
            queryset.select_related("team"), key=lambda instance: instance.jump_host_id is None
        )
        if "confirmed" not in request.POST:
            return ask_first(
                self,
                request,
                chosen,
                action="remove",
                title=gettext("Remove instances"),
                explanation=gettext(
                    "The console forgets them. What runs there goes on and is not followed any "
                    "longer; past runs stay."
                ),
                button=gettext("Remove these instances"),
            )

        def remove(actor: User, instance: Instance) -> None:
            # One transaction with what follows; afterwards nothing tells which row it was.
            self.log_deletions(request, Instance.objects.filter(pk=instance.pk))
            instances.remove_instance(actor=actor, instance=instance)

        done = each(request, chosen, remove)
        if done:
            text = ngettext("%(n)d instance was removed.", "%(n)d instances were removed.", done)
            self.message_user(request, text % {"n": done}, messages.SUCCESS)
        return None


class WriteOnlyText(forms.Textarea):
    """A text that a page takes and never shows, not even where it has to be entered again."""

    def format_value(self, value: Any) -> str:
        """Nothing."""
        return ""


class CredentialForm(_CredentialForm):
    """A new secret; without one the credential stays as it is."""

    private_key = forms.CharField(
        label=_("New private key"),
        required=False,
        strip=False,
        widget=WriteOnlyText(attrs={"autocomplete": "off", "spellcheck": "false", "rows": 6}),
        help_text=_("It replaces the secret that is kept, which nobody can look at."),
    )
    passphrase = forms.CharField(
        label=_("Its passphrase"),
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
    )
    password = forms.CharField(
        label=_("Or a new password"),
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    class Meta:
        model = Credential
        fields: tuple[str, ...] = ()

    def clean(self) -> dict[str, Any]:
        """One secret, with which one can sign in."""
        cleaned = super().clean() or self.cleaned_data
        key, password = cleaned.get("private_key", ""), cleaned.get("password", "")
        if (key and password) or (cleaned.get("passphrase") and not key):
            raise ValidationError(_("Give either a private key or a password."))
        if key:
            try:
                instances.check_private_key(key, cleaned.get("passphrase", ""))
            except CommandConsoleError as error:
                raise ValidationError(error.message) from None
        return cleaned


@method_decorator(sensitive_post_parameters(*_SECRETS), name="changeform_view")
@admin.register(Credential)
class CredentialAdmin(ServiceAdmin[Credential]):
    """Credentials by name. Their secrets can be replaced, and never be read."""

    form = CredentialForm
    list_display = ["name", "team", "region", "kind", "created_at"]
    list_select_related = ["team", "region"]
    list_filter = ["kind", "team"]
    search_fields = ["name", "team__name"]
    fields = ["name", "team", "region", "kind", "created_at", *_SECRETS]
    readonly_fields = ["name", "team", "region", "kind", "created_at"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody: a credential is added with the first instance that uses it."""
        return False

    def get_fields(self, request: HttpRequest, obj: Credential | None = None) -> Any:
        """No fields for a secret for those who only look."""
        may = self.has_change_permission(request, obj)
        return [*self.readonly_fields, *(_SECRETS if may else ())]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Credential]:
        """Credentials whose secrets stay in the database, encrypted."""
        return super().get_queryset(request).defer("secret", "passphrase")

    def save_model(self, request: HttpRequest, obj: Credential, form: Any, change: bool) -> None:
        """Replace the secret, if there is a new one."""
        given = {name: form.cleaned_data.get(name, "") for name in _SECRETS}
        if given["private_key"] or given["password"]:
            credentials.replace_secret(actor=resolve.person(request), credential=obj, **given)


@admin.register(Grant)
class GrantAdmin(ServiceAdmin[Grant]):
    """Instances that are lent to other teams, by the admins of those that own them."""

    list_display = ["instance", "owner", "team", "created_by", "created_at", "accepted_at"]
    list_select_related = ["instance__team", "team", "created_by"]
    search_fields = ["instance__name", "instance__uid", "team__name"]
    raw_id_fields = ["instance"]
    fields = ["instance", "team"]
    actions = ["take_back"]

    def has_change_permission(self, request: HttpRequest, obj: Grant | None = None) -> bool:
        """A loan begins and ends; nothing of it changes."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Grant | None = None) -> bool:
        """Whoever has Django's permission, and is an admin of the team that owns it."""
        return request.user.has_perm("commands.delete_grant")

    @admin.display(description=_("lent by"))
    def owner(self, grant: Grant) -> str:
        """The team that owns the instance."""
        return grant.instance.team.name

    @admin.action(description=_("Take selected instances back"), permissions=["delete"])
    def take_back(self, request: HttpRequest, queryset: QuerySet[Grant]) -> None:
        """Lend them no longer."""

        def take_back(actor: User, grant: Grant) -> None:
            lending.take_back(actor=actor, grant=grant)

        each(request, queryset.select_related("instance__team", "team"), take_back)

    def save_model(self, request: HttpRequest, obj: Grant, form: Any, change: bool) -> None:
        """Offer it; an admin of the other team accepts."""
        lent = lending.lend_instance(
            actor=resolve.person(request), instance=obj.instance, team=obj.team
        )
        obj.pk = lent.pk

    def delete_model(self, request: HttpRequest, obj: Grant) -> None:
        """Take it back."""
        lending.take_back(actor=resolve.person(request), grant=obj)


@admin.register(HostKeyChange)
class HostKeyChangeAdmin(ReadOnlyAdmin[HostKeyChange]):
    """Host keys that were accepted, also for instances that are gone. Nobody changes these."""

    list_display = ["at", "instance_name", "team", "by_name", "reason"]
    list_select_related = ["team"]
    search_fields = ["instance_name", "instance_uid", "by_name"]

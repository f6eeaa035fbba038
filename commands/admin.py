"""The admin site's first tables: who is there, and what they may reach. Secrets are write-only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin

from commands.models import Membership, Region, Team, User

if TYPE_CHECKING:
    _MembershipInline = admin.TabularInline[Membership, Team]
    _TeamAdmin = admin.ModelAdmin[Team]
    _RegionAdmin = admin.ModelAdmin[Region]
else:
    _MembershipInline = admin.TabularInline
    _TeamAdmin = _RegionAdmin = admin.ModelAdmin


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


admin.site.register(User, UserAdmin)

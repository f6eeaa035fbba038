"""``manage.py changepassword``: Django's, which also revokes access keys and is recorded."""

from __future__ import annotations

import getpass
from typing import Any

from django.contrib.auth.management.commands import changepassword
from django.db import transaction
from django.utils import timezone

from commands.models import User
from commands.services import sessions
from console.management.audited import AuditedCommand


class Command(AuditedCommand, changepassword.Command):
    """Gives somebody another password, as an administrator does on the admin site.

    Sessions end with the old password. Access keys were made by whoever had it, so they end too.
    """

    help = "Change somebody's password, end their sessions, and revoke their access keys."

    def handle(self, *args: Any, **options: Any) -> str:
        """Ask for the password twice; what Django says, and how many keys were revoked."""
        username = options["username"] or getpass.getuser()
        with transaction.atomic():
            told = super().handle(*args, **{**options, "username": username})
            user = User.objects.get_by_natural_key(username)
            keys = sessions.password_changed(actor=user, keys=True, now=timezone.now())
        return f"{told}\nAccess keys revoked: {keys:,}."

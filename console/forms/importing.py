"""The form that an import begins with: an inventory, host keys, and what is for all rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django import forms
from django.utils.translation import gettext as _

from commands.errors import Invalid
from commands.models import Credential, Region, Team
from commands.rules import inventory_files, known_hosts, limits, ssh_config
from commands.rules.inventory_files import Inventory
from commands.rules.known_hosts import KnownHosts
from console.forms.fields import TextField

if TYPE_CHECKING:
    from django.core.files import File

CSV, SSH_CONFIG = "csv", "ssh-config"
_READERS = {CSV: inventory_files.read_csv, SSH_CONFIG: ssh_config.read}


class ImportForm(forms.Form):
    """Each of the two texts comes as a file or is pasted; a file counts where both are there.

    After ``is_valid``, ``inventory`` and ``known`` are what they say.
    """

    format = TextField(initial=CSV)
    file = forms.FileField(required=False, allow_empty_file=True)
    text = TextField(widget=forms.Textarea)
    known_hosts_file = forms.FileField(required=False, allow_empty_file=True)
    known_hosts = TextField(widget=forms.Textarea)
    credential = TextField()
    user = TextField()

    inventory: Inventory
    known: KnownHosts

    def chosen_credential(self, team: Team, region: Region) -> Credential | None:
        """The credential for rows without one, if one was chosen that is there."""
        return credential_of(team, region, self.cleaned_data["credential"])

    def clean_format(self) -> str:
        """How the inventory is written."""
        value: str = self.cleaned_data["format"] or CSV
        if value not in _READERS:
            raise forms.ValidationError(_("Choose CSV or OpenSSH configuration."))
        return value

    def clean_user(self) -> str:
        """The user for rows without one."""
        value: str = self.cleaned_data["user"].strip()
        try:
            return inventory_files.check_user(value)
        except Invalid as error:
            raise forms.ValidationError(error.message) from None

    def clean(self) -> dict[str, object] | None:
        """Read both texts."""
        found = super().clean()
        text = self._read("file", "text")
        keys = self._read("known_hosts_file", "known_hosts")
        if text is not None and not text.strip() and "file" not in self.errors:
            self.add_error("text", _("Choose a file, or paste its text."))
        elif text and "format" in self.cleaned_data:
            try:
                self.inventory = _READERS[self.cleaned_data["format"]](text)
            except Invalid as error:
                self.add_error("text", error.message)
        self.known = known_hosts.read(keys or "")
        return found

    def _read(self, file_name: str, text_name: str) -> str | None:
        """The text of a file or a field; None, and an error beside it, if that is none."""
        file: File[bytes] | None = self.cleaned_data.get(file_name)
        try:
            if file:
                return inventory_files.text_of(file.read(limits.IMPORT_BYTES + 1))
            return inventory_files.checked_text(self.cleaned_data.get(text_name, ""))
        except Invalid as error:
            self.add_error(text_name, error.message)
            return None


def credential_of(team: Team, region: Region, value: str) -> Credential | None:
    """The credential of the team and region that a form names by its id, if there is one."""
    if not (value.isascii() and value.isdecimal() and len(value) < 19):
        return None
    found = Credential.objects.filter(team=team, region=region, pk=value)
    # Nothing here needs its secret, which may be unreadable.
    return found.defer("secret", "passphrase").first()

"""The fields of how fast a task spreads over its instances: the task's, not its command's."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from commands.rules.rate import CONFIRM, RateInput
from console.forms.fields import TextField

_PAUSES = [
    ("", _("None")),
    ("60", _("60 s")),
    (CONFIRM, _("Until somebody continues")),
]


class RateFields(forms.Form):
    """Fields as other programs post them, all optional; names are a contract."""

    concurrency = TextField(label=_("At most at a time"))
    max_failures = TextField(label=_("No more after failures (3, 10%)"))
    canary = TextField(label=_("First batch"))
    batch_pause = TextField(label=_("Pause between batches"))

    def rate(self) -> RateInput:
        """What was asked for; only after ``is_valid``."""
        return RateInput(**{name: self.cleaned_data[name] for name in RateFields.base_fields})

    @property
    def rate_fields(self) -> list[forms.BoundField]:
        """The fields, in order."""
        return [self[name] for name in RateFields.base_fields]

    @property
    def rate_open(self) -> bool:
        """Whether there is something to see in the fields."""
        return any(field.value() or field.errors for field in self.rate_fields)

    @property
    def pauses(self) -> list[tuple[str, str]]:
        """The pauses to choose from, with the one that was sent."""
        known = [(value, str(label)) for value, label in _PAUSES]
        sent = str(self["batch_pause"].value() or "")
        if sent in dict(known):
            return known
        return [*known, (sent, str(_("%(n)s s")) % {"n": sent})]

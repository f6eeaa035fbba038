"""The fields of how fast a task spreads over its instances: the task's, not its command's."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from commands.rules.rate import CONFIRM, RateInput
from console.forms.fields import TextField

_PACE = {
    "concurrency": _("at most {n} at a time"),
    "canary": _("first batch {n}"),
    "batch_pause": _("pauses of {n} s"),
    "max_failures": _("no more after {n} failures"),
}
"""What the review says of each field."""
_PAUSES = [
    ("", _("None")),
    ("30", _("30 seconds")),
    ("300", _("5 minutes")),
    (CONFIRM, _("Until somebody continues")),
]


class RateFields(forms.Form):
    """Fields as other programs post them, all optional; names are a contract."""

    concurrency = TextField(
        label=_("At most at a time"),
        help_text=_("Instances on which it runs at once. Empty: all."),
    )
    canary = TextField(
        label=_("First batch"),
        help_text=_("Instances that must end before the others begin."),
    )
    batch_pause = TextField(
        label=_("Pause between batches"),
        help_text=_("After the first batch, and each time after as many as run at a time."),
    )
    max_failures = TextField(
        label=_("No more after failures"),
        help_text=_("Failed instances, as 3, or a part of all, as 10%. Empty: goes on."),
    )

    def rate(self) -> RateInput:
        """What was asked for; only after ``is_valid``."""
        return RateInput(**{name: self.cleaned_data[name] for name in RateFields.base_fields})

    @property
    def rate_fields(self) -> list[tuple[forms.BoundField, str]]:
        """The fields, in order, each with what the review says of it."""
        return [(self[name], str(_PACE[name])) for name in RateFields.base_fields]

    @property
    def rate_open(self) -> bool:
        """Whether there is something to see in the fields."""
        return any(field.value() or field.errors for field, _says in self.rate_fields)

    @property
    def pauses(self) -> list[tuple[str, str]]:
        """The pauses to choose from, with the one that was sent."""
        known = [(value, str(label)) for value, label in _PAUSES]
        sent = str(self["batch_pause"].value() or "")
        if sent in dict(known):
            return known
        seconds = sent.isascii() and sent.isdecimal()
        return [*known, (sent, str(_("%(n)s seconds")) % {"n": sent} if seconds else sent)]

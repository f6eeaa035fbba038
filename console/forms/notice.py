"""The form of a rule on who is told when tasks end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.translation import gettext as _

from commands.errors import Invalid
from commands.models import NoticeRule, Region
from commands.services.notice_rules import RuleInput, target_of
from console.forms.fields import SwitchField, TextField


class NoticeForm(forms.Form):
    """Fields as other programs post them; ``url`` counts for webhooks, ``addresses`` else."""

    kind = TextField()
    url = TextField()
    addresses = TextField()
    when = TextField()
    region = TextField()
    enabled = SwitchField()

    def clean_region(self) -> Region | None:
        """The region, or None for all of them."""
        uid: str = self.cleaned_data["region"]
        if not uid:
            return None
        plain = uid.isascii() and uid.isprintable()
        found = Region.objects.filter(uid=uid).first() if plain else None
        if found is None:
            raise forms.ValidationError(_("Choose a region."))
        return found

    def rule(self) -> RuleInput:
        """What was entered; only after ``is_valid``."""
        data = self.cleaned_data
        webhook = data["kind"] == NoticeRule.Kind.WEBHOOK
        return RuleInput(
            kind=data["kind"],
            target=data["url"] if webhook else data["addresses"],
            when=data["when"],
            region=data["region"],
            enabled=data["enabled"],
        )

    def add_domain_error(self, error: Invalid) -> None:
        """Show what the service found wrong beside its field."""
        webhook = self["kind"].value() == NoticeRule.Kind.WEBHOOK
        target = "url" if webhook else "addresses"
        name = target if error.field == "target" else error.field
        self.add_error(name if name in self.fields else None, error.message)


def initial(rule: NoticeRule | None) -> Mapping[str, Any]:
    """What the form shows of a rule, or of a new one."""
    if rule is None:
        return {
            "kind": NoticeRule.Kind.EMAIL.value,
            "when": NoticeRule.When.PROBLEMS.value,
            "enabled": "on",
        }
    webhook, target = rule.kind == NoticeRule.Kind.WEBHOOK, target_of(rule)
    return {
        "kind": rule.kind,
        "url": target if webhook else "",
        "addresses": "" if webhook else target.replace(",", ", "),
        "when": rule.when,
        "region": rule.region.uid if rule.region else "",
        **({"enabled": "on"} if rule.enabled else {}),
    }

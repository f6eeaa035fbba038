"""Rules of a team on who is told when its tasks end."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import validate_email
from django.db import transaction

from commands import access, queue
from commands.errors import Conflict, Invalid
from commands.models import AuditEvent, Notice, NoticeRule, Region, Team, User
from commands.rules import limits, webhook
from commands.services import audit, members
from commands.words import gettext as _

Kind, When = NoticeRule.Kind, NoticeRule.When
HOUR = timedelta(hours=1)
_TEST = "notice_rule:test"


@dataclass(frozen=True, slots=True)
class RuleInput:
    """A rule as a person enters it; ``region`` None means all."""

    kind: str
    target: str
    when: str = When.ALWAYS.value
    region: Region | None = None
    enabled: bool = True


@transaction.atomic
def add_rule(*, actor: User, team: Team, rule: RuleInput, now: datetime) -> NoticeRule:
    """Have somebody told from now on. A webhook gets a new secret, to be shown once.

    Raises Denied; Invalid if something is wrong with it; Conflict if there are too many.
    """
    access.require(actor, access.Permission.TEAM_MANAGE, team)
    values = _checked(rule)
    members.hold(team, actor, access.Permission.TEAM_MANAGE)
    if team.notice_rules.count() >= limits.NOTICE_RULES:
        raise Conflict(
            _("A team has at most %(most)s rules. Delete one first.")
            % {"most": limits.NOTICE_RULES}
        )
    made = NoticeRule.objects.create(
        team=team,
        kind=rule.kind,
        secret=_new_secret() if rule.kind == Kind.WEBHOOK else "",
        created_at=now,
        **values,
    )
    _record(actor, "notice_rule:add", made, now)
    return made


@transaction.atomic
def change_rule(*, actor: User, rule: NoticeRule, changed: RuleInput, now: datetime) -> NoticeRule:
    """Tell others, or of other tasks. Its kind stays. Raises Denied, Invalid."""
    members.hold(rule.team, actor, access.Permission.TEAM_MANAGE)
    if changed.kind != rule.kind:
        raise Invalid(_("The kind of a rule can't change. Add another."), field="kind")
    for name, value in _checked(changed).items():
        setattr(rule, name, value)
    rule.save(update_fields=["target", "when", "region", "enabled"])
    _record(actor, "notice_rule:change", rule, now)
    return rule


@transaction.atomic
def delete_rule(*, actor: User, rule: NoticeRule, now: datetime) -> None:
    """Tell nobody any more, also not what waits to be told. Raises Denied."""
    members.hold(rule.team, actor, access.Permission.TEAM_MANAGE)
    _record(actor, "notice_rule:delete", rule, now)
    rule.delete()


@transaction.atomic
def renew_secret(*, actor: User, rule: NoticeRule, now: datetime) -> NoticeRule:
    """Give a webhook a new secret; the old one is not used any more. Raises Denied, Invalid."""
    members.hold(rule.team, actor, access.Permission.TEAM_MANAGE)
    if rule.kind != Kind.WEBHOOK:
        raise Invalid(_("Only webhooks have a secret."))
    rule.secret = _new_secret()
    rule.save(update_fields=["secret"])
    _record(actor, "notice_rule:renew_secret", rule, now)
    return rule


@transaction.atomic
def send_test(*, actor: User, rule: NoticeRule, now: datetime) -> Notice:
    """Send what says that it is a test, once.

    Raises Denied; Conflict while one is on its way, or for too many within an hour.
    """
    members.hold(rule.team, actor, access.Permission.TEAM_MANAGE)
    # Of the team and not of the rule: that could be deleted, and made anew.
    events = AuditEvent.objects.filter(team_uid=rule.team.uid, action=_TEST)
    if events.filter(at__gt=now - HOUR).count() >= limits.NOTICE_TESTS:
        raise Conflict(_("Your team has sent too many tests within an hour. Try again later."))
    NoticeRule.objects.select_for_update(no_key=True).get(pk=rule.pk)
    if rule.notices.filter(invocation=None, state=Notice.State.WAITING).exists():
        raise Conflict(_("A test of this rule is on its way already."))
    made = Notice.objects.create(team=rule.team, rule=rule, made_at=now, next_at=now)
    _record(actor, _TEST, rule, now)
    queue.enqueue(queue.Job.SEND_NOTICES)
    return made


def target_of(rule: NoticeRule) -> str:
    """Where a rule leads to, for who changes it; "" if it can't be decrypted."""
    try:
        return rule.target
    except ImproperlyConfigured:
        return ""


def shown_target(rule: NoticeRule) -> str:
    """Where a rule leads to, without what may be secret in it; "" for all members."""
    try:
        target = rule.target
    except ImproperlyConfigured:
        return "?"
    if rule.kind == Kind.EMAIL:
        return target.replace(",", ", ")
    return f"{urlsplit(target).scheme}://{urlsplit(target).netloc}"


def _checked(rule: RuleInput) -> dict[str, object]:
    if rule.kind not in Kind.values:
        raise Invalid(_("Choose e-mail or webhook."), field="kind")
    if rule.when not in When.values:
        raise Invalid(_("Choose of which tasks."), field="when")
    target = rule.target.strip()
    if rule.kind == Kind.WEBHOOK:
        webhook.read(
            target,
            allow_http=settings.CONSOLE_WEBHOOK_HTTP,
            allowed=settings.CONSOLE_ALLOWED_NETWORKS,
        )
    else:
        target = ",".join(_addresses(target))
    return {"target": target, "when": rule.when, "region": rule.region, "enabled": rule.enabled}


def _addresses(text: str) -> list[str]:
    found = list(dict.fromkeys(part for part in re.split(r"[\s,;]+", text) if part))
    if len(found) > limits.NOTICE_ADDRESSES:
        text = _("A rule has at most %(most)s addresses.") % {"most": limits.NOTICE_ADDRESSES}
        raise Invalid(text, field="target")
    for address in found:
        try:
            validate_email(address)
        except ValidationError:
            text = _("%(address)s is not an e-mail address.") % {"address": address[:100]}
            raise Invalid(text, field="target") from None
    return found


def _new_secret() -> str:
    return secrets.token_urlsafe(32)


def _record(actor: User, action: str, rule: NoticeRule, now: datetime) -> None:
    details = {
        "kind": str(rule.kind),
        "target": shown_target(rule),
        "when": str(rule.when),
        "region": rule.region.uid if rule.region else "",
        "enabled": rule.enabled,
    }
    audit.record(actor=actor, action=action, team=rule.team, target=rule, details=details, now=now)

"""Notices: who is told of which task, once; how delivery is tried again; and their rules."""

from __future__ import annotations

import json
import smtplib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.fernet import Fernet
from django.core import mail
from django.db import IntegrityError, connection, transaction
from django.utils import timezone, translation

from commands import queue
from commands.errors import Conflict, Denied, Invalid, InvalidFields
from commands.models import AuditEvent, Invocation, Notice, NoticeRule, Region, Run
from commands.rules import limits
from commands.services import (
    invocations,
    messages,
    messenger,
    notice_rules,
    notices,
    retention,
    stopping,
    teams,
)
from commands.services.definitions import CommandInput
from commands.services.messages import Mail, Post
from commands.services.notice_rules import RuleInput
from commands.services.notices import Delivery

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
HOOK = RuleInput("webhook", "https://chat.example/hooks/abc", "always")
MAIL = RuleInput("email", "ops@example.com, on-call@example.com", "always")


@pytest.fixture
def add(cast):
    def make(rule=HOOK, actor=None):
        return notice_rules.add_rule(actor=actor or cast.alice, team=cast.team, rule=rule, now=NOON)

    return make


@pytest.fixture
def task(cast, fleet):
    def make(actor=None, tell_me=False, **more):
        return invocations.run_command(
            actor=actor or cast.bob,
            team=cast.team,
            region=cast.region,
            command=CommandInput(name="Nightly", type="RunShellScript", content="echo hi"),
            instance_uids=[instance.uid for instance in fleet],
            tell_me=tell_me,
            now=NOON,
            **more,
        )

    return make


def end(invocation, *statuses):
    """Let the runs of a task end with these statuses, the others with success."""
    for run, status in zip(
        invocation.runs.order_by("pk"), [*statuses, *["Success"] * 3], strict=False
    ):
        run.status, run.phase, run.finished_at = status, "finished", NOON + timedelta(minutes=1)
        run.exit_code = {"Success": 0, "Failed": 3}.get(status)
        run.error_code = "" if status == "Success" else "ExitCodeNonzero"
        run.save()


def told(invocation):
    return sorted(str(kind) for kind in invocation.notices.values_list("rule__kind", flat=True))


def test_nobody_is_told_before_the_last_run_has_ended(add, task):
    add()
    made = task()
    end(made)
    last = made.runs.last()
    Run.objects.filter(pk=last.pk).update(status="Running", finished_at=None, exit_code=None)
    assert notices.settle(now=NOON) == 0
    assert made.notices.count() == 0
    end(made)
    assert notices.settle(now=NOON) == 1
    assert made.notices.count() == 1
    made.refresh_from_db()
    assert made.settled_at == NOON


def test_a_task_is_told_once_to_each(add, task):
    add()
    add(MAIL)
    made = task()
    end(made)
    assert [notices.settle(now=NOON) for _ in range(3)] == [1, 0, 0]
    assert told(made) == ["email", "webhook"]
    with pytest.raises(IntegrityError), transaction.atomic():
        Notice.objects.create(
            team=made.team,
            rule=made.notices.first().rule,
            invocation=made,
            made_at=NOON,
            next_at=NOON,
        )
    with pytest.raises(IntegrityError), transaction.atomic():
        Notice.objects.bulk_create(
            Notice(team=made.team, invocation=made, made_at=NOON, next_at=NOON) for _ in range(2)
        )


@pytest.mark.parametrize(
    ("statuses", "is_problem"),
    [
        ([], False),
        (["Failed"], True),
        (["Timeout"], True),
        (["Aborted", "Invalid", "Error"], True),
        (["Cancelled"], False),
        (["Terminated", "Terminated", "Terminated"], False),
    ],
)
def test_rules_for_problems(add, task, statuses, is_problem):
    add(RuleInput("webhook", HOOK.target, "problems"))
    made = task()
    end(made, *statuses)
    notices.settle(now=NOON)
    assert told(made) == (["webhook"] if is_problem else [])


def test_rules_of_a_region_of_others_and_those_switched_off(cast, add, task):
    elsewhere = Region.objects.create(uid="elsewhere", name="Elsewhere")
    add(RuleInput("webhook", HOOK.target, "always", region=elsewhere))
    add(RuleInput("webhook", HOOK.target, "always", enabled=False))
    notice_rules.add_rule(actor=cast.charlie, team=cast.other_team, rule=HOOK, now=NOON)
    made = task()
    end(made)
    notices.settle(now=NOON)
    assert told(made) == []
    add(RuleInput("email", "", "always", region=cast.region))
    other = task()
    end(other)
    notices.settle(now=NOON)
    assert told(other) == ["email"]


def test_a_task_that_was_stopped_before_it_began_is_told_too(cast, add, task):
    add()
    made = task()
    stopping.stop(invocation=made, instance_uids=None, by="Bob", now=NOON)
    notices.settle(now=NOON)
    assert told(made) == ["webhook"]


def test_who_created_it_can_be_told(cast, task):
    cast.bob.email = "bob@example.com"
    cast.bob.save()
    made = task(tell_me=True)
    end(made, "Failed")
    notices.settle(now=NOON)
    ((row, message),) = notices.claim(busy=(), limit=9, now=NOON)
    assert (row.rule, message.to) == (None, ("bob@example.com",))
    assert message.subject == "Partly failed: Nightly"
    assert f"Nightly ({made.uid})" in message.text
    assert "Failed 1, Succeeded 2" in message.text


def test_an_e_mail_speaks_as_the_account_of_its_reader_does(cast, task):
    cast.bob.email, cast.bob.language = "bob@example.com", "zh-hans"
    cast.bob.time_zone = "Asia/Shanghai"
    cast.bob.save()
    made = task(tell_me=True)
    end(made, "Failed", "Aborted", "Invalid")
    notices.settle(now=NOON)
    ((_, message),) = notices.claim(busy=(), limit=9, now=NOON)
    assert message.subject == "执行失败：Nightly"
    assert "执行失败 1" in message.text
    assert "开始时间：2026-03-10 20:00:00 CST\n" in message.text
    assert "Aborted" not in message.text


def test_each_reader_of_a_rule_is_spoken_to_in_their_own_language(cast, add, task):
    cast.vera.email, cast.vera.language = "Vera@example.com", "zh-hans"
    cast.vera.save()
    cast.alice.email, cast.alice.time_zone = "alice@example.com", "Asia/Tokyo"
    cast.alice.save()
    add(RuleInput("email", "ops@example.com, vera@example.com, alice@example.com", "always"))
    made = task()
    end(made)
    notices.settle(now=NOON)
    with translation.override("zh-hans"), timezone.override("Asia/Tokyo"):
        ((row, message),) = notices.claim(busy=(), limit=9, now=NOON)
    assert messenger.send(message) == ""
    told = {tuple(sent.to): (sent.subject, sent.body) for sent in mail.outbox}
    assert set(told) == {("ops@example.com",), ("vera@example.com",), ("alice@example.com",)}
    subject, text = told["ops@example.com",]
    assert subject == "[Command Console] Succeeded: Nightly"
    assert "Started: 2026-03-10 12:00:00 UTC\n" in text
    assert told["vera@example.com",][0] == "[Command Console] 执行成功：Nightly"
    assert "Started: 2026-03-10 21:00:00 JST\n" in told["alice@example.com",][1]
    headers = [sent.extra_headers for sent in mail.outbox]
    assert {each["X-Console-Id"] for each in headers} == {row.uid}
    assert len({each["Message-ID"] for each in headers}) == 3


def test_who_is_refused_keeps_no_letter_from_the_others(monkeypatch):
    refused = smtplib.SMTPRecipientsRefused({})
    sent = []

    def send(message):
        if "gone@example.com" in message.to:
            raise refused
        sent.append(message.to)

    monkeypatch.setattr(messenger.EmailMessage, "send", send)
    gone = Mail("n-1", ("gone@example.com",), "s", "t")
    assert messenger.send(replace(gone, others=(Mail("n-1", ("a@example.com",), "s", "t"),))) == ""
    assert sent == [["a@example.com"]]
    assert messenger.send(gone) != ""


def test_without_an_address_nobody_can_be_told(task):
    with pytest.raises(InvalidFields) as caught:
        task(tell_me=True)
    assert list(caught.value.errors) == ["tell_me"]
    assert Invocation.objects.count() == 0


def test_the_wish_belongs_to_the_request(cast, task):
    cast.bob.email = "bob@example.com"
    cast.bob.save()
    first = task(tell_me=True, client_token="t1")
    assert task(tell_me=True, client_token="t1") == first
    with pytest.raises(Conflict):
        task(tell_me=False, client_token="t1")


def test_who_has_left_the_team_is_not_told(cast, task):
    cast.bob.email = "bob@example.com"
    cast.bob.save()
    made = task(tell_me=True)
    end(made)
    notices.settle(now=NOON)
    cast.team.memberships.filter(user=cast.bob).delete()
    assert notices.claim(busy=(), limit=9, now=NOON) == []
    row = made.notices.get()
    assert row.state == "given_up"
    assert row.last_error == "Who created the task is no longer in the team."


@pytest.fixture
def due(add, task):
    """A notice of a webhook that is due."""
    add()
    made = task()
    end(made, "Failed")
    notices.settle(now=NOON)
    return made.notices.get()


def test_what_a_webhook_is_told(settings, due):
    settings.CONSOLE_URL = "https://console.example"
    ((row, message),) = notices.claim(busy=(), limit=9, now=NOON)
    assert isinstance(message, Post)
    assert (message.uid, message.url, message.event) == (due.uid, HOOK.target, "task.ended")
    assert message.secret == row.rule.secret
    task = due.invocation
    assert json.loads(message.body) == {
        "id": due.uid,
        "event": "task.ended",
        "team": {"id": task.team.uid, "name": "Storefront"},
        "task": {
            "id": task.uid,
            "name": "Nightly",
            "status": "PartialFailed",
            "counts": {"Failed": 1, "Success": 2},
            "url": f"https://console.example/tasks/{task.uid}/",
            "region": "local",
            "started": "2026-03-10T12:00:00+00:00",
            "finished": "2026-03-10T12:01:00+00:00",
            "who": "bob",
        },
    }
    assert "secret" not in repr(message)
    assert message.secret not in repr(message)


def test_a_failed_attempt_is_made_again_later_and_later_and_at_last_given_up(due):
    now, pauses = NOON, []
    for attempt in range(1, 7):
        ((row, _),) = notices.claim(busy=(), limit=9, now=now)
        assert row.attempts == attempt
        assert notices.claim(busy=(), limit=9, now=now) == []  # somebody is at it
        notices.record(deliveries=[Delivery(row.pk, attempt, "It answered 500.")], now=now)
        due.refresh_from_db()
        assert due.last_error == "It answered 500."
        if due.next_at is None:
            break
        pauses.append((due.next_at - now).total_seconds() / 60)
        assert notices.claim(busy=(), limit=9, now=due.next_at - timedelta(seconds=1)) == []
        now = due.next_at
    assert pauses == [1, 5, 30, 120, 360]
    assert (due.state, due.attempts, due.ended_at) == ("given_up", 6, now)
    assert notices.claim(busy=(), limit=9, now=now + timedelta(days=1)) == []


def test_what_was_taken_is_not_sent_again(due):
    ((row, _),) = notices.claim(busy=(), limit=9, now=NOON)
    notices.record(deliveries=[Delivery(row.pk, 1)], now=NOON)
    due.refresh_from_db()
    assert (due.state, due.last_error, due.ended_at) == ("sent", "", NOON)
    assert notices.claim(busy=(), limit=9, now=NOON + timedelta(days=1)) == []


def test_of_what_nothing_was_heard_is_sent_again(due):
    notices.claim(busy=(), limit=9, now=NOON)
    later = NOON + notices.CLAIM
    assert notices.claim(busy=[due.pk], limit=9, now=later) == []
    ((row, message),) = notices.claim(busy=(), limit=9, now=later)
    assert (row.attempts, message.uid) == (2, due.uid)
    # Who was slow fails now: that says nothing of the attempt that is under way.
    notices.record(deliveries=[Delivery(row.pk, 1, "late")], now=later)
    due.refresh_from_db()
    assert (due.state, due.last_error) == ("waiting", "")
    # But that it was taken after all does.
    notices.record(deliveries=[Delivery(row.pk, 1)], now=later)
    due.refresh_from_db()
    assert due.state == "sent"


def test_what_always_ends_whoever_sends_it_is_given_up(due):
    now = NOON
    for _ in range(7):
        notices.claim(busy=(), limit=9, now=now)
        now += notices.CLAIM
    due.refresh_from_db()
    assert due.state == "given_up"
    assert "nothing was heard of it" in due.last_error


def test_what_can_not_be_decrypted_stops_nothing_else(add, due, settings):
    add(MAIL)
    settings.CONSOLE_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    assert notices.claim(busy=(), limit=9, now=NOON) == []
    due.refresh_from_db()
    assert due.state == "waiting"
    assert "can't be decrypted" in due.last_error


def test_a_rule_that_is_switched_off_meanwhile_tells_nobody(cast, due):
    off = RuleInput("webhook", HOOK.target, "always", enabled=False)
    notice_rules.change_rule(actor=cast.alice, rule=due.rule, changed=off, now=NOON)
    assert notices.claim(busy=(), limit=9, now=NOON) == []
    due.refresh_from_db()
    assert (due.state, due.last_error) == ("given_up", "The rule was switched off.")


def test_deleting_a_rule_deletes_what_waits(cast, due):
    notice_rules.delete_rule(actor=cast.alice, rule=due.rule, now=NOON)
    assert Notice.objects.count() == 0
    assert Invocation.objects.count() == 1


def test_notices_go_with_their_task(cast, due):
    retention.purge(now=NOON + timedelta(days=60))
    assert Notice.objects.count() == 0


def test_all_members_with_an_address(cast, add, task):
    for user in (cast.alice, cast.vera):
        user.email = f"{user.username}@example.com"
        user.save()
    cast.vera.is_active = False
    cast.vera.save()
    add(RuleInput("email", "", "always"))
    made = task()
    end(made)
    notices.settle(now=NOON)
    ((_, message),) = notices.claim(busy=(), limit=9, now=NOON)
    assert message.to == ("alice@example.com",)
    assert message.subject == "Succeeded: Nightly"


def test_no_member_with_an_address(add, task):
    add(RuleInput("email", "", "always"))
    made = task()
    end(made)
    notices.settle(now=NOON)
    assert notices.claim(busy=(), limit=9, now=NOON) == []
    assert made.notices.get().last_error == "No member of the team has an e-mail address."


def test_an_email_arrives_with_an_id_that_stays(add, task):
    add(MAIL)
    made = task()
    end(made)
    notices.settle(now=NOON)
    ((row, message),) = notices.claim(busy=(), limit=9, now=NOON)
    assert messenger.send(message) == ""
    (sent,) = mail.outbox
    assert sent.to == ["ops@example.com", "on-call@example.com"]
    assert sent.subject == "[Command Console] Succeeded: Nightly"
    assert sent.extra_headers["X-Console-Id"] == row.uid
    assert row.uid in sent.extra_headers["Message-ID"]


def test_a_mail_server_that_refuses(monkeypatch):
    def refuse(_self, **_kwargs):
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr("commands.services.messenger.EmailMessage.send", refuse)
    told = messenger.send(Mail("n-1", ("a@example.com",), "s", "t"))
    assert told == "The mail server did not take it: [Errno 111] Connection refused"


def test_a_subject_can_not_add_headers():
    task = Mail("n-1", ("a@example.com",), "x\nBcc: all@example.com", "t")
    assert messenger.send(task).startswith("The mail server did not take it: ")
    assert mail.outbox == []


def test_a_test_is_sent_once(cast, add, sent):
    rule = add()
    sent.clear()
    with transaction.atomic():
        made = notice_rules.send_test(actor=cast.alice, rule=rule, now=NOON)
    with pytest.raises(Conflict):
        notice_rules.send_test(actor=cast.alice, rule=rule, now=NOON)
    ((row, message),) = notices.claim(busy=(), limit=9, now=NOON)
    assert json.loads(message.body)["event"] == message.event == "test"
    notices.record(deliveries=[Delivery(row.pk, 1, "It answered 500.")], now=NOON)
    made.refresh_from_db()
    assert (made.state, made.last_error) == ("given_up", "It answered 500.")
    notices.forget_tests(now=NOON + timedelta(days=6))
    assert Notice.objects.count() == 1
    notices.forget_tests(now=NOON + timedelta(days=8))
    assert Notice.objects.count() == 0


def test_tests_are_no_way_to_send_mail(cast, add, monkeypatch):
    monkeypatch.setattr(limits, "NOTICE_TESTS", 2)
    for _ in range(2):
        rule = add(MAIL)
        notice_rules.send_test(actor=cast.alice, rule=rule, now=NOON)
        notice_rules.delete_rule(actor=cast.alice, rule=rule, now=NOON)
    rule = add(MAIL)
    with pytest.raises(Conflict, match="too many tests within an hour"):
        notice_rules.send_test(actor=cast.alice, rule=rule, now=NOON + timedelta(minutes=59))
    notice_rules.send_test(actor=cast.alice, rule=rule, now=NOON + timedelta(hours=1))


@pytest.mark.django_db(transaction=True)
def test_a_test_rings(cast, add, sent):
    notice_rules.send_test(actor=cast.alice, rule=add(), now=NOON)
    assert (queue.Job.SEND_NOTICES, {}) in sent


def test_a_test_of_emails_says_so(cast, add):
    notice_rules.send_test(actor=cast.alice, rule=add(MAIL), now=NOON)
    ((_, message),) = notices.claim(busy=(), limit=9, now=NOON)
    assert message.subject == "Test of Command Console"
    assert "Storefront" in message.text


@pytest.mark.parametrize(
    ("rule", "field", "words"),
    [
        (RuleInput("pigeon", "x", "always"), "kind", "Choose e-mail or webhook."),
        (RuleInput("email", "", "sometimes"), "when", "Choose of which tasks."),
        (RuleInput("email", "ops", "always"), "target", "ops is not an e-mail address."),
        (RuleInput("email", "a@b.example\nBcc:x", "always"), "target", "Bcc:x is not"),
        (
            RuleInput("email", ",".join(f"a{n}@b.example" for n in range(21)), "always"),
            "target",
            "at most 20 addresses",
        ),
        (RuleInput("webhook", "", "always"), "target", "Enter an address such as"),
        (RuleInput("webhook", "http://chat.example/", "always"), "target", "over https://"),
        (
            RuleInput("webhook", "https://169.254.169.254/", "always"),
            "target",
            "CONSOLE_ALLOWED_NETWORKS",
        ),
    ],
)
def test_what_is_wrong_with_a_rule(cast, add, rule, field, words):
    with pytest.raises(Invalid, match=words) as caught:
        add(rule)
    assert caught.value.field == field
    assert NoticeRule.objects.count() == 0
    right = add(MAIL if rule.kind == "email" else HOOK)
    with pytest.raises(Invalid):
        notice_rules.change_rule(actor=cast.alice, rule=right, changed=rule, now=NOON)


def test_only_admins_of_the_team_manage_rules(cast, add):
    rule = add()
    for other in (cast.bob, cast.vera, cast.charlie):
        with pytest.raises(Denied):
            add(actor=other)
        with pytest.raises(Denied):
            notice_rules.change_rule(actor=other, rule=rule, changed=HOOK, now=NOON)
        with pytest.raises(Denied):
            notice_rules.delete_rule(actor=other, rule=rule, now=NOON)
        with pytest.raises(Denied):
            notice_rules.renew_secret(actor=other, rule=rule, now=NOON)
        with pytest.raises(Denied):
            notice_rules.send_test(actor=other, rule=rule, now=NOON)
    assert NoticeRule.objects.get().secret == rule.secret


def test_a_team_has_so_many_rules(add):
    for _ in range(20):
        add()
    with pytest.raises(Conflict, match="at most 20 rules"):
        add()


def test_secrets_are_encrypted_and_never_in_the_trail(cast, add):
    rule = add(RuleInput("webhook", "https://chat.example/hooks/TOKEN", "always"))
    old = rule.secret
    assert len(old) >= 40
    changed = notice_rules.renew_secret(actor=cast.alice, rule=rule, now=NOON)
    assert changed.secret != old
    with connection.cursor() as cursor:
        cursor.execute("SELECT target, secret FROM commands_noticerule")
        (stored,) = cursor.fetchall()
    assert "TOKEN" not in str(stored)
    assert changed.secret not in str(stored)
    other = RuleInput("webhook", "https://chat.example/hooks/OTHER", "problems")
    notice_rules.change_rule(actor=cast.alice, rule=rule, changed=other, now=NOON)
    notice_rules.send_test(actor=cast.alice, rule=rule, now=NOON)
    notice_rules.delete_rule(actor=cast.alice, rule=rule, now=NOON)
    events = list(AuditEvent.objects.order_by("pk"))
    assert [event.action for event in events] == [
        "notice_rule:add",
        "notice_rule:renew_secret",
        "notice_rule:change",
        "notice_rule:test",
        "notice_rule:delete",
    ]
    assert {event.target_uid for event in events} == {rule.uid}
    assert {event.details["target"] for event in events} == {"https://chat.example"}
    kept = json.dumps([event.details for event in events])
    for secret in ("TOKEN", "OTHER", old, changed.secret):
        assert secret not in kept


def test_only_webhooks_have_secrets(cast, add):
    rule = add(MAIL)
    assert rule.secret == ""
    with pytest.raises(Invalid):
        notice_rules.renew_secret(actor=cast.alice, rule=rule, now=NOON)
    with pytest.raises(Invalid):
        notice_rules.change_rule(actor=cast.alice, rule=rule, changed=HOOK, now=NOON)


def test_shown_targets_hold_no_token(add):
    assert notice_rules.shown_target(add()) == "https://chat.example"
    assert notice_rules.shown_target(add(MAIL)) == "ops@example.com, on-call@example.com"


def at_once(count, work):
    """What ``work`` gives in so many threads that begin together."""
    barrier = threading.Barrier(count)

    def go(_number):
        barrier.wait()
        try:
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(go, range(count)))


@pytest.mark.django_db(transaction=True)
def test_of_workers_that_look_at_once_one_makes_the_notices(add, task):
    add()
    made = task()
    end(made)
    assert sum(at_once(4, lambda: notices.settle(now=NOON))) == 1
    assert made.notices.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_workers_that_claim_at_once_one_sends(due):
    found = at_once(4, lambda: len(notices.claim(busy=(), limit=9, now=NOON)))
    assert sorted(found) == [0, 0, 0, 1]


def test_links_are_whole_only_if_the_console_knows_its_address(settings, task):
    made = task()
    settings.CONSOLE_URL = ""
    assert messages.link(made) == f"/tasks/{made.uid}/"


def test_who_joins_later_may_be_told(cast, add, task):
    cast.charlie.email = "charlie@example.com"
    cast.charlie.save()
    add(RuleInput("email", "", "always"))
    made = task()
    end(made)
    notices.settle(now=timezone.now())
    teams.add_member(team=cast.team, user=cast.charlie, role="viewer")
    ((_, message),) = notices.claim(busy=(), limit=9, now=timezone.now())
    assert message.to == ("charlie@example.com",)

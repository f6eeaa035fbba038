"""The audit trail: what is recorded is sealed into a chain, and the chain shows every change."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from commands import tasks
from commands.models import AuditEvent, AuditHead
from commands.services import audit

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.data_layer]


@pytest.fixture
def record(cast):
    def make(n: int = 1, **columns) -> AuditEvent:
        for each in range(n):
            columns = {"details": {"n": each, "names": ["a", "b"]}, **columns}
            made = audit.record(actor=cast.bob, action="task:create", team=cast.team, **columns)
        return made

    return make


def raw(sql: str, *values: object) -> None:
    """Change rows as somebody who has the database and not the console."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)


def test_what_is_recorded_says_who_what_where_and_on_what(cast, record):
    with audit.origin("192.0.2.7"):
        made = record(target=cast.team)
    event = AuditEvent.objects.get(pk=made.pk)
    assert (event.actor_id, event.actor_name, event.origin) == (cast.bob.pk, "bob", "192.0.2.7")
    assert (event.team_uid, event.target_uid) == (cast.team.uid, cast.team.uid)
    assert (event.action, event.outcome, event.number) == ("task:create", "done", 2)
    assert record().origin == ""


def test_nobody_and_hostile_text_are_recorded_too():
    made = audit.record(
        actor=None, action="sign-in", target_name="\0\ud800" * 400, details={"k\0": "\0x" * 999}
    )
    event = AuditEvent.objects.get(pk=made.pk)
    assert event.actor_id is None
    assert len(event.target_name) == 150
    assert "\0" not in event.details["k"]
    assert audit.verify().findings == ()


def test_events_form_a_chain(record):
    record(5)
    events = list(AuditEvent.objects.order_by("number"))
    assert [event.number for event in events] == [1, 2, 3, 4, 5, 6]
    assert [event.previous for event in events] == ["", *(event.digest for event in events[:-1])]
    assert len({event.digest for event in events}) == 6
    found = audit.verify()
    assert found == audit.Verdict(6, f"6:{events[-1].digest}", (), events[0].at)


def test_a_chain_begins_with_an_event_of_its_own(cast, record):
    before = timezone.now()
    record(2)
    first = AuditEvent.objects.get(number=1)
    assert (first.action, first.actor_id, first.actor_name) == ("audit:begin", None, "")
    assert before <= first.at <= timezone.now()
    assert AuditEvent.objects.filter(action=audit.BEGIN).count() == 1
    assert not AuditEvent.objects.administered_by(cast.alice).filter(action=audit.BEGIN).exists()


def test_a_chain_of_an_earlier_version_holds_and_goes_on(record):
    """Such has neither a beginning nor nonces."""
    event = AuditEvent(at=timezone.now(), action="task:create", number=1)
    event.digest = audit.digest_of(event)
    event.save()
    head = AuditHead(pk=1, number=1, digest=event.digest)
    head.seal = audit.seal_of(head)
    head.save()
    record(2)
    found = audit.verify()
    assert (found.events, found.findings, found.since) == (3, (), event.at)


def test_what_is_rolled_back_was_not_done(record):
    record()
    before = audit.verify()
    with pytest.raises(RuntimeError), transaction.atomic():
        record()
        raise RuntimeError
    assert audit.verify() == before
    assert before.events == AuditEvent.objects.count() == 2


def test_a_console_that_nobody_uses_yet_has_no_trail(db):
    assert audit.verify() == audit.Verdict(0, "0:", ())


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE commands_auditevent SET actor_name = 'eve' WHERE number = 2",
        "UPDATE commands_auditevent SET details = '{\"n\": 9}' WHERE number = 2",
        "UPDATE commands_auditevent SET outcome = 'refused' WHERE number = 2",
        "UPDATE commands_auditevent SET origin = '10.0.0.1' WHERE number = 2",
        "UPDATE commands_auditevent SET at = '2020-01-01 00:00:00+00:00' WHERE number = 2",
        "UPDATE commands_auditevent SET digest = previous WHERE number = 2",
        "DELETE FROM commands_auditevent WHERE number = 2",
        "DELETE FROM commands_auditevent WHERE number = 1",
        "DELETE FROM commands_auditevent WHERE number = 3",
        "DELETE FROM commands_auditevent",
        "UPDATE commands_auditevent SET number = number + 5 WHERE number = 3",
        "UPDATE commands_audithead SET number = 2",
        "DELETE FROM commands_audithead",
    ],
)
def test_every_change_is_found(record, change):
    record(3)
    raw(change)
    assert audit.verify().findings


def test_cutting_the_end_off_and_moving_the_head_there_is_found(record):
    record(2)
    second = AuditEvent.objects.get(number=2)
    raw("DELETE FROM commands_auditevent WHERE number = 3")
    raw("UPDATE commands_audithead SET number = 2, digest = %s", second.digest)
    assert audit.verify().findings == ("The head of the chain was altered.",)


def test_a_chain_that_was_made_anew_with_another_key_is_found(record, settings):
    record(3)
    key, settings.CONSOLE_AUDIT_KEY = settings.CONSOLE_AUDIT_KEY, "x" * 40
    event = AuditEvent.objects.get(number=3)
    event.actor_name = "eve"
    raw(
        "UPDATE commands_auditevent SET actor_name = 'eve', digest = %s WHERE number = 3",
        audit.digest_of(event),
    )
    settings.CONSOLE_AUDIT_KEY = key
    assert "Event 3 was altered" in audit.verify().findings[0]


def test_a_database_put_back_to_an_older_state_is_found_by_what_was_kept_elsewhere(record):
    record(1)
    head = AuditHead.objects.values().get()
    record(1)
    kept = audit.verify().head
    raw("DELETE FROM commands_auditevent WHERE number = 3")
    AuditHead.objects.update(**head)
    assert audit.verify().findings == ()  # nothing in the database shows it
    assert "Event 3 is not the one" in audit.verify(expected=kept).findings[0]


def test_what_an_earlier_verification_gave_still_holds_later(record):
    record(2)
    kept = audit.verify().head
    record(2)
    assert audit.verify(expected=kept).findings == ()
    assert audit.verify(expected="0:").findings == ()
    assert audit.verify(expected="2:made-up").findings


def test_events_never_change_and_never_go(record):
    event = record()
    event.refresh_from_db()
    with pytest.raises(TypeError):
        event.save()
    with pytest.raises(TypeError):
        event.delete()


def test_what_was_not_sealed_is_sealed_by_the_reconciler(record, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(audit, "seal", lambda: 0)
        record(2)
    assert AuditEvent.objects.filter(number=None).count() == 2
    later = timezone.now() + timedelta(hours=1)
    assert "2 events were never sealed" in audit.verify(now=later).findings[0]
    tasks.reconcile()
    assert audit.verify(now=later).findings == ()
    assert audit.seal() == 0


def test_many_at_once_form_one_chain(cast, record):
    def work() -> None:
        record(10)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while audit.seal():
        pass
    assert audit.verify().events == 81
    assert audit.verify().findings == ()


def test_by_hand(record, capsys):
    record(2)
    call_command("verify_audit")
    head, since = audit.verify().head, AuditEvent.objects.get(number=1).at
    assert capsys.readouterr().out == (
        f"3 events hold since {since:%Y-%m-%d %H:%M} UTC. Keep this head elsewhere: {head}\n"
    )
    call_command("verify_audit", expect=head)
    raw("UPDATE commands_auditevent SET actor_name = 'eve' WHERE number = 1")
    with pytest.raises(CommandError, match="does not hold"):
        call_command("verify_audit")
    assert "Event 1 was altered" in capsys.readouterr().err


def test_a_team_s_admin_sees_the_events_of_that_team(cast, record):
    record()
    assert AuditEvent.objects.administered_by(cast.alice).count() == 1
    for other in (cast.bob, cast.charlie):
        assert not AuditEvent.objects.administered_by(other).exists()

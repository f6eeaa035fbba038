"""Who has the database and not the key gets nothing signed: the console does not mend their chain.

Each test tampers, lets the console go on as it would, and then verifies.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection
from django.utils import timezone

from commands import tasks
from commands.models import AuditEvent, AuditHead
from commands.services import audit

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.data_layer]

FOREIGN = "put in or altered by somebody without the key"


@pytest.fixture(autouse=True)
def complaints(monkeypatch, caplog):
    """What the console writes into its log, from the first time on."""
    monkeypatch.setattr(audit, "_complained", {})
    caplog.set_level(logging.ERROR, logger="commands.services.audit")
    return lambda: [record.message for record in caplog.records if record.name == audit.__name__]


@pytest.fixture
def act(cast):
    """Something that the console itself records, and seals if it can."""

    def record(times: int = 1) -> None:
        for n in range(times):
            audit.record(
                actor=cast.bob, action="task:create", team=cast.team, details={"n": n, "of": [n]}
            )

    return record


def raw(sql: str, *values: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)


def go_on(act) -> tuple[str, ...]:
    """What is found after the console has gone on for a while."""
    act()
    audit.seal()
    tasks.reconcile()
    return audit.verify().findings


def test_a_tail_that_was_cut_off_is_not_healed(act, complaints):
    act(5)
    digest = AuditEvent.objects.get(number=3).digest
    raw("DELETE FROM commands_auditevent WHERE number > 3")
    raw("UPDATE commands_audithead SET number = 3, digest = %s", digest)
    assert audit.verify().findings == ("The head of the chain was altered.",)
    assert go_on(act) == ("The head of the chain was altered.",)
    assert AuditEvent.objects.filter(number=None).count() == 1
    [said] = complaints()  # once, however often it was tried
    assert "The end of the audit trail was altered" in said


def test_the_end_alone_cut_off_is_not_healed(act):
    act(5)
    raw("DELETE FROM commands_auditevent WHERE number = 6")
    assert "events were removed" in go_on(act)[0]


def test_the_whole_chain_rewritten_is_not_signed(act, complaints):
    act(5)
    raw("DELETE FROM commands_audithead")
    raw(
        "UPDATE commands_auditevent SET number = NULL, previous = '', digest = '',"
        " actor_name = 'alice'"
    )
    found = go_on(act)
    assert f"6 events were {FOREIGN}." in found
    assert not AuditEvent.objects.exclude(number=None).filter(actor_name="alice").exists()
    assert any("without the key" in said for said in complaints())


def test_rows_that_were_only_nulled_are_not_sealed_again(act):
    """Not even as they were: in another order, or fewer, they would look whole."""
    act(5)
    raw("UPDATE commands_auditevent SET number = NULL, previous = '', digest = '' WHERE number = 3")
    found = go_on(act)
    assert f"1 events were {FOREIGN}." in found
    assert "Events 3 to 3 are missing." in found


def test_an_emptied_trail_begins_anew_and_says_when(act):
    act(5)
    raw("UPDATE commands_auditevent SET at = %s", timezone.now() - timedelta(days=9))
    raw("DELETE FROM commands_audithead")
    raw("DELETE FROM commands_auditevent")
    assert "the trail is gone or never began" in audit.verify().findings[0]
    with pytest.raises(CommandError, match="does not hold"):
        call_command("verify_audit")
    emptied = timezone.now()
    assert go_on(act) == ()
    assert audit.verify().since >= emptied
    first = AuditEvent.objects.get(number=1)
    assert (first.action, first.at) == (audit.BEGIN, audit.verify().since)


def test_events_without_a_head_are_not_extended(act, complaints):
    act(2)
    raw("DELETE FROM commands_audithead")
    assert go_on(act) == ("The head of the chain is gone.",)
    assert not AuditHead.objects.exists()
    assert AuditEvent.objects.filter(action=audit.BEGIN).count() == 1
    assert "The head of the audit trail is gone" in complaints()[0]


@pytest.mark.parametrize("seal", ["", "0" * 64, "ключ"])
def test_a_head_at_the_start_is_not_extended(act, seal):
    act(2)
    raw("DELETE FROM commands_auditevent")
    raw("UPDATE commands_audithead SET number = 0, digest = '', seal = %s", seal)
    assert "The head of the chain was altered." in go_on(act)
    assert not AuditEvent.objects.exclude(number=None).exists()


def test_a_head_that_was_put_back_is_not_extended(act):
    act(1)
    old = AuditHead.objects.values().get()
    act(2)
    AuditHead.objects.update(**old)
    assert "its head says 2" in go_on(act)[0]


def test_rows_put_back_to_before_they_were_sealed_stay_unsealed(act):
    act(1)
    old = AuditHead.objects.values().get()
    act(2)
    AuditHead.objects.update(**old)
    raw("UPDATE commands_auditevent SET number = NULL, previous = '', digest = '' WHERE number > 2")
    assert go_on(act) == (f"2 events were {FOREIGN}.",)


def test_an_event_that_was_put_in_is_not_signed(cast, act, complaints):
    act(2)
    AuditEvent(
        at=timezone.now(),
        actor_id=cast.alice.pk,
        actor_name="alice",
        action="credential:replace",
        team_uid=cast.team.uid,
        nonce="0" * 32,
        mark="ü" * 64,
    ).save()
    assert go_on(act) == (f"1 events were {FOREIGN}.",)
    forged = AuditEvent.objects.get(action="credential:replace")
    assert forged.number is None
    assert AuditEvent.objects.get(number=4).action == "task:create"  # what is genuine goes on
    assert audit.altered([forged]) == {forged.pk}
    [said] = complaints()
    assert "Somebody without the key" in said


def test_a_copy_of_an_event_is_not_signed(act):
    act(2)
    (copy,) = AuditEvent.objects.filter(number=2)
    copy.pk, copy.number, copy.previous, copy.digest, copy.nonce = None, None, "", "", "1" * 32
    copy._state.adding = True
    copy.save()
    assert go_on(act) == (f"1 events were {FOREIGN}.",)


def test_an_event_that_was_copied_before_it_was_sealed_is_found(act, monkeypatch):
    act(1)
    with monkeypatch.context() as patch:
        patch.setattr(audit, "seal", lambda: 0)
        act(1)
    copy = AuditEvent.objects.get(number=None)
    assert go_on(act) == ()
    copy.pk, copy._state.adding = None, True
    with pytest.raises(IntegrityError):
        copy.save()
    raw("DROP INDEX audit_nonce_once")
    try:
        copy.save()
        assert "1 events are there more than once." in go_on(act)
    finally:
        raw("DELETE FROM commands_auditevent")
        [once] = [each for each in AuditEvent._meta.constraints if each.name == "audit_nonce_once"]
        with connection.schema_editor() as editor:
            editor.add_constraint(AuditEvent, once)


def test_what_waits_for_its_seal_cannot_be_altered(act, monkeypatch):
    act(1)
    with monkeypatch.context() as patch:
        patch.setattr(audit, "seal", lambda: 0)
        act(1)
    raw("UPDATE commands_auditevent SET actor_name = 'alice' WHERE number IS NULL")
    assert go_on(act) == (f"1 events were {FOREIGN}.",)
    assert not AuditEvent.objects.exclude(number=None).filter(actor_name="alice").exists()


def test_many_forged_events_do_not_hold_the_others_up(act, monkeypatch):
    monkeypatch.setattr(audit, "SEALED_AT_ONCE", 2)
    act(1)
    AuditEvent.objects.bulk_create(
        AuditEvent(at=timezone.now(), action="a:b", nonce=str(n)) for n in range(5)
    )
    assert go_on(act) == (f"5 events were {FOREIGN}.",)
    assert AuditEvent.objects.filter(number=3).exists()


def test_a_second_beginning_and_a_missing_one_are_findings(act):
    act(2)
    raw("UPDATE commands_auditevent SET action = 'audit:begin' WHERE number = 2")
    assert "Event 2 says that the trail begins there." in go_on(act)
    raw("DELETE FROM commands_auditevent WHERE number = 1")
    raw("UPDATE commands_auditevent SET action = 'task:create' WHERE number = 2")
    assert "The trail does not begin with audit:begin: what came first was removed." in go_on(act)


def test_changed_keys_change_nothing_that_is_shown(cast, act, sign_in):
    act(5)
    raw("UPDATE commands_auditevent SET id = 9000000001 WHERE number = 2")
    raw("UPDATE commands_auditevent SET id = 9000000002 WHERE number = 3")
    import_module("console.sign_ins")  # signing in is event 7, of no team
    client = sign_in(cast.alice)
    shown = [event.number for event, _, _ in client.get("/team/audit/").context["rows"]]
    assert shown == [6, 5, 4, 3, 2]
    assert list(AuditEvent.objects.values_list("number", flat=True)) == [7, 6, 5, 4, 3, 2, 1]
    assert go_on(act) == ()


def wait_without_mark() -> None:
    AuditEvent(at=timezone.now(), action="a:b", details={"names": ["ä", 1]}).save()
    import_module("commands.migrations.0029_audit_marks").mark_what_waits(apps, None)


def test_what_waited_when_marks_came_is_sealed():
    AuditHead(pk=1).save()  # as a version before could leave it
    wait_without_mark()
    assert audit.seal() == 1
    assert (audit.verify().events, audit.verify().findings) == (2, ())


def test_migrating_once_more_marks_nothing(act):
    act(1)
    wait_without_mark()
    assert go_on(act) == (f"1 events were {FOREIGN}.",)


def test_what_is_sealed_while_it_verifies_is_no_finding(act, monkeypatch):
    act(5)
    check = audit._check

    def act_meanwhile(event, *before):
        if event.number == 6:
            act()  # after the last one was read
        yield from check(event, *before)

    monkeypatch.setattr(audit, "_check", act_meanwhile)
    found = audit.verify()
    assert (found.events, found.findings) == (7, ())
    call_command("verify_audit")

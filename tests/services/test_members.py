"""Members: invitations, joining, roles, leaving, and that a team never is without an admin."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.core import mail
from django.db import connection

from commands import access
from commands.errors import Conflict, Denied, Invalid, InvalidFields
from commands.models import AuditEvent, Invitation, Membership, Restriction, Role, User
from commands.rules import limits
from commands.services import administration, audit, invitations, members, restrictions, teams

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
PASSWORD = "correct horse battery"


@pytest.fixture
def member(cast):
    def of(user: User) -> Membership:
        return Membership.objects.get(team=cast.team, user=user)

    return of


@pytest.fixture
def invite(cast):
    def make(email="lin@example.com", role="operator", actor=None, now=NOON):
        return invitations.invite(
            actor=actor or cast.alice,
            team=cast.team,
            email=email,
            role=role,
            link=lambda token: f"https://console.example/invitation/{token}/",
            now=now,
        )

    return make


def token_of(invited) -> str:
    return invited.link.split("/")[-2]


def join(token: str, username: str = "lin", now=NOON) -> User:
    return invitations.register(
        token=token, username=username, full_name="Lin Wei", password=PASSWORD, now=now
    )


def actions() -> list[str]:
    return list(AuditEvent.objects.order_by("pk").values_list("action", flat=True))


# --- inviting ---------------------------------------------------------------------------


def test_the_link_is_mailed_and_only_its_digest_is_kept(invite):
    invited = invite("  Lin@Example.com ")
    token = token_of(invited)
    row = Invitation.objects.get()
    assert (row.email, row.role) == ("lin@example.com", "operator")
    assert row.digest == hashlib.sha256(token.encode()).hexdigest()
    assert len(token) >= 40
    assert token not in repr(Invitation.objects.values_list())
    [message] = mail.outbox
    assert message.to == ["lin@example.com"]
    assert invited.link in message.body
    assert "Operator" in message.body
    assert invited.mailed
    assert token not in repr(list(AuditEvent.objects.values_list()))
    assert actions() == ["member:invite"]


def test_a_mail_server_that_is_away_does_not_fail_the_invitation(invite, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9  # nobody listens there
    assert not invite().mailed
    assert Invitation.objects.count() == 1


def test_a_name_can_add_no_header_to_a_message(cast, invite):
    cast.team.name = "Storefront\nBcc: eve@example.com"
    invite()
    [message] = mail.outbox
    assert "\n" not in message.subject
    assert message.recipients() == ["lin@example.com"]


def test_a_new_person_joins_with_an_account_of_their_own(cast, invite, member):
    user = join(token_of(invite()))
    assert (user.username, user.shown_name, user.email) == ("lin", "Lin Wei", "lin@example.com")
    assert user.check_password(PASSWORD)
    assert member(user).role == "operator"
    assert not user.is_staff
    assert not user.is_superuser
    assert access.allows(user, access.Permission.COMMAND_MANAGE, cast.team)
    assert actions() == ["member:invite", "member:join"]


def test_somebody_with_an_account_joins(cast, invite, member):
    membership = invitations.accept(actor=cast.charlie, token=token_of(invite()), now=NOON)
    assert membership == member(cast.charlie)
    with pytest.raises(Conflict, match="isn't valid any more"):
        invitations.accept(actor=cast.charlie, token=token_of(invite()), now=NOON + timedelta(8))


def test_a_member_needs_no_invitation_and_uses_none_up(cast, invite):
    invited = invite()
    with pytest.raises(Conflict, match="a member of Storefront already"):
        invitations.accept(actor=cast.bob, token=token_of(invited), now=NOON)
    assert join(token_of(invited)).username == "lin"


def test_a_link_works_once(cast, invite):
    token = token_of(invite())
    join(token)
    with pytest.raises(Conflict, match="isn't valid any more"):
        invitations.accept(actor=cast.charlie, token=token, now=NOON)
    with pytest.raises(Conflict):
        join(token, "eve")
    assert not User.objects.filter(username="eve").exists()


def test_a_link_works_for_seven_days(invite):
    token = token_of(invite())
    last = NOON + timedelta(days=limits.INVITATION_DAYS)
    assert invitations.find(token=token, now=last - timedelta(seconds=1))
    assert invitations.find(token=token, now=last) is None
    with pytest.raises(Conflict):
        join(token, now=last)


def test_a_revoked_link_is_worthless(cast, invite):
    invited = invite()
    for nobody in (cast.bob, cast.vera, cast.charlie):
        with pytest.raises(Denied):
            invitations.revoke(actor=nobody, invitation=invited.invitation, now=NOON)
    invitations.revoke(actor=cast.alice, invitation=invited.invitation, now=NOON)
    assert invitations.find(token=token_of(invited), now=NOON) is None
    with pytest.raises(Conflict, match="already"):
        invitations.revoke(actor=cast.alice, invitation=invited.invitation, now=NOON)


@pytest.mark.parametrize("token", ["", "x" * 500, "\0", "\ud800", "' OR 1=1 --"])
def test_a_token_that_nobody_got_finds_nothing(invite, token):
    invite()
    assert invitations.find(token=token, now=NOON) is None


def test_one_invitation_to_an_address_waits_at_a_time(cast, invite):
    first = invite()
    with pytest.raises(Conflict, match=re.escape("to lin@example.com waits already")):
        invite("LIN@example.com")
    invite("other@example.com")
    later = NOON + timedelta(days=limits.INVITATION_DAYS)
    second = invite(now=later)
    assert invitations.find(token=token_of(first), now=later) is None
    assert invitations.find(token=token_of(second), now=later) == second.invitation
    invitations.revoke(actor=cast.alice, invitation=second.invitation, now=later)
    assert invite(now=later).invitation.pk


def test_a_team_has_so_many_invitations_that_wait(invite, monkeypatch):
    monkeypatch.setattr(limits, "INVITATIONS", 2)
    invite("a@example.com")
    invite("b@example.com")
    with pytest.raises(Conflict, match="Too many invitations"):
        invite("c@example.com")


def test_revoking_is_no_way_to_send_more_mail(cast, invite, monkeypatch):
    def one(address, now=NOON):
        made = invite(address, now=now).invitation
        invitations.revoke(actor=cast.alice, invitation=made, now=now)

    for _ in range(limits.INVITATIONS_TO_ONE):
        one("lin@example.com")
    with pytest.raises(Conflict, match=r"invited lin@example\.com 3 times within a day"):
        one("lin@example.com")
    monkeypatch.setattr(limits, "INVITATIONS_A_DAY", limits.INVITATIONS_TO_ONE + 1)
    one("wei@example.com")
    with pytest.raises(Conflict, match="too many invitations within a day"):
        one("mei@example.com")
    assert len(mail.outbox) == limits.INVITATIONS_TO_ONE + 1
    one("lin@example.com", now=NOON + timedelta(days=1))


@pytest.mark.parametrize(
    ("email", "role", "field", "words"),
    [
        ("", "operator", "email", "Enter an e-mail address"),
        ("lin", "operator", "email", "Enter an e-mail address"),
        ("lin@example.com\nbcc: eve@example.com", "operator", "email", "Enter an e-mail"),
        ("lin@example.com", "owner", "role", "Choose a role."),
        ("lin@example.com", "", "role", "Choose a role."),
    ],
)
def test_every_field_that_is_wrong_has_its_sentence(invite, email, role, field, words):
    with pytest.raises(InvalidFields) as caught:
        invite(email, role)
    assert list(caught.value.errors) == [field]
    assert words in caught.value.errors[field][0]
    assert mail.outbox == []


def test_a_member_is_not_invited_again(cast, invite):
    User.objects.filter(pk=cast.bob.pk).update(email="Bob@example.com")
    with pytest.raises(InvalidFields, match="already a member"):
        invite("bob@EXAMPLE.com")


@pytest.mark.parametrize("who", ["bob", "vera", "charlie"])
def test_only_admins_of_the_team_invite(cast, invite, who):
    with pytest.raises(Denied):
        invite(actor=getattr(cast, who))


@pytest.mark.parametrize(
    ("username", "field"),
    [("", "username"), ("a b", "username"), ("x" * 151, "username"), ("BOB", "username")],
)
def test_a_user_name_that_cannot_be_leaves_the_invitation(invite, username, field):
    token = token_of(invite())
    with pytest.raises(InvalidFields) as caught:
        join(token, username)
    assert list(caught.value.errors) == [field]
    assert join(token).username == "lin"


def test_who_may_invite_no_longer_has_invited_nobody(cast, invite, member):
    teams.add_member(team=cast.team, user=cast.bob, role=Role.TEAM_ADMIN)
    token = token_of(invite("own@example.com", "team_admin", actor=cast.bob))
    kept = token_of(invite("kept@example.com"))
    members.remove(actor=cast.alice, membership=member(cast.bob), now=NOON)
    with pytest.raises(Conflict):
        invitations.accept(actor=cast.bob, token=token, now=NOON)
    assert invitations.find(token=kept, now=NOON)


def test_invitations_of_somebody_who_is_deactivated_let_nobody_in(cast, invite):
    token = token_of(invite())
    User.objects.filter(pk=cast.alice.pk).update(is_active=False)
    assert invitations.find(token=token, now=NOON) is None


@pytest.mark.django_db(transaction=True)
def test_of_many_who_use_a_link_at_once_one_joins(cast, invite):
    token = token_of(invite())
    people = [User.objects.create_user(f"u{n}") for n in range(8)]
    gate = threading.Barrier(len(people))

    def accept(user: User) -> bool:
        try:
            gate.wait()
            invitations.accept(actor=user, token=token, now=NOON)
            return True
        except Conflict:
            return False
        finally:
            connection.close()

    with ThreadPoolExecutor(len(people)) as pool:
        assert sorted(pool.map(accept, people)) == [False] * 7 + [True]
    assert Membership.objects.filter(team=cast.team, user__in=people).count() == 1


# --- roles, removing, leaving -----------------------------------------------------------


def set_role(cast, membership, role, actor=None):
    return members.set_role(actor=actor or cast.alice, membership=membership, role=role, now=NOON)


def test_a_role_is_in_force_at_once(cast, member):
    assert not access.allows(cast.vera, access.Permission.COMMAND_MANAGE, cast.team)
    set_role(cast, member(cast.vera), "operator")
    assert access.allows(cast.vera, access.Permission.COMMAND_MANAGE, cast.team)
    event = AuditEvent.objects.get()
    assert (event.action, event.target_name) == ("member:role", "vera")
    assert event.details == {"from": "viewer", "to": "operator"}


def test_the_same_role_changes_nothing(cast, member):
    set_role(cast, member(cast.alice), "team_admin")
    assert actions() == []


def test_who_may_change_roles_and_remove(cast, member):
    for nobody in (cast.bob, cast.vera, cast.charlie):
        with pytest.raises(Denied):
            set_role(cast, member(cast.vera), "operator", actor=nobody)
    for nobody in (cast.bob, cast.charlie):
        with pytest.raises(Denied):
            members.remove(actor=nobody, membership=member(cast.vera), now=NOON)
    with pytest.raises(Invalid, match="Choose a role"):
        set_role(cast, member(cast.vera), "owner")


def test_a_team_needs_one_admin(cast, member):
    for change in (
        lambda: set_role(cast, member(cast.alice), "operator"),
        lambda: members.remove(actor=cast.alice, membership=member(cast.alice), now=NOON),
    ):
        with pytest.raises(Conflict, match="A team needs one team admin"):
            change()
    set_role(cast, member(cast.bob), "team_admin")
    User.objects.filter(pk=cast.bob.pk).update(is_active=False)
    with pytest.raises(Conflict):  # who can't sign in is no admin
        set_role(cast, member(cast.alice), "operator")
    User.objects.filter(pk=cast.bob.pk).update(is_active=True)
    assert set_role(cast, member(cast.alice), "operator").role == "operator"


def test_everybody_may_leave(cast, member):
    members.remove(actor=cast.vera, membership=member(cast.vera), now=NOON)
    assert not Membership.objects.filter(team=cast.team, user=cast.vera).exists()
    members.remove(actor=cast.alice, membership=member(cast.bob), now=NOON)
    assert not access.allows(cast.bob, access.Permission.COMMAND_READ, cast.team)
    assert actions() == ["member:leave", "member:remove"]


def test_a_narrowed_member_becomes_admin_only_once_that_is_lifted(cast, member):
    bob = member(cast.bob)
    restrictions.set_all(actor=cast.alice, membership=bob, wanted=[("not_run_as", "root")])
    with pytest.raises(Conflict, match="Lift that"):
        set_role(cast, bob, "team_admin")
    restrictions.set_all(actor=cast.alice, membership=bob, wanted=[])
    assert set_role(cast, bob, "team_admin").role == "team_admin"


def test_a_membership_that_has_ended_is_told(cast, member):
    shown = member(cast.vera)
    members.remove(actor=cast.alice, membership=member(cast.vera), now=NOON)
    with pytest.raises(Conflict, match="ended in the meantime"):
        set_role(cast, shown, "operator")


@pytest.mark.django_db(transaction=True)
def test_of_two_admins_who_leave_at_once_one_stays(cast, member):
    teams.add_member(team=cast.team, user=cast.bob, role=Role.TEAM_ADMIN)
    leaving = [member(cast.alice), member(cast.bob)]
    gate = threading.Barrier(2)

    def leave(membership: Membership) -> bool:
        try:
            gate.wait()
            members.remove(actor=membership.user, membership=membership, now=NOON)
            return True
        except Conflict:
            return False
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(leave, leaving)) == [False, True]
    assert Membership.objects.filter(team=cast.team, role=Role.TEAM_ADMIN).count() == 1


@pytest.mark.django_db(transaction=True)
def test_nobody_becomes_admin_and_narrowed_at_once(cast, member, monkeypatch):
    bob = member(cast.bob)
    gate = threading.Barrier(2)
    record = audit.record

    def slowly(**event):  # the other one comes between what was asked and the commit
        time.sleep(0.2)
        return record(**event)

    monkeypatch.setattr(audit, "record", slowly)

    def attempt(change) -> str:
        try:
            gate.wait()
            change()
            return "done"
        except (Conflict, Invalid):
            return "refused"
        finally:
            connection.close()

    narrow = {"membership": bob, "wanted": [("run_as", "deploy")]}
    changes = [
        lambda: restrictions.set_all(actor=cast.alice, **narrow),
        lambda: members.set_role(actor=cast.alice, membership=bob, role=Role.TEAM_ADMIN, now=NOON),
    ]
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(attempt, changes)) == ["done", "refused"]
    is_admin = member(cast.bob).role == Role.TEAM_ADMIN
    assert is_admin != Restriction.objects.filter(membership=bob).exists()


@pytest.mark.parametrize("who", ["bob", "alice", "staff"])
def test_who_was_narrowed_does_not_come_back_with_an_old_link(cast, invite, member, who):
    cast.bob.email = "Bob@example.com"
    cast.bob.save()
    bob = member(cast.bob)
    restrictions.set_all(actor=cast.alice, membership=bob, wanted=[("run_as", "deploy")])
    cast.bob.email = "elsewhere@example.com"
    cast.bob.save()
    own, other = invite("bob@example.com"), invite("other@example.com")
    cast.bob.email = "Bob@example.com"
    cast.bob.save()
    later = NOON + timedelta(minutes=1)
    if who == "staff":
        staff = User.objects.create_user("staff", is_staff=True)
        administration.remove_member(actor=staff, membership=bob, now=later)
    else:
        members.remove(actor=getattr(cast, who), membership=bob, now=later)
    # The one to their address is worthless to everybody, others to them.
    with pytest.raises(Conflict, match="isn't valid any more"):
        invitations.accept(actor=cast.bob, token=token_of(own), now=later)
    with pytest.raises(Conflict, match="You have left Storefront since"):
        invitations.accept(actor=cast.bob, token=token_of(other), now=later)
    assert not Membership.objects.filter(team=cast.team, user=cast.bob).exists()
    assert join(token_of(other), now=later).teams.get() == cast.team
    # An admin who invites anew begins anew.
    anew = invite("bob@example.com", now=later + timedelta(minutes=1))
    back = invitations.accept(actor=cast.bob, token=token_of(anew), now=later + timedelta(hours=1))
    assert not back.restrictions.exists()

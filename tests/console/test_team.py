"""The team portal: who sees which page, what its forms do, and what strangers learn: nothing."""

from __future__ import annotations

import csv
import io
import re
from datetime import date, timedelta

import pytest
from django.core import mail
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode

from commands.models import (
    AuditEvent,
    Grant,
    Instance,
    InstanceTag,
    Invitation,
    Membership,
    QuotaRequest,
    RefusedLender,
    Region,
    Restriction,
    Role,
    User,
)
from commands.rules.quotas import Quota
from commands.services import (
    audit,
    invitations,
    lending,
    library,
    quota_requests,
    quotas,
    teams,
)
from commands.services.definitions import CommandInput
from console import resolve
from console.templatetags.charts import day_bars

pytestmark = pytest.mark.django_db

REASON = "Nightly backups of the whole fleet until the end of the year."
HOSTILE = ["\0", "' OR 1=1 --", "<script>alert(1)</script>", "9" * 40, "-1", "💥" * 300]
PASSWORD = "correct horse battery"
READ = ["/team/members/", "/team/why/", "/team/quotas/", "/team/lending/"]
ADMIN = ["/team/audit/", "/team/audit/events.csv", "/team/settings/"]


@pytest.fixture
def admin(cast, sign_in) -> Client:
    return sign_in(cast.alice)


@pytest.fixture
def staff(db) -> User:
    return User.objects.create_user("staff", is_staff=True)


@pytest.fixture
def member(cast):
    def of(user: User) -> Membership:
        return Membership.objects.get(team=cast.team, user=user)

    return of


def text(response) -> str:
    return " ".join(response.content.decode().split())


def invite(client: Client, email="lin@example.com", role="operator"):
    return client.post("/team/members/invite/", {"email": email, "role": role})


def link_in(response) -> str:
    found = re.search(r'id="link"[^>]*>http://testserver(/invitation/[^<]+/)<', text(response))
    assert found
    return found[1]


# --- who sees what ----------------------------------------------------------------------


@pytest.mark.parametrize("address", READ + ADMIN)
def test_pages_for_each_role(cast, sign_in, address):
    runner = User.objects.create_user("runner")
    teams.add_member(team=cast.team, user=runner, role=Role.RUNNER)
    assert sign_in(cast.alice).get(address).status_code == 200
    for user in (cast.bob, cast.vera, runner):
        expected = 200 if address in READ else 404
        assert sign_in(user).get(address).status_code == expected, user


@pytest.mark.parametrize("address", READ + ADMIN)
def test_somebody_in_no_team_and_nobody(sign_in, address):
    lonely = sign_in(User.objects.create_user("lonely"))
    answer = lonely.get(address)
    if address in READ:
        assert "No team yet" in text(answer)
    else:
        assert answer.status_code == 404
    answer = Client().get(address)
    assert (answer.status_code, answer.headers["Location"].split("?")[0]) == (302, "/sign-in/")


def test_the_portal_begins_with_the_members(admin):
    assert admin.get("/team/").headers["Location"] == "/team/members/"


def test_what_is_not_ones_own_is_not_there(cast, sign_in, member, staff, fleet):
    alice = sign_in(cast.alice)
    invite(alice)
    asked = quota_requests.ask(
        actor=cast.bob,
        team=cast.team,
        region=cast.region,
        key=Quota.SAVED_COMMANDS,
        wanted=200,
        reason=REASON,
        now=timezone.now(),
    )
    grant = lending.lend_instance(actor=cast.alice, instance=fleet[0], team=cast.other_team)
    vera = member(cast.vera).pk
    uid = Invitation.objects.get().uid
    posts = {
        f"/team/members/{vera}/role/": {"role": "operator"},
        f"/team/members/{vera}/remove/": {},
        f"/team/members/{vera}/narrowing/": {"tags": "role=web"},
        f"/team/invitations/{uid}/revoke/": {},
        f"/team/quotas/{asked.pk}/withdraw/": {},
        f"/team/quotas/{asked.pk}/told/": {},
        f"/team/lending/{grant.pk}/take-back/": {},
    }
    for word in ("accept", "decline", "give-back"):  # that is for the other team
        assert alice.post(f"/team/lending/{grant.pk}/{word}/").status_code == 404
    outsider = sign_in(cast.charlie)
    for address, data in posts.items():
        assert outsider.post(address, data).status_code == 404, address
    onlooker = sign_in(User.objects.create_user("looks"))
    teams.add_member(team=cast.team, user=User.objects.get(username="looks"), role=Role.VIEWER)
    for address, data in posts.items():
        assert onlooker.post(address, data).status_code == 404, address
    for address in (f"/team/members/{vera}/narrowing/", f"/team/members/{vera}/remove/"):
        assert outsider.get(address).status_code == 404
        assert onlooker.get(address).status_code == 404
    assert outsider.get(f"/team/why/?member={vera}&instance=").status_code == 404
    assert Membership.objects.filter(team=cast.team).count() == 4
    assert Invitation.objects.open().count() == 1
    asked.refresh_from_db()
    assert asked.state == "pending"
    assert Grant.objects.count() == 1


@pytest.mark.parametrize(
    "address",
    [
        "/team/members/invite/",
        "/team/quotas/request/",
        "/team/lending/",
        "/team/settings/",
    ],
)
def test_who_may_not_may_not_by_a_form_either(cast, sign_in, address):
    data = {"email": "a@b.example", "role": "viewer", "name": "Mine", "keep_days": "1"}
    assert sign_in(cast.vera).post(address, data).status_code == 404
    assert (
        sign_in(cast.charlie).post(address, {**data, "scope": f"{cast.team.uid} local"}).status_code
        == 404
    )


def test_a_form_is_for_the_team_that_it_was_made_for(cast, sign_in):
    teams.add_member(team=cast.other_team, user=cast.alice, role=Role.TEAM_ADMIN)
    alice = sign_in(cast.alice)
    made_for = f"{cast.other_team.uid} local"
    data = {"email": "lin@example.com", "role": "viewer", "scope": made_for}
    assert alice.post("/team/members/invite/", data).status_code == 200
    assert Invitation.objects.get().team == cast.other_team


@pytest.mark.parametrize("bad", ["0", "x", "9" * 30, "١", "%00", "-1", "💥"])
def test_numbers_that_nothing_has(admin, bad):
    for address in (
        "members/{}/role/",
        "members/{}/remove/",
        "members/{}/narrowing/",
        "invitations/{}/revoke/",
        "quotas/{}/withdraw/",
        "quotas/{}/told/",
        "lending/{}/take-back/",
    ):
        assert admin.post(f"/team/{address.format(bad)}").status_code == 404


# --- members ----------------------------------------------------------------------------


def test_the_list_says_who_is_there_and_as_what(cast, admin, sign_in, member):
    User.objects.filter(pk=cast.bob.pk).update(email="bob@example.com", first_name="Bob Marsh")
    Restriction.objects.create(membership=member(cast.bob), kind="run_as", value="deploy")
    shown = text(admin.get("/team/members/"))
    for words in ("Bob Marsh", "bob@example.com", "Runs as deploy", "Second factor off"):
        assert words in shown
    shown = text(sign_in(cast.vera).get("/team/members/"))
    assert "Bob Marsh" in shown
    assert "bob@example.com" not in shown  # addresses are for those who invite
    assert "<select" not in shown
    assert "Leave the team" in shown


def test_roles_change_on_the_list(cast, admin, member):
    number = member(cast.vera).pk
    answer = admin.post(f"/team/members/{number}/role/", {"role": "operator"}, follow=True)
    assert "vera is Operator now." in text(answer)
    assert member(cast.vera).role == "operator"
    for role in ("", "owner", *HOSTILE):
        answer = admin.post(f"/team/members/{number}/role/", {"role": role}, follow=True)
        assert "Choose a role." in text(answer)
    own = member(cast.alice).pk
    answer = admin.post(f"/team/members/{own}/role/", {"role": "viewer"}, follow=True)
    assert "A team needs one team admin." in text(answer)


def test_removing_is_asked_before(cast, admin, sign_in, member):
    address = f"/team/members/{member(cast.vera).pk}/remove/"
    assert "Remove vera from Storefront?" in text(admin.get(address))
    assert member(cast.vera)
    answer = admin.post(address, follow=True)
    assert "vera is no longer in Storefront." in text(answer)
    assert sign_in(cast.vera).get("/team/members/").context["frame"].team is None
    own = admin.post(f"/team/members/{member(cast.alice).pk}/remove/")
    assert own.status_code == 409
    assert "A team needs one team admin." in text(own)


def test_leaving(cast, sign_in, member):
    bob = sign_in(cast.bob)
    address = f"/team/members/{member(cast.bob).pk}/remove/"
    assert "Leave Storefront?" in text(bob.get(address))
    assert "You left Storefront." in text(bob.post(address, follow=True))
    assert bob.get(address).status_code == 404


def test_narrowing_keeps_what_was_typed(cast, admin, member):
    command = library.create_command(
        actor=cast.alice,
        team=cast.team,
        region=cast.region,
        command=CommandInput(name="kept", type="RunShellScript", content="echo"),
        now=timezone.now(),
    )
    address = f"/team/members/{member(cast.bob).pk}/narrowing/"
    data = {"tags": "role=web\r\n\r\n env \r\n", "commands": [command.uid], "not_run_as": "root"}
    assert admin.post(address, data).status_code == 303
    found = Restriction.objects.values_list("kind", "value")
    assert set(found) == {
        ("instance_tag", "role=web"),
        ("instance_tag", "env"),
        ("command", command.uid),
        ("not_run_as", "root"),
    }
    shown = text(admin.get(address))
    assert f'value="{command.uid}" checked' in shown
    wrong = admin.post(address, {"tags": "role=web", "run_as": "x" * 33})
    assert wrong.status_code == 422
    assert "enter 1 to 32 characters" in text(wrong)
    assert "x" * 33 in text(wrong)
    assert Restriction.objects.count() == 4
    admin.post(address, {})
    assert not Restriction.objects.exists()


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_narrowing(cast, admin, member, value):
    address = f"/team/members/{member(cast.bob).pk}/narrowing/"
    for field in ("tags", "commands", "run_as"):
        answer = admin.post(address, {field: value})
        assert answer.status_code in (303, 400, 422)
        assert "<script>alert" not in answer.content.decode()


# --- invitations ------------------------------------------------------------------------


def test_inviting_shows_the_link_once(admin):
    answer = invite(admin)
    link = link_in(answer)
    assert "no-store" in answer.headers["Cache-Control"]
    assert "No mail server sends the link" in text(answer)
    assert f"http://testserver{link}" in mail.outbox[0].body
    again = text(admin.get("/team/members/"))
    assert "lin@example.com" in again
    assert link not in again
    wrong = invite(admin)
    assert wrong.status_code == 409
    assert "waits already" in text(wrong)
    assert 'value="lin@example.com"' in text(wrong)


def test_the_link_leads_to_the_console_s_own_address(admin, settings):
    """Whoever asks for the page can say another host, where several names are allowed."""
    settings.CONSOLE_URL = "https://console.example"
    invite(admin)
    assert "https://console.example/invitation/" in mail.outbox[0].body
    assert "testserver" not in mail.outbox[0].body


def test_a_scope_that_no_database_could_compare_is_no_scope(admin):
    for number in ("9" * 5_000, "\u0661", "-1"):
        assert admin.post("/scope/", {"team": number, "region": "1"}).status_code == 404


@pytest.mark.parametrize("value", ["", "lin", *HOSTILE])
def test_addresses_that_are_none_keep_the_form(admin, value):
    answer = invite(admin, value)
    assert answer.status_code in (400, 422)
    assert mail.outbox == []
    assert "<script>alert" not in answer.content.decode()


def test_a_new_person_joins_and_is_signed_in(cast, admin):
    link = link_in(invite(admin, role="viewer"))
    client = Client()
    page = text(client.get(link))
    assert "Join Storefront" in page
    assert "Viewer" in page
    data = {"username": "lin", "full_name": "Lin Wei", "password": PASSWORD}
    answer = client.post(link, data, follow=True)
    assert "Welcome to Storefront. You are Viewer." in text(answer)
    assert client.get("/team/members/").status_code == 200
    assert client.get(link).status_code == 404
    assert "Lin Wei" in text(admin.get("/team/members/"))


def test_accounts_that_cannot_be_keep_the_form(cast, admin):
    link = link_in(invite(admin))
    wrong = {
        "username": ("bob", "This user name is taken."),
        "password": ("12345678", "too common"),
        "full_name": ("x" * 151, "at most 150 characters"),
    }
    good = {"username": "lin", "full_name": "Lin", "password": PASSWORD}
    for field, (value, words) in wrong.items():
        answer = Client().post(link, {**good, field: value})
        assert answer.status_code == 422
        assert words in text(answer)
        assert PASSWORD not in text(answer)
    answer = Client().post(link, {**good, "password": "linlinlin1", "username": "linlinlin"})
    assert "too similar to the username" in text(answer)
    assert not User.objects.filter(username__startswith="lin").exists()


def test_all_that_is_wrong_with_an_account_is_said_at_once(admin):
    answer = text(Client().post(link_in(invite(admin)), {"full_name": "Lin"}))
    assert "Enter a user name of letters" in answer
    assert "This password is too short." in answer
    assert 'value="Lin"' in answer


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_accounts(cast, admin, value):
    link = link_in(invite(admin))
    for field in ("username", "full_name"):
        data = {"username": "lin", "full_name": "Lin", "password": "short", field: value}
        answer = Client().post(link, data)
        assert answer.status_code in (400, 422)
        assert "<script>alert" not in answer.content.decode()


def test_somebody_who_is_signed_in_joins_with_one_click(cast, admin, sign_in):
    link = link_in(invite(admin))
    charlie = sign_in(cast.charlie)
    assert "You are signed in as" in text(charlie.get(link))
    assert not Membership.objects.filter(team=cast.team, user=cast.charlie).exists()
    answer = charlie.post(link, follow=True)
    assert "Welcome to Storefront" in text(answer)
    assert answer.context["frame"].team == cast.team
    link = link_in(invite(admin, "again@example.com"))
    answer = charlie.post(link)
    assert answer.status_code == 409
    assert "a member of Storefront already" in text(answer)


def test_links_that_let_nobody_in_are_answered_alike(cast, admin):
    revoked = link_in(invite(admin))
    uid = Invitation.objects.get().uid
    assert "is revoked" in text(admin.post(f"/team/invitations/{uid}/revoke/", follow=True))
    unknown = "/invitation/" + "x" * 43 + "/"
    old = invitations.invite(
        actor=cast.alice,
        team=cast.team,
        email="old@example.com",
        role="viewer",
        link=lambda token: reverse("invitation", args=[token]),
        now=timezone.now() - timedelta(days=8),
    ).link
    client = Client()
    answers = [client.get(link) for link in (revoked, unknown, old)]
    answers.append(client.post(old, {"username": "x", "password": PASSWORD}))
    assert {answer.status_code for answer in answers} == {404}
    bodies = {re.sub(r'name="csrf[^>]*', "", text(answer)) for answer in answers}
    assert len(bodies) == 1


# --- why --------------------------------------------------------------------------------


def test_the_rule_that_decides_and_what_would_change_it(cast, admin, fleet, member):
    address = f"/team/why/?member={member(cast.vera).pk}&command=&instance=web-01&run_as="
    shown = text(admin.get(address))
    assert "vera can't" in shown
    assert "The role Viewer may run new commands." in shown
    assert "A team admin gives another role: Operator, Team admin." in shown
    bob = member(cast.bob)
    InstanceTag.objects.create(instance=fleet[0], key="role", value="web")
    Restriction.objects.create(membership=bob, kind="instance_tag", value="role=web")
    assert "bob can " in text(admin.get(f"/team/why/?member={bob.pk}&instance=web-01")).replace(
        "</h2>", " "
    )
    shown = text(admin.get(f"/team/why/?member={bob.pk}&instance={fleet[1].uid}"))
    assert "has one of the tags" in shown
    assert "Or the instance gets the tag." in shown


def test_what_is_in_the_way_on_the_instance_decides_too(cast, admin, fleet, member):
    address = f"/team/why/?member={member(cast.bob).pk}&command=&instance=web-01&run_as="
    assert "bob can</h2>" in admin.get(address).text
    Instance.objects.filter(pk=fleet[0].pk).update(connection="host_key_changed")
    shown = text(admin.get(address))
    assert "bob can't" in shown
    assert "Its host key is not the one that was confirmed." in shown
    Instance.objects.filter(pk=fleet[1].pk).update(enabled=False)
    Instance.objects.filter(pk=fleet[0].pk).update(connection="reachable", jump_host=fleet[1])
    shown = text(admin.get(address))
    assert "bob can't" in shown
    assert "Its jump host is switched off in the console." in shown


def test_others_ask_for_themselves_alone(cast, sign_in, member):
    bob = sign_in(cast.bob)
    assert bob.get("/team/why/?instance=").status_code == 200
    assert bob.get(f"/team/why/?member={member(cast.bob).pk}&instance=").status_code == 200
    assert bob.get(f"/team/why/?member={member(cast.alice).pk}&instance=").status_code == 404
    assert "alice" not in text(bob.get("/team/why/"))


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_questions(admin, value):
    for name in ("command", "instance", "run_as", "member"):
        answer = admin.get("/team/why/", {"instance": "", name: value})
        assert answer.status_code in (200, 404, 422)
        assert "<script>alert" not in answer.content.decode()


# --- quotas -----------------------------------------------------------------------------


@pytest.fixture
def place(cast):
    return {"team": cast.team, "region": cast.region}


def ask(client: Client, quota="saved_commands", wanted="200", reason=REASON):
    data = {"quota": quota, "wanted": wanted, "reason": reason}
    return client.post("/team/quotas/request/", data)


def test_meters_have_words_and_levels(cast, admin, place, staff):
    def row() -> str:
        shown = text(admin.get("/team/quotas/"))
        return shown.split('data-quota="saved_commands"')[1].split("</li>")[0]

    for limit, words, level in ((5, "2 left", ""), (3, "Full", "over")):
        while quotas.usage(**place, key=Quota.SAVED_COMMANDS, now=timezone.now()).used < 3:
            library.create_command(
                actor=cast.alice,
                **place,
                command=CommandInput(name="kept", type="RunShellScript", content="echo"),
                now=timezone.now(),
            )
        quotas.set_limit(actor=staff, **place, key=Quota.SAVED_COMMANDS, limit=limit)
        assert words in row()
        assert ('data-level="over"' in row()) == (level == "over")
    quotas.set_limit(actor=staff, **place, key=Quota.SAVED_COMMANDS, limit=4)
    assert 'data-level="warn"' not in row()  # 75 %
    shown = text(admin.get("/team/quotas/"))
    assert "Resets at 00:00" in shown
    assert shown.count('class="days"') == 3
    assert f'datetime="{timezone.localdate():%Y-%m-%d}"' in shown


def test_a_request_waits_is_withdrawn_and_listed(cast, sign_in):
    bob = sign_in(cast.bob)
    assert "selected" in text(bob.get("/team/quotas/request/?quota=tasks_per_day"))
    assert ask(bob).status_code == 303
    shown = text(bob.get("/team/quotas/"))
    assert "Requested 200 by bob, waiting" in shown
    other = sign_in(cast.vera)
    assert "Withdraw" not in text(other.get("/team/quotas/"))
    number = QuotaRequest.objects.get().pk
    assert other.post(f"/team/quotas/{number}/withdraw/").status_code == 404
    assert "is withdrawn" in text(bob.post(f"/team/quotas/{number}/withdraw/", follow=True))
    assert "Withdrawn" in text(bob.get("/team/quotas/"))
    twice = bob.post(f"/team/quotas/{number}/withdraw/", follow=True)
    assert "withdrawn already" in text(twice)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("wanted", "100", "Enter a number above 100."),
        ("wanted", "", "Enter a number above 100."),
        ("wanted", "many", "Enter a number above 100."),
        ("wanted", "99999999", "between 1 and 50,000"),
        ("reason", "short", "Say in 20 to 1,000 characters"),
        ("quota", "nothing", "Choose a quota."),
    ],
)
def test_requests_that_cannot_be_keep_the_form(cast, sign_in, field, value, words):
    data = {"quota": "saved_commands", "wanted": "150", "reason": REASON, field: value}
    answer = ask(sign_in(cast.bob), **data)
    assert answer.status_code == 422
    shown = text(answer)
    assert words in shown
    for kept in {data["wanted"], data["reason"]}:
        assert kept in shown
    assert not QuotaRequest.objects.exists()


def test_a_second_request_for_the_same_keeps_the_form(cast, sign_in):
    bob = sign_in(cast.bob)
    ask(bob)
    answer = ask(bob, wanted="1,500")
    assert answer.status_code == 409
    assert "waits already" in text(answer)
    assert 'value="1,500"' in text(answer)


def test_a_form_that_was_sent_signed_out_is_back_afterwards(cast, sign_in, member):
    bob = sign_in(cast.bob)
    page = bob.get("/team/quotas/request/?quota=tasks_per_day")
    form = {"owner": page.context["owner"], "quota": "tasks_per_day", "wanted": "6,000"}
    bob.logout()
    sent = bob.post(
        "/team/quotas/request/",
        urlencode({**form, "reason": REASON}),
        content_type="application/x-www-form-urlencoded",
    )
    assert sent.status_code == 303
    bob.force_login(cast.bob)
    shown = text(bob.get("/team/quotas/request/"))
    for words in ("Your form is back", 'value="6,000"', REASON, 'value="tasks_per_day" selected'):
        assert words in shown
    assert REASON not in text(bob.get("/team/quotas/request/"))


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_requests(cast, sign_in, value):
    for field in ("quota", "wanted", "reason"):
        answer = ask(sign_in(cast.bob), **{field: value})
        assert answer.status_code in (303, 400, 422)
        assert "<script>alert" not in answer.content.decode()


def test_who_asked_is_told_on_every_page_until_it_is_read(cast, sign_in, place, staff):
    bob = sign_in(cast.bob)
    ask(bob)
    made = QuotaRequest.objects.get()
    quota_requests.approve(actor=staff, request=made, granted=180, now=timezone.now())
    for address in ("/tasks/", "/team/members/", "/commands/"):
        assert "Approved: saved commands is now 180" in text(bob.get(address))
    assert "Approved:" not in text(sign_in(cast.alice).get("/tasks/"))
    answer = bob.post(f"/team/quotas/{made.pk}/told/", {"next": "/tasks/?page=1"})
    assert answer.headers["Location"] == "/tasks/?page=1"
    assert "Approved: saved" not in text(bob.get("/tasks/"))
    answer = bob.post(f"/team/quotas/{made.pk}/told/", {"next": "https://elsewhere.example/"})
    assert answer.headers["Location"] == "/"
    assert sign_in(cast.alice).post(f"/team/quotas/{made.pk}/told/").status_code == 404


def test_a_decision_is_told_as_it_was_written(cast, sign_in, staff):
    bob = sign_in(cast.bob)
    ask(bob)
    quota_requests.decline(
        actor=staff,
        request=QuotaRequest.objects.get(),
        comment="<b>Delete</b> old ones.",
        now=timezone.now(),
    )
    assert "Declined: &lt;b&gt;Delete&lt;/b&gt; old ones." in text(bob.get("/tasks/"))


def test_bars_of_days():
    days = [(date(2026, 3, 1) + timedelta(days=n), used) for n, used in enumerate((0, 5, 10))]
    drawn = day_bars(days, 10, "Tasks")
    assert drawn.count("<rect") == 2  # nothing is drawn of nothing
    assert 'height="48" data-level="over"' in drawn
    assert "at most 10, on March 3, 2026" in drawn
    assert "<path" in drawn
    assert "<path" not in day_bars(days, 5_000, "Tasks")  # far away
    assert "nothing was used" in day_bars([(date(2026, 3, 1), 0)], 10, "Tasks")


# --- lending ----------------------------------------------------------------------------


def offer(admin, cast, name="web-02"):
    """``admin`` offers an instance to the other team; its number."""
    data = {"instance": name, "team": cast.other_team.uid}
    said = text(admin.post("/team/lending/", data, follow=True))
    assert f"{name} is offered to Warehouse. An admin there accepts it, or declines." in said
    return Grant.objects.get(instance__name=name).pk


def test_what_is_offered_is_nobodys_before_it_is_accepted(cast, admin, sign_in, fleet):
    number = offer(admin, cast)
    assert "waiting for acceptance" in text(admin.get("/team/lending/"))
    assert "waiting for acceptance" in text(admin.get(f"/instances/{fleet[1].uid}/"))
    charlie = sign_in(cast.charlie)
    for page in ("/instances/", "/run/", "/find/?q=web", "/"):
        assert "web-02" not in text(charlie.get(page))
    assert charlie.get(f"/instances/{fleet[1].uid}/").status_code == 404
    shown = text(charlie.get("/team/lending/"))
    assert re.search(r"Instances offered to us.*web-02.*Storefront.*Accept.*Decline", shown)
    onlooker = User.objects.create_user("onlooker")
    teams.add_member(team=cast.other_team, user=onlooker, role=Role.OPERATOR)
    looks = sign_in(onlooker)
    assert "web-02" not in text(looks.get("/team/lending/"))
    assert looks.post(f"/team/lending/{number}/accept/").status_code == 404
    said = text(charlie.post(f"/team/lending/{number}/accept/", follow=True))
    assert "Warehouse can run tasks on web-02 now." in said
    assert "Instances offered to us" not in said
    for page in ("/instances/", "/run/", "/team/lending/", f"/instances/{fleet[1].uid}/"):
        assert "web-02" in text(looks.get(page))
    assert "waiting for acceptance" not in text(admin.get("/team/lending/"))
    # Twice is once.
    first = Grant.objects.get().accepted_at
    charlie.post(f"/team/lending/{number}/accept/")
    assert Grant.objects.get().accepted_at == first


def test_a_team_that_offers_too_much_is_refused_until_that_is_undone(cast, admin, sign_in, fleet):
    first, _second = offer(admin, cast), offer(admin, cast, "web-01")
    charlie = sign_in(cast.charlie)
    said = text(charlie.post(f"/team/lending/{first}/refuse/", follow=True))
    assert "Storefront can offer you nothing any more." in said
    assert re.search(r"Teams that can offer us nothing.*Storefront.*Take offers again", said)
    assert not Grant.objects.exists()
    answer = admin.post("/team/lending/", {"instance": "web-03", "team": cast.other_team.uid})
    assert answer.status_code == 422
    assert "Warehouse takes no offers of your team." in text(answer)
    assert "can offer us nothing" not in text(admin.get("/team/lending/"))
    refused = RefusedLender.objects.get()
    assert admin.post(f"/team/lending/refused/{refused.pk}/").status_code == 404
    said = text(charlie.post(f"/team/lending/refused/{refused.pk}/", follow=True))
    assert "Storefront can offer you instances again." in said
    offer(admin, cast, "web-03")
    acts = AuditEvent.objects.filter(action__startswith="lender:").order_by("pk")
    assert list(acts.values_list("action", "team_uid", "target_uid")) == [
        ("lender:refuse", cast.other_team.uid, cast.team.uid),
        ("lender:allow", cast.other_team.uid, cast.team.uid),
    ]


def test_what_was_accepted_stays_when_its_lender_is_refused(cast, admin, sign_in, fleet):
    kept, other = offer(admin, cast), offer(admin, cast, "web-01")
    charlie = sign_in(cast.charlie)
    charlie.post(f"/team/lending/{kept}/accept/")
    charlie.post(f"/team/lending/{other}/refuse/")
    assert [grant.pk for grant in Grant.objects.all()] == [kept]
    data = {"instance": "web-02", "team": cast.other_team.uid}
    assert "is lent to Warehouse already" in text(admin.post("/team/lending/", data, follow=True))


def test_lending_and_taking_back(cast, admin, sign_in, fleet):
    number = offer(admin, cast)
    charlie = sign_in(cast.charlie)
    charlie.post(f"/team/lending/{number}/accept/")
    again = {"instance": "web-02", "team": cast.other_team.uid}
    said = text(admin.post("/team/lending/", again, follow=True))
    assert "web-02 is lent to Warehouse already." in said
    assert charlie.post(f"/team/lending/{number}/take-back/").status_code == 404
    answer = admin.post(f"/team/lending/{number}/take-back/", follow=True)
    assert "web-02 is no longer lent to Warehouse." in text(answer)
    assert not Grant.objects.exists()
    assert charlie.get(f"/instances/{fleet[1].uid}/").status_code == 404


def test_declining_and_giving_back(cast, admin, sign_in, fleet):
    charlie = sign_in(cast.charlie)
    number = offer(admin, cast)
    said = text(charlie.post(f"/team/lending/{number}/decline/", follow=True))
    assert "You declined web-02. Storefront can offer it again." in said
    assert "None of your instances is lent." in text(admin.get("/team/lending/"))
    number = offer(admin, cast)
    charlie.post(f"/team/lending/{number}/accept/")
    said = text(charlie.post(f"/team/lending/{number}/give-back/", follow=True))
    assert "web-02 is given back to Storefront." in said
    assert not Grant.objects.exists()


def test_an_offer_can_end_while_somebody_answers_it(cast, admin, sign_in, fleet, monkeypatch):
    grant = Grant.objects.get(pk=offer(admin, cast))
    monkeypatch.setattr(resolve, "borrowed", lambda *_given: grant)
    Grant.objects.all().delete()
    charlie = sign_in(cast.charlie)
    for word in ("accept", "decline"):
        said = text(charlie.post(f"/team/lending/{grant.pk}/{word}/", follow=True))
        assert "This instance is no longer offered to your team." in said
    assert not Grant.objects.exists()


@pytest.mark.parametrize(
    ("instance", "team", "words"),
    [
        ("nothing", "{other}", "No instance of your team is called that."),
        ("", "{other}", "No instance of your team is called that."),
        ("web-01", "1234567890123456", "No team has this id."),
        ("web-01", "Warehouse", "No team has this id."),
        ("web-01", "{own}", "lent to the team that owns it"),
        *[(value, value, "No team has this id.") for value in HOSTILE[1:]],
    ],
)
def test_loans_that_cannot_be_keep_the_form(cast, admin, fleet, instance, team, words):
    uid = team.format(own=cast.team.uid, other=cast.other_team.uid) if "{" in team else team
    answer = admin.post("/team/lending/", {"instance": instance, "team": uid})
    assert answer.status_code == 422
    assert words in text(answer)
    assert "<script>alert" not in answer.content.decode()
    assert not Grant.objects.exists()


def test_an_instance_of_another_region_is_not_lent_here(cast, admin, fleet):
    fleet[0].region = Region.objects.create(uid="far", name="Far")
    fleet[0].save()
    data = {"instance": "web-01", "team": cast.other_team.uid}
    assert admin.post("/team/lending/", data).status_code == 422


# --- audit ------------------------------------------------------------------------------


@pytest.fixture
def trail(cast):
    audit.record(
        actor=cast.bob,
        action="task:create",
        team=cast.team,
        target_name='=HYPERLINK("x")',
        details={"names": ["a", "b"], "none": None},
    )
    audit.record(
        actor=cast.vera, action="task:stop", team=cast.team, outcome="refused", target_name="t-1"
    )
    audit.record(actor=cast.charlie, action="task:create", team=cast.other_team)
    audit.seal()


def rows(client: Client, query: str = "") -> list[str]:
    page = client.get(f"/team/audit/{query}")
    return [f"{event.actor_name} {event.action}" for event, _, _ in page.context["rows"]]


def test_the_trail_of_ones_own_team(admin, sign_in, cast, trail):
    assert rows(admin) == ["vera task:stop", "bob task:create"]
    assert rows(sign_in(cast.charlie)) == ["charlie task:create"]
    shown = text(admin.get("/team/audit/"))
    assert "The chain holds" in shown
    assert "a, b" in shown


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?who=BO", ["bob task:create"]),
        ("?what=stop", ["vera task:stop"]),
        ("?what=t-1", ["vera task:stop"]),
        ("?outcome=refused", ["vera task:stop"]),
        ("?outcome=done&who=vera", []),
        ("?outcome=nonsense", ["vera task:stop", "bob task:create"]),
        ("?since=2020-01-01", ["vera task:stop", "bob task:create"]),
        ("?until=2020-01-01", []),
        ("?since=2020-99-99&until=x", ["vera task:stop", "bob task:create"]),
        ("?since=0001-01-01&until=9999-12-31", ["vera task:stop", "bob task:create"]),
    ],
)
def test_filters_stand_in_the_address(admin, trail, query, found):
    assert rows(admin, query) == found


def test_today_is_in_the_days_from_today_to_today(admin, trail):
    today = timezone.localdate()
    assert len(rows(admin, f"?since={today}&until={today}")) == 2


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_filters(admin, trail, value):
    for name in ("who", "what", "since", "until", "outcome", "page"):
        answer = admin.get("/team/audit/", {name: value})
        assert answer.status_code == 200
        assert "<script>alert" not in answer.content.decode()


def test_fifty_events_a_page(cast, admin):
    for n in range(51):
        audit.record(actor=cast.bob, action="task:create", team=cast.team, target_name=f"n{n}")
    assert len(rows(admin)) == 50
    assert len(rows(admin, "?page=2")) == 1


def test_an_event_that_was_altered_is_marked(admin, trail):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE commands_auditevent SET actor_name = 'eve' WHERE actor_name = 'bob'")
    page = admin.get("/team/audit/")
    assert "does not fit the chain" in text(page)
    assert len(page.context["altered"]) == 1
    assert "The chain holds" not in text(page)


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume asynchronous")
@pytest.mark.django_db(transaction=True)
def test_the_table_has_all_that_is_wanted_and_nothing_that_computes(admin, trail, monkeypatch):
    monkeypatch.setattr("console.pages.team.audit.ROWS", 1)
    answer = admin.get("/team/audit/events.csv?page=7")
    assert 'filename="Storefront.audit.csv"' in answer.headers["Content-Disposition"]
    body = b"".join(answer)
    table = list(csv.DictReader(io.StringIO(body.decode("utf-8-sig"))))
    # Whoever takes the table is in it, too.
    assert [row["who"] for row in table] == ["alice", "vera", "bob"]
    assert table[2]["target"] == '\'=HYPERLINK("x")'
    assert table[2]["details"] == "names=a, b"
    assert int(table[1]["number"]) == int(table[2]["number"]) + 1
    wanted = b"".join(admin.get("/team/audit/events.csv?who=bob")).decode("utf-8-sig")
    assert [row["who"] for row in csv.DictReader(io.StringIO(wanted))] == ["bob"]


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume asynchronous")
@pytest.mark.django_db(transaction=True)
def test_what_is_not_sealed_comes_first_and_once(cast, admin, monkeypatch):
    monkeypatch.setattr("console.pages.team.audit.ROWS", 1)
    act = {"actor": cast.bob, "action": "task:create", "team": cast.team}
    audit.record(**act, target_name="sealed")
    with monkeypatch.context() as patch:
        patch.setattr(audit, "seal", lambda: 0)
        for name in ("older", "newer"):
            audit.record(**act, target_name=name)
        answer = admin.get("/team/audit/events.csv")
        shown = [event.target_name for event, _, _ in admin.get("/team/audit/").context["rows"]]
    assert shown == ["events.csv", "newer", "older", "sealed"]
    chunks = []
    for chunk in answer:
        chunks.append(chunk)
        if b"newer" in chunk:
            audit.seal()  # while the table is made
    table = list(csv.DictReader(io.StringIO(b"".join(chunks).decode("utf-8-sig"))))
    assert sorted(row["target"] for row in table) == ["events.csv", "newer", "older", "sealed"]


def test_the_trail_is_read_in_the_order_of_an_index(cast):
    """However long it is: of a team, of all, and where a table goes on."""
    last = AuditEvent(pk=7, number=7)
    team = AuditEvent.objects.filter(team_uid=cast.team.uid)
    for events, index in (
        (team, "audit_of_a_team (team_uid=?)"),
        (team.before(last), "audit_of_a_team (team_uid=? AND <expr><?)"),
        (AuditEvent.objects.all(), "audit_in_order"),
    ):
        plan = events[:50].explain()
        assert index in plan
        assert "TEMP B-TREE" not in plan


# --- settings ---------------------------------------------------------------------------


def test_settings_are_kept(cast, admin):
    assert cast.team.uid in text(admin.get("/team/settings/"))
    data = {"name": "Shop", "keep_days": "1,000", "second_factor_required": "on"}
    assert admin.post("/team/settings/", data).status_code == 303
    cast.team.refresh_from_db()
    assert (cast.team.name, cast.team.keep_days) == ("Shop", 1000)
    assert cast.team.second_factor_required
    events = AuditEvent.objects.filter(team_uid=cast.team.uid)
    actions = set(events.values_list("action", flat=True))
    assert actions == {"team:rename", "team:retention", "team:second-factor"}
    # It holds for who switched it on, too.
    assert admin.get("/team/members/").headers["Location"] == reverse("second-factor")


@pytest.mark.parametrize("days", ["", "0", "3651", "-5", "1.5e3", "x", "9" * 12])
def test_settings_that_cannot_be_keep_the_form(cast, admin, days):
    answer = admin.post("/team/settings/", {"name": "Warehouse", "keep_days": days})
    assert answer.status_code == 422
    shown = text(answer)
    assert "Another team is called that." in shown
    assert "between 1 and 3,650 days" in shown
    assert f'value="{days}"' in shown
    cast.team.refresh_from_db()
    assert cast.team.name == "Storefront"


@pytest.mark.parametrize("value", HOSTILE[:3])
def test_hostile_names(cast, admin, value):
    answer = admin.post("/team/settings/", {"name": value, "keep_days": "28"}, follow=True)
    assert answer.status_code in (200, 400, 422)
    assert "<script>alert" not in answer.content.decode()


def test_the_size_of_a_command_is_no_count(cast, admin):
    library.create_command(
        actor=cast.bob,
        team=cast.team,
        region=cast.region,
        command=CommandInput("Say", "RunShellScript", "x" * 300),
        now=timezone.now(),
    )
    shown = text(admin.get("/team/quotas/"))
    row = shown[shown.index('data-quota="content_size"') :].partition("</li>")[0]
    assert "<b>400</b> of 18,432" in row
    assert "bytes after Base64" in row
    assert "The bar shows the largest saved one; nothing is used up." in row
    assert "left" not in re.sub('class="[^"]*"', "", row)
    assert "quota=content_size" in row
    asked = {"quota": "content_size", "wanted": "24000", "reason": REASON}
    answer = admin.post("/team/quotas/request/", asked, follow=True)
    assert "Requested 24,000 by alice, waiting" in text(answer)

"""The admin site: who gets in, and that everything there goes through the services."""

from __future__ import annotations

import re

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.utils import timezone

from commands.errors import Conflict
from commands.models import (
    AccessKey,
    AuditEvent,
    Credential,
    Invocation,
    Membership,
    QuotaOverride,
    QuotaRequest,
    Region,
    ResourceGroup,
    Role,
    SecondFactor,
    Team,
    User,
)
from commands.rules.quotas import DEFINITIONS, Quota
from commands.services import (
    access_keys,
    audit,
    invocations,
    lending,
    library,
    quota_requests,
    quota_table,
    quotas,
    resource_groups,
    second_factor,
    teams,
)
from commands.services.definitions import CommandInput

pytestmark = pytest.mark.django_db

ADMIN = "/admin/commands"
QUOTAS = f"{ADMIN}/quotaoverride/"
REQUESTS = f"{ADMIN}/quotarequest/"
REASON = "Nightly backups of the whole fleet until the end of the year."
SAVED = Quota.SAVED_COMMANDS
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nplanted-key\n"


@pytest.fixture
def root(cast):
    return User.objects.create_superuser("root", password="root-secret")


@pytest.fixture
def site(root, sign_in):
    return sign_in(root)


@pytest.fixture
def clerk(cast, sign_in):
    """Staff with the permissions that deciding on quotas takes, and no others."""
    user = User.objects.create_user("clerk", password="clerk-secret", is_staff=True)
    for name in ("view_quotaoverride", "change_quotaoverride", "change_quotarequest"):
        user.user_permissions.add(Permission.objects.get(codename=name))
    return sign_in(user)


def keys_of(user, team):
    return access_keys.create_key(
        actor=user, team=team, name="Nightly", days=None, now=timezone.now()
    )


@pytest.fixture
def place(cast):
    return {"team": cast.team, "region": cast.region}


@pytest.fixture
def ask(cast, place):
    def make(key=SAVED, wanted=200):
        return quota_requests.ask(
            actor=cast.bob, **place, key=key, wanted=wanted, reason=REASON, now=timezone.now()
        )

    return make


@pytest.fixture
def save_commands(cast, place):
    def make(number):
        for n in range(number):
            library.create_command(
                actor=cast.bob,
                **place,
                command=CommandInput(name=f"c{n}", type="RunShellScript", content="true"),
                now=timezone.now(),
            )

    return make


@pytest.fixture
def task(cast, place, fleet):
    return invocations.run_command(
        actor=cast.bob,
        **place,
        command=CommandInput(name="Sleep", type="RunShellScript", content="planted-script"),
        instance_uids=[instance.uid for instance in fleet],
        now=timezone.now(),
    )


def name_of(cast, key=SAVED, team=None):
    return f"{(team or cast.team).uid}.{cast.region.uid}.{key.value}"


def typed(cast, limit, was=100, key=SAVED, **more):
    name = name_of(cast, key)
    return {f"limit.{name}": str(limit), f"was.{name}": str(was), **more}


def place_page(cast, key=SAVED):
    return f"{QUOTAS}{cast.team.uid}/{cast.region.uid}/{key.value}/"


def events(action):
    return AuditEvent.objects.filter(action=action)


def choose(action, *rows, **more):
    return {"action": action, "_selected_action": [row.pk for row in rows], **more}


# --- the site itself ---------------------------------------------------------------------


def test_it_keeps_the_console_s_content_policy(site):
    policy = site.get("/admin/").headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy


def test_no_page_of_it_has_inline_script_or_style(site, task, credential, ask):
    ask()
    for model in admin.site._registry:
        text = site.get(f"{ADMIN}/{model._meta.model_name}/").text if model_is_ours(model) else ""
        assert not re.search(r"<script>|<style|\sstyle=|\son\w+=", text), model


def model_is_ours(model):
    return model._meta.app_label == "commands"


def test_only_staff_get_in(cast, sign_in):
    for user in (cast.alice, cast.bob, cast.vera, cast.charlie):
        assert sign_in(user).get("/admin/").status_code == 302
        assert sign_in(user).get(QUOTAS).status_code == 302


def test_staff_without_permission_see_nothing(cast, sign_in):
    user = User.objects.create_user("temp", is_staff=True)
    client = sign_in(user)
    for model in admin.site._registry:
        if model_is_ours(model):
            path = f"{ADMIN}/{model._meta.model_name}/"
            assert client.get(path).status_code == 403, path
    assert client.get(place_page(cast)).status_code == 403


# --- quotas ------------------------------------------------------------------------------


def test_the_table_says_what_the_service_says_of_each(cast, place, save_commands, task):
    save_commands(2)
    quotas.set_limit(actor=make_staff(cast.alice), **place, key=SAVED, limit=7)
    now = timezone.now()
    for row in quota_table.rows(teams=Team.objects.all(), now=now):
        assert row.usage == quotas.usage(
            team=row.team, region=row.region, key=row.usage.key, now=now
        )
        assert row.own is ((row.team, row.usage.key) == (cast.team, SAVED))


def make_staff(user):
    user.is_staff = True
    user.save()
    return user


def test_every_quota_is_listed_also_those_at_the_default(cast, clerk):
    text = clerk.get(QUOTAS).text
    assert text.count('<th scope="row">') == 2 * len(DEFINITIONS)
    assert f'name="limit.{name_of(cast)}" value="100"' in text
    assert "Override" not in text
    assert not QuotaOverride.objects.exists()


def test_limits_are_changed_in_the_list(cast, clerk, place):
    answer = clerk.post(QUOTAS, typed(cast, 150), follow=True)
    assert "1 limit is changed." in answer.text
    assert quotas.limit(**place, key=SAVED) == 150
    assert "Override" in answer.text
    assert QuotaOverride.objects.count() == 1
    event = events("quota:set").get()
    assert (event.actor_name, event.details["limit"]) == ("clerk", 150)


def test_lowering_below_use_warns_first(cast, clerk, place, save_commands):
    save_commands(3)
    answer = clerk.post(QUOTAS, typed(cast, 2))
    assert answer.status_code == 422
    assert "Lowering below current use keeps existing items and blocks new ones" in answer.text
    assert quotas.limit(**place, key=SAVED) == 100
    again = clerk.post(QUOTAS, typed(cast, 2, confirmed="yes"), follow=True)
    assert quotas.limit(**place, key=SAVED) == 2
    assert "1 over the limit" in again.text


@pytest.mark.parametrize(
    ("limit", "said"),
    [("0", "between"), ("x", "whole number"), ("-4", "whole number"), ("9" * 12, "whole number")],
)
def test_a_limit_that_cannot_be_changes_nothing_at_all(cast, clerk, place, limit, said):
    good = typed(cast, 60, was=50, key=Quota.INSTANCES_PER_TASK)
    answer = clerk.post(QUOTAS, typed(cast, limit) | good)
    assert answer.status_code == 422
    assert said in answer.text
    assert f'value="{limit}"' in answer.text
    assert 'value="60"' in answer.text
    assert not QuotaOverride.objects.exists()


def test_a_limit_that_somebody_changed_meanwhile_is_not_overwritten(cast, clerk, place):
    quotas.set_limit(actor=make_staff(cast.alice), **place, key=SAVED, limit=300)
    answer = clerk.post(QUOTAS, typed(cast, 150, was=100))
    assert "Somebody changed this limit to 300" in answer.text
    assert quotas.limit(**place, key=SAVED) == 300


def test_the_size_of_a_command_is_changed_in_the_list_and_nothing_of_it_is_used_up(
    cast, clerk, place, save_commands
):
    save_commands(1)
    size = Quota.CONTENT_SIZE
    data = typed(cast, 20_000, was=18_432, key=size)
    shown = clerk.post(QUOTAS, data, follow=True).text
    assert "1 limit is changed." in shown
    assert quotas.limit(**place, key=size) == 20_000
    assert "0 %, the largest" in shown
    assert name_of(cast, size) not in clerk.get(f"{QUOTAS}?near=on").text
    for wrong in (1_023, 24_577):
        refused = clerk.post(QUOTAS, typed(cast, wrong, was=20_000, key=size))
        assert refused.status_code == 422
        assert "must be between 1,024 and 24,576" in refused.text
    one = clerk.get(f"{QUOTAS}{name_of(cast, size).replace('.', '/')}/").text
    assert "Nothing of this quota is used up." in one


def test_the_list_is_filtered_and_searched(cast, clerk, place, ask, save_commands):
    def listed(query):
        return set(re.findall(r'name="limit\.([^"]+)"', clerk.get(QUOTAS + query).text))

    quotas.set_limit(actor=make_staff(cast.alice), **place, key=SAVED, limit=5)
    save_commands(4)
    ask(key=Quota.TASKS_PER_DAY, wanted=9_000)
    assert len(listed("")) == 2 * len(DEFINITIONS)
    assert listed("?near=on") == {name_of(cast)}
    assert listed("?waiting=on") == {name_of(cast, Quota.TASKS_PER_DAY)}
    other = cast.other_team
    assert listed("?quota=saved_commands&q=ware") == {name_of(cast, team=other)}
    assert listed("?q=%00nothing") == set()


def test_pages_of_the_list_keep_what_is_looked_for(cast, clerk):
    for n in range(30):
        teams.create_team(name=f"Team {n}", admin=cast.alice)
    text = clerk.get(f"{QUOTAS}?q=team").text
    assert text.count('<th scope="row">') == 100
    assert 'href="?q=team&amp;p=2"' in text
    assert clerk.get(f"{QUOTAS}?q=team&p=2").text.count('<th scope="row">') == 50


def test_the_list_takes_as_many_queries_for_many_teams(cast, clerk, django_assert_max_num_queries):
    for n in range(20):
        teams.create_team(name=f"Team {n}", admin=cast.alice)
    with django_assert_max_num_queries(20):
        clerk.get(QUOTAS)


def test_the_page_of_one_quota_has_a_chart_and_its_history(cast, clerk, place, save_commands, ask):
    save_commands(3)
    asked = ask()
    clerk.post(place_page(cast), typed(cast, 120))
    text = clerk.get(place_page(cast)).text
    assert '<svg class="days"' in text
    assert "at most 3" in text
    assert "quota:set to 120" in text
    assert f'{REQUESTS}{asked.pk}/change/"' in text
    kept = QuotaOverride.objects.get()
    assert clerk.get(f"{QUOTAS}{kept.pk}/change/").url == place_page(cast)
    assert "Nothing of this quota is used up" in (
        clerk.get(place_page(cast, Quota.INSTANCES_PER_TASK)).text
    )


def test_the_page_of_one_quota_warns_too(cast, clerk, place, save_commands):
    save_commands(3)
    answer = clerk.post(place_page(cast), typed(cast, 2))
    assert (answer.status_code, quotas.limit(**place, key=SAVED)) == (422, 100)
    clerk.post(place_page(cast), typed(cast, 2, confirmed="yes"))
    assert quotas.limit(**place, key=SAVED) == 2


def test_a_quota_that_there_is_not(cast, clerk):
    uid, region = cast.team.uid, cast.region.uid
    for path in (f"{uid}/{region}/nothing/", f"{uid}/mars/tasks_per_day/", "x/y/z/", "99/change/"):
        assert clerk.get(QUOTAS + path).status_code == 404, path


def test_who_may_only_look_changes_no_limit(cast, sign_in, place):
    user = User.objects.create_user("looker", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_quotaoverride"))
    client = sign_in(user)
    assert '<input type="number"' not in client.get(QUOTAS).text
    assert client.post(QUOTAS, typed(cast, 150)).status_code == 403
    assert client.post(place_page(cast), typed(cast, 150)).status_code == 403
    assert quotas.limit(**place, key=SAVED) == 100


# --- requests ----------------------------------------------------------------------------


def test_requests_that_wait_are_listed_first(clerk, ask, root):
    done = ask(wanted=170)
    quota_requests.approve(actor=root, request=done, granted=170, now=timezone.now())
    waits = ask(wanted=300)
    assert f"/{waits.pk}/change/" in clerk.get(REQUESTS).text
    assert f"/{done.pk}/change/" not in clerk.get(REQUESTS).text
    assert f"/{done.pk}/change/" in clerk.get(f"{REQUESTS}?state=approved").text
    assert clerk.get(f"{REQUESTS}?state=all").text.count("/change/") >= 2


def test_selected_requests_are_approved(clerk, ask, place):
    first, second = ask(), ask(key=Quota.TASKS_PER_DAY, wanted=6_000)
    answer = clerk.post(REQUESTS, choose("approve", first, second), follow=True)
    assert "2 requests approved." in answer.text
    assert quotas.limit(**place, key=SAVED) == 200
    assert quotas.limit(**place, key=Quota.TASKS_PER_DAY) == 6_000
    assert "Approved: 200" in clerk.get(f"{REQUESTS}{first.pk}/history/").text


def test_of_selected_requests_none_lowers_a_limit(clerk, ask, place):
    overtaken, other = ask(), ask(key=Quota.TASKS_PER_DAY, wanted=6_000)
    staff = User.objects.create_user("another", is_staff=True)
    quotas.set_limit(actor=staff, **place, key=SAVED, limit=500)
    answer = clerk.post(REQUESTS, choose("approve", overtaken, other), follow=True)
    assert "1 request approved." in answer.text
    assert "The limit is 500 already." in answer.text
    assert quotas.limit(**place, key=SAVED) == 500
    assert quotas.limit(**place, key=Quota.TASKS_PER_DAY) == 6_000
    overtaken.refresh_from_db()
    assert overtaken.state == "pending"
    assert "Approved" not in clerk.get(f"{REQUESTS}{overtaken.pk}/history/").text
    page = f"{REQUESTS}{overtaken.pk}/change/"
    answer = clerk.post(page, {"decision": "approve", "granted": "200"}, follow=True)
    assert "The limit is 500 already." in answer.text
    assert quotas.limit(**place, key=SAVED) == 500


def test_declining_asks_why_first(clerk, ask):
    asked = ask()
    answer = clerk.post(REQUESTS, choose("decline", asked))
    assert "Why they are declined" in answer.text
    empty = clerk.post(REQUESTS, choose("decline", asked, confirmed="yes", comment="  "))
    assert empty.status_code == 422
    assert "Say why" in empty.text
    asked.refresh_from_db()
    assert asked.state == "pending"
    said = choose("decline", asked, confirmed="yes", comment="Delete old ones.")
    assert "1 request declined." in clerk.post(REQUESTS, said, follow=True).text
    asked.refresh_from_db()
    assert (asked.state, asked.comment) == ("declined", "Delete old ones.")


def test_a_request_is_decided_on_its_page(clerk, ask, place, save_commands):
    save_commands(2)
    asked = ask()
    page = f"{REQUESTS}{asked.pk}/change/"
    text = clerk.get(page).text
    assert REASON in text
    assert '<svg class="days"' in text
    assert 'name="granted" value="200"' in text
    for data, said in (
        ({"decision": "decline"}, "Say why"),
        ({"decision": "approve"}, "Enter the limit that you grant"),
        ({"decision": "approve", "granted": "9999999"}, "between"),
        ({}, "Choose a decision"),
    ):
        assert said in clerk.post(page, data).text
    assert quotas.limit(**place, key=SAVED) == 100
    clerk.post(page, {"decision": "approve", "granted": "130", "comment": "For now."})
    assert quotas.limit(**place, key=SAVED) == 130
    asked.refresh_from_db()
    assert (asked.granted, asked.comment, asked.decided_by_name) == (130, "For now.", "clerk")
    # What is decided stays decided.
    assert 'name="decision"' not in clerk.get(page).text
    assert clerk.post(page, {"decision": "decline", "comment": "No."}).status_code == 403


def test_a_request_that_somebody_decided_meanwhile(clerk, ask, monkeypatch, place):
    asked = ask()

    def quicker(**_given):
        raise Conflict("This request is withdrawn already.")

    monkeypatch.setattr(quota_requests, "approve", quicker)
    page = f"{REQUESTS}{asked.pk}/change/"
    answer = clerk.post(page, {"decision": "approve", "granted": "130"}, follow=True)
    assert "withdrawn already" in answer.text
    answer = clerk.post(REQUESTS, choose("approve", asked), follow=True)
    assert "withdrawn already" in answer.text
    assert "approved." not in answer.text
    assert quotas.limit(**place, key=SAVED) == 100


# --- teams, people, regions --------------------------------------------------------------


def test_a_team_is_made_with_its_admin(cast, site):
    data = {"name": "Night shift", "admin": cast.bob.pk}
    assert site.post(f"{ADMIN}/team/add/", data).status_code == 302
    team = Team.objects.get(name="Night shift")
    assert Membership.objects.get(team=team).role == Role.TEAM_ADMIN
    assert events("team:create").get().target_name == "Night shift"
    assert "already exists" in site.post(f"{ADMIN}/team/add/", data).text


def team_page(cast):
    return f"{ADMIN}/team/{cast.team.pk}/change/"


def formset(cast, *rows, new=(), **more):
    """The members' form of a team's page, as it is sent: (user, role, delete) for each."""
    members = list(Membership.objects.filter(team=cast.team))
    changed = dict(zip([row[0] for row in rows], rows, strict=True))
    data = {
        "memberships-TOTAL_FORMS": len(members) + len(new),
        "memberships-INITIAL_FORMS": len(members),
        "keep_days": cast.team.keep_days,
        **more,
    }
    for number, member in enumerate(members):
        _, role, *delete = changed.get(member.user, (member.user, member.role))
        data |= {
            f"memberships-{number}-id": member.pk,
            f"memberships-{number}-team": cast.team.pk,
            f"memberships-{number}-user": member.user_id,
            f"memberships-{number}-role": role,
            **({f"memberships-{number}-DELETE": "on"} if delete else {}),
        }
    for number, (user, role) in enumerate(new, start=len(members)):
        data |= {
            f"memberships-{number}-team": cast.team.pk,
            f"memberships-{number}-user": user.pk,
            f"memberships-{number}-role": role,
        }
    return data


def test_members_change_through_the_service(cast, site):
    data = formset(
        cast, (cast.vera, "runner"), (cast.bob, "operator", "x"), new=[(cast.charlie, "viewer")]
    )
    assert site.post(team_page(cast), data).status_code == 302
    roles = dict(Membership.objects.filter(team=cast.team).values_list("user__username", "role"))
    assert roles == {"alice": "team_admin", "vera": "runner", "charlie": "viewer"}
    assert events("member:role").get().details == {"from": "viewer", "to": "runner"}
    assert events("member:remove").get().target_name == "bob"
    assert events("member:add").get().target_name == "charlie"


def test_the_last_admin_stays(cast, site):
    for row in ((cast.alice, "viewer"), (cast.alice, "team_admin", "x")):
        text = site.post(team_page(cast), formset(cast, row), follow=True).text
        assert "A team needs one team admin." in text
    assert Membership.objects.get(user=cast.alice).role == "team_admin"


def test_a_membership_is_not_handed_on(cast, site):
    data = formset(cast)
    place = next(name for name, value in data.items() if value == cast.bob.pk and "user" in name)
    text = site.post(team_page(cast), data | {place: cast.charlie.pk}, follow=True).text
    assert "A membership stays its holder" in text
    assert Membership.objects.filter(team=cast.team, user=cast.bob).exists()


def test_what_the_team_decides_needs_a_member_of_it(cast, site, root):
    data = formset(cast, keep_days=9)
    text = site.post(team_page(cast), data, follow=True).text
    assert "You may not do this in this team." in text
    assert Team.objects.get(pk=cast.team.pk).keep_days == cast.team.keep_days
    assert events("page:denied").get().actor_name == "root"
    teams.add_member(team=cast.team, user=root, role=Role.TEAM_ADMIN)
    assert "Enter a number from" in site.post(team_page(cast), formset(cast, keep_days=0)).text
    data = formset(cast, keep_days=9, second_factor_required="on")
    assert site.post(team_page(cast), data).status_code == 302
    team = Team.objects.get(pk=cast.team.pk)
    assert (team.keep_days, team.second_factor_required) == (9, True)
    kept = {"from": cast.team.keep_days, "days": 9}
    assert events("team:retention").get().details == kept


def test_people_are_deactivated_and_signed_out_at_once(cast, site, root, sign_in):
    bob = sign_in(cast.bob)
    assert bob.get("/tasks/").status_code == 200
    users = f"{ADMIN}/user/"
    answer = site.post(users, choose("deactivate", cast.bob, root), follow=True)
    assert "1 user is deactivated." in answer.text
    assert "deactivate yourself" in answer.text
    assert bob.get("/tasks/").status_code == 302
    assert events("user:deactivate").get().target_name == "bob"
    site.post(users, choose("activate", cast.bob))
    assert User.objects.get(pk=cast.bob.pk).is_active


def test_a_second_factor_that_was_lost_is_taken_off(cast, site):
    second_factor.begin(actor=cast.bob)
    site.post(f"{ADMIN}/user/", choose("reset_second_factor", cast.bob))
    assert not SecondFactor.objects.exists()
    assert events("second-factor:reset").get().target_name == "bob"


def test_staff_with_permissions_for_users_gain_no_powers(cast, sign_in, root):
    helper = User.objects.create_user("helper", is_staff=True)
    for name in ("view_user", "change_user", "add_user"):
        helper.user_permissions.add(Permission.objects.get(codename=name))
    client = sign_in(helper)
    own = f"{ADMIN}/user/{helper.pk}/change/"
    client.post(own, {"username": "helper", "is_superuser": "on", "is_staff": "on"})
    helper.refresh_from_db()
    assert not helper.is_superuser
    assert client.get(f"{ADMIN}/user/{root.pk}/password/").status_code == 403
    answer = client.post(f"{ADMIN}/user/{root.pk}/change/", {"username": "gone"})
    assert answer.status_code == 403
    client.post(f"{ADMIN}/user/", choose("deactivate", root))
    second_factor.begin(actor=root)
    client.post(f"{ADMIN}/user/", choose("reset_second_factor", root))
    root.refresh_from_db()
    assert (root.username, root.is_active) == ("root", True)
    assert SecondFactor.objects.filter(user=root).exists()


def test_staff_with_permissions_for_users_do_nothing_to_other_staff(cast, sign_in, clerk):
    helper = User.objects.create_user("helper", is_staff=True)
    helper.user_permissions.add(Permission.objects.get(codename="change_user"))
    helper.user_permissions.add(Permission.objects.get(codename="view_user"))
    other = User.objects.get(username="clerk")
    for user in (other, helper):
        second_factor.begin(actor=user)
    client = sign_in(helper)
    for what in ("deactivate", "reset_second_factor"):
        client.post(f"{ADMIN}/user/", choose(what, other, helper))
    assert set(User.objects.filter(is_active=False)) == set()
    # One's own takes a code, whoever one is.
    assert SecondFactor.objects.count() == 2


def test_a_new_password_from_an_administrator_ends_access_keys(cast, site):
    kept = keys_of(cast.vera, cast.team)
    gone = keys_of(cast.bob, cast.team)
    page, new = f"{ADMIN}/user/{cast.bob.pk}/password/", "staple battery horse"
    site.post(page, {"password1": new, "password2": "another one"})
    assert AccessKey.objects.get(pk=gone.pk).revoked_at is None
    site.post(page, {"password1": new, "password2": new})
    assert AccessKey.objects.get(pk=gone.pk).revoked_by_name == "root"
    assert AccessKey.objects.get(pk=kept.pk).revoked_at is None
    assert events("access-key:revoke").get().target_uid == gone.uid


def test_an_administrator_s_own_password_is_changed_where_the_old_one_is_asked_for(root, site):
    new = "staple battery horse"
    pages = [f"{ADMIN}/user/{number}/password/" for number in (root.pk, f"0{root.pk}")]
    for page in (*pages, "/admin/password_change/"):
        both = {"password1": new, "new_password1": new, "password2": new, "new_password2": new}
        answer = site.post(page, {"old_password": "root-secret", **both})
        assert answer.headers["Location"] == "/account/password/"
    root.refresh_from_db()
    assert root.check_password("root-secret")


def test_groups_are_superusers_to_change_and_noted(cast, site, clerk):
    groups = "/admin/auth/group/"
    clerk_user = User.objects.get(username="clerk")
    for name in ("view_group", "add_group", "change_group", "delete_group"):
        clerk_user.user_permissions.add(Permission.objects.get(codename=name))
    assert clerk.get(groups).status_code == 403
    site.post(f"{groups}add/", {"name": "Quota clerks"})
    group = Group.objects.get()
    site.post(f"{groups}{group.pk}/change/", {"name": "Clerks"})
    site.post(f"{groups}{group.pk}/delete/", {"post": "yes"})
    assert not Group.objects.exists()
    acts = AuditEvent.objects.filter(action__startswith="group:").order_by("pk")
    assert list(acts.values_list("action", "target_name")) == [
        ("group:add", "Quota clerks"),
        ("group:edit", "Clerks"),
        ("group:delete", "Clerks"),
    ]


def test_users_are_added_and_changed_with_a_note_and_no_password(cast, site):
    password = "correct horse battery"
    data = {"username": "dora", "usable_password": "true"}
    site.post(f"{ADMIN}/user/add/", data | {"password1": password, "password2": password})
    dora = User.objects.get(username="dora")
    assert events("user:add").get().target_name == "dora"
    new = "staple battery horse"
    site.post(f"{ADMIN}/user/{dora.pk}/password/", {"password1": new, "password2": new})
    dora.refresh_from_db()
    assert dora.check_password(new)
    assert events("user:edit").get().details["fields"]
    assert "battery" not in str(list(AuditEvent.objects.values()))
    assert site.post(f"{ADMIN}/user/{dora.pk}/delete/", {"post": "yes"}).status_code == 403


def test_resource_groups_are_made_renamed_and_removed(cast, site):
    page = f"{ADMIN}/resourcegroup/"
    site.post(f"{page}add/", {"team": cast.team.pk, "name": "Shop"})
    group = ResourceGroup.objects.get(name="Shop")
    assert (group.team, group.is_default, group.uid[:3]) == (cast.team, False, "rg-")
    site.post(f"{page}{group.pk}/change/", {"team": cast.other_team.pk, "name": "Store"})
    group.refresh_from_db()
    assert (group.team, group.name) == (cast.team, "Store")
    assert events("resource-group:rename").get().details == {"from": "Shop"}
    assert "Store" in site.get(f"{page}{group.pk}/delete/").text
    site.post(f"{page}{group.pk}/delete/", {"post": "yes"})
    assert not ResourceGroup.objects.filter(pk=group.pk).exists()
    assert events("resource-group:remove").get().actor_name == "root"


def test_what_can_not_be_done_with_a_resource_group_is_said(cast, site, fleet):
    page = f"{ADMIN}/resourcegroup/"
    group = resource_groups.create(actor=cast.alice, team=cast.team, name="Shop")
    resource_groups.move_instances(actor=cast.alice, group=group, instances=fleet[:2])
    answer = site.post(f"{page}{group.pk}/delete/", {"post": "yes"}, follow=True)
    assert "it has 2 instances and 0 saved commands" in answer.text
    answer = site.post(f"{page}{group.pk}/change/", {"name": "Default"}, follow=True)
    assert "The team has a resource group Default already." in answer.text
    group.refresh_from_db()
    assert group.name == "Shop"
    site.post(f"{page}add/", {"team": cast.team.pk, "name": "two\x85lines"})
    assert "on one line" in site.get(page).text
    default = resource_groups.default_of(cast.team)
    assert site.post(f"{page}{default.pk}/delete/", {"post": "yes"}).status_code == 403
    assert cast.team.resource_groups.count() == 2


def test_the_list_of_resource_groups_counts_what_is_in_them(cast, place, site, fleet):
    group = resource_groups.create(actor=cast.alice, team=cast.team, name="Shop")
    resource_groups.move_instances(actor=cast.alice, group=group, instances=fleet[:2])
    for save in (True, False):
        invocations.run_command(
            actor=cast.bob,
            **place,
            command=CommandInput(name="x", type="RunShellScript", content="true"),
            save=save,
            instance_uids=[fleet[0].uid],
            group=group,
            now=timezone.now(),
        )
    text = re.sub(r"\s+", " ", site.get(f"{ADMIN}/resourcegroup/").text)
    row = text.split(group.uid)[1].split("</tr>")[0]
    assert '<td class="field-instances">2</td>' in row
    assert '<td class="field-commands">1</td>' in row


def test_regions_are_made_and_renamed(cast, site):
    add = f"{ADMIN}/region/add/"
    site.post(add, {"uid": "eu-1", "name": "Frankfurt"})
    region = Region.objects.get(uid="eu-1")
    assert "already" in site.post(add, {"uid": "eu-1", "name": "Twice"}).text
    site.post(f"{ADMIN}/region/{region.pk}/change/", {"uid": "x", "name": "Paris"})
    region.refresh_from_db()
    assert (region.uid, region.name) == ("eu-1", "Paris")
    assert events("region:rename").get().details == {"from": "Frankfurt"}


# --- credentials, loans ------------------------------------------------------------------


def credential_page(credential):
    return f"{ADMIN}/credential/{credential.pk}/change/"


def test_secrets_are_replaced_and_never_shown(cast, site, credential, fleet, root):
    teams.add_member(team=cast.team, user=root, role=Role.TEAM_ADMIN)
    assert "PRIVATE KEY" not in site.get(credential_page(credential)).text
    wrong = site.post(credential_page(credential), {"private_key": KEY}).text
    assert "planted-key" not in wrong
    assert "errornote" in wrong
    both = {"private_key": KEY, "password": "planted-password"}
    assert "planted" not in site.post(credential_page(credential), both).text
    site.post(credential_page(credential), {"password": "planted-password"})
    kept = Credential.objects.get(pk=credential.pk)
    assert (kept.kind, kept.secret) == ("password", "planted-password")
    assert events("credential:replace").get().target_name == "key"
    for path in (credential_page(credential), f"{ADMIN}/credential/"):
        assert "planted" not in site.get(path).text
    history = site.get(f"{ADMIN}/credential/{credential.pk}/history/").text
    assert "planted" not in history
    site.post(credential_page(credential), {})
    assert Credential.objects.get(pk=credential.pk).secret == "planted-password"


def test_a_secret_is_the_team_s_admins_to_replace(cast, site, credential):
    text = site.post(credential_page(credential), {"password": "x"}, follow=True).text
    assert "You may not do this in this team." in text
    assert Credential.objects.get(pk=credential.pk).kind == "private_key"


def test_credentials_that_cannot_be_decrypted_are_listed_all_the_same(
    cast, site, credential, settings
):
    settings.CONSOLE_ENCRYPTION_KEYS = ["uL9c4fZjCkO6yVqCkU2C3i6R0m8m1Vv2jQ2Lr2m2l0s="]
    assert "key" in site.get(f"{ADMIN}/credential/").text
    assert site.get(credential_page(credential)).status_code == 200


def test_loans_begin_and_end_through_the_service(cast, site, fleet, root):
    grants = f"{ADMIN}/grant/"
    data = {"instance": fleet[0].pk, "team": cast.other_team.pk}
    assert "may not do this" in site.post(f"{grants}add/", data, follow=True).text
    teams.add_member(team=cast.team, user=root, role=Role.TEAM_ADMIN)
    site.post(f"{grants}add/", data)
    loan = fleet[0].grants.get()
    assert "Storefront" in site.get(grants).text
    site.post(grants, choose("take_back", loan))
    assert not fleet[0].grants.exists()
    other = lending.lend_instance(actor=root, instance=fleet[1], team=cast.other_team)
    site.post(f"{grants}{other.pk}/delete/", {"post": "yes"})
    assert not fleet[1].grants.exists()
    assert events("instance:take-back").count() == 4


# --- tasks, commands, the trail ----------------------------------------------------------


def test_running_tasks_are_stopped_by_staff_and_the_team_can_see_it(cast, site, task):
    tasks = f"{ADMIN}/invocation/"
    assert task.uid in site.get(tasks).text
    assert "Stop these tasks" in site.post(tasks, choose("stop", task)).text
    assert Invocation.objects.active().exists()
    answer = site.post(tasks, choose("stop", task, confirmed="yes"), follow=True)
    assert "1 task was stopped." in answer.text
    assert not Invocation.objects.active().exists()
    event = events("task:stop-by-staff").get()
    assert (event.actor_name, event.team_uid, event.target_uid) == (
        "root",
        cast.team.uid,
        task.uid,
    )
    assert set(task.runs.values_list("stop_by", flat=True)) == {"root"}
    assert task.uid not in site.get(tasks).text
    assert task.uid in site.get(f"{tasks}?state=all").text


def test_who_may_only_look_stops_no_task(cast, sign_in, task):
    user = User.objects.create_user("looker", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_invocation"))
    client = sign_in(user)
    tasks = f"{ADMIN}/invocation/"
    assert task.uid in client.get(tasks).text
    client.post(tasks, choose("stop", task, confirmed="yes"))
    assert Invocation.objects.active().exists()


def test_scripts_and_values_are_the_teams_own(site, task, save_commands):
    save_commands(1)
    page = f"{ADMIN}/invocation/{task.pk}/change/"
    assert "Sleep" in site.get(page).text
    assert "planted-script" not in site.get(page).text
    text = site.get(f"{ADMIN}/command/").text
    assert ">c0<" in text
    assert ">Sleep<" not in text  # it was made for its task alone


def test_the_audit_trail_is_read_and_nothing_else(cast, site, task):
    trail = f"{ADMIN}/auditevent/"
    event = events("task:create").get()
    assert "task:create" in site.get(trail).text
    assert "task:create" not in site.get(f"{trail}?about=instance").text
    assert "task:create" in site.get(f"{trail}?q=Sleep&outcome=done&about=task").text
    assert "web-01" in site.get(f"{trail}{event.pk}/change/").text
    assert site.get(f"{trail}add/").status_code == 403
    for act in ("change", "delete"):
        assert site.post(f"{trail}{event.pk}/{act}/", {"post": "yes"}).status_code == 403
    site.post(trail, choose("delete_selected", event, post="yes"))
    assert AuditEvent.objects.filter(pk=event.pk).exists()


def test_the_audit_trail_stands_in_the_order_of_its_numbers(cast, site):
    for name in ("first-act", "second-act"):
        audit.record(actor=cast.bob, action="task:create", target_name=name)
    audit.seal()
    AuditEvent.objects.filter(target_name="first-act").update(id=10**6)
    text = site.get(f"{ADMIN}/auditevent/").text
    assert text.index("second-act") < text.index("first-act") < text.index("audit:begin")


def test_requests_are_nobody_s_to_add_or_delete(clerk, site, ask):
    asked = ask()
    assert site.get(f"{REQUESTS}add/").status_code == 403
    assert site.post(f"{REQUESTS}{asked.pk}/delete/", {"post": "yes"}).status_code == 403
    assert QuotaRequest.objects.exists()

"""Pages of approvals: the rule, what a task's page says, deciding, lists, the note in the form."""

from __future__ import annotations

import json
import re

import pytest
from cryptography.fernet import Fernet
from django.utils import timezone

from commands.models import Approval, ApprovalRule, Instance, Invocation, Membership, Role, User
from commands.rules.quoting import Insertion
from commands.rules.schema import ParameterSchema
from commands.services import (
    approval_rules,
    approvals,
    instances,
    invocations,
    restrictions,
    runs,
    teams,
)
from commands.services.definitions import CommandInput
from commands.services.plans import Values
from console import task_approval
from tests.borrowing import borrow
from tests.services.carrying import create_task

pytestmark = pytest.mark.django_db


@pytest.fixture
def rule(cast):
    def make(**parts):
        given = {"hours": "24", **parts}
        approval_rules.set_rule(actor=cast.alice, team=cast.team, now=timezone.now(), **given)

    return make


@pytest.fixture
def waiting(cast, fleet, rule):
    rule(run_as=["root"])
    return create_task(cast, fleet, "echo of-the-essence")


def text(answer):
    return re.sub(r"\s+", " ", answer.content.decode())


def state(task):
    return Approval.objects.get(invocation=task).state


class TestTheRule:
    """``/team/approvals/``."""

    def test_nothing_needs_approval_at_first(self, sign_in, cast):
        page = text(sign_in(cast.alice).get("/team/approvals/"))
        assert "No task needs approval now." in page
        assert 'value="24"' in page

    def test_setting_it(self, sign_in, cast):
        client = sign_in(cast.alice)
        data = {
            "tags": "env=prod\r\nprod\r\n",
            "run_as": "root",
            "more_than": "5",
            "hours": "8",
        }
        answer = client.post("/team/approvals/", data)
        assert (answer.status_code, answer["Location"]) == (303, "/team/approvals/")
        made = ApprovalRule.objects.get(team=cast.team)
        assert (made.tags, made.run_as, made.more_than) == (["env=prod", "prod"], ["root"], 5)
        page = text(client.get("/team/approvals/"))
        assert "The rule is saved." in page
        assert "env=prod prod</textarea>" in page
        assert "No task needs approval now." not in page

    def test_what_is_wrong_stands_beside_its_field(self, sign_in, cast):
        answer = sign_in(cast.alice).post(
            "/team/approvals/", {"tags": "x", "more_than": "-2", "hours": "0"}
        )
        assert answer.status_code == 422
        page = text(answer)
        assert page.count('aria-invalid="true"') == 2
        assert "Enter a whole number of hours from 1 to 720." in page
        assert not ApprovalRule.objects.exists()

    def test_who_is_alone_is_warned(self, sign_in, cast):
        client = sign_in(cast.alice)
        assert "Fewer than two members" not in text(client.get("/team/approvals/"))
        Membership.objects.filter(user=cast.bob).update(role=Role.RUNNER)
        assert "Fewer than two members" in text(client.get("/team/approvals/"))

    def test_it_says_how_many_wait_whatever_becomes_of_it(self, sign_in, cast, waiting):
        page = text(sign_in(cast.alice).get("/team/approvals/"))
        assert "1 task waits for approval. It goes on waiting" in page


class TestTheTask:
    """What its page says, to whom."""

    def test_who_may_decide_reads_all_of_it(self, sign_in, cast, waiting):
        page = text(sign_in(cast.alice).get(f"/tasks/{waiting.uid}/"))
        assert "Waiting for approval of another member" in page
        assert "As the user root: on web-01, web-02, web-03." in page
        assert "echo of-the-essence" in page
        assert "Would run on 3 instances: web-01, web-02, web-03" in page
        assert Instance.objects.all()[0].fingerprint in page
        assert waiting.approval.digest in page
        assert f'href="/tasks/{waiting.uid}/approve/?digest={waiting.approval.digest}"' in page
        assert f'href="/tasks/{waiting.uid}/decline/"' in page
        assert f'href="/tasks/{waiting.uid}/withdraw/"' not in page

    def test_who_created_it_may_only_withdraw(self, sign_in, cast, waiting):
        page = text(sign_in(cast.bob).get(f"/tasks/{waiting.uid}/"))
        assert f'href="/tasks/{waiting.uid}/withdraw/"' in page
        assert f"/tasks/{waiting.uid}/approve/" not in page

    def test_who_looks_on_reads_it_and_decides_nothing(self, sign_in, cast, waiting):
        page = text(sign_in(cast.vera).get(f"/tasks/{waiting.uid}/"))
        assert "Waiting for approval of another member" in page
        for what in ("approve", "decline", "withdraw"):
            assert f"/tasks/{waiting.uid}/{what}/" not in page

    def test_who_could_not_run_it_reads_why_they_can_t_decide(self, sign_in, cast, waiting):
        olga = User.objects.create_user("olga")
        teams.add_member(team=cast.team, user=olga, role=Role.OPERATOR)
        restrictions.set_all(
            actor=cast.alice,
            membership=Membership.objects.get(user=olga),
            wanted=[("not_run_as", "root")],
        )
        client = sign_in(olga)
        page = text(client.get(f"/tasks/{waiting.uid}/"))
        assert "you could not run this, so you can&#x27;t approve it" in page
        assert f"/tasks/{waiting.uid}/approve/" not in page
        asked = text(client.get(f"/tasks/{waiting.uid}/approve/"))
        assert "you could not run this" in asked
        assert 'type="submit">' not in asked.partition('class="card ask"')[2]
        answer = client.post(f"/tasks/{waiting.uid}/approve/", {"digest": waiting.approval.digest})
        assert answer.status_code == 409
        assert state(waiting) == "waiting"

    def test_hidden_values_stay_hidden(self, sign_in, cast, fleet, rule):
        rule(more_than="0")
        task = invocations.run_command(
            actor=cast.bob,
            team=cast.team,
            region=cast.region,
            command=CommandInput(
                name="n",
                type="RunShellScript",
                content="login {{key}}",
                use_params=True,
                parameters={"key": ParameterSchema(insertion=Insertion.QUOTED)},
            ),
            values=Values({"key": "planted-secret"}, ["key"]),
            instance_uids=[fleet[0].uid],
            now=timezone.now(),
        )
        page = text(sign_in(cast.alice).get(f"/tasks/{task.uid}/"))
        assert "login" in page
        assert "planted-secret" not in page

    def test_the_way_there_and_the_launcher(self, sign_in, cast, fleet, rule):
        rule(more_than="0")
        instances.set_jump_host(actor=cast.alice, instance=fleet[0], jump_host=fleet[2])
        task = create_task(cast, [fleet[0]], "say a", launcher="nice -n 5")
        page = text(sign_in(cast.alice).get(f"/tasks/{task.uid}/"))
        assert "via web-03" in page
        assert "Launcher</dt><dd><code>nice -n 5" in page

    def test_it_says_as_whom_the_console_signs_in_and_what_a_stop_ends(
        self, sign_in, cast, fleet, rule
    ):
        rule(more_than="0")
        instances.set_jump_host(actor=cast.alice, instance=fleet[0], jump_host=fleet[2])
        task = create_task(cast, [fleet[0]], "say a", run_as="deploy", termination="Process")
        page = text(sign_in(cast.alice).get(f"/tasks/{task.uid}/"))
        assert 'deploy<span class="id">signs in as root</span>' in page
        assert f"via web-03, {fleet[2].address}, {fleet[2].fingerprint}</span>" in page
        assert "Only the script itself" in page

    def test_whose_jump_host_it_is_stays_the_lender_s(self, sign_in, cast, fleet):
        instances.set_jump_host(actor=cast.alice, instance=fleet[0], jump_host=fleet[2])
        borrow(fleet[0], cast.other_team, by=cast.alice, to=cast.charlie)
        teams.add_member(team=cast.other_team, user=cast.vera, role=Role.OPERATOR)
        Membership.objects.filter(team=cast.team, user=cast.vera).delete()
        approval_rules.set_rule(
            actor=cast.charlie,
            team=cast.other_team,
            more_than="0",
            hours="24",
            now=timezone.now(),
        )
        task = invocations.run_command(
            actor=cast.vera,
            team=cast.other_team,
            region=cast.region,
            command=CommandInput(name="n", type="RunShellScript", content="say a"),
            instance_uids=[fleet[0].uid],
            now=timezone.now(),
        )
        page = text(sign_in(cast.charlie).get(f"/tasks/{task.uid}/"))
        assert "through a jump host of Storefront" in page
        assert "web-03" not in page

    @pytest.mark.parametrize("char", ["\r", "\x0b", "\x0c", "\x85", "\u2028", "\u200b", "\xa0"])
    def test_what_only_looks_like_another_line_is_marked(self, sign_in, cast, fleet, rule, char):
        """A browser begins a line where there is a CR, and the shell goes on with a comment."""
        rule(more_than="0")
        task = invocations.run_command(
            actor=cast.bob,
            team=cast.team,
            region=cast.region,
            command=CommandInput(
                name="n", type="RunShellScript", content="# {{note}}\nreboot", use_params=True
            ),
            values=Values({"note": f"careful{char}exit 0"}),
            instance_uids=[fleet[0].uid],
            now=timezone.now(),
        )
        page = sign_in(cast.alice).get(f"/tasks/{task.uid}/").content.decode()
        card = page.partition('id="approval"')[2].partition("</section>")[0]
        assert f"# careful‹U+{ord(char):04X}›exit 0\nreboot</pre>" in card

    def test_a_change_is_said_before_anybody_decides(self, sign_in, cast, waiting, fleet):
        Instance.objects.filter(pk=fleet[0].pk).update(host="10.1.2.3")
        page = text(sign_in(cast.alice).get(f"/tasks/{waiting.uid}/"))
        assert "What would run now is not what was put up for approval" in page

    def test_a_task_that_needs_none_says_nothing(self, sign_in, cast, fleet):
        task = create_task(cast, fleet, "say a")
        page = text(sign_in(cast.bob).get(f"/tasks/{task.uid}/"))
        assert 'id="approval"' not in page
        assert 'http-equiv="refresh"' in page

    def test_a_page_that_waits_asks_whether_it_was_decided(self, sign_in, cast, waiting):
        client, here = sign_in(cast.bob), {"HX-Target": "approval"}
        assert client.get(f"/tasks/{waiting.uid}/", headers=here).status_code == 204
        approvals.decline(
            actor=cast.alice, invocation=waiting, comment="Not today", now=timezone.now()
        )
        part = text(client.get(f"/tasks/{waiting.uid}/", headers=here))
        assert "<html" not in part
        assert "Declined by alice" in part
        assert "<blockquote>Not today</blockquote>" in part
        assert "hx-trigger" not in part

    def test_programs_read_it(self, sign_in, cast, waiting, fleet, rule):
        client = sign_in(cast.bob)
        told = client.get(f"/tasks/{waiting.uid}/status.json").json()["approval"]
        assert (told["state"], told["digest"]) == ("waiting", waiting.approval.digest)
        assert told["why"] == ["As the user root: on web-01, web-02, web-03."]
        rule()
        free = create_task(cast, fleet, "say a")
        assert client.get(f"/tasks/{free.uid}/status.json").json()["approval"] is None


class TestWhatStandsInTheWay:
    """What the page says where approving would not let it run, or can't be tried."""

    def test_its_creator_may_no_longer_run_it(self, sign_in, cast, waiting):
        Membership.objects.filter(user=cast.bob).update(role=Role.VIEWER)
        said = "Who created the task may no longer run it."
        client = sign_in(cast.alice)
        assert said in text(client.get(f"/tasks/{waiting.uid}/"))
        assert said in text(client.get(f"/tasks/{waiting.uid}/approve/"))
        bob = sign_in(cast.bob)
        assert f"/tasks/{waiting.uid}/withdraw/" not in text(bob.get(f"/tasks/{waiting.uid}/"))
        assert bob.post(f"/tasks/{waiting.uid}/withdraw/").status_code == 404

    def test_the_key_of_its_values_is_lost(self, sign_in, cast, fleet, rule, settings):
        rule(more_than="0")
        task = invocations.run_command(
            actor=cast.bob,
            team=cast.team,
            region=cast.region,
            command=CommandInput(
                name="n", type="RunShellScript", content="echo {{key}}", use_params=True
            ),
            values=Values({"key": "one"}),
            instance_uids=[fleet[0].uid],
            now=timezone.now(),
        )
        settings.CONSOLE_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
        client = sign_in(cast.alice)
        page = text(client.get(f"/tasks/{task.uid}/"))
        assert "lacks the encryption key" in page
        assert f"/tasks/{task.uid}/approve/" not in page
        assert f'href="/tasks/{task.uid}/decline/"' in page
        asked = text(client.get(f"/tasks/{task.uid}/approve/"))
        assert "lacks the encryption key" in asked
        assert 'type="submit">' not in asked.partition('class="card ask"')[2]
        answer = client.post(f"/tasks/{task.uid}/decline/", {"comment": "No key"}, follow=True)
        assert "Declined by alice" in text(answer)

    def test_it_was_changed_after_it_was_approved(self, sign_in, cast, waiting, fleet):
        approvals.approve(
            actor=cast.alice,
            invocation=waiting,
            digest=waiting.approval.digest,
            now=timezone.now(),
        )
        Instance.objects.filter(pk=fleet[0].pk).update(host="10.1.2.3")
        ids = list(waiting.runs.values_list("pk", flat=True))
        assert runs.claim(run_ids=ids, owner="w", now=timezone.now()) == []
        client = sign_in(cast.bob)
        page = text(client.get(f"/tasks/{waiting.uid}/"))
        assert "Approved by alice, and changed since" in page
        told = client.get(f"/tasks/{waiting.uid}/status.json").json()["approval"]
        assert (told["state"], told["by"]) == ("outdated", "alice")

    def test_it_was_stopped_by_another(self, sign_in, cast, waiting):
        client = sign_in(cast.alice)
        asked = text(client.get(f"/tasks/{waiting.uid}/stop/"))
        assert "It waits for approval. Nothing of it has started" in asked
        assert "Keep waiting" in asked
        assert "Keep running" not in asked
        page = text(client.post(f"/tasks/{waiting.uid}/stop/", follow=True))
        assert "Stopped by alice before it was approved" in page
        assert "Withdrawn by" not in page

    def test_it_never_waited(self, sign_in, cast, fleet):
        task = create_task(cast, fleet, "say a")
        page = text(sign_in(cast.alice).get(f"/tasks/{task.uid}/approve/"))
        assert "This task needs no approval" in page
        assert "any more" not in page

    def test_it_has_not_started(self, sign_in, cast, waiting, fleet):
        client = sign_in(cast.alice)
        page = text(client.get(f"/tasks/{waiting.uid}/"))
        assert "created <b" in page
        assert "started <b" not in page
        assert 'http-equiv="refresh"' not in page
        asked = text(client.get(f"/instances/{fleet[0].uid}/remove/"))
        assert "1 task waits for approval to run there." in asked
        assert "still runs there" not in asked

    def test_a_page_that_waits_reads_only_whether_it_still_does(
        self, sign_in, cast, waiting, monkeypatch
    ):
        client = sign_in(cast.alice)
        monkeypatch.setattr(task_approval.approvals, "standing", None)
        answer = client.get(f"/tasks/{waiting.uid}/", headers={"HX-Target": "approval"})
        assert answer.status_code == 204


class TestDeciding:
    """The three questions and answers, without JavaScript."""

    def test_approving(self, sign_in, cast, waiting):
        client, url = sign_in(cast.alice), f"/tasks/{waiting.uid}/approve/"
        digest = waiting.approval.digest
        page = text(client.get(f"{url}?digest={digest}"))
        assert "Approve, and run it on 3 instances?" in page
        assert f'name="digest" value="{digest}"' in page
        assert "css/approval.css" in page  # else the digest is wider than a phone
        assert state(waiting) == "waiting"
        answer = client.post(url, {"digest": digest, "comment": "Fine"}, follow=True)
        assert "Approved. It starts now." in text(answer)
        assert "Approved by alice" in text(answer)
        assert "<blockquote>Fine</blockquote>" in text(answer)
        assert state(waiting) == "approved"
        again = client.post(url, {"digest": digest})
        assert again.status_code == 409
        assert "alice has approved it meanwhile." in text(again)
        assert "does not wait for approval any more" in text(again)

    def test_what_was_read_is_what_is_approved(self, sign_in, cast, waiting):
        client, url = sign_in(cast.alice), f"/tasks/{waiting.uid}/approve/"
        for digest in ("", "0" * 64):
            answer = client.post(url, {"digest": digest})
            assert answer.status_code == 409
            assert "Read it again." in text(answer)
        assert state(waiting) == "waiting"

    def test_what_has_changed_ends_the_task(self, sign_in, cast, waiting):
        Invocation.objects.update(content="rm -rf /")
        client, url = sign_in(cast.alice), f"/tasks/{waiting.uid}/approve/"
        shown = re.search(r"approve/\?digest=(\w+)", text(client.get(f"/tasks/{waiting.uid}/")))
        assert shown[1] != waiting.approval.digest
        answer = client.post(url, {"digest": shown[1]}, follow=True)
        assert "had changed since it was put up for approval. Nothing of it runs." in text(answer)
        assert state(waiting) == "outdated"

    def test_declining_takes_a_reason(self, sign_in, cast, waiting):
        client, url = sign_in(cast.alice), f"/tasks/{waiting.uid}/decline/"
        assert "Decline this task?" in text(client.get(url))
        empty = client.post(url, {"comment": " "})
        assert empty.status_code == 422
        assert "Say why you decline it" in text(empty)
        assert 'aria-invalid="true"' in text(empty)
        answer = client.post(url, {"comment": "<b>Friday</b>"}, follow=True)
        assert "&lt;b&gt;Friday&lt;/b&gt;" in text(answer)
        assert state(waiting) == "declined"

    def test_withdrawing(self, sign_in, cast, waiting):
        client, url = sign_in(cast.bob), f"/tasks/{waiting.uid}/withdraw/"
        assert "Withdraw this task?" in text(client.get(url))
        assert "Withdrawn. Nothing of it runs." in text(client.post(url, follow=True))
        assert state(waiting) == "withdrawn"
        assert client.post(url).status_code == 409

    def test_in_a_dialog(self, sign_in, cast, waiting):
        for who, what in ((cast.alice, "approve"), (cast.alice, "decline"), (cast.bob, "withdraw")):
            part = sign_in(who).get(f"/tasks/{waiting.uid}/{what}/", headers={"HX-Target": "asked"})
            assert "<html" not in text(part)
            assert 'id="ask-name"' in text(part)

    def test_outsiders_and_staff_find_nothing(self, sign_in, cast, waiting):
        stan = User.objects.create_user("stan", is_staff=True)
        for who in (cast.charlie, stan):
            for what in ("", "approve/", "decline/", "withdraw/"):
                assert sign_in(who).get(f"/tasks/{waiting.uid}/{what}").status_code == 404


class TestLists:
    """Where somebody finds what waits."""

    def test_the_overview_the_navigation_and_the_list(self, sign_in, cast, waiting, fleet, rule):
        rule()
        create_task(cast, fleet, "say a")
        client = sign_in(cast.alice)
        home = text(client.get("/"))
        assert 'Waiting for approval <span class="num">1</span>' in home
        assert 'Running now <span class="num">1</span>' in home
        assert 'href="/tasks/?status=unapproved"' in home
        listed = text(client.get("/tasks/?status=unapproved"))
        assert f'href="/tasks/{waiting.uid}/"' in listed
        assert "1–1 of 1" in listed
        approvals.approve(
            actor=cast.alice,
            invocation=waiting,
            digest=waiting.approval.digest,
            now=timezone.now(),
        )
        home = text(client.get("/"))
        assert "unapproved" not in home
        assert "No tasks match" in text(client.get("/tasks/?status=unapproved"))

    def test_its_state_reads_as_what_it_waits_for(self, sign_in, cast, waiting):
        client = sign_in(cast.alice)
        instance = waiting.runs.earliest("pk").instance_uid
        pages = [
            f"/tasks/{waiting.uid}/",
            "/tasks/",
            f"/find/?q={waiting.uid}",
            "/instances/",
            f"/instances/{instance}/",
        ]
        # What filters offer is no state of anything.
        shown = [re.sub("<option.*?</option>", "", text(client.get(page))) for page in pages]
        assert waiting.uid in shown[0]
        assert 'id="task-head-state"' in shown[0]
        assert not re.search(r"</svg>Pending</span>|aria-label=.Pending", shown[0])
        assert all("Pending" not in page for page in shown[1:])
        assert "<title>Waiting for approval: " in shown[0]
        assert "Waiting for approval</span>" in shown[1]
        waiting.runs.update(phase="queued")
        assert "<title>Pending: " in text(client.get(pages[0]))


class TestTheForm:
    """What is said before a task is created."""

    def test_nothing_without_a_rule(self, sign_in, cast, fleet):
        page = text(sign_in(cast.bob).get("/run/"))
        assert "approval-note" not in page
        assert "js/approval.js" not in page

    def test_with_what_is_selected(self, sign_in, cast, fleet, rule):
        rule(more_than="1")
        client = sign_in(cast.bob)
        here = f"/run/?instance={fleet[0].uid}"
        assert "This task will wait" not in text(client.get(here))
        page = text(client.get(f"{here}&instance={fleet[1].uid}"))
        assert "This task will wait for approval of another member" in page
        assert "Number of instances: 2, which is more than 1." in page

    @pytest.mark.parametrize(("user", "waits"), [("oracle", True), ("", False)])
    def test_while_it_is_filled_in(self, sign_in, cast, fleet, rule, user, waits):
        rule(run_as=["oracle"])
        query = {
            "scope": f"{cast.team.uid} {cast.region.uid}",
            "instances": [fleet[0].uid, "i-nowhere", "\x00"],
            "run_as": user,
        }
        part = text(sign_in(cast.bob).get("/run/approval/", query))
        assert ("As the user oracle: on web-01." in part) is waits

    def test_what_a_member_is_not_left_tells_them_nothing(self, sign_in, cast, fleet, rule):
        rule(more_than="0")
        restrictions.set_all(
            actor=cast.alice,
            membership=Membership.objects.get(user=cast.bob),
            wanted=[("instance_tag", "env=test")],
        )
        query = {
            "scope": f"{cast.team.uid} {cast.region.uid}",
            "instances": [fleet[0].uid],
        }
        part = text(sign_in(cast.bob).get("/run/approval/", query))
        assert "This task will wait" not in part

    def test_why_says_that_it_would_wait(self, sign_in, cast, fleet, rule):
        rule(run_as=["oracle"])
        client, query = sign_in(cast.bob), {"instance": fleet[0].name, "run_as": "oracle"}
        assert "As the user oracle: on web-01." in text(client.get("/team/why/", query))
        assert "This task will wait" not in text(client.get("/team/why/", {"instance": "web-01"}))

    def test_a_saved_command_brings_its_user(self, sign_in, cast, fleet, rule):
        saved = invocations.run_command(
            actor=cast.bob,
            team=cast.team,
            region=cast.region,
            command=CommandInput(
                name="kept", type="RunShellScript", content="true", run_as="oracle"
            ),
            save=True,
            instance_uids=[fleet[0].uid],
            now=timezone.now(),
        )
        rule(run_as=["oracle"])
        query = {"source": "existing", "command": saved.command_uid, "instances": [fleet[0].uid]}
        assert "As the user oracle" in text(sign_in(cast.bob).get("/run/approval/", query))

    def test_creating_one_that_waits(self, sign_in, cast, fleet, rule):
        rule(more_than="0")
        data = {
            "name": "n",
            "type": "RunShellScript",
            "content": "true",
            "instances": [fleet[0].uid],
        }
        answer = sign_in(cast.bob).post("/run/", data, follow=True)
        assert "Waiting for approval of another member" in text(answer)

    def test_a_hidden_value_that_could_be_code_is_refused_beside_its_field(
        self, sign_in, cast, fleet, rule
    ):
        rule(more_than="0")
        data = {
            "name": "kept name",
            "type": "RunShellScript",
            "content": "{{key}}",
            "use_params": "on",
            "param-key": "rm -rf /",
            "secret-key": "on",
            "seen-key": "on",
            "instances": [fleet[0].uid],
        }
        answer = sign_in(cast.bob).post("/run/", data)
        assert answer.status_code == 422
        page = text(answer)
        assert "key is hidden and inserted as typed: whoever approves could not see" in page
        assert 'value="kept name"' in page
        assert "{{key}}</textarea>" in page
        assert not Invocation.objects.exists()

    def test_where_nobody_else_could_approve_it(self, sign_in, cast, fleet, rule):
        rule(more_than="0")
        Membership.objects.filter(user=cast.alice).update(role=Role.RUNNER)
        data = {
            "name": "n",
            "type": "RunShellScript",
            "content": "true",
            "instances": [fleet[0].uid],
        }
        answer = sign_in(cast.bob).post("/run/", data)
        assert answer.status_code == 409
        assert "nobody else in Storefront may give it" in text(answer)
        assert not Invocation.objects.exists()

    def test_running_again_says_so_too(self, sign_in, cast, fleet, rule):
        task = create_task(cast, fleet, "say a")
        rule(more_than="0")
        client = sign_in(cast.bob)
        asked = text(client.get(f"/tasks/{task.uid}/again/"))
        assert "This task will wait for approval of another member" in asked
        answer = client.post(f"/tasks/{task.uid}/again/", follow=True)
        assert "Waiting for approval of another member" in text(answer)
        newest = Invocation.objects.latest("pk")
        assert json.dumps(newest.approval.why).count("Number of instances") == 1

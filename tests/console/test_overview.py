"""The overview: what each role sees, what needs a look, and the first steps of a team."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from commands.models import Instance, Invocation, Role, User
from commands.services import library, teams
from commands.services.definitions import CommandInput
from tests.console.making import make_task

__all__ = ["make_task"]
pytestmark = pytest.mark.django_db


def save(cast, name):
    return library.create_command(
        actor=cast.alice,
        team=cast.team,
        region=cast.region,
        command=CommandInput(name=name, type="RunShellScript", content="true"),
        now=timezone.now(),
    )


class TestWhoSeesWhat:
    """Every role is offered what it may do, and no more."""

    @pytest.fixture
    def pages(self, cast, sign_in, make_task):
        make_task("Failed", name="Went wrong")
        save(cast, "Archive logs")
        rita = User.objects.create_user("rita")
        teams.add_member(team=cast.team, user=rita, role=Role.RUNNER)
        people = {"viewer": cast.vera, "runner": rita, "operator": cast.bob}
        return {name: sign_in(who).get("/").content.decode() for name, who in people.items()}

    def test_all_see_the_same_things(self, pages):
        for page in pages.values():
            for words in ("Went wrong", "1 of 1 failed", "Archive logs", "0 of 3", "1 / 100"):
                assert words in page

    def test_only_those_who_may_run_something_are_led_to_it(self, pages):
        for name, page in pages.items():
            may = name != "viewer"
            assert ("/again/?only=failed" in page) == may
            assert ("/run/?command=" in page) == may

    def test_another_team_sees_none_of_it(self, pages, cast, sign_in):
        page = sign_in(cast.charlie).get("/").content.decode()
        assert "Went wrong" not in page
        assert "Archive logs" not in page

    def test_somebody_without_a_team(self, client, db):
        client.force_login(User.objects.create_user("nina"))
        assert "No team yet" in client.get("/").content.decode()

    def test_strangers_are_asked_to_sign_in(self, client, db):
        assert client.get("/")["Location"] == "/sign-in/?next=/"


class TestRunning:
    """Running now."""

    def test_what_runs_is_there_until_it_has_ended(self, cast, sign_in, make_task):
        task = make_task("Running", "Success", name="Long one")
        client = sign_in(cast.vera)
        part = client.get("/", headers={"HX-Target": "live"}).content.decode()
        assert "<html" not in part
        assert "Long one" in part
        assert "1 of 2" in part
        task.runs.update(
            status="Success", phase="finished", exit_code=0, finished_at=timezone.now()
        )
        part = client.get("/", headers={"HX-Target": "live"}).content.decode()
        assert "Nothing is running." in part


class TestNeedsALook:
    """Failures that nobody has looked at."""

    def test_it_is_about_tasks_that_have_ended_with_failures_lately(self, cast, sign_in, make_task):
        make_task("Failed", "Running", name="Not yet")
        make_task("Success", name="Fine")
        make_task("Timeout", name="Late")
        make_task("Failed", name="Long ago", at=timezone.now() - timedelta(days=4))
        part = sign_in(cast.vera).get("/", headers={"HX-Target": "live"}).content.decode()
        looks = part.partition("Needs a look")[2]
        assert "Late" in looks
        assert not any(name in looks for name in ("Not yet", "Fine", "Long ago"))

    def test_looked_at_is_gone_for_one_person_until_the_next_one(self, cast, sign_in, make_task):
        make_task("Failed", name="Known", at=timezone.now() - timedelta(minutes=5))
        vera, bob = sign_in(cast.vera), sign_in(cast.bob)
        answer = vera.post("/looked-at/")
        assert (answer.status_code, answer["Location"]) == (303, "/")
        assert "Known" not in vera.get("/").content.decode()
        assert "Known" in bob.get("/").content.decode()
        make_task("Failed", name="News")
        assert "News" in vera.get("/").content.decode()

    def test_looking_needs_a_post(self, cast, sign_in):
        assert sign_in(cast.vera).get("/looked-at/").status_code == 405

    def test_many_are_counted_and_lead_to_the_list(self, cast, sign_in, make_task):
        for n in range(8):
            make_task("Failed", name=f"Failure {n}")
        page = sign_in(cast.vera).get("/").content.decode()
        assert "/tasks/?status=failures" in page
        assert "Failure 7" in page
        assert "Failure 0" not in page


class TestQuickRun:
    """Pinned first, then what the team runs most."""

    def test_the_order(self, cast, sign_in, make_task):
        names = ["Rarely", "Often", "Pinned"]
        commands = {name: save(cast, name) for name in names}
        library.pin(actor=cast.bob, command=commands["Pinned"], pinned=True)
        for name in ("Often", "Often", "Rarely"):
            task = make_task("Success")
            Invocation.objects.filter(pk=task.pk).update(command=commands[name])
        quick = sign_in(cast.bob).get("/").context["quick"]
        assert [command.name for command in quick] == ["Pinned", "Often", "Rarely"]
        quick = sign_in(cast.alice).get("/").context["quick"]
        assert [command.name for command in quick] == ["Often", "Rarely", "Pinned"]


class TestFirstSteps:
    """What a team has not done yet."""

    def steps(self, client):
        context = client.get("/").context
        return [context[f"has_{name}"] for name in ("instance", "task", "command")]

    def test_each_is_ticked_when_it_is_done(self, cast, sign_in, make_instance):
        client = sign_in(cast.bob)
        assert self.steps(client) == [False, False, False]
        make_instance("web-01")
        assert self.steps(client) == [True, False, False]
        page = client.get("/").content.decode()
        assert "Three steps to begin" in page
        assert "/run/?first=1" in page

    @pytest.mark.parametrize(("who", "may"), [("alice", True), ("bob", False)])
    def test_only_who_may_add_an_instance_is_led_to_it(
        self, cast, sign_in, make_instance, who, may
    ):
        client = sign_in(getattr(cast, who))
        page = client.get("/").content.decode()
        assert ('href="/instances/add/"' in page) == may
        assert ("manage.py add_instance" in page) == may
        assert ("A team admin can add some." in page) != may
        make_instance("web-01")
        assert 'href="/instances/add/"' not in client.get("/").content.decode()

    def test_they_are_gone_when_all_are_done(self, cast, sign_in, make_task):
        make_task("Success")
        save(cast, "One")
        assert "Three steps" not in sign_in(cast.bob).get("/").content.decode()

    def test_the_first_command_is_filled_in(self, cast, sign_in, fleet):
        page = sign_in(cast.bob).get("/run/?first=1").content.decode()
        assert 'value="uname -a"' in page
        assert re.search(r">\s*uname -a</textarea>", page)

    def test_who_may_not_is_not_led_there(self, cast, sign_in):
        assert "/run/?first=1" not in sign_in(cast.vera).get("/").content.decode()


def test_the_frame_leads_home_and_says_how_much_is_used(cast, sign_in, fleet):
    Instance.objects.filter(pk=fleet[0].pk).update(connection="reachable")
    page = sign_in(cast.vera).get("/").content.decode()
    assert '<a class="brand" href="/">' in page
    assert 'aria-current="page"' in page
    assert "1 of 3" in page
    assert "0 / 5,000" in page

"""Pages that stop a task, let a paused one go on, and ask for a pace."""

from __future__ import annotations

import re

import pytest
from django.utils import timezone

from commands.models import Invocation, Role, Run
from commands.rules.rate import RateInput
from commands.services import runs, teams
from tests.filled import shown_fields
from tests.services.carrying import create_task

pytestmark = pytest.mark.django_db


@pytest.fixture
def task(cast, fleet):
    """One run that has ended, one that runs, one that waits."""
    made = create_task(cast, fleet, "say a")
    first, second, _ = made.runs.order_by("pk")
    Run.objects.filter(pk=first.pk).update(
        status="Success", phase="finished", exit_code=0, finished_at=timezone.now()
    )
    runs.claim(run_ids=[second.pk], owner="me", now=timezone.now())
    Run.objects.filter(pk=second.pk).update(status="Running", started_at=timezone.now())
    return made


def statuses(task):
    return list(task.runs.order_by("pk").values_list("status", flat=True))


class TestStopping:
    """``/tasks/<id>/stop/``."""

    def test_it_is_asked_first_and_changes_nothing(self, sign_in, cast, task):
        client = sign_in(cast.bob)
        page = client.get(f"/tasks/{task.uid}/stop/").content.decode()
        assert "Stop on 2 instances?" in page
        assert "1 running, 1 not started yet." in page
        assert statuses(task) == ["Success", "Running", "Pending"]
        part = client.get(f"/tasks/{task.uid}/stop/", headers={"HX-Target": "asked"})
        assert "<html" not in part.content.decode()

    @pytest.mark.parametrize(
        ("gone", "told"),
        [
            ("Pending", "What runs there is ended with everything it started. Finished"),
            ("Running", "Nothing has started there yet, and it never will. Finished"),
        ],
    )
    def test_only_what_there_is_to_stop_is_spoken_of(self, sign_in, cast, task, gone, told):
        task.runs.filter(status=gone).update(
            status="Success", phase="finished", exit_code=0, finished_at=timezone.now()
        )
        page = sign_in(cast.bob).get(f"/tasks/{task.uid}/stop/").content.decode()
        assert "Stop on 1 instance?" in page
        assert told in page
        assert "not started yet" not in page

    def test_stopping(self, sign_in, cast, task):
        client = sign_in(cast.bob)
        answer = client.post(f"/tasks/{task.uid}/stop/")
        assert (answer.status_code, answer["Location"]) == (303, f"/tasks/{task.uid}/")
        assert statuses(task) == ["Success", "Stopping", "Cancelled"]
        page = client.get(answer["Location"]).content.decode()
        assert "1 instance was asked to stop. 1 had not started and never will." in page
        assert "<title>Stopping: n" in page
        again = client.post(f"/tasks/{task.uid}/stop/", follow=True).content.decode()
        assert "There was nothing left to stop." in again
        asked = client.get(f"/tasks/{task.uid}/stop/").content.decode()
        assert "Nothing is left to stop" in asked
        assert "1 instance is being stopped already." in asked
        assert '<button class="btn danger"' not in asked

    def test_on_one_instance(self, sign_in, cast, task, fleet):
        client = sign_in(cast.bob)
        url = f"/tasks/{task.uid}/stop/?instance={fleet[2].uid}"
        page = client.get(url).content.decode()
        assert "Stop on web-03?" in page
        assert f'name="instance" value="{fleet[2].uid}"' in page
        answer = client.post(f"/tasks/{task.uid}/stop/", {"instance": fleet[2].uid})
        assert answer["Location"] == f"/tasks/{task.uid}/?instance={fleet[2].uid}"
        assert statuses(task) == ["Success", "Running", "Cancelled"]
        shown = client.get(answer["Location"]).content.decode()
        assert "Stopped by bob before it started. Nothing ran." in shown

    def test_an_instance_that_is_not_there(self, sign_in, cast, task):
        client = sign_in(cast.bob)
        for send in (client.get, client.post):
            answer = send(f"/tasks/{task.uid}/stop/", {"instance": "i-nowhere"})
            assert answer.status_code == 404
        assert statuses(task) == ["Success", "Running", "Pending"]

    @pytest.mark.parametrize("path", ["stop", "continue"])
    def test_who_may_not(self, sign_in, client, cast, task, path):
        for person in (cast.vera, cast.charlie):
            there = sign_in(person)
            for send in (there.get, there.post):
                assert send(f"/tasks/{task.uid}/{path}/").status_code == 404
        assert client.post(f"/tasks/{task.uid}/{path}/").status_code == 303  # to sign in
        assert statuses(task) == ["Success", "Running", "Pending"]

    def test_the_button_is_there_for_those_who_may_and_while_there_is_something(
        self, sign_in, cast, task
    ):
        url = f"/tasks/{task.uid}/"
        link = f'href="{url}stop/"'
        assert link in sign_in(cast.bob).get(url).content.decode()
        assert link not in sign_in(cast.vera).get(url).content.decode()
        teams.add_member(team=cast.other_team, user=cast.bob, role=Role.RUNNER)
        Run.objects.filter(finished_at=None).update(
            status="Aborted", phase="finished", finished_at=timezone.now()
        )
        assert link not in sign_in(cast.bob).get(url).content.decode()


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        (
            {"status": "Timeout", "processes_left": 0, "error_code": "ExecutionTimeout"},
            r"Stopped after 60 s, the timeout\. Nothing was printed\. 0 processes left\.",
        ),
        (
            {"status": "Timeout", "processes_left": None, "error_code": "ExecutionTimeout"},
            r"Nothing was printed\. That no process is left was not verified\.",
        ),
        (
            {"status": "Timeout", "processes_left": 2, "error_code": "ExecutionTimeout"},
            r"Nothing was printed\. 2 processes are still running\.",
        ),
        (
            {"status": "Terminated", "error_info": "Stopped by bob, 0 processes left."},
            r"Stopped by bob, 0 processes left\.",
        ),
        ({"status": "Cancelled"}, r"Stopped\. Nothing was printed\."),
    ],
)
def test_the_end_sentence(sign_in, cast, task, fleet, columns, sentence):
    Run.objects.filter(instance_uid=fleet[1].uid).update(
        phase="finished", finished_at=timezone.now(), **columns
    )
    page = sign_in(cast.bob).get(f"/tasks/{task.uid}/?instance={fleet[1].uid}").content.decode()
    assert re.search(sentence, page)


class TestPaused:
    """A task between two batches."""

    @pytest.fixture
    def paused(self, cast, fleet):
        rate = RateInput(canary="1", batch_pause="confirm", concurrency="1", max_failures="50%")
        made = create_task(cast, fleet, "say a", rate=rate)
        made.runs.released().update(
            status="Success", phase="finished", exit_code=0, finished_at=timezone.now()
        )
        return made

    def test_it_says_so_and_what_it_waits_for(self, sign_in, cast, paused, fleet):
        url = f"/tasks/{paused.uid}/"
        page = sign_in(cast.bob).get(f"{url}?instance={fleet[2].uid}").content.decode()
        assert "2 instances wait for their turn." in page
        assert "Paused after 1 of 3: somebody has to continue." in page
        assert "Waiting for its turn." in page
        assert "data-paused" in page
        assert (
            "at most 1 at a time, first batch 1, somebody continues after each batch, "
            "no more after 50% failures"
        ) in page
        assert f'href="{url}continue/"' in page
        assert f'href="{url}continue/"' not in sign_in(cast.vera).get(url).content.decode()

    def test_continuing(self, sign_in, cast, paused):
        client = sign_in(cast.bob)
        url = f"/tasks/{paused.uid}/continue/"
        page = client.get(url).content.decode()
        assert "Continue with the next batch?" in page
        assert "Begun so far: 1. Waiting for their turn: 2." in page
        assert 'name="after" value="1"' in page
        answer = client.post(url, {"after": "1"})
        assert (answer.status_code, answer["Location"]) == (303, f"/tasks/{paused.uid}/")
        assert [run.phase for run in paused.runs.order_by("pk")][1:] == ["queued", "held"]
        again = client.post(url, {"after": "1"}, follow=True).content.decode()
        assert "This task does not wait for anybody now." in again
        assert "does not wait for anybody now" in client.get(url).content.decode()
        assert client.post(url, {"after": "²"}).status_code == 303


class TestAskingForAPace:
    """The fields of the form."""

    @pytest.fixture
    def form(self, fleet):
        return {
            "name": "n",
            "type": "RunShellScript",
            "content": "say a",
            "instances": [instance.uid for instance in fleet],
        }

    def test_the_fields(self, sign_in, cast, form):
        given = {
            "concurrency": "2",
            "max_failures": "10%",
            "batch_pause": "30",
            "canary": "1",
        }
        answer = sign_in(cast.bob).post("/run/", {**form, **given})
        assert answer.status_code == 303
        task = Invocation.objects.get()
        assert (task.concurrency, task.max_failures) == (2, "10%")
        assert (task.batch_pause, task.batch_confirm, task.canary) == (30, False, 1)
        assert task.runs.held().count() == 2

    def test_without_them_all_begin_at_once(self, sign_in, cast, form):
        sign_in(cast.bob).post("/run/", form)
        assert not Invocation.objects.get().rate.limited
        assert not Run.objects.held().exists()

    def test_what_is_wrong_is_said_there_and_nothing_is_lost(self, sign_in, cast, form):
        given = {"concurrency": "many", "batch_pause": "45", "canary": "1", "max_failures": "0"}
        answer = sign_in(cast.bob).post("/run/", {**form, **given})
        assert answer.status_code == 422
        page = answer.content.decode()
        assert 'id="e-concurrency"' in page
        assert 'id="e-max_failures"' in page
        fields = shown_fields(page)
        assert {name: fields[name] for name in given} == {
            name: [value] for name, value in given.items()
        }
        assert re.search(r'<details class="more" open>\s*<summary>More: how many', page)
        assert not Invocation.objects.exists()

    def test_a_list_of_problems_says_which_field_each_is_about(self, sign_in, cast, form):
        given = {"concurrency": "many", "canary": "0", "max_failures": "200%", "batch_pause": "x"}
        page = sign_in(cast.bob).post("/run/", {**form, **given}).content.decode()
        assert dict(re.findall(r'<li><a href="#id_(\w+)">([^<]+)</a>', page)) == {
            "concurrency": "The number at a time must be a whole number from 1 to 10,000, "
            "or empty.",
            "canary": "The first batch must be a whole number from 1 to 10,000, or empty.",
            "batch_pause": "The pause between batches must be a whole number of seconds up to "
            "86,400, or confirm: then each next batch waits until somebody continues.",
            "max_failures": "The limit of failures must be a number of instances from 1 to 10,000, "
            "such as 3, or a part of them from 1% to 100%, such as 10%.",
        }
        assert '<option value="x" selected>x</option>' in page
        assert 'aria-describedby="canary-hint e-canary"' in page

    def test_a_saved_command_has_them_too(self, sign_in, cast, form):
        client = sign_in(cast.bob)
        client.post("/run/", {**form, "save": "on"})
        saved = Invocation.objects.get().command
        sent = {
            "source": "existing",
            "command": saved.uid,
            "instances": form["instances"],
            "concurrency": "1",
        }
        assert client.post("/run/", sent).status_code == 303
        assert Invocation.objects.latest("pk").concurrency == 1
        page = client.get(f"/run/?command={saved.uid}").content.decode()
        assert 'name="concurrency"' in page

"""Pages: signing in, the form, tasks, and who sees what. No JavaScript here."""

from __future__ import annotations

import re
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.http import Http404
from django.test import Client, RequestFactory
from django.urls import get_resolver, reverse
from django.utils import timezone

from commands.errors import Conflict, Denied, ExecutionError, Invalid
from commands.models import Invocation, OutputChunk, Region, Run
from commands.services import invocations, library, runs, teams
from commands.services.definitions import CommandInput
from console import resolve
from console.errors import DomainErrorMiddleware

pytestmark = pytest.mark.django_db


@pytest.fixture
def task(cast, fleet):
    made = invocations.run_command(
        actor=cast.bob,
        team=cast.team,
        region=cast.region,
        command=CommandInput(name="Hello <b>", type="RunShellScript", content="echo hi"),
        instance_uids=[instance.uid for instance in fleet],
        now=timezone.now(),
    )
    run = made.runs.first()
    Run.objects.filter(pk=run.pk).update(
        status="Failed",
        phase="finished",
        exit_code=3,
        error_code="ExitCodeNonzero",
        started_at=timezone.now() - timedelta(seconds=4),
        finished_at=timezone.now(),
        stdout_size=6,
        stderr_size=15,
        next_sequence=2,
    )
    for sequence, (stream, data) in enumerate([(1, b"hi\n\xff\x00\n"), (2, b"<script>oops\n")]):
        OutputChunk.objects.create(
            run=run,
            sequence=sequence,
            stream=stream,
            offset=0,
            data=data,
            arrived_at=timezone.now(),
        )
    return made


def what_runs(task):
    """The exact script of every run of a task, as a worker gets it."""
    ids = list(task.runs.order_by("pk").values_list("pk", flat=True))
    claimed = runs.claim(run_ids=ids, owner="worker", now=timezone.now())
    return [one.spec.script for one in claimed]


@pytest.fixture
def form(fleet):
    return {
        "source": "new",
        "name": "Hello",
        "type": "RunShellScript",
        "content": "echo hi\r\n",
        "workdir": "",
        "timeout": "60",
        "instances": [fleet[0].uid, fleet[1].uid],
        "client_token": "token-1",
    }


class TestSigningIn:
    """/sign-in/ and /sign-out/."""

    def test_with_the_right_password_people_go_where_they_wanted(self, client, cast):
        answer = client.get("/tasks/")
        assert (answer.status_code, answer["Location"]) == (302, "/sign-in/?next=/tasks/")
        answer = client.post(
            "/sign-in/", {"username": "bob", "password": "bob-secret", "next": "/tasks/"}
        )
        assert (answer.status_code, answer["Location"]) == (302, "/tasks/")

    @pytest.mark.parametrize("username", ["bob", "nobody"])
    def test_one_sentence_for_all_that_is_wrong(self, client, cast, username):
        answer = client.post("/sign-in/", {"username": username, "password": "wrong"})
        assert answer.status_code == 422
        assert "That username and password don&#x27;t match." in answer.content.decode()
        assert "wrong" not in answer.content.decode()

    def test_foreign_addresses_are_not_gone_to(self, client, cast):
        answer = client.post(
            "/sign-in/",
            {"username": "bob", "password": "bob-secret", "next": "https://evil.example/"},
        )
        assert answer["Location"] == "/"

    def test_without_users_it_says_how_to_make_one(self, client):
        assert "createsuperuser" in client.get("/sign-in/").content.decode()

    def test_signing_out_needs_a_post(self, sign_in, cast):
        client = sign_in(cast.bob)
        assert client.get("/sign-out/").status_code == 405
        assert client.post("/sign-out/").status_code == 302
        assert client.get("/run/").status_code == 302


class TestForm:
    """/run/."""

    def test_it_shows_defaults_and_instances(self, sign_in, cast, fleet):
        page = sign_in(cast.bob).get("/run/").content.decode()
        assert 'name="timeout"' in page
        assert 'value="60"' in page
        assert all(instance.uid in page for instance in fleet)

    def test_creating_goes_to_the_task(self, sign_in, cast, form):
        answer = sign_in(cast.bob).post("/run/", form)
        task = Invocation.objects.get()
        assert (answer.status_code, answer["Location"]) == (303, f"/tasks/{task.uid}/")
        assert task.content == "echo hi\n"
        assert task.runs.count() == 2

    def test_a_task_that_is_new_is_not_called_old(self, sign_in, cast, form):
        client = sign_in(cast.bob)
        task = client.get(client.post("/run/", form)["Location"]).content.decode()
        assert "already created" not in task

    def test_five_submits_make_one_task_and_a_changed_one_is_told(self, sign_in, cast, form):
        client = sign_in(cast.bob)
        answers = [client.post("/run/", form) for _ in range(5)]
        assert {answer["Location"] for answer in answers} == {
            f"/tasks/{Invocation.objects.get().uid}/"
        }
        at = timezone.localtime(Invocation.objects.get().created_at).strftime("%H:%M:%S")
        told = f"This task was already created at {at}."
        assert told in client.get(answers[1]["Location"]).content.decode()
        changed = client.post("/run/", {**form, "content": "echo other"})
        assert changed.status_code == 409
        page = changed.content.decode()
        assert "You changed the form after it was sent" in page
        assert "echo other" in page
        token = re.search(r'name="client_token" value="([^"]+)"', page)
        assert token
        assert token[1] != "token-1"
        assert Invocation.objects.count() == 1

    def test_errors_keep_every_value(self, sign_in, cast, form, fleet):
        wrong = {
            **form,
            "name": "x" * 10_000,
            "timeout": "9.5",
            "workdir": "tmp",
            "content": "echo 🚀\n",
        }
        answer = sign_in(cast.bob).post("/run/", wrong)
        page = answer.content.decode()
        assert answer.status_code == 422
        for kept in ("x" * 10_000, "9.5", "tmp", "echo 🚀"):
            assert kept in page
        for sentence in (
            "Command name must be 128 characters or fewer.",
            "Enter a whole number of seconds.",
            "Execution path must start with /.",
        ):
            assert sentence in page
        ticked = re.findall(r'name="instances" value="([^"]+)"[^>]*checked', page)
        assert set(ticked) == {fleet[0].uid, fleet[1].uid}
        assert not Invocation.objects.exists()

    @pytest.mark.parametrize(
        "change",
        [
            {"type": "RunPerlScript"},
            {"type": "RunBatScript"},
            {"instances": []},
            {"instances": ["i-nowhere"]},
            {"instances": ["i-\x00"]},
            {"instances": [f"i-{n}" for n in range(10_000)]},
            {"content": "x" * 1_000_000},
            {"content": "echo \x00"},
            {"content": "   "},
            {"name": ""},
            {"name": "a\u2028\x00"},
            {"name": "exe.\u202efdp"},
            {"content": "echo a \u202e b"},
            {"content": "echo \u2066 b"},
            {"workdir": "/tmp/\u200f"},
            {"timeout": "86401"},
            {"timeout": "abc"},
            {"timeout": "9" * 500},
            {"workdir": "../etc"},
            {"workdir": "/a\x00"},
            {"client_token": "x" * 65},
            {"client_token": "ü"},
            {"source": "existing"},
            {"source": "existing", "command": "c-nowhere"},
            {"source": "existing", "command": "\x00"},
            {"source": "existing", "command": "c-1", "version": "9" * 500},
            {"source": "nowhere"},
            {"type": ""},
            {"timeout": "9.5"},
            {"timeout": "１２"},
            {"timeout": "0x20"},
            {"instances": ["../../etc/passwd", "' OR 1=1 --"]},
            {"tags": "http://x=1"},
            {"run_as": "root\x00"},
            {"launcher": "python3 'x"},
            {"use_params": "on", "content": "echo {{a}}", "param-a": ["1", "2"]},
            {"use_params": "on", "content": "echo {{a}}", "param-a": "1", "param-A": "2"},
            {"use_params": "on", "content": "echo {{a}}", "about-pattern-a": "(a+)+$"},
            {"use_params": "on", "content": "echo '{{a}}'", "about-insertion-a": "quoted"},
            {"use_params": "on", "content": "echo {{a}}", "about-insertion-a": "raw"},
            {"use_params": "on", "content": "echo {{}}"},
            {"use_params": "on", "content": "echo {{.Names}}"},
            {"use_params": "on", "content": "echo {{ACS::Evil}}"},
            {"use_params": "on", "content": "echo {{a}}", "param-a": "x" * 20_000},
            {"use_params": "on", "content": "echo {{a}}", "param-a": "\x00"},
            {"use_params": "on", "content": "".join(f"{{{{p{n}}}}}" for n in range(21))},
        ],
    )
    def test_hostile_and_hopeless_input_is_told_and_makes_no_row(self, sign_in, cast, form, change):
        answer = sign_in(cast.bob).post("/run/", {**form, **change})
        assert answer.status_code == 422
        assert "problem" in answer.content.decode()
        assert not Invocation.objects.exists()
        assert not Run.objects.exists()

    @pytest.mark.parametrize(
        "part",
        [
            b"name=%ED%A0%80",
            b"name=%FF%FE",
            b"content=%00",
            b"content=%C0%AF",
            b"timeout=%E2%88%9E",
        ],
    )
    def test_bytes_that_are_no_text_are_told(self, sign_in, cast, form, part):
        rest = urlencode({**form, "instances": form["instances"][0]})
        name = part.partition(b"=")[0].decode()
        body = b"&".join(
            part if pair.startswith(f"{name}=") else pair.encode() for pair in rest.split("&")
        )
        answer = sign_in(cast.bob).post(
            "/run/", body, content_type="application/x-www-form-urlencoded"
        )
        assert 400 <= answer.status_code < 500
        assert not Invocation.objects.exists()

    def test_instances_and_commands_of_other_teams_are_not_there(self, sign_in, cast, form, fleet):
        command = library.create_command(
            actor=cast.alice,
            team=cast.team,
            region=cast.region,
            command=CommandInput(name="Theirs", type="RunShellScript", content="echo secret"),
            now=timezone.now(),
        )
        client = sign_in(cast.charlie)
        for sent in ({}, {"source": "existing", "command": command.uid}):
            answer = client.post("/run/", {**form, **sent})
            page = answer.content.decode()
            assert answer.status_code == 422
            assert "Theirs" not in page
            assert "web-01" not in page
        assert not Invocation.objects.exists()

    def test_a_timeout_below_ten_is_raised_and_the_task_page_says_so(self, sign_in, cast, form):
        client = sign_in(cast.bob)
        answer = client.post("/run/", {**form, "timeout": "5"})
        page = client.get(answer["Location"]).content.decode()
        assert "raised from" in page

    def test_parameters_are_filled_and_hidden_ones_never_shown(self, sign_in, cast, form):
        client = sign_in(cast.bob)
        answer = client.post(
            "/run/",
            {
                **form,
                "use_params": "on",
                "content": "tar -cf $OF {{file}} {{ File }} {{other}} {{token}}",
                "param-file": "/app/usrcredential",
                "param-token": "hunter2",
                "param-gone": "left over",
            },
        )
        assert answer.status_code == 303
        task = Invocation.objects.get()
        assert task.use_params
        script = what_runs(task)[0]
        assert script == b"tar -cf $OF /app/usrcredential /app/usrcredential  hunter2"
        page = client.get(answer["Location"]).content.decode()
        assert "tar -cf $OF /app/usrcredential /app/usrcredential  ••••••</pre>" in page
        assert "hunter2" not in page
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM commands_invocation")
            stored = str(cursor.fetchall())
        assert "usrcredential" not in stored
        assert "hunter2" not in stored

    def test_a_value_that_is_not_hidden_is_for_a_name_that_looks_secret(self, sign_in, cast, form):
        """Somebody saw the switch and turned it off."""
        client = sign_in(cast.bob)
        answer = client.post(
            "/run/",
            {
                **form,
                "use_params": "on",
                "content": "echo {{keyboard_key}}",
                "param-keyboard_key": "qwerty",
                "seen-keyboard_key": "1",
            },
        )
        assert "qwerty" in client.get(answer["Location"]).content.decode()

    def test_a_hidden_value_is_kept_over_a_failed_try_and_not_in_the_page(
        self, sign_in, cast, form
    ):
        client = sign_in(cast.bob)
        filled = {**form, "use_params": "on", "content": "echo {{token}}", "seen-token": "1"}
        first = client.post(
            "/run/", {**filled, "name": "", "param-token": "hunter2", "secret-token": "on"}
        )
        page = first.content.decode()
        assert (first.status_code, "hunter2" in page) == (422, False)
        assert "Kept from your last try" in page
        assert 'name="kept-token"' in page
        client.post("/run/", {**filled, "param-token": "", "secret-token": "on", "kept-token": "1"})
        assert what_runs(Invocation.objects.get()) == [b"echo hunter2"] * 2

    def test_a_kept_hidden_value_can_be_emptied(self, sign_in, cast, form):
        client = sign_in(cast.bob)
        filled = {**form, "use_params": "on", "content": "echo {{token}}", "seen-token": "1"}
        client.post("/run/", {**filled, "name": "", "param-token": "x", "secret-token": "on"})
        client.post("/run/", {**filled, "param-token": "", "secret-token": "on"})
        assert what_runs(Invocation.objects.get()) == [b"echo "] * 2

    def test_without_javascript_parameters_are_updated_by_a_button(self, sign_in, cast, form):
        answer = sign_in(cast.bob).post(
            "/run/",
            {
                **form,
                "name": "",
                "use_params": "on",
                "content": "echo {{greeting}} {{token}}",
                "param-greeting": "hello",
                "action": "parameters",
            },
        )
        page = answer.content.decode()
        assert answer.status_code == 200
        assert "problem" not in page
        assert not Invocation.objects.exists()
        rows = answer.context["parameters"]
        assert [(row.key, row.value, row.hidden) for row in rows] == [
            ("greeting", "hello", False),
            ("token", "", True),
        ]

    def test_without_the_switch_braces_are_plain_text(self, sign_in, cast, form):
        sign_in(cast.bob).post("/run/", {**form, "content": "docker ps --format '{{.Names}}'"})
        assert Invocation.objects.get().content == "docker ps --format '{{.Names}}'"

    def test_built_in_parameters_are_filled_for_each_instance(self, sign_in, cast, form, fleet):
        content = "{{acs::instanceid}} {{ACS::InstanceName}} {{ACS::InvokeId}} {{ACS::AccountId}}"
        sign_in(cast.bob).post("/run/", {**form, "use_params": "on", "content": content})
        task = Invocation.objects.get()
        for script, instance in zip(what_runs(task), fleet, strict=False):
            expected = f"{instance.uid} {instance.name} {task.uid} {cast.team.uid}"
            assert script.decode() == expected

    def test_viewers_and_strangers_can_not_create(self, sign_in, cast, form):
        assert sign_in(cast.vera).post("/run/", form).status_code == 404
        # Charlie's form is for his own team, where these instances do not exist.
        answer = sign_in(cast.charlie).post("/run/", form)
        assert answer.status_code == 422
        assert not Invocation.objects.exists()

    def test_somebody_without_a_team(self, sign_in, cast, form):
        cast.team.memberships.filter(user=cast.bob).delete()
        client = sign_in(cast.bob)
        assert "not a member of any team" in client.get("/run/").content.decode()
        assert client.post("/run/", form).status_code == 422
        assert client.get("/tasks/").status_code == 200

    def test_without_a_token_of_the_page_nothing_is_created(self, cast, form):
        client = Client(enforce_csrf_checks=True)
        client.force_login(cast.bob)
        assert client.post("/run/", form).status_code == 403
        assert not Invocation.objects.exists()


class TestTask:
    """/tasks/ and what is below it."""

    def test_the_list(self, sign_in, cast, task):
        page = sign_in(cast.vera).get("/tasks/").content.decode()
        assert task.uid in page
        assert "Hello &lt;b&gt;" in page
        assert task.uid not in sign_in(cast.charlie).get("/tasks/").content.decode()

    def test_the_page_opens_with_the_failure(self, sign_in, cast, task):
        page = sign_in(cast.vera).get(f"/tasks/{task.uid}/").content.decode()
        assert "exit 3" in page
        assert "&lt;script&gt;oops" in page
        assert "<script>oops" not in page
        assert "\\xff␀" in page
        assert "sse-connect" in page
        assert 'http-equiv="refresh"' in page

    def test_another_instance_can_be_shown(self, sign_in, cast, task, fleet):
        client = sign_in(cast.vera)
        page = client.get(f"/tasks/{task.uid}/?instance={fleet[1].uid}").content.decode()
        assert "oops" not in page.split('id="log"')[1].split("Command as run")[0]
        assert client.get(f"/tasks/{task.uid}/?instance=i-nowhere").status_code == 404

    def test_a_task_that_has_ended_opens_no_stream(self, sign_in, cast, task):
        Run.objects.exclude(status="Failed").update(
            status="Success", exit_code=0, finished_at=timezone.now()
        )
        page = sign_in(cast.vera).get(f"/tasks/{task.uid}/").content.decode()
        assert "sse-connect" not in page
        assert 'http-equiv="refresh"' not in page
        assert "Partly failed" in page

    def test_states_as_json(self, sign_in, cast, task, fleet):
        task.runs.filter(instance_uid=fleet[0].uid).update(
            hostname="web-01.example", host_key_fingerprint="SHA256:abc", machine_id="m1"
        )
        answer = sign_in(cast.vera).get(f"/tasks/{task.uid}/status.json").json()
        assert answer["id"] == task.uid
        assert answer["status"] == "Running"
        assert answer["counts"] == {"Failed": 1, "Pending": 2}
        assert answer["runs"][0] == {
            "instance_id": fleet[0].uid,
            "status": "Failed",
            "exit_code": 3,
            "error_code": "ExitCodeNonzero",
            "processes_left": None,
            "dropped_bytes": 0,
            "lost_bytes": 0,
            "hostname": "web-01.example",
            "host_key_fingerprint": "SHA256:abc",
            "machine_id": "m1",
            "digest": task.runs.get(instance_uid=fleet[0].uid).digest,
            "waits_for_input": "",
        }
        assert (answer["again_of"], answer["again_kind"]) == ("", "")

    def test_the_log_is_the_exact_bytes(self, sign_in, cast, task, fleet):
        answer = sign_in(cast.vera).get(f"/tasks/{task.uid}/i/{fleet[0].uid}/log.txt")
        assert answer["Content-Type"] == "text/plain; charset=utf-8"
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in answer["Content-Security-Policy"]

    def test_refused_methods(self, sign_in, cast, task):
        client = sign_in(cast.bob)
        for path in (
            "/tasks/",
            f"/tasks/{task.uid}/",
            f"/tasks/{task.uid}/status.json",
            f"/tasks/{task.uid}/events",
        ):
            assert client.post(path).status_code == 405


class TestScope:
    """The team and region of the top bar."""

    def test_another_team_shows_other_tasks(self, sign_in, cast, task):
        teams.add_member(team=cast.other_team, user=cast.bob, role="viewer")
        client = sign_in(cast.bob)
        assert task.uid in client.get("/tasks/").content.decode()
        chosen = {"team": cast.other_team.pk, "region": cast.region.pk, "next": "/tasks/"}
        answer = client.post("/scope/", chosen)
        assert (answer.status_code, answer["Location"]) == (303, "/tasks/")
        assert task.uid not in client.get("/tasks/").content.decode()
        assert client.post("/scope/", {**chosen, "next": "//evil.example"})["Location"] == "/"

    def test_another_region_shows_other_tasks(self, sign_in, cast, task):
        region = Region.objects.create(uid="far", name="Far")
        client = sign_in(cast.bob)
        client.post("/scope/", {"team": cast.team.pk, "region": region.pk})
        assert task.uid not in client.get("/tasks/").content.decode()

    @pytest.mark.parametrize("team", ["theirs", "0", "x", ""])
    def test_what_is_not_ours_can_not_be_chosen(self, sign_in, cast, team):
        value = cast.other_team.pk if team == "theirs" else team
        answer = sign_in(cast.bob).post("/scope/", {"team": value, "region": cast.region.pk})
        assert answer.status_code == 404
        answer = sign_in(cast.bob).post("/scope/", {"team": cast.team.pk, "region": "999"})
        assert answer.status_code == 404


def test_every_address_of_a_task_is_404_for_outsiders_and_asks_strangers_to_sign_in(
    sign_in, client, cast, task, fleet
):
    below = [p for p in get_resolver().url_patterns if str(p.pattern).startswith("tasks/<")]
    assert len(below) == 13
    for pattern in below:
        arguments = [task.uid, fleet[0].uid][: len(pattern.pattern.converters)]
        path = reverse(pattern.name, args=arguments)
        assert sign_in(cast.charlie).get(path).status_code == 404, path
        assert sign_in(cast.charlie).get(path.replace("t-", "t-0")).status_code == 404, path
        assert client.get(path).status_code in (302, 401), path


def test_healthz_needs_nobody(client):
    answer = client.get("/healthz")
    assert (answer.status_code, answer.content) == (200, b"ok\n")


def test_pages_are_strict_about_what_they_load(sign_in, cast):
    policy = sign_in(cast.bob).get("/run/")["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy


@pytest.mark.parametrize(
    ("error", "status"),
    [(Denied("x"), 404), (Invalid("x"), 422), (Conflict("x"), 409), (ExecutionError("x"), 500)],
)
def test_domain_errors_become_answers_in_one_place(error, status):
    request = RequestFactory().get("/")
    request.user = AnonymousUser()
    middleware = DomainErrorMiddleware(lambda _: None)
    assert middleware.process_exception(request, error).status_code == status
    assert middleware.process_exception(request, ValueError()) is None


def test_nobody_is_no_person():
    request = RequestFactory().get("/")
    request.user = AnonymousUser()
    with pytest.raises(Http404):
        resolve.person(request)


@pytest.mark.parametrize(
    "path", ["/tasks/t-%00/", "/tasks/t-%F0%9F%9A%80/", "/tasks/{}/?instance=%00"]
)
def test_ids_that_no_database_takes_are_404(sign_in, cast, task, path):
    assert sign_in(cast.bob).get(path.format(task.uid)).status_code == 404

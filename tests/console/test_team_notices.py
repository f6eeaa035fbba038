"""``/team/notices/``: rules by forms, secrets shown once, deliveries; and nothing for others."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from django.utils import timezone

from commands.models import AuditEvent, Notice, NoticeRule, OutputChunk
from commands.services import invocations, notice_rules, notices
from commands.services.definitions import CommandInput
from commands.services.notice_rules import RuleInput
from commands.services.notices import Delivery

pytestmark = pytest.mark.django_db

URL = "/team/notices/"
FORM = {"kind": "webhook", "url": "https://chat.example/hooks/TOKEN", "when": "problems"}
ON = {**FORM, "enabled": "on"}


@pytest.fixture
def client(cast, sign_in):
    return sign_in(cast.alice)


@pytest.fixture
def rule(cast):
    return notice_rules.add_rule(
        actor=cast.alice,
        team=cast.team,
        rule=RuleInput("webhook", FORM["url"], "always"),
        now=timezone.now(),
    )


@pytest.fixture
def ended(cast, fleet, rule):
    """A task that has ended, and its notice."""
    task = invocations.run_command(
        actor=cast.bob,
        team=cast.team,
        region=cast.region,
        command=CommandInput(name="Nightly", type="RunShellScript", content="echo hi"),
        instance_uids=[fleet[0].uid],
        now=timezone.now(),
    )
    task.runs.update(status="Aborted", phase="finished", finished_at=timezone.now())
    notices.settle(now=timezone.now())
    return task.notices.get()


def text_of(response):
    return " ".join(re.sub("<[^>]+>", " ", response.content.decode()).split())


def test_a_new_webhook_shows_its_secret_once(client):
    assert "No rules yet" in text_of(client.get(URL))
    response = client.post(f"{URL}add/", ON)
    rule = NoticeRule.objects.get()
    assert (rule.kind, rule.target, rule.when, rule.enabled) == (
        "webhook",
        ON["url"],
        "problems",
        True,
    )
    assert rule.secret in response.content.decode()
    assert response["Cache-Control"].count("no-store") == 1
    listed = client.get(URL)
    assert rule.secret not in listed.content.decode()
    assert "TOKEN" not in listed.content.decode()
    assert "https://chat.example" in text_of(listed)
    assert rule.secret not in client.get(f"{URL}{rule.uid}/").content.decode()


def test_a_rule_of_emails(client, cast):
    sent = {"kind": "email", "addresses": "a@x.example\nb@x.example", "when": "always"}
    response = client.post(f"{URL}add/", {**sent, "region": cast.region.uid, "enabled": "on"})
    assert (response.status_code, response["Location"]) == (303, URL)
    rule = NoticeRule.objects.get()
    assert (rule.target, rule.region, rule.secret) == ("a@x.example,b@x.example", cast.region, "")
    page = text_of(client.get(URL))
    assert "a@x.example, b@x.example" in page
    assert "E-mail · Every task that ends · Local" in page
    assert "a@x.example, b@x.example" in text_of(client.get(f"{URL}{rule.uid}/"))


@pytest.mark.parametrize(
    ("changed", "field", "words"),
    [
        ({"kind": ""}, "kind", "Choose e-mail or webhook."),
        ({"when": "never"}, "when", "Choose of which tasks."),
        ({"region": "nowhere"}, "region", "Choose a region."),
        ({"region": "\0"}, "region", "Choose a region."),
        ({"url": "https://127.0.0.1/"}, "url", "CONSOLE_ALLOWED_NETWORKS"),
        ({"kind": "email", "addresses": "ops"}, "addresses", "ops is not an e-mail address."),
    ],
)
def test_what_is_wrong_stands_beside_its_field(client, changed, field, words):
    response = client.post(f"{URL}add/", {**ON, **changed})
    assert response.status_code == 422
    assert NoticeRule.objects.count() == 0
    html = response.content.decode()
    assert f'href="#id_{field}"' in html
    assert words in html.split(f'id="e-{field}"')[1].split("</div>")[0]


def test_editing_a_rule(client, rule):
    response = client.post(f"{URL}{rule.uid}/", {**FORM, "url": "https://other.example/x"})
    assert response["Location"] == URL
    secret = rule.secret
    rule.refresh_from_db()
    assert (rule.target, rule.when, rule.enabled, rule.secret) == (
        "https://other.example/x",
        "problems",
        False,
        secret,
    )
    assert "off" in text_of(client.get(URL))
    assert client.post(f"{URL}{rule.uid}/", {**ON, "url": "ftp://x/"}).status_code == 422


def test_a_new_secret(client, rule):
    response = client.post(f"{URL}{rule.uid}/secret/")
    before = rule.secret
    rule.refresh_from_db()
    assert rule.secret != before
    assert rule.secret in response.content.decode()


def test_deleting_a_rule(client, rule):
    assert client.post(f"{URL}{rule.uid}/delete/")["Location"] == URL
    assert NoticeRule.objects.count() == 0
    assert AuditEvent.objects.filter(action="notice_rule:delete").count() == 1


def test_a_test_and_what_becomes_of_it(client, rule):
    page = text_of(client.get(client.post(f"{URL}{rule.uid}/test/")["Location"]))
    assert "A test is on its way." in page
    assert "A test Webhook 0 just now" in page
    assert 'hx-trigger="submit, every 2s"' in client.get(URL).content.decode()
    client.post(f"{URL}{rule.uid}/test/")
    assert "on its way already" in text_of(client.get(URL))
    made = Notice.objects.get()
    notices.claim(busy=(), limit=9, now=timezone.now())
    notices.record(deliveries=[Delivery(made.pk, 1, "It answered 500.")], now=timezone.now())
    response = client.get(URL)
    assert "Given up A test It answered 500. Webhook 1" in text_of(response)
    assert "every 2s" not in response.content.decode()


def test_deliveries_and_their_errors(client, ended):
    notices.claim(busy=(), limit=9, now=timezone.now())
    now = timezone.now()
    notices.record(deliveries=[Delivery(ended.pk, 1, "It answered <500>.")], now=now)
    ended.refresh_from_db()
    html = client.get(URL).content.decode()
    assert f'href="/tasks/{ended.invocation.uid}/"' in html
    assert "It answered &lt;500&gt;." in html
    again = timezone.localtime(ended.next_at).strftime("%H:%M:%S")
    assert f"Tried again at {again}." in html


def test_only_admins_see_the_pages(cast, sign_in, rule):
    places = [URL, f"{URL}add/", f"{URL}{rule.uid}/"]
    posts = [f"{URL}{rule.uid}/{what}/" for what in ("test", "secret", "delete")]
    for user in (cast.bob, cast.vera):
        client = sign_in(user)
        assert URL not in client.get("/tasks/").content.decode()
        assert {client.get(place).status_code for place in places} == {404}
        assert {client.post(place, ON).status_code for place in places[1:] + posts} == {404}
    charlie = sign_in(cast.charlie)
    assert charlie.get(URL).status_code == 200
    assert "chat.example" not in charlie.get(URL).content.decode()
    own = [f"{URL}{rule.uid}/", *posts]
    assert {charlie.post(place, ON).status_code for place in own} == {404}
    assert charlie.get(f"{URL}%00/").status_code == 404
    assert NoticeRule.objects.get().target == rule.target
    assert f'href="{URL}"' in sign_in(cast.alice).get("/tasks/").content.decode()


def test_nobody_is_signed_in(client, rule):
    client.logout()
    assert client.get(URL).status_code == 302
    assert client.post(f"{URL}{rule.uid}/delete/").status_code == 303
    assert NoticeRule.objects.count() == 1


def test_a_target_that_can_not_be_decrypted_does_not_take_the_page_away(client, rule, settings):
    settings.CONSOLE_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    assert "?" in text_of(client.get(URL))
    assert client.get(f"{URL}{rule.uid}/").status_code == 200
    assert client.post(f"{URL}{rule.uid}/", ON)["Location"] == URL
    assert client.post(f"{URL}{rule.uid}/secret/").status_code == 200
    rule.refresh_from_db()
    assert rule.target == ON["url"]
    rule.delete()


def test_what_is_not_set_up_is_said(client, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    settings.CONSOLE_URL = ""
    page = text_of(client.get(URL))
    assert "An administrator sets EMAIL_URL." in page
    assert "An administrator sets CONSOLE_URL." in page
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.CONSOLE_URL = "https://console.example"
    page = text_of(client.get(URL))
    assert "An administrator sets" not in page


@pytest.fixture
def sent_form(fleet):
    return {
        "name": "Nightly",
        "type": "RunShellScript",
        "content": "echo hi",
        "instances": [fleet[0].uid],
        "tell_me": "on",
    }


def test_the_form_of_a_task_has_the_wish(cast, sign_in, sent_form):
    client = sign_in(cast.bob)
    assert "Your account has no e-mail address yet." in text_of(client.get("/run/"))
    response = client.post("/run/", sent_form)
    assert response.status_code == 422
    html = response.content.decode()
    assert "no e-mail address. An administrator" in html.split('id="e-tell_me"')[1]
    assert re.search(r'<details class="more" open>.*name="tell_me" checked', html, re.DOTALL)
    cast.bob.email = "bob@example.com"
    cast.bob.save()
    assert "To bob@example.com." in text_of(client.get("/run/"))
    assert client.post("/run/", sent_form).status_code == 303
    assert cast.team.invocations.get().tell_me


def running(cast, fleet):
    task = invocations.run_command(
        actor=cast.bob,
        team=cast.team,
        region=cast.region,
        command=CommandInput(name="Asks", type="RunShellScript", content="echo hi"),
        instance_uids=[one.uid for one in fleet[:2]],
        now=timezone.now(),
    )
    task.runs.update(
        status="Running",
        phase="following",
        started_at=timezone.now() - timedelta(seconds=90),
        stall_info="read (4711)",
        stalled_since=timezone.now(),
    )
    return task


def test_what_waits_for_input_is_said(cast, fleet, client):
    task = running(cast, fleet)
    page = text_of(client.get(f"/tasks/{task.uid}/"))
    assert "Waits for input: read (4711) reads from a terminal." in page
    assert "Waits for input: read from a terminal" in page
    told = client.get(f"/tasks/{task.uid}/status.json").json()
    assert [run["waits_for_input"] for run in told["runs"]] == ["read (4711)"] * 2
    now = timezone.now()
    task.runs.update(status="Success", exit_code=0, phase="finished", finished_at=now)
    assert "Waits for input" not in text_of(client.get(f"/tasks/{task.uid}/"))


def test_a_silence_is_told_without_javascript(cast, fleet, client):
    task = running(cast, fleet)
    task.runs.update(stall_info="", stalled_since=None, next_sequence=1)
    run = task.runs.first()
    arrived = timezone.now() - timedelta(seconds=72)
    OutputChunk.objects.create(
        run=run, sequence=0, stream=1, offset=0, data=b"a\n", arrived_at=arrived
    )
    url = f"/tasks/{task.uid}/?instance={run.instance_uid}"
    assert re.search(
        r'id="quiet">.*No output for <span[^>]*>01:[1-5]\d<', client.get(url).content.decode()
    )
    run.chunks.update(arrived_at=timezone.now())
    assert 'id="quiet" hidden' in client.get(url).content.decode()

"""The part of the form that looks at instances before a task is created there."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from commands.models import Invocation, Membership, Preflight, Role, User
from commands.rules.status import ErrorCode
from commands.services import library, preflight, teams
from commands.services.definitions import CommandInput
from commands.services.preflight import Answer
from console import resolve
from tests.filled import shown_fields

pytestmark = pytest.mark.django_db

FORM = {
    "source": "new",
    "name": "Careful",
    "type": "RunShellScript",
    "content": "#!/bin/bash\necho hi",
    "workdir": "/srv/app",
    "run_as": "app",
    "timeout": "45",
}
PART = {"HX-Request": "true", "HX-Target": "preflight"}


@pytest.fixture
def form(fleet) -> dict:
    return {**FORM, "instances": [one.uid for one in fleet]}


@pytest.fixture
def bob(sign_in, cast):
    return sign_in(cast.bob)


def answer(*problems_of_each, **values) -> Preflight:
    """What a worker would have stored of the newest preflight, instance by instance."""
    asked = Preflight.objects.first()
    checks = asked.checks.order_by("pk")
    preflight.record(
        answers=[
            Answer(check.pk, tuple(problems), "/home/app/.command-console", **values)
            for check, problems in zip(checks, problems_of_each, strict=True)
        ]
    )
    return asked


MISSING = (ErrorCode.DIRECTORY_NOT_EXISTS.value, "There is no /srv/app there.")


def test_a_script_gets_the_part_alone(bob, form):
    page = bob.get("/run/").content.decode()
    assert "Check the selected instances before running" in page
    assert "css/preflight.css" not in page  # loaded with the first results
    part = bob.post("/run/", {**form, "action": "check"}, headers=PART)
    assert part.status_code == 200
    text = part.content.decode()
    assert "<html" not in text
    assert "0 of 3 checked" in text
    asked = Preflight.objects.get()
    assert f'hx-get="/run/check/{asked.uid}/"' in text
    assert "<code>/srv/app</code>" in text
    assert "<code>app</code>" in text
    assert not Invocation.objects.exists()


def test_results_instance_by_instance(bob, form):
    bob.post("/run/", {**form, "action": "check"}, headers=PART)
    asked = answer((), (MISSING,), ((ErrorCode.SIGN_IN_REFUSED.value, "Refused."),), free=10**10)
    text = bob.get(f"/run/check/{asked.uid}/").content.decode()
    assert "1 of 3 instances are ready." in text
    assert "hx-trigger" not in text
    assert "There is no /srv/app there. <code>DirectoryNotExists</code>" in text
    assert text.index("web-02") < text.index("web-01")  # problems first
    assert "9.3\xa0GB free for output" in text
    assert "Continue with the one that passes" in text
    assert text.count("not checked") == 4  # who can't sign in is not asked for more


def test_little_space_passes_with_a_word(bob, form):
    bob.post("/run/", {**form, "action": "check"}, headers=PART)
    asked = answer((), (), (), free=2_000_000)
    text = bob.get(f"/run/check/{asked.uid}/").content.decode()
    assert "All 3 instances are ready." in text
    assert "Ready, little space" in text
    assert "Only 1.9\xa0MB are free in /home/app/.command-console." in text


def test_none_is_ready(bob, form):
    bob.post("/run/", {**form, "action": "check"}, headers=PART)
    asked = answer((MISSING,), (MISSING,), (MISSING,))
    text = bob.get(f"/run/check/{asked.uid}/").content.decode()
    assert "None of the 3 instances is ready." in text
    assert "check-keep" not in text


def test_windows_says_what_was_not_checked(bob, form):
    bob.post("/run/", {**form, "action": "check"}, headers=PART)
    asked = answer((), (), (), whole=False)
    text = bob.get(f"/run/check/{asked.uid}/").content.decode()
    assert text.count("On Windows, only the connection is checked.") == 3


def test_without_a_script_the_form_is_kept(bob, form):
    page = bob.post("/run/", {**form, "action": "check"}).content.decode()
    fields = shown_fields(page, "run-form")
    for name, value in form.items():
        assert fields[name] == ([value] if isinstance(value, str) else value)
    assert "Look again" in page
    answer((), (MISSING,), ())
    sent = {name: value for name, value in fields.items() if name != "action"}
    page = bob.post("/run/", {**sent, "action": "check-look"}).content.decode()
    assert "2 of 3 instances are ready." in page
    page = bob.post("/run/", {**sent, "action": "check-keep"}).content.decode()
    assert "1 instance is no longer selected. Everything else is as it was." in page
    after = shown_fields(page, "run-form")
    assert after["instances"] == [form["instances"][0], form["instances"][2]]
    assert (after["workdir"], after["name"]) == (["/srv/app"], ["Careful"])
    made = bob.post("/run/", {**{k: v for k, v in after.items() if k != "action"}})
    assert made.status_code == 303
    assert Invocation.objects.get().runs.count() == 2


def test_it_stays_when_something_else_is_pressed(bob, form):
    page = bob.post("/run/", {**form, "action": "check"}).content.decode()
    answer((), (), ())
    sent = shown_fields(page, "run-form") | {"action": ["preview"]}
    assert "All 3 instances are ready." in bob.post("/run/", sent).content.decode()


def test_an_existing_command(bob, cast, fleet):
    kept = library.create_command(
        actor=cast.alice,
        team=cast.team,
        region=cast.region,
        command=CommandInput(name="Kept", type="RunShellScript", content="ls", workdir="/opt"),
        now=timezone.now(),
    )
    sent = {
        "source": "existing",
        "command": kept.uid,
        "workdir": "/srv",
        "instances": [fleet[0].uid],
        "action": "check",
    }
    text = bob.post("/run/", sent, headers=PART).content.decode()
    assert "<code>/srv</code>" in text
    assert Preflight.objects.get().checks.count() == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"workdir": "relative"}, "Execution path must start with /."),
        ({"instances": []}, "Select at least one instance."),
        ({"instances": ["i-nowhere"]}, "can&#x27;t be found"),
        ({"source": "both"}, "Choose New command or Existing command."),
    ],
)
def test_what_is_wrong_is_said_there(bob, form, change, said):
    text = bob.post("/run/", {**form, **change, "action": "check"}, headers=PART)
    assert text.status_code == 200
    assert said in text.content.decode()
    assert not Preflight.objects.exists()


def test_hidden_values_stay_hidden(bob, form):
    sent = {
        **form,
        "use_params": "on",
        "content": "#!{{tool}}\necho {{token}}",
        "param-tool": "/opt/top-secret",
        "seen-tool": "1",
        "secret-tool": "on",
        "param-token": "top-secret",
        "action": "check",
    }
    assert "top-secret" not in bob.post("/run/", sent, headers=PART).content.decode()
    assert "top-secret" not in str(list(Preflight.objects.first().checks.values()))


def test_only_who_asked_sees_it(bob, form, sign_in, cast):
    bob.post("/run/", {**form, "action": "check"}, headers=PART)
    asked = answer((), (), ())
    url = f"/run/check/{asked.uid}/"
    for user in (cast.alice, cast.charlie, cast.vera):
        text = sign_in(user).get(url).content.decode()
        assert "web-01" not in text
        assert "no longer kept" in text
    assert "web-01" in bob.get(url).content.decode()
    Membership.objects.filter(user=cast.bob).update(role=Role.VIEWER)
    assert "web-01" not in bob.get(url).content.decode()
    for nonsense in ("p-x", "%00", "ü"):
        assert bob.get(f"/run/check/{nonsense}/").status_code == 200
    assert bob.post(url).status_code == 405


def test_that_no_worker_has_begun_is_told(bob, form):
    bob.post("/run/", {**form, "action": "check"}, headers=PART)
    asked = Preflight.objects.get()
    url = f"/run/check/{asked.uid}/"
    assert "No worker has begun yet." not in bob.get(url).content.decode()
    Preflight.objects.update(created_at=asked.created_at - timedelta(minutes=1))
    assert "No worker has begun yet." in bob.get(url).content.decode()
    preflight.claim(busy=(), limit=1, now=timezone.now())
    assert "No worker has begun yet." not in bob.get(url).content.decode()


def test_what_is_too_old_is_no_longer_kept(bob, form):
    bob.post("/run/", {**form, "action": "check"}, headers=PART)
    asked = answer((), (), ())
    Preflight.objects.update(expires_at=timezone.now())
    text = bob.get(f"/run/check/{asked.uid}/").content.decode()
    assert "What was found is no longer kept. Check again." in text


def test_what_is_forgotten_while_it_is_shown_is_not_called_ready(bob, form, monkeypatch):
    bob.post("/run/", {**form, "action": "check"}, headers=PART)
    asked = answer((), (), ())
    real = resolve.preflight

    def found_then_forgotten(request, uid):
        found = real(request, uid)
        Preflight.objects.all().delete()
        return found

    monkeypatch.setattr(resolve, "preflight", found_then_forgotten)
    text = bob.get(f"/run/check/{asked.uid}/").content.decode()
    assert "What was found is no longer kept. Check again." in text
    assert "ready" not in text


def test_who_may_only_look_can_not_ask(sign_in, cast, form):
    assert sign_in(cast.vera).post("/run/", {**form, "action": "check"}).status_code == 404
    runner = User.objects.create_user("runner")
    teams.add_member(team=cast.team, user=runner, role=Role.RUNNER)
    refused = sign_in(runner).post("/run/", {**form, "action": "check"}, headers=PART)
    assert "You may not do this" in refused.content.decode()
    assert not Preflight.objects.exists()

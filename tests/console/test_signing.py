"""Signing in: throttled, with a second factor where there is one, for a limited time."""

from __future__ import annotations

import re
import time

import pyotp
import pytest
from axes.models import AccessAttempt
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from commands.errors import Denied
from commands.models import Membership, RecoveryCode, SecondFactor, User
from commands.services import second_factor
from console import admission, sessions
from console.admission import Ticket
from tests.alike import Part, make_task

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery"
CODE = re.compile(r"<code>([a-z2-7]{4}(?:-[a-z2-7]{4}){3})</code>")


@pytest.fixture
def bob(cast) -> User:
    cast.bob.set_password(PASSWORD)
    cast.bob.save()
    return cast.bob


def enter(client: Client, user: User, password: str = PASSWORD, **more: str):
    return client.post("/sign-in/", {"username": user.username, "password": password, **more})


def still_valid(key: str, user: User) -> bool:
    """Whether a stream that was opened with this session may go on."""
    ticket = Ticket(key, user.pk, user.teams.get().pk)
    return ticket in admission.still_valid([ticket])


def is_in(client: Client) -> bool:
    return client.get("/tasks/").status_code == 200


def now_code(user: User, steps: int = 0) -> str:
    return pyotp.TOTP(SecondFactor.objects.get(user=user).secret).at(time.time() + 30 * steps)


@pytest.fixture
def with_factor(bob) -> list[str]:
    """Bob has an authenticator app; his recovery codes."""
    second_factor.begin(actor=bob)
    codes = second_factor.confirm(actor=bob, code=now_code(bob), now=timezone.now())
    SecondFactor.objects.update(last_step=0)  # the next code may come at once
    return codes


# --- throttling -------------------------------------------------------------------------


def test_after_some_wrong_passwords_even_the_right_one_waits(bob, client, settings):
    for _ in range(settings.AXES_FAILURE_LIMIT - 1):
        assert enter(client, bob, "wrong").status_code == 422
    answers = [enter(client, bob, "wrong"), enter(client, bob)]
    for answer in answers:
        assert answer.status_code == 429
        assert "Too many tries. Try again in 5 minutes." in answer.content.decode()
        assert answer.headers["Retry-After"] == "300"
    assert not is_in(client)


def test_somebody_elsewhere_is_not_locked_out(bob, client, settings):
    for _ in range(settings.AXES_FAILURE_LIMIT + 1):
        enter(client, bob, "wrong")
    elsewhere = Client(REMOTE_ADDR="192.0.2.7")
    assert enter(elsewhere, bob).status_code == 302
    assert is_in(elsewhere)


def test_signing_in_forgives_what_was_wrong_before(bob, client, settings):
    for _ in range(settings.AXES_FAILURE_LIMIT - 1):
        enter(client, bob, "wrong")
    assert enter(client, bob).status_code == 302
    client.post("/sign-out/")
    assert enter(client, bob, "wrong").status_code == 422


def test_a_name_that_nobody_has_is_answered_alike(bob, client, settings):
    nobody = User(username="nobody")
    known = [enter(client, bob, "wrong") for _ in range(settings.AXES_FAILURE_LIMIT + 1)]
    unknown = [enter(client, nobody, "wrong") for _ in range(settings.AXES_FAILURE_LIMIT + 1)]
    assert [a.status_code for a in known] == [a.status_code for a in unknown]


def test_what_was_tried_is_kept_nowhere(bob, client):
    enter(client, bob, "my secret password")
    kept = [str(value) for row in AccessAttempt.objects.values() for value in row.values()]
    assert kept
    assert "my secret password" not in "".join(kept)


# --- second factor ----------------------------------------------------------------------


def test_setting_one_up_and_signing_in_with_it(bob, client):
    enter(client, bob)
    page = client.get(reverse("second-factor"))
    assert page.headers["Cache-Control"].startswith("max-age=0, no-cache, no-store")
    secret = SecondFactor.objects.get(user=bob).secret
    assert secret in page.content.decode().replace(" ", "")
    wrong = client.post(reverse("second-factor"), {"code": "000000"})
    assert wrong.status_code == 422
    assert not second_factor.is_on(bob)
    done = client.post(reverse("second-factor"), {"code": now_code(bob)})
    assert len(CODE.findall(done.content.decode())) == second_factor.RECOVERY_CODES
    assert is_in(client)
    client.post("/sign-out/")
    SecondFactor.objects.update(last_step=0)
    answer = enter(client, bob, next="/commands/")
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/sign-in/code/?next=%2Fcommands%2F"
    assert not is_in(client)
    answer = client.post(answer.headers["Location"], {"code": now_code(bob), "next": "/commands/"})
    assert answer.headers["Location"] == "/commands/"
    assert is_in(client)


def test_the_secret_is_encrypted_at_rest(bob, with_factor):
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM commands_secondfactor")
        [(stored,)] = cursor.fetchall()
    assert SecondFactor.objects.get(user=bob).secret not in stored


def test_no_code_works_twice(bob, with_factor):
    code, now = now_code(bob), timezone.now()
    assert second_factor.prove(user=bob, code=code, now=now)
    assert not second_factor.prove(user=bob, code=code, now=now)


def test_a_clock_may_be_one_step_off_and_no_more(bob, with_factor):
    now = timezone.now()
    for steps, right in ((-2, False), (-1, True), (1, True), (3, False)):
        SecondFactor.objects.update(last_step=0)
        code = pyotp.TOTP(SecondFactor.objects.get().secret).at(now.timestamp() + 30 * steps)
        assert second_factor.prove(user=bob, code=code, now=now) is right, steps


@pytest.mark.parametrize(
    "code", ["", "abc", "12345", "1234567", "１２３４５６", "\0", "🙂" * 6, "9" * 9999]
)
def test_what_is_no_code_is_none(bob, with_factor, code):
    assert not second_factor.prove(user=bob, code=code, now=timezone.now())


def test_a_recovery_code_works_once_however_it_is_typed(bob, client, with_factor):
    enter(client, bob)
    typed = with_factor[0].upper().replace("-", " ")
    answer = client.post("/sign-in/code/", {"code": typed}, follow=True)
    assert "You used a recovery code. 9 are left." in answer.content.decode()
    client.post("/sign-out/")
    enter(client, bob)
    assert client.post("/sign-in/code/", {"code": with_factor[0]}).status_code == 422
    assert not RecoveryCode.objects.filter(digest__in=with_factor).exists()


def test_wrong_codes_count_like_wrong_passwords(bob, client, with_factor, settings):
    enter(client, bob)
    answers = [
        client.post("/sign-in/code/", {"code": "000000"})
        for _ in range(settings.AXES_FAILURE_LIMIT)
    ]
    assert [a.status_code for a in answers] == [422] * (settings.AXES_FAILURE_LIMIT - 1) + [429]
    assert enter(client, bob).status_code == 429


def test_the_code_page_needs_a_fresh_password(bob, client, with_factor, monkeypatch):
    assert client.get("/sign-in/code/").headers["Location"] == "/sign-in/"
    enter(client, bob)
    bob.set_password("another one entirely")
    bob.save()
    answer = client.post("/sign-in/code/", {"code": now_code(bob)})
    assert answer.headers["Location"] == "/sign-in/"
    enter(client, bob, "another one entirely")
    later = time.time() + 601
    monkeypatch.setattr("console.second_factor.time.time", lambda: later)
    assert client.get("/sign-in/code/").headers["Location"] == "/sign-in/"


def test_nobody_is_led_elsewhere_after_the_code(bob, client, with_factor):
    answer = enter(client, bob, next="https://evil.example/")
    assert "evil" not in answer.headers["Location"]
    answer = client.post("/sign-in/code/", {"code": now_code(bob), "next": "https://evil.example/"})
    assert answer.headers["Location"] == "/"


def test_turning_it_off_and_new_codes_need_a_code(bob, client, with_factor):
    client.force_login(bob)
    for name in ("second-factor-remove", "second-factor-codes"):
        assert client.post(reverse(name), {"code": "000000"}).status_code == 422
    fresh = client.post(reverse("second-factor-codes"), {"code": with_factor[0]})
    codes = CODE.findall(fresh.content.decode())
    assert len(codes) == second_factor.RECOVERY_CODES
    assert client.post(reverse("second-factor-remove"), {"code": with_factor[1]}).status_code == 422
    assert client.post(reverse("second-factor-remove"), {"code": codes[0]}).status_code == 303
    assert not second_factor.is_on(bob)


def test_a_team_can_require_one(cast, bob, client, sign_in):
    second_factor.set_required(actor=cast.alice, team=cast.team, required=True)
    enter(client, bob)
    for url in ("/tasks/", "/run/", "/commands/", "/admin/"):
        assert client.get(url).headers["Location"] == reverse("second-factor")
    assert client.get("/tasks/", headers={"HX-Request": "true"}).status_code == 403
    page = client.get(reverse("second-factor")).content.decode()
    assert "Your team requires a second factor." in page
    client.post(reverse("second-factor"), {"code": now_code(bob)})
    assert is_in(client)
    SecondFactor.objects.update(last_step=0)
    answer = client.post(reverse("second-factor-remove"), {"code": now_code(bob)})
    assert answer.status_code == 422
    assert "requires a second factor of its members" in answer.content.decode()
    assert sign_in(cast.charlie).get("/tasks/").status_code == 200


@pytest.mark.parametrize("address", ["events", "events?once=1", "status.json"])
def test_who_asks_for_states_is_told_that_one_is_missing(cast, bob, client, address):
    task = make_task(cast.team, cast.region, bob, [Part("a-", 1, "Running")])
    url = f"/tasks/{task.uid}/{address}"
    enter(client, bob)
    second_factor.set_required(actor=cast.alice, team=cast.team, required=True)
    for answer in (client.get(url), client.head(url)):
        assert answer.status_code == 403
        assert answer["Content-Type"].startswith("text/plain")
    assert reverse("second-factor") in client.get(url).text


def test_setting_one_up_later_asks_for_the_password_too(bob, client, settings):
    """Else who finds a browser signed in locks its owner out, and proves anything with that app."""
    enter(client, bob)
    url = reverse("second-factor")
    assert 'name="password"' not in client.get(url).text
    session = client.session
    session[sessions.BEGAN] -= sessions.RECENT_S
    session.save()
    assert 'name="password"' in client.get(url).text
    for given in ({}, {"password": "a guess"}):
        answer = client.post(url, {"code": now_code(bob), **given})
        assert answer.status_code == 422
        assert "That is not your password." in answer.text
        assert not second_factor.is_on(bob)
    for _ in range(settings.AXES_FAILURE_LIMIT):
        answer = client.post(url, {"code": now_code(bob), "password": "a guess"})
    assert answer.status_code == 429
    assert client.post(url, {"code": now_code(bob), "password": PASSWORD}).status_code == 429
    AccessAttempt.objects.all().delete()
    assert client.post(url, {"code": now_code(bob), "password": PASSWORD}).status_code == 200
    assert second_factor.is_on(bob)


def test_who_saw_the_secret_once_does_not_know_it_later(bob, client):
    def secret():
        return SecondFactor.objects.get(user=bob).secret

    url, elsewhere = reverse("second-factor"), Client()
    enter(elsewhere, bob)
    elsewhere.get(url)
    seen = secret()
    enter(client, bob)
    client.get(url)
    here = secret()
    assert here != seen
    client.get(url)
    client.post(url, {"code": "000000"})
    assert secret() == here  # what was scanned goes on to count
    session = client.session
    session["second_factor.begun"] -= 3_600
    session.save()
    client.get(url)
    assert secret() != here
    assert client.post(url, {"code": now_code(bob)}).status_code == 200


def test_a_session_that_began_with_a_code_ends_when_that_is_turned_off(cast, bob, with_factor):
    here, elsewhere = Client(), Client()
    for client, code in ((here, with_factor[0]), (elsewhere, with_factor[1])):
        enter(client, bob)
        client.post(reverse("sign-in-code"), {"code": code})
        assert is_in(client)
    here.post(reverse("second-factor-remove"), {"code": with_factor[2]})
    assert is_in(here)
    assert not is_in(elsewhere)
    second_factor.set_required(actor=cast.alice, team=cast.team, required=True)
    assert here.get("/tasks/").headers["Location"] == reverse("second-factor")


def test_a_session_that_began_with_a_code_ends_when_staff_takes_it_off(cast, bob, with_factor):
    client = Client()
    enter(client, bob)
    client.post(reverse("sign-in-code"), {"code": with_factor[0]})
    second_factor.set_required(actor=cast.alice, team=cast.team, required=True)
    assert is_in(client)
    cast.alice.is_staff = True
    second_factor.reset(actor=cast.alice, user=User.objects.get(pk=bob.pk))
    assert client.get("/tasks/").headers["Location"].startswith("/sign-in/")


def test_staff_takes_it_off_somebody_who_lost_it(cast, bob, with_factor):
    with pytest.raises(Denied):
        second_factor.reset(actor=cast.alice, user=bob)
    cast.alice.is_staff = True
    second_factor.reset(actor=cast.alice, user=bob)
    assert not second_factor.is_on(bob)
    assert not RecoveryCode.objects.filter(user=bob).exists()


# --- sessions ---------------------------------------------------------------------------


def test_the_session_s_key_changes_when_somebody_signs_in(bob, client):
    client.get("/sign-in/")
    session = client.session
    session["before"] = 1
    session.save()
    before = session.session_key
    client.cookies["sessionid"] = before
    enter(client, bob)
    assert client.session.session_key != before


@pytest.mark.parametrize("limit", ["CONSOLE_SESSION_IDLE", "CONSOLE_SESSION_LIFE"])
def test_a_session_ends_after_a_time(bob, client, settings, monkeypatch, limit):
    enter(client, bob)
    assert is_in(client)
    late = time.time() + getattr(settings, limit) + 1
    if limit == "CONSOLE_SESSION_LIFE":
        settings.CONSOLE_SESSION_IDLE = 10**9
    monkeypatch.setattr(sessions.time, "time", lambda: late)
    key = client.session.session_key
    assert not still_valid(key, bob)
    assert not is_in(client)


def test_a_session_that_is_used_goes_on(bob, client, settings, monkeypatch):
    enter(client, bob)
    began = time.time()
    for n in range(1, 4):
        at = began + n * (settings.CONSOLE_SESSION_IDLE - 10)
        monkeypatch.setattr(sessions.time, "time", lambda at=at: at)
        assert is_in(client)


def test_signing_out_everywhere_else(bob, client):
    other = Client()
    enter(client, bob)
    enter(other, bob)
    key = other.session.session_key
    assert still_valid(key, bob)
    assert client.post(reverse("end-sessions")).status_code == 303
    assert is_in(client)
    assert not is_in(other)
    bob.refresh_from_db()
    assert not still_valid(key, bob)
    assert still_valid(client.session.session_key, bob)


def test_changing_the_password(bob, client):
    other = Client()
    enter(client, bob)
    enter(other, bob)
    new = "a much better password 42"
    fields = {"old_password": "wrong", "new_password1": new, "new_password2": new}
    assert client.post(reverse("password"), fields).status_code == 422
    weak = {"old_password": PASSWORD, "new_password1": "12345678", "new_password2": "12345678"}
    assert client.post(reverse("password"), weak).status_code == 422
    assert client.post(reverse("password"), fields | {"old_password": PASSWORD}).status_code == 303
    assert is_in(client)
    assert not is_in(other)
    assert enter(Client(), bob, new).status_code == 302


def test_the_admin_site_has_no_sign_in_of_its_own(bob, client):
    answer = client.get("/admin/", follow=True)
    assert answer.redirect_chain[-1][0].startswith("/sign-in/?next=%2Fadmin%2F")
    enter(client, bob)
    assert client.get("/admin/", follow=True).status_code == 404
    Membership.objects.filter(user=bob).delete()
    bob.is_staff = bob.is_superuser = True
    bob.save()
    assert client.get("/admin/").status_code == 200


def test_wrong_passwords_on_the_password_page_have_to_wait_too(bob, client, settings):
    enter(client, bob)
    new = "a much better password 42"
    fields = {"old_password": "my secret guess", "new_password1": new, "new_password2": new}
    for _ in range(settings.AXES_FAILURE_LIMIT - 1):
        assert client.post(reverse("password"), fields).status_code == 422
    right = fields | {"old_password": PASSWORD}
    for tried in (fields, right):
        answer = client.post(reverse("password"), tried)
        assert answer.status_code == 429
        assert answer.headers["Retry-After"] == "300"
        page = answer.content.decode()
        assert "Too many tries. Try again in 5 minutes." in page
        assert "<h1>Change password</h1>" in page
    assert is_in(client)
    bob.refresh_from_db()
    assert bob.check_password(PASSWORD)
    assert enter(Client(), bob).status_code == 429
    kept = [str(value) for row in AccessAttempt.objects.values() for value in row.values()]
    assert kept
    assert not re.search("my secret guess|a much better", "".join(kept))
    AccessAttempt.objects.all().delete()
    assert client.post(reverse("password"), right).status_code == 303


def test_wrong_codes_to_turn_the_second_factor_off_have_to_wait_too(bob, client, with_factor):
    enter(client, bob)
    client.post("/sign-in/code/", {"code": now_code(bob)})
    SecondFactor.objects.update(last_step=0)
    remove = reverse("second-factor-remove")
    for n in range(second_factor.TRIES):
        answer = client.post(remove, {"code": "000000"})
        assert answer.status_code == 422
        last = n == second_factor.TRIES - 1
        assert ("Too many wrong codes. Try again in 5 minutes." in answer.text) == last
    assert "Too many wrong codes." in client.post(remove, {"code": now_code(bob)}).text
    assert "Too many wrong codes." in client.post(remove, {"code": with_factor[0]}).text
    assert second_factor.is_on(bob)
    SecondFactor.objects.update(failed_at=timezone.now() - second_factor.PAUSE * 2)
    assert client.post(remove, {"code": now_code(bob)}).status_code == 303
    assert not second_factor.is_on(bob)

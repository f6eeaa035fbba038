"""What somebody was writing when she was signed out: kept, given back once, to her alone."""

from __future__ import annotations

from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
from cryptography import fernet
from django.contrib.sessions.models import Session
from django.test import Client

from commands.models import Invocation
from console import kept

pytestmark = pytest.mark.data_layer

FORM = {"name": "Nightly", "content": "echo «précieux» 100% & more", "timeout": "77"}
NOTE = "Your form is kept. Sign in to go on."
URLENCODED = "application/x-www-form-urlencoded"


@pytest.fixture
def browser():
    return Client()


def post(browser, fields, path="/run/"):
    return browser.post(path, urlencode(fields, doseq=True), content_type=URLENCODED)


def send(browser, user, path="/run/", **fields):
    return post(browser, {**FORM, "owner": kept.owner_mark(user), **fields}, path)


def sign_in(browser, user, password=None, path="/run/"):
    typed = {"username": user.username, "password": password or f"{user.username}-secret"}
    return browser.post("/sign-in/", {**typed, "next": path})


def stored(browser):
    return browser.session.get("kept_form", "")


def shown(browser, path="/run/"):
    return browser.get(path).content.decode()


def assert_filled(page):
    assert 'value="Nightly"' in page
    assert "echo «précieux» 100% &amp; more" in page
    assert 'value="77"' in page


def test_the_form_is_there_after_signing_in(cast, fleet, browser):
    ticked = [fleet[0].uid, fleet[2].uid]
    left = send(browser, cast.alice, instances=ticked)
    assert (left.status_code, left.url) == (303, "/sign-in/?next=/run/")
    assert NOTE in shown(browser, left.url)
    back = sign_in(browser, cast.alice)
    assert (back.status_code, back.url) == (302, "/run/")
    page = shown(browser)
    assert_filled(page)
    assert all(f'value="{uid}"' in page for uid in ticked)
    assert not Invocation.objects.exists()


def test_it_is_given_once(cast, browser):
    send(browser, cast.alice)
    sign_in(browser, cast.alice)
    assert_filled(shown(browser))
    assert "Nightly" not in shown(browser)
    assert not stored(browser)


def test_a_failed_sign_in_a_reload_and_a_look_elsewhere_lose_nothing(cast, browser):
    send(browser, cast.alice)
    assert sign_in(browser, cast.alice, password="wrong").status_code == 422
    assert NOTE in sign_in(browser, cast.alice, password="wrong").content.decode()
    assert NOTE in shown(browser, "/sign-in/")
    assert NOTE in shown(browser, "/sign-in/")
    sign_in(browser, cast.alice)
    assert "Nightly" not in shown(browser, "/tasks/")
    browser.head("/run/")
    assert_filled(shown(browser))


@pytest.mark.parametrize("how", ["deleted", "expired", "password", "inactive", "cookie"])
def test_however_she_was_signed_out(cast, browser, how):
    browser.force_login(cast.alice)
    before = browser.session.session_key
    if how == "deleted":
        Session.objects.all().delete()
    elif how == "expired":
        session = browser.session
        session.set_expiry(-1)
        session.save()
    elif how == "password":
        cast.alice.set_password("alice-secret-2")
        cast.alice.save()
    elif how == "inactive":
        cast.alice.is_active = False
        cast.alice.save()
    else:
        browser.cookies.pop("sessionid")
    assert send(browser, cast.alice).status_code == 303
    if how == "inactive":
        cast.alice.is_active = True
        cast.alice.save()
    sign_in(browser, cast.alice, password="alice-secret-2" if how == "password" else None)
    assert_filled(shown(browser))
    assert how == "inactive" or browser.session.session_key != before


def test_signing_in_changes_the_session_key(cast, browser):
    send(browser, cast.alice)
    anonymous = browser.session.session_key
    sign_in(browser, cast.alice)
    assert stored(browser)
    assert browser.session.session_key != anonymous
    assert not Session.objects.filter(session_key=anonymous).exists()


def test_somebody_else_gets_nothing_and_it_is_gone(cast, browser):
    send(browser, cast.alice)
    sign_in(browser, cast.bob)
    assert not stored(browser)
    assert "Nightly" not in shown(browser)
    browser.post("/sign-out/")
    sign_in(browser, cast.alice)
    assert "Nightly" not in shown(browser)


def test_somebody_else_gets_nothing_through_another_door(cast, browser):
    send(browser, cast.alice)
    browser.force_login(cast.bob)
    assert stored(browser)
    assert "Nightly" not in shown(browser)
    assert not stored(browser)


@pytest.mark.parametrize("mark", ["", "1", "1:forged", "1:forged:x"])
def test_a_form_that_is_nobodys_is_not_kept(cast, browser, mark):
    left = send(browser, cast.alice, owner=mark)
    assert left.status_code == 303
    assert not stored(browser)
    assert NOTE not in shown(browser, left.url)


def test_a_mark_of_one_person_is_not_one_of_another(cast, browser):
    mark = kept.owner_mark(cast.alice).replace(str(cast.alice.pk), str(cast.bob.pk), 1)
    send(browser, cast.alice, owner=mark)
    assert not stored(browser)


def test_it_is_kept_for_15_minutes(cast, browser, monkeypatch):
    send(browser, cast.alice)
    now = fernet.time.time()
    clock = SimpleNamespace(time=lambda: now + 15 * 60 - 30)
    monkeypatch.setattr(fernet, "time", clock)
    assert NOTE in shown(browser, "/sign-in/")
    clock.time = lambda: now + 15 * 60 + 1
    assert NOTE not in shown(browser, "/sign-in/")
    sign_in(browser, cast.alice)
    assert not stored(browser)
    assert "Nightly" not in shown(browser)


def test_what_was_encrypted_with_a_lost_key_is_forgotten(cast, browser, settings):
    send(browser, cast.alice)
    settings.CONSOLE_ENCRYPTION_KEYS = [fernet.Fernet.generate_key().decode()]
    assert NOTE not in shown(browser, "/sign-in/")
    sign_in(browser, cast.alice)
    assert "Nightly" not in shown(browser)


def body_of(user, size):
    fields = urlencode({"name": "Nightly", "owner": kept.owner_mark(user), "content": ""})
    return fields + "x" * (size - len(fields))


def test_64_kb_are_kept(cast, browser):
    body = body_of(cast.alice, 64 * 1024)
    left = browser.post("/run/", body, content_type=URLENCODED)
    assert NOTE in shown(browser, left.url)
    sign_in(browser, cast.alice)
    assert 'value="Nightly"' in shown(browser)


def test_what_is_larger_is_not_kept_and_the_page_says_so(cast, browser):
    body = body_of(cast.alice, 64 * 1024 + 1)
    left = browser.post("/run/", body, content_type=URLENCODED)
    assert left.status_code == 303
    page = shown(browser, left.url)
    assert "Your form was too large to keep." in page
    assert NOTE not in page
    assert len(stored(browser)) < 1000
    sign_in(browser, cast.alice)
    assert not stored(browser)
    assert "Nightly" not in shown(browser)


def test_a_newer_form_replaces_an_older_one(cast, browser):
    send(browser, cast.alice, name="Older")
    send(browser, cast.alice)
    sign_in(browser, cast.alice)
    page = shown(browser)
    assert_filled(page)
    assert "Older" not in page


def test_nothing_of_it_stands_in_the_open(cast, browser):
    script = "deploy {{token}} hush-hush"
    hidden = {"content": script, "use_params": "on", "param-token": "s3cr3t-value"}
    left = send(browser, cast.alice, **hidden, **{"secret-token": "on", "seen-token": "1"})
    page = shown(browser, left.url)
    assert "s3cr3t-value" not in page
    assert "hush-hush" not in page
    raw = Session.objects.get(pk=browser.session.session_key).get_decoded()
    assert list(raw) == ["kept_form"]
    assert not any(word in str(raw) for word in ("s3cr3t-value", "hush-hush", "deploy"))
    sign_in(browser, cast.alice)
    page = shown(browser)
    assert "hush-hush" in page
    assert "s3cr3t-value" not in page


def test_the_password_of_a_sign_in_is_never_kept(cast, browser):
    for password in ("wrong-one", "alice-secret"):
        sign_in(browser, cast.alice, password=password)
        assert not stored(browser)
    browser.post("/sign-out/")
    browser.post("/sign-in/", {"username": "alice", "owner": kept.owner_mark(cast.alice)})
    assert not stored(browser)


def test_a_wrong_csrf_token_keeps_nothing(cast):
    strict = Client(enforce_csrf_checks=True)
    token = strict.get("/sign-in/").context["csrf_token"]
    fields = {**FORM, "owner": kept.owner_mark(cast.alice)}
    for wrong in ({}, {"csrfmiddlewaretoken": "a" * 64}):
        assert post(strict, {**fields, **wrong}).status_code == 403
        assert not Session.objects.exists()
    right = {**fields, "csrfmiddlewaretoken": str(token)}
    assert post(strict, right).status_code == 303
    assert stored(strict)


def test_tokens_of_the_old_page_are_not_given_back(cast, browser):
    send(browser, cast.alice, csrfmiddlewaretoken="old-token")
    sign_in(browser, cast.alice)
    page = browser.get("/run/")
    assert b"old-token" not in page.content
    assert kept.owner_mark(cast.alice) in page.content.decode()


def test_only_pages_that_ask_for_it_keep_a_form(cast, browser):
    left = send(browser, cast.alice, path="/scope/")
    assert left.status_code == 303
    assert not stored(browser)


def test_only_forms_are_kept(cast, browser):
    fields = {**FORM, "owner": kept.owner_mark(cast.alice)}
    browser.post("/run/", fields)  # Django's client sends multipart
    assert not stored(browser)


@pytest.mark.parametrize(
    ("referer", "back"),
    [
        ("http://testserver/tasks/?q=a", "http://testserver/tasks/?q=a"),
        ("http://elsewhere.example/", "/"),
        ("", "/"),
    ],
)
def test_who_pressed_a_button_is_back_at_the_page_with_the_button(cast, browser, referer, back):
    left = browser.post("/scope/", headers={"Referer": referer} if referer else {})
    assert left.status_code == 303
    page = browser.get(left.url)
    assert sign_in(browser, cast.alice, path=page.context["next"]).url == back


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_script_learns_that_it_is_signed_out(cast, browser, method):
    ask = getattr(browser, method)
    fields = {**FORM, "owner": kept.owner_mark(cast.alice)}
    answer = ask("/run/", fields, headers={"HX-Request": "true"})
    assert answer.status_code == 401
    assert answer.headers["HX-Trigger"] == "signed-out"
    assert not answer.content
    assert not stored(browser)

"""How pages look to somebody: the account, cookies, the browser, in that order."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.utils import timezone, translation

from commands.models import User
from console import preferences
from tests.console.making import make_task

__all__ = ["make_task"]
pytestmark = pytest.mark.django_db


def html(page: str) -> str:
    """The first tag of a page."""
    found = re.search(r"<html[^>]*>", page)
    assert found
    return found[0]


@pytest.fixture
def chosen():
    return {
        "language": "zh-hans",
        "theme": "dark",
        "time_zone": "Asia/Shanghai",
        "density": "compact",
        "shortcuts": "on",
    }


class TestAccount:
    """/account/."""

    def test_what_is_chosen_shows_on_every_page(self, cast, sign_in, chosen):
        client = sign_in(cast.vera)
        answer = client.post("/account/", chosen)
        assert (answer.status_code, answer["Location"]) == (303, "/account/")
        for address in ("/", "/tasks/", "/account/", "/commands/"):
            first = html(client.get(address).content.decode())
            assert 'lang="zh-hans"' in first
            assert 'data-theme="dark"' in first
            assert 'data-density="compact"' in first
            assert "data-shortcuts" in first

    def test_keys_that_work_alone_are_off_when_they_are_not_wanted(self, cast, sign_in, chosen):
        client = sign_in(cast.vera)
        assert "data-shortcuts" in html(client.get("/").content.decode())
        del chosen["shortcuts"]
        client.post("/account/", chosen)
        assert "data-shortcuts" not in html(client.get("/").content.decode())

    @pytest.mark.parametrize("field", ["language", "theme", "time_zone", "density"])
    def test_what_is_not_offered_is_told(self, cast, sign_in, chosen, field):
        answer = sign_in(cast.vera).post("/account/", {**chosen, field: "x"})
        assert answer.status_code == 422
        assert f'id="e-{field}"' in answer.content.decode()
        assert User.objects.get(pk=cast.vera.pk).theme == ""

    def test_the_form_holds_what_was_chosen(self, cast, sign_in, chosen):
        client = sign_in(cast.vera)
        client.post("/account/", chosen)
        page = client.get("/account/").content.decode()
        for value in ("zh-hans", "dark", "Asia/Shanghai", "compact"):
            assert f'<option value="{value}" selected>' in page

    def test_strangers_are_asked_to_sign_in(self, client):
        assert client.get("/account/").status_code == 302


class TestLook:
    """/look/: the buttons in the top bar and on the sign-in page."""

    def test_signed_out_people_have_cookies(self, client):
        answer = client.post("/look/", {"language": "zh-hans", "next": "/sign-in/"})
        assert (answer.status_code, answer["Location"]) == (303, "/sign-in/")
        client.post("/look/", {"theme": "light"})
        first = html(client.get("/sign-in/").content.decode())
        assert 'lang="zh-hans"' in first
        assert 'data-theme="light"' in first
        client.post("/look/", {"theme": ""})
        assert "data-theme" not in html(client.get("/sign-in/").content.decode())

    def test_one_choice_leaves_the_other(self, cast, sign_in):
        client = sign_in(cast.vera)
        client.post("/look/", {"theme": "dark"})
        client.post("/look/", {"language": "zh-hans"})
        kept = User.objects.get(pk=cast.vera.pk)
        assert (kept.theme, kept.language) == ("dark", "zh-hans")

    def test_nonsense_changes_nothing(self, cast, sign_in):
        client = sign_in(cast.vera)
        answer = client.post("/look/", {"theme": "pink", "language": "x", "next": "//evil.example"})
        assert (answer.status_code, answer["Location"]) == (303, "/")
        assert not answer.cookies
        assert User.objects.get(pk=cast.vera.pk).theme == ""

    def test_it_needs_a_post_with_a_token(self, client):
        assert client.get("/look/").status_code == 405
        assert Client(enforce_csrf_checks=True).post("/look/", {"theme": "dark"}).status_code == 403


class TestLanguage:
    """Account, then cookie, then browser."""

    @pytest.mark.parametrize(
        ("account", "cookie", "browser", "spoken"),
        [
            ("", "", "", "en"),
            ("", "", "zh-CN,zh;q=0.9,en;q=0.5", "zh-hans"),
            ("", "", "fr", "en"),
            ("", "zh-hans", "en", "zh-hans"),
            ("", "en", "zh-CN", "en"),
            ("en", "zh-hans", "zh-CN", "en"),
            ("zh-hans", "en", "en", "zh-hans"),
            ("xx", "", "zh-CN", "zh-hans"),
        ],
    )
    def test_the_order(self, cast, sign_in, account, cookie, browser, spoken):
        User.objects.filter(pk=cast.vera.pk).update(language=account)
        client = sign_in(cast.vera)
        if cookie:
            client.cookies["django_language"] = cookie
        answer = client.get("/tasks/", headers={"Accept-Language": browser})
        assert f'lang="{spoken}"' in html(answer.content.decode())
        assert answer["Content-Language"] == spoken

    def test_nothing_is_left_for_the_next_request(self, cast, sign_in):
        User.objects.filter(pk=cast.vera.pk).update(language="zh-hans", time_zone="Asia/Tokyo")
        sign_in(cast.vera).get("/tasks/")
        assert 'lang="en"' in html(sign_in(cast.bob).get("/tasks/").content.decode())
        assert timezone.get_current_timezone_name() == "UTC"

    def test_errors_of_the_domain_are_told_in_it(self, cast, sign_in, fleet):
        User.objects.filter(pk=cast.bob.pk).update(language="zh-hans")
        form = {
            "source": "new",
            "name": "",
            "type": "RunShellScript",
            "content": "",
            "timeout": "x",
        }
        page = sign_in(cast.bob).post("/run/", form).content.decode()
        assert "请输入命令内容。" in page
        assert "Enter a" not in page

    def test_numbers_are_grouped_as_scripts_in_the_browser_do_it(self, cast, sign_in):
        User.objects.filter(pk=cast.bob.pk).update(language="zh-hans")
        assert "0 / 5,000" in sign_in(cast.bob).get("/").content.decode()


class TestTimeZone:
    """Times are those of the reader."""

    def test_times_are_in_the_accounts_zone_which_is_named(self, cast, sign_in, make_task):
        at = timezone.now().replace(hour=20, minute=0, second=5, microsecond=0)
        make_task("Success", at=at)
        User.objects.filter(pk=cast.vera.pk).update(time_zone="Asia/Shanghai")
        assert "04:00:05 UTC+8" in sign_in(cast.vera).get("/tasks/").content.decode()
        assert "20:00:05 UTC" in sign_in(cast.bob).get("/tasks/").content.decode()

    @pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd", "x" * 60])
    def test_a_zone_that_is_gone_is_the_sites(self, cast, sign_in, zone):
        User.objects.filter(pk=cast.vera.pk).update(time_zone=zone)
        assert sign_in(cast.vera).get("/tasks/").status_code == 200


def test_a_voice_is_that_of_the_request_and_can_be_taken_elsewhere():
    with translation.override("zh-hans"), timezone.override("Asia/Tokyo"):
        voice = preferences.Voice.of_request()
    assert voice == preferences.Voice("zh-hans", "Asia/Tokyo")
    with translation.override("en"), timezone.override(None):
        voice.speak()
        assert translation.get_language() == "zh-hans"
        assert timezone.get_current_timezone_name() == "Asia/Tokyo"

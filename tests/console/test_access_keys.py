"""``/team/keys/``: what each sees, the secret that is shown once, revoking; and the admin site."""

from __future__ import annotations

import io
import re
from datetime import timedelta

import pyotp
import pytest
from django.contrib.auth.models import Permission
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.urls import reverse
from django.utils import timezone

from commands.models import AccessKey, AuditEvent, Membership, User
from commands.rules import limits
from commands.services import access_keys, second_factor, teams

pytestmark = pytest.mark.django_db
KEYS = "/team/keys/"
TOKEN = re.compile(r'name="client_token" value="([^"]+)"')
SECRET = re.compile(r'<code id="key-secret"[^>]*>(\w{40})</code>')


@pytest.fixture
def make(cast):
    def go(actor: User, name: str, days: int | None = None) -> AccessKey:
        return access_keys.create_key(
            actor=actor, team=cast.team, name=name, days=days, now=timezone.now()
        )

    return go


def sent(user: User, **given: str) -> dict[str, str]:
    """A form that makes a key."""
    return {"name": "Nightly", "password": f"{user.username}-secret", **given}


def new_password(**more: str) -> dict[str, str]:
    """A form that changes bob's password."""
    new = "a much better password 42"
    return {"old_password": "bob-secret", "new_password1": new, "new_password2": new, **more}


def table(text: str) -> str:
    """The list without the navigation and the form."""
    return text.partition("<tbody>")[2].partition("</tbody>")[0]


def test_the_secret_is_in_one_answer_and_nowhere_else(cast, sign_in, caplog):
    bob = sign_in(cast.bob)
    answer = bob.post(KEYS, sent(cast.bob, name="Nightly <b>", expires="90"))
    key = AccessKey.objects.get()
    assert SECRET.search(answer.text)[1] == key.secret
    assert answer.text.count(key.secret) == 1
    assert "no-store" in answer.headers["Cache-Control"]
    assert key.uid in answer.text
    assert "Nightly &lt;b&gt;" in answer.text
    assert key.expires_at > timezone.now() + timedelta(days=89)
    for later in (
        bob.get(KEYS),
        bob.get(f"{KEYS}{key.uid}/revoke/"),
        sign_in(cast.alice).get(KEYS),
    ):
        assert key.secret not in later.text
    assert key.secret not in caplog.text
    for session in Session.objects.all():
        assert key.secret not in str(session.get_decoded())


def test_the_example_says_how_this_console_is_reached(cast, sign_in, settings):
    text = sign_in(cast.bob).post(KEYS, sent(cast.bob)).text
    assert 'endpoint="testserver", protocol="http", region_id="local"' in text
    settings.CONSOLE_URL = "https://console.example"
    text = sign_in(cast.bob).post(KEYS, sent(cast.bob)).text
    assert 'endpoint="console.example", protocol="https"' in text


def test_each_sees_their_own_and_admins_see_all(cast, sign_in, make):
    make(cast.bob, "bobs-key")
    make(cast.vera, "veras-key")
    own = table(sign_in(cast.bob).get(KEYS).text)
    assert "bobs-key" in own
    assert "veras-key" not in own
    every = table(sign_in(cast.alice).get(KEYS).text)
    assert "bobs-key" in every
    assert "veras-key" in every
    assert '<span class="tag">vera</span>' in every
    assert "No access keys yet" in sign_in(cast.charlie).get(KEYS).text


def test_when_and_from_where_one_was_used(cast, sign_in, make):
    key = make(cast.bob, "Nightly")
    bob = sign_in(cast.bob)
    assert "Never used" in table(bob.get(KEYS).text)
    used = timezone.now() - timedelta(minutes=3, seconds=5)
    access_keys.take_call(key=key, nonce="a", address="10.0.0.5", now=used)
    text = table(bob.get(KEYS).text).replace("\N{NO-BREAK SPACE}", " ")
    assert "3 minutes ago from 10.0.0.5" in text


def test_what_has_ended_is_listed_as_such(cast, sign_in, make):
    revoked, expired, _of_who_left = (make(cast.bob, name) for name in ("one", "two", "three"))
    access_keys.revoke_key(actor=cast.bob, key=revoked, now=timezone.now())
    AccessKey.objects.filter(pk=expired.pk).update(expires_at=timezone.now())
    Membership.objects.filter(user=cast.bob).delete()
    text = table(sign_in(cast.alice).get(KEYS).text)
    for word in ("Revoked", "Expired", "Owner has left"):
        assert text.count(word) == 1
    assert "/revoke/" not in text


def test_revoking_asks_first(cast, sign_in, make):
    key = make(cast.bob, "Nightly")
    bob, path = sign_in(cast.bob), f"{KEYS}{key.uid}/revoke/"
    asked = bob.get(path)
    assert "Revoke Nightly?" in asked.text
    assert AccessKey.objects.get().revoked_at is None
    answer = bob.post(path, follow=True)
    assert "The access key Nightly is revoked." in answer.text
    assert AccessKey.objects.get().revoked_at is not None
    again = bob.post(path, follow=True)
    assert "This access key is revoked already." in again.text
    assert "does not work any more already" in bob.get(path).text


def test_an_admin_revokes_another_s_and_nobody_else_does(cast, sign_in, make):
    key = make(cast.bob, "Nightly")
    path = f"{KEYS}{key.uid}/revoke/"
    for other in (cast.vera, cast.charlie):
        assert sign_in(other).get(path).status_code == 404
        assert sign_in(other).post(path).status_code == 404
    assert sign_in(cast.alice).post(path).status_code == 303
    assert AccessKey.objects.get().revoked_by_name == "alice"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": ""}, "Enter a name."),
        ({"name": "x" * 101}, "Name must be 100 characters or fewer."),
        ({"name": "x", "expires": "7"}, "Choose when it expires."),
        ({"name": "x", "expires": "soon"}, "Choose when it expires."),
    ],
)
def test_what_is_wrong_is_said_beside_it(cast, sign_in, given, said):
    answer = sign_in(cast.bob).post(KEYS, sent(cast.bob, **given))
    assert answer.status_code == 422
    assert said in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert not AccessKey.objects.exists()


def test_too_many(cast, sign_in, make):
    for number in range(limits.ACCESS_KEYS):
        make(cast.bob, f"key {number}")
    answer = sign_in(cast.bob).post(KEYS, sent(cast.bob))
    assert answer.status_code == 409
    assert "Revoke one first." in answer.text


def test_the_password_is_asked_for_and_nothing_else_is_lost(cast, sign_in):
    bob = sign_in(cast.bob)
    assert 'name="password"' in bob.get(KEYS).text
    for given in ({"password": "planted-wrong"}, {"password": ""}):
        wrong = bob.post(KEYS, sent(cast.bob, expires="90", **given))
        assert wrong.status_code == 422
        assert "That is not your password." in wrong.text
        assert 'value="Nightly"' in wrong.text
        assert '<option value="90" selected>' in wrong.text
        assert "planted-wrong" not in wrong.text
    assert not AccessKey.objects.exists()
    assert SECRET.search(bob.post(KEYS, sent(cast.bob)).text)


def test_wrong_passwords_count_as_those_of_signing_in(cast, sign_in, settings):
    bob = sign_in(cast.bob)
    wrong = [
        bob.post(KEYS, sent(cast.bob, password="guess")) for _ in range(settings.AXES_FAILURE_LIMIT)
    ]
    for answer in (wrong[-1], bob.post(KEYS, sent(cast.bob))):
        assert answer.status_code == 429
        assert answer.headers["Retry-After"] == "300"
        assert "Too many tries. Try again in 5 minutes." in answer.text
        assert 'value="Nightly"' in answer.text
    assert not AccessKey.objects.exists()
    assert bob.get(reverse("password")).status_code == 200  # still signed in
    assert bob.post(reverse("password"), new_password()).status_code == 429


def test_sending_the_form_again_makes_no_second_key(cast, sign_in):
    bob = sign_in(cast.bob)
    token = TOKEN.search(bob.get(KEYS).text)[1]
    first = bob.post(KEYS, sent(cast.bob, client_token=token))
    again = bob.post(KEYS, sent(cast.bob, client_token=token))
    key = AccessKey.objects.get()
    assert SECRET.search(first.text)[1] == key.secret
    assert again.status_code == 409
    assert "The access key Nightly was created already" in again.text
    assert key.secret not in again.text
    # Each answer has the form anew, and so has another person's.
    for text in (first.text, again.text):
        other = TOKEN.search(text)[1]
        assert other != token
        assert bob.post(KEYS, sent(cast.bob, client_token=other)).status_code == 200
    vera = sign_in(cast.vera).post(KEYS, sent(cast.vera, client_token=token))
    assert vera.status_code == 200
    assert AccessKey.objects.count() == 4


def test_sending_the_form_again_asks_for_no_second_code(cast, sign_in):
    factor = second_factor.begin(actor=cast.bob)
    totp, now = pyotp.TOTP(factor.secret), timezone.now() - timedelta(seconds=30)
    second_factor.confirm(actor=cast.bob, code=totp.at(now), now=now)
    bob = sign_in(cast.bob)
    form = {"name": "Nightly", "client_token": "one", "code": totp.at(timezone.now())}
    assert bob.post(KEYS, form).status_code == 200
    assert "was created already" in bob.post(KEYS, form).text


def test_a_second_factor_is_asked_for_where_there_is_one(cast, sign_in):
    bob = sign_in(cast.bob)
    assert 'name="code"' not in bob.get(KEYS).text
    factor = second_factor.begin(actor=cast.bob)
    totp, now = pyotp.TOTP(factor.secret), timezone.now() - timedelta(seconds=30)
    second_factor.confirm(actor=cast.bob, code=totp.at(now), now=now)
    assert 'name="code"' in bob.get(KEYS).text
    assert 'name="password"' not in bob.get(KEYS).text
    wrong = bob.post(KEYS, {"name": "Nightly", "code": "000000x"})
    assert wrong.status_code == 422
    assert "That code doesn&#x27;t match." in wrong.text
    assert "000000x" not in wrong.text
    assert not AccessKey.objects.exists()
    right = bob.post(KEYS, {"name": "Nightly", "code": totp.at(timezone.now())})
    assert SECRET.search(right.text)


def test_a_key_is_made_in_the_team_of_the_form(cast, sign_in):
    teams.add_member(team=cast.other_team, user=cast.bob, role="viewer")
    bob = sign_in(cast.bob)
    mark = f"{cast.other_team.uid} {cast.region.uid}"
    assert bob.post(KEYS, sent(cast.bob, scope=mark)).status_code == 200
    assert AccessKey.objects.get().team == cast.other_team
    stranger = sign_in(cast.vera).post(KEYS, sent(cast.vera, scope=mark))
    assert stranger.status_code == 404


def test_the_admin_site_shows_keys_and_no_secret(cast, sign_in, make):
    key = make(cast.bob, "Nightly")
    root = sign_in(User.objects.create_superuser("root"))
    listed = root.get(reverse("admin:commands_accesskey_changelist"))
    page = root.get(reverse("admin:commands_accesskey_change", args=[key.pk]))
    for text in (listed.text, page.text):
        assert key.uid in text
        assert key.secret not in text
    assert 'name="_save"' not in page.text
    assert root.get(reverse("admin:commands_accesskey_add")).status_code == 403
    delete = reverse("admin:commands_accesskey_delete", args=[key.pk])
    assert root.post(delete, {"post": "yes"}).status_code == 403


def revoke_on_the_admin_site(client, *keys, **more):
    chosen = {"action": "revoke", "_selected_action": [key.pk for key in keys], **more}
    return client.post(reverse("admin:commands_accesskey_changelist"), chosen, follow=True)


def test_staff_revoke_keys_of_any_team_on_the_admin_site(cast, sign_in, make):
    nightly, other = make(cast.bob, "Nightly"), make(cast.vera, "Other")
    root = sign_in(User.objects.create_superuser("root"))
    asked = revoke_on_the_admin_site(root, nightly)
    assert "Revoke these access keys" in asked.text
    assert nightly.uid in asked.text
    assert nightly.secret not in asked.text
    assert not AccessKey.objects.exclude(revoked_at=None).exists()
    done = revoke_on_the_admin_site(root, nightly, confirmed="yes")
    assert "1 access key is revoked." in done.text
    assert nightly.secret not in done.text
    assert AccessKey.objects.get(revoked_by_name="root") == nightly
    event = AuditEvent.objects.get(action="access-key:revoke")
    assert (event.actor_name, event.team_uid) == ("root", cast.team.uid)
    assert event.details == {"owner": "bob"}
    both = revoke_on_the_admin_site(root, nightly, other, confirmed="yes")
    assert "This access key is revoked already." in both.text
    assert "1 access key is revoked." in both.text


def test_staff_without_the_permission_revoke_nothing(cast, sign_in, make):
    key = make(cast.bob, "Nightly")
    clerk = User.objects.create_user("clerk", is_staff=True)
    clerk.user_permissions.add(Permission.objects.get(codename="view_accesskey"))
    revoke_on_the_admin_site(sign_in(clerk), key, confirmed="yes")
    assert AccessKey.objects.get().revoked_at is None


OFFER = re.compile(r'name="revoke_keys"[^>]*?(?P<ticked> checked)?>')


def live() -> list[str]:
    return sorted(key.name for key in AccessKey.objects.live(timezone.now()))


def test_changing_the_password_revokes_access_keys_unless_unticked(cast, sign_in, make):
    make(cast.vera, "hers")
    bob = sign_in(cast.bob)
    assert not OFFER.search(bob.get(reverse("password")).text)  # there is none to revoke
    make(cast.bob, "one")
    make(cast.bob, "two")
    text = bob.get(reverse("password")).text
    assert OFFER.search(text)["ticked"]
    assert "2 keys work now" in text
    # What was unticked stays so where something else is wrong.
    wrong = bob.post(reverse("password"), new_password(old_password="wrong"))
    assert wrong.status_code == 422
    assert not OFFER.search(wrong.text)["ticked"]
    wrong = bob.post(reverse("password"), new_password(old_password="wrong", revoke_keys="on"))
    assert OFFER.search(wrong.text)["ticked"]
    assert live() == ["hers", "one", "two"]
    done = bob.post(reverse("password"), new_password(revoke_keys="on"), follow=True)
    assert "2 access keys are revoked." in done.text
    assert live() == ["hers"]
    revoked = AuditEvent.objects.filter(action="access-key:revoke", actor_name="bob")
    assert sorted(event.target_name for event in revoked) == ["one", "two"]


def test_a_password_given_on_the_command_line_revokes_access_keys(cast, sign_in, make, monkeypatch):
    make(cast.vera, "hers")
    make(cast.bob, "one")
    bob = sign_in(cast.bob)
    monkeypatch.setattr("getpass.getpass", lambda prompt: "a much better password 42")
    printed = io.StringIO()
    call_command("changepassword", "bob", stdout=printed)
    assert "Password changed successfully" in printed.getvalue()
    assert "Access keys revoked: 1." in printed.getvalue()
    assert live() == ["hers"]
    assert bob.get(KEYS).status_code == 302  # signed out
    changed = AuditEvent.objects.get(action="password:change", target_name="bob")
    assert changed.origin == "command line"


def test_a_password_that_is_not_good_enough_changes_nothing(cast, make, monkeypatch):
    make(cast.bob, "one")
    monkeypatch.setattr("getpass.getpass", lambda prompt: "bob")
    with pytest.raises(CommandError, match="after 3 attempts"):
        call_command("changepassword", "bob", stdout=io.StringIO(), stderr=io.StringIO())
    assert live() == ["one"]
    assert not AuditEvent.objects.filter(action="password:change").exists()


def test_access_keys_outlive_the_password_if_that_is_wanted(cast, sign_in, make):
    make(cast.bob, "one")
    done = sign_in(cast.bob).post(reverse("password"), new_password(), follow=True)
    assert "Your password is changed." in done.text
    assert "revoked" not in done.text
    assert live() == ["one"]


def test_signing_out_everywhere_may_revoke_access_keys(cast, sign_in, make):
    make(cast.vera, "hers")
    bob = sign_in(cast.bob)
    assert not OFFER.search(bob.get(reverse("security")).text)
    make(cast.bob, "one")
    text = bob.get(reverse("security")).text
    assert not OFFER.search(text)["ticked"]
    assert "1 key works now" in text
    bob.post(reverse("end-sessions"))
    assert live() == ["hers", "one"]
    done = bob.post(reverse("end-sessions"), {"revoke_keys": "on"}, follow=True)
    assert "You are signed out everywhere else." in done.text
    assert "1 access key is revoked." in done.text
    assert live() == ["hers"]
    assert AuditEvent.objects.get(action="access-key:revoke").target_name == "one"

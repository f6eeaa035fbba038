"""The way in for programs: who is let through, how it is refused, and what it leaves behind."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from django.test import Client
from django.utils import timezone

from commands.models import AccessKey, AccessNonce, AuditEvent, Membership
from commands.rules import limits
from commands.services import access_keys, administration, members, second_factor
from console import server
from console.api import actions, endpoint, signature
from console.api.errors import ApiError
from tests.signing import FORM, Program, stamp, v1, v3

pytestmark = pytest.mark.django_db
SDK = {"RegionId": "local"}


@pytest.fixture
def key(cast) -> AccessKey:
    return access_keys.create_key(
        actor=cast.bob, team=cast.team, name="Nightly", days=None, now=timezone.now()
    )


@pytest.fixture
def program(cast, key) -> Program:
    return Program(key, cast.region.uid)


def older(key, action="DescribeCommands", *, method="GET", **common):
    return v1(key.uid, key.secret, action, SDK, method=method, **common)


def newer(key, action="DescribeCommands", **headers):
    return v3(key.uid, key.secret, action, SDK, method="GET", **headers)


def posted(key, form: bytes, action="DescribeCommands"):
    return v3(key.uid, key.secret, action, {}, body=form, content_type=FORM)


def code(answer, status):
    """The code of a refusal, which is JSON with all that SDKs look for."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"RequestId", "HostId", "Code", "Message", "Recommend"}
    return body["Code"]


class TestLettingIn:
    """Both kinds of signature, in the places where SDKs put it."""

    def test_in_the_query_of_get_and_post(self, client, key):
        assert client.get("/", older(key)).status_code == 200
        query = urlencode(older(key, method="POST"))
        assert client.post(f"/?{query}").status_code == 200

    def test_in_a_form(self, client, key):
        form = urlencode(older(key, method="POST"))
        assert client.post("/", form, content_type=FORM).status_code == 200

    @pytest.mark.parametrize("twice", [False, True])
    def test_in_query_and_form_together(self, client, key, twice):
        given = older(key, method="POST")
        form = urlencode({"RegionId": given["RegionId"] if twice else given.pop("RegionId")})
        answer = client.post(f"/?{urlencode(given)}", form, content_type=FORM)
        assert answer.status_code == 200

    def test_in_headers(self, client, key):
        assert client.get("/", SDK, headers=newer(key)).status_code == 200

    def test_in_headers_with_a_form(self, client, key):
        form = b"RegionId=local"
        answer = client.post("/", form, content_type=FORM, headers=posted(key, form))
        assert answer.status_code == 200

    def test_an_answer_is_an_envelope(self, client, key):
        answer = client.get("/", SDK, headers=newer(key))
        assert re.fullmatch(
            r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}", answer.json()["RequestId"]
        )
        assert answer.headers["Cache-Control"] == "no-store"

    def test_it_asks_no_cookie_and_gives_none(self, sign_in, cast, key):
        strict = Client(enforce_csrf_checks=True)
        strict.force_login(cast.alice)
        answer = strict.post(f"/?{urlencode(older(key, method='POST'))}")
        assert answer.status_code == 200
        assert not answer.cookies
        assert "Cookie" not in answer.headers.get("Vary", "")

    def test_a_cookie_alone_opens_nothing(self, sign_in, cast, key):
        alice = sign_in(cast.alice)
        unsigned = {**SDK, "Action": "DescribeCommands", "AccessKeyId": key.uid}
        assert code(alice.get("/", unsigned), 400) == "IncompleteSignature"
        wrong = older(key) | {"Signature": "x"}
        assert code(alice.get("/", wrong), 400) == "SignatureDoesNotMatch"

    def test_the_overview_is_where_it_was(self, sign_in, cast, client):
        assert "<h1" in sign_in(cast.alice).get("/?page=2").text
        assert client.get("/").status_code == 302
        assert client.post("/", {"Action": "x"}).status_code == 303
        # Only the root is one.
        assert client.get("/tasks/", {"Action": "x", "Signature": "x"}).status_code == 302


class TestRefusing:
    """Everything that is wrong has its code."""

    def test_a_key_that_there_is_not(self, client, key):
        other = v1("LTAInone", key.secret, "DescribeCommands", SDK, method="GET")
        assert code(client.get("/", other), 404) == "InvalidAccessKeyId.NotFound"
        odd = v1("LTAI\0\udcff".encode(errors="replace").decode(), "x", "A", SDK, method="GET")
        assert code(client.get("/", odd), 404) == "InvalidAccessKeyId.NotFound"

    def test_another_secret_and_what_was_to_be_signed(self, client, key):
        given = {**SDK, "Parameters": '{"password": "planted"}'}
        wrong = v1(key.uid, "other", "RunCommand", given, method="GET")
        answer = client.get("/", wrong)
        assert code(answer, 400) == "SignatureDoesNotMatch"
        message = answer.json()["Message"]
        assert ": GET / with the parameters AccessKeyId, Action, Format, Parameters, " in message
        assert "planted" not in answer.text
        assert key.secret not in answer.text

        wrong = v3(key.uid, "other", "RunCommand", given, method="GET")
        answer = client.get("/", given, headers=wrong)
        assert code(answer, 400) == "SignatureDoesNotMatch"
        message = answer.json()["Message"]
        assert re.search(r"server string to sign is:ACS3-HMAC-SHA256\n[0-9a-f]{64}$", message)

    def test_a_large_call_with_another_secret_has_a_small_answer(self, client, key):
        form = urlencode(v1(key.uid, "other", "RunCommand", {**SDK, "x" * 9_000: "*" * 90_000}))
        answer = client.post("/", form, content_type=FORM)
        assert code(answer, 400) == "SignatureDoesNotMatch"
        assert len(answer.content) < 3_000

    def test_what_was_to_be_signed_is_made_only_for_a_key_that_there_is(
        self, client, key, monkeypatch
    ):
        def fail(*_: object) -> str:
            raise AssertionError

        monkeypatch.setattr(signature, "_joined", fail)
        for headers, query in (
            ({}, v1("LTAInone", "x", "DescribeCommands", SDK, method="GET")),
            (v3("LTAInone", "x", "DescribeCommands", SDK, method="GET"), SDK),
        ):
            answer = client.get("/", query, headers=headers)
            assert code(answer, 404) == "InvalidAccessKeyId.NotFound"

    def test_what_was_changed_on_the_way(self, client, key):
        assert (
            code(client.get("/", older(key) | {"RegionId": "eu"}), 400) == "SignatureDoesNotMatch"
        )
        changed = client.get("/", {"RegionId": "eu"}, headers=newer(key))
        assert code(changed, 400) == "SignatureDoesNotMatch"

    def test_a_request_that_comes_twice_whichever_way(self, client, key):
        once = older(key, SignatureNonce="once")
        assert client.get("/", once).status_code == 200
        assert code(client.get("/", once), 400) == "SignatureNonceUsed"
        again = newer(key, x_acs_signature_nonce="once")
        assert code(client.get("/", SDK, headers=again), 400) == "SignatureNonceUsed"

    @pytest.mark.parametrize("more", ["\xa0", "\xa0\xa0", "\x85", "\x1f", "\x1c", "ü"])
    def test_a_nonce_that_is_another_by_white_space(self, client, key, more):
        headers = newer(key)
        assert client.get("/", SDK, headers=headers).status_code == 200
        headers["x-acs-signature-nonce"] += more
        assert code(client.get("/", SDK, headers=headers), 400) == "InvalidParameter"
        for around in (" {}", "{} ", "\t{}"):  # what proxies may add or leave out
            again = newer(key, x_acs_signature_nonce="once")
            again["x-acs-signature-nonce"] = around.format("once")
            answers = {client.get("/", SDK, headers=again).status_code for _ in range(2)}
            assert 400 in answers
        assert AccessNonce.objects.count() == 2

    @pytest.mark.parametrize("nonce", ["x" * 129, "a\nb", "ü", "\xa0"])
    def test_a_nonce_that_is_none(self, client, key, nonce):
        answer = client.get("/", older(key, SignatureNonce=nonce))
        assert code(answer, 400) == "InvalidParameter"
        assert client.get("/", older(key, SignatureNonce="x" * 128)).status_code == 200

    @pytest.mark.parametrize("kind", ["text/plain", "application/json", FORM])
    def test_a_form_that_is_not_signed_as_one(self, client, key, kind):
        """By its type it could be left out on the way: a stop of one run would be one of all."""
        form = b"RegionId=local"
        headers = v3(key.uid, key.secret, "DescribeCommands", SDK, body=form)
        answer = client.post("/?RegionId=local", form, content_type=kind, headers=headers)
        assert code(answer, 400) == "IncompleteSignature"

    def test_a_body_that_is_no_form(self, client, key):
        headers = v3(
            key.uid, key.secret, "DescribeCommands", SDK, body=b"{}", content_type="text/json"
        )
        answer = client.post("/?RegionId=local", b"{}", content_type="text/json", headers=headers)
        assert code(answer, 400) == "InvalidParameter"
        assert FORM in answer.json()["Message"]

    def test_a_nonce_is_its_key_s(self, client, cast, key):
        other = access_keys.create_key(
            actor=cast.bob, team=cast.team, name="Other", days=None, now=timezone.now()
        )
        for each in (key, other):
            assert client.get("/", older(each, SignatureNonce="once")).status_code == 200

    def test_a_wrong_signature_uses_no_nonce_up(self, client, key):
        nonce = {"SignatureNonce": "once"}
        wrong = v1(key.uid, "other", "DescribeCommands", SDK, method="GET", **nonce)
        assert client.get("/", wrong).status_code == 400
        assert client.get("/", older(key, **nonce)).status_code == 200

    @pytest.mark.parametrize("minutes", [-16, 16])
    def test_another_time(self, client, key, minutes):
        at = stamp(datetime.now(UTC) + timedelta(minutes=minutes))
        assert code(client.get("/", older(key, Timestamp=at)), 400) == "InvalidTimeStamp.Expired"
        headers = newer(key, x_acs_date=at)
        assert code(client.get("/", SDK, headers=headers), 400) == "InvalidTimeStamp.Expired"

    def test_another_version_or_action(self, client, key):
        other = older(key, Version="2016-01-01")
        assert code(client.get("/", other), 400) == "InvalidVersion"
        assert code(client.get("/", older(key, "SendFile")), 404) == "InvalidAction.NotFound"

    def test_a_region_that_is_missing_or_that_there_is_not(self, client, key):
        none = v1(key.uid, key.secret, "DescribeCommands", {}, method="GET")
        assert code(client.get("/", none), 400) == "MissingParameter"
        there_is_not = {"RegionId": "moon"}
        moon = v1(key.uid, key.secret, "DescribeCommands", there_is_not, method="GET")
        assert code(client.get("/", moon), 404) == "InvalidRegionId.NotFound"

    def test_xml(self, client, key):
        assert code(client.get("/", older(key, Format="XML")), 400) == "InvalidParameter"

    def test_a_parameter_that_is_there_twice(self, client, key):
        answer = client.get(f"/?{urlencode(older(key))}&RegionId=eu")
        assert code(answer, 400) == "InvalidParameter"
        unsigned = client.get("/?page=1&page=2")
        assert unsigned.status_code == 302

    def test_bytes_that_are_no_text(self, client, key):
        headers = newer(key)
        assert code(client.get("/?RegionId=%ff", headers=headers), 400) == "InvalidParameter"
        body = b"RegionId=\xff"
        answer = client.post("/", body, content_type=FORM, headers=posted(key, body))
        assert code(answer, 400) == "InvalidParameter"

    def test_too_much(self, client, key, settings):
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
        headers = posted(key, b"x" * 99)
        answer = client.post("/", b"x" * 99, content_type=FORM, headers=headers)
        assert code(answer, 400) == "InvalidParameter"

    def test_another_host(self, client, key):
        answer = client.get("/", SDK, headers=newer(key, host="evil.example"))
        assert code(answer, 400) == "InvalidParameter"
        assert answer.json()["HostId"] == "evil.example"

    def test_too_many_calls_a_minute(self, client, key, monkeypatch):
        monkeypatch.setattr(limits, "API_CALLS_PER_MINUTE", 2)
        answers = [client.get("/", older(key)) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 400]
        assert code(answers[-1], 400) == "Throttling.User"
        assert 0 < int(answers[-1].headers["x-acs-retry-after"]) <= 60_000
        assert "x-acs-retry-after" not in answers[0].headers
        oldest = AccessNonce.objects.order_by("used_at").first()
        AccessNonce.objects.filter(pk=oldest.pk).update(
            used_at=oldest.used_at - timedelta(seconds=50)
        )
        waits = client.get("/", older(key)).headers["x-acs-retry-after"]
        assert 0 < int(waits) <= 10_000
        AccessNonce.objects.update(used_at=timezone.now() - timedelta(seconds=61))
        assert client.get("/", older(key)).status_code == 200

    def test_a_fault_of_the_console_itself(self, client, key, monkeypatch, caplog):
        def fail(*_: object) -> dict:
            raise ZeroDivisionError

        monkeypatch.setitem(actions.ACTIONS, "DescribeCommands", fail)
        answer = client.get("/", older(key))
        assert code(answer, 500) == "InternalError"
        assert answer.json()["RequestId"] in caplog.text
        assert key.secret not in caplog.text

    @pytest.mark.parametrize("refused", [True, False])
    def test_half_of_a_character_in_what_is_repeated(self, client, key, monkeypatch, refused):
        def repeat(*_: object) -> dict:
            if refused:
                raise ApiError("InvalidParameter", "not \ud800")
            return {"Name": "not \ud800"}

        monkeypatch.setitem(actions.ACTIONS, "DescribeCommands", repeat)
        body = client.get("/", older(key)).json()
        assert body["Message" if refused else "Name"] == "not ?"
        assert body["RequestId"]

    def test_in_english_whatever_the_browser_asks_for(self, program):
        program.client.defaults["HTTP_ACCEPT_LANGUAGE"] = "zh-hans"
        _status, body = program.call(
            "CreateCommand", Name="x" * 129, Type="RunShellScript", CommandContent="bHM="
        )
        assert body["Message"] == "Command name must be 128 characters or fewer."


@pytest.mark.data_layer
class TestStopping:
    """A key stops at once."""

    @pytest.fixture(autouse=True)
    def works(self, program):
        assert program.call("DescribeCommands")[0] == 200

    def refused(self, program):
        status, body = program.call("DescribeCommands")
        return (status, body.get("Code")) == (404, "InvalidAccessKeyId.NotFound")

    def test_when_it_is_revoked(self, cast, key, program):
        access_keys.revoke_key(actor=cast.bob, key=key, now=timezone.now())
        assert self.refused(program)

    def test_when_it_expires(self, key, program):
        AccessKey.objects.update(expires_at=timezone.now())
        assert self.refused(program)

    def test_when_its_owner_is_deactivated(self, cast, program, django_user_model):
        root = django_user_model.objects.create_superuser("root")
        administration.set_active(actor=root, user=cast.bob, active=False, now=timezone.now())
        assert self.refused(program)

    def test_when_its_owner_leaves_and_for_good(self, cast, program):
        membership = Membership.objects.get(team=cast.team, user=cast.bob)
        members.remove(actor=cast.alice, membership=membership, now=timezone.now())
        assert self.refused(program)
        Membership.objects.create(team=cast.team, user=cast.bob, role="operator")
        assert self.refused(program)

    def test_while_a_second_factor_is_required_and_missing(self, cast, program):
        second_factor.set_required(actor=cast.alice, team=cast.team, required=True)
        status, body = program.call("DescribeCommands")
        assert (status, body["Code"]) == (403, "Forbidden.RAM")
        assert "second factor" in body["Message"]


class TestLeavingBehind:
    """What is noted of a call."""

    def test_when_and_from_where_a_key_was_used_once_a_minute(self, key, program):
        program.call("DescribeCommands")
        used = AccessKey.objects.get().last_used_at
        assert AccessKey.objects.get().last_used_from == "127.0.0.1"
        program.call("DescribeCommands")
        assert AccessKey.objects.get().last_used_at == used
        AccessKey.objects.update(last_used_at=used - timedelta(seconds=61))
        program.call("DescribeCommands")
        assert AccessKey.objects.get().last_used_at >= used

    def test_the_trail_says_through_which_key(self, key, program):
        status, _body = program.call(
            "CreateCommand", Name="Say", Type="RunShellScript", CommandContent="bHM="
        )
        assert status == 200
        event = AuditEvent.objects.get(action="command:create")
        assert (event.actor_name, event.origin) == ("bob", "127.0.0.1")
        assert event.details["through"] == key.uid
        # And of nothing else afterwards.
        access_keys.revoke_key(actor=key.owner, key=key, now=timezone.now())
        assert "through" not in AuditEvent.objects.get(action="access-key:revoke").details

    def test_what_a_role_may_not_do_is_noted(self, cast):
        own = access_keys.create_key(
            actor=cast.vera, team=cast.team, name="Looks", days=None, now=timezone.now()
        )
        status, body = Program(own, cast.region.uid).call(
            "CreateCommand", Name="Say", Type="RunShellScript", CommandContent="bHM="
        )
        assert (status, body["Code"]) == (403, "Forbidden.RAM")
        event = AuditEvent.objects.get(action="api:denied")
        assert (event.target_name, event.outcome) == ("CreateCommand", "refused")
        assert event.details == {"permission": "command:manage", "through": own.uid}

    def test_what_is_refused_again_and_again_is_noted_once_a_minute(self, cast, monkeypatch):
        keys = [
            access_keys.create_key(
                actor=cast.vera, team=cast.team, name=name, days=None, now=timezone.now()
            )
            for name in ("Looks", "Looks too")
        ]
        first, second = (Program(each, cast.region.uid) for each in keys)

        def noted() -> list[tuple[str, str]]:
            events = AuditEvent.objects.filter(action="api:denied").order_by("pk")
            return [(each.details["through"], each.target_name) for each in events]

        for _ in range(3):
            assert first.call("DeleteCommand", CommandId="c-x")[0] == 403
        assert noted() == [(first.uid, "DeleteCommand")]
        first.call("ModifyCommand", CommandId="c-x", Name="x")
        second.call("DeleteCommand", CommandId="c-x")
        assert len(noted()) == len(set(noted())) > 1
        before = noted()
        later = timezone.now() + timedelta(seconds=61)
        monkeypatch.setattr(endpoint.timezone, "now", lambda: later)
        first.call("DeleteCommand", CommandId="c-x")
        assert noted() == [*before, (first.uid, "DeleteCommand")]

    def test_many_actions_that_there_are_not_are_noted_as_one(self, cast, key, program):
        second_factor.set_required(actor=cast.alice, team=cast.team, required=True)
        for number in range(3):
            assert program.call(f"Say{number}")[1]["Code"] == "Forbidden.RAM"
        assert AuditEvent.objects.get(action="api:denied").target_name == ""

    def test_the_secret_is_in_no_column_but_its_own_and_there_encrypted(self, key, program):
        program.call("DescribeCommands")
        program.secret = "wrong"
        program.call("DescribeCommands")
        trail = json.dumps(list(AuditEvent.objects.values("details", "target_name")))
        assert key.secret not in trail
        assert key.secret not in repr(key)


def test_a_long_head_is_answered_in_json():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = server.Server(server.configuration("127.0.0.1", 0))
        thread = threading.Thread(target=running.run, args=([listening],))
        thread.start()
        try:
            while not running.started:
                assert thread.is_alive()
                time.sleep(0.05)
            with socket.create_connection(listening.getsockname()) as program:
                program.sendall(b"GET /?Signature=x&Action=x&CommandContent=" + b"%20" * 30_000)
                time.sleep(0.2)  # it arrives in parts, as it does from far away
                program.sendall(b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = program.makefile("rb").read()
        finally:
            running.should_exit = True
            thread.join()
    assert b'"Code": "MissingParameter"' in answer


def test_it_stands_before_sessions_and_cookies(settings):
    names = settings.MIDDLEWARE
    own = names.index(f"{endpoint.__name__}.ApiMiddleware")
    for later in ("SessionMiddleware", "CsrfViewMiddleware", "AuthenticationMiddleware"):
        assert own < next(at for at, name in enumerate(names) if name.endswith(later))

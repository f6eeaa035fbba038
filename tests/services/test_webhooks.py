"""Sending to a real webhook: what it gets, and all the ways in which it may fail."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
import socket
import ssl
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from commands.services import webhooks
from commands.services.messages import Post
from commands.services.webhooks import NotTaken
from tests.services.hooks import listening, status


@pytest.fixture
def hook(settings):
    settings.CONSOLE_WEBHOOK_HTTP = True
    settings.CONSOLE_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with listening() as made:
        yield made


@pytest.fixture
def post(hook):
    return Post("n-1", hook.url, "secret", "task.ended", b'{"id":"n-1","name":"\xc3\xa4"}')


def refusal(post):
    with pytest.raises(NotTaken) as caught:
        webhooks.send(post)
    return str(caught.value)


def test_what_a_webhook_gets(hook, post):
    before = int(time.time())
    webhooks.send(post)
    (got,) = hook.got
    assert (got.path, got.body) == ("/hooks/abc?x=1", post.body)
    assert got.headers["Host"] == f"127.0.0.1:{hook.port}"
    assert got.headers["Content-Type"] == "application/json"
    assert (got.headers["X-Console-Id"], got.headers["X-Console-Event"]) == ("n-1", "task.ended")
    stamp, _, digest = got.headers["X-Console-Signature"].partition(",")
    at = stamp.removeprefix("t=")
    assert before <= int(at) <= int(time.time())
    expected = hmac.new(b"secret", f"{at}.".encode() + got.body, hashlib.sha256).hexdigest()
    assert digest == f"v1={expected}"


@pytest.mark.parametrize("code", [400, 404, 410, 500, 503])
def test_a_status_that_is_no_success(hook, post, code):
    hook.answer = lambda handler: status(handler, code)
    assert refusal(post) == f"It answered {code}."
    assert len(hook.got) == 1


def test_redirects_are_not_followed(hook, post):
    hook.answer = lambda handler: status(handler, 302, Location="/elsewhere")
    assert refusal(post) == "It answered 302: redirects are not followed."
    assert [got.path for got in hook.got] == ["/hooks/abc?x=1"]


def test_who_does_not_answer_is_left(hook, post, monkeypatch):
    monkeypatch.setattr(webhooks, "TOTAL_S", 0.4)
    hook.answer = lambda handler: hook.closing.wait(30)
    assert refusal(post) == "It did not answer in time."


def test_who_answers_a_byte_now_and_then_is_left(hook, post, monkeypatch):
    monkeypatch.setattr(webhooks, "TOTAL_S", 0.6)

    def drip(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not hook.closing.wait(0.1):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    hook.answer = drip
    assert refusal(post) == "It did not answer in time."


def test_a_slow_body_does_not_matter(hook, post, monkeypatch):
    monkeypatch.setattr(webhooks, "TOTAL_S", 3.0)  # enough for the status, too little for it all

    def slowly(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
        while not hook.closing.wait(0.1):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    hook.answer = slowly
    webhooks.send(post)


def test_a_huge_body_is_not_read(hook, post):
    written = []

    def flood(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")
        while not hook.closing.is_set():
            written.append(handler.wfile.write(b"x" * 65536))

    hook.answer = flood
    webhooks.send(post)
    # What the buffers of the loopback interface hold; nobody asked for more.
    assert sum(written) < 50_000_000


def test_what_is_no_http(hook, post):
    hook.answer = lambda handler: handler.wfile.write(b"220 mail.example ESMTP\r\n")
    assert refusal(post).startswith("It can't be reached: ")


def test_nobody_listens(post):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        closed = replace(post, url=f"http://127.0.0.1:{sock.getsockname()[1]}/")
        assert refusal(closed) == "It can't be reached: Connection refused."


def test_a_name_that_is_not_known(post):
    told = refusal(replace(post, url="http://no-such-host.invalid/"))
    assert told == "The name no-such-host.invalid is not known."


def test_a_server_without_tls(hook, post):
    told = refusal(replace(post, url=hook.url.replace("http:", "https:")))
    assert told.startswith("It can't be reached: ")
    assert hook.got == []


# --- over TLS ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Make a certificate for a name or an address that signs itself; where it and its key are."""
    folder = tmp_path_factory.mktemp("tls")

    def make(of):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, of)])
        try:
            subject = x509.IPAddress(ipaddress.ip_address(of))
        except ValueError:
            subject = x509.DNSName(of)
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([subject]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        file = folder / f"{of}.pem"
        form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        file.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, *form)
            + made.public_bytes(serialization.Encoding.PEM)
        )
        return file

    return make


@pytest.fixture
def secure(settings, certificate, monkeypatch):
    """A webhook over TLS at 127.0.0.1, and what to send to it: ``secure(name, trusted)``."""
    settings.CONSOLE_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with contextlib.ExitStack() as stack:

        def make(name, *, trusted):
            file = certificate(name)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(file)
            hook = stack.enter_context(listening(context))
            if trusted:
                monkeypatch.setenv("SSL_CERT_FILE", str(file))
            return hook, Post("n-1", hook.url, "secret", "task.ended", b"{}")

        yield make


def test_over_tls(secure):
    hook, post = secure("127.0.0.1", trusted=True)
    webhooks.send(post)
    (got,) = hook.got
    assert (got.path, got.body) == ("/hooks/abc?x=1", b"{}")


def test_over_tls_the_name_is_looked_at_not_the_address(secure, monkeypatch):
    hook, post = secure("hooks.example", trusted=True)
    answers(monkeypatch, ["127.0.0.1"], ["127.0.0.1"])
    webhooks.send(replace(post, url=f"https://hooks.example:{hook.port}/"))
    assert hook.got[0].headers["Host"] == f"hooks.example:{hook.port}"


def test_a_certificate_that_nobody_vouches_for(secure):
    hook, post = secure("127.0.0.1", trusted=False)
    assert refusal(post).startswith("Its certificate ")
    assert hook.got == []


def test_a_certificate_for_another_name(secure):
    hook, post = secure("hooks.example", trusted=True)
    assert refusal(post).startswith("Its certificate ")
    assert hook.got == []


def test_over_tls_who_does_not_answer_is_left(secure, monkeypatch):
    hook, post = secure("127.0.0.1", trusted=True)
    monkeypatch.setattr(webhooks, "TOTAL_S", 0.4)
    hook.answer = lambda handler: hook.closing.wait(30)
    assert refusal(post) == "It did not answer in time."


def test_http_alone_is_refused_once_the_setting_is_taken_back(hook, post, settings):
    settings.CONSOLE_WEBHOOK_HTTP = False
    assert "over https:// only" in refusal(post)
    assert hook.got == []


def answers(monkeypatch, *rounds):
    """Let the next resolutions of a name find these addresses, one after the other."""
    left = [list(each) for each in rounds]
    asked = []

    def getaddrinfo(host, port, *_args, **_kwargs):
        asked.append(host)
        kind = socket.SOCK_STREAM
        return [(socket.AF_INET, kind, 6, "", (each, port)) for each in left.pop(0)]

    monkeypatch.setattr(webhooks.socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.parametrize(
    "found",
    [["169.254.169.254"], ["127.0.0.1", "169.254.169.254"], ["100.100.100.200"], ["0.0.0.0"]],
)
def test_a_name_that_leads_where_nothing_may_connect(hook, post, monkeypatch, found):
    answers(monkeypatch, found)
    told = refusal(replace(post, url=f"http://inward.example:{hook.port}/"))
    assert "CONSOLE_ALLOWED_NETWORKS" in told
    assert hook.got == []


def test_a_name_for_the_machine_itself_is_refused(hook, post, monkeypatch, settings):
    settings.CONSOLE_ALLOWED_NETWORKS = []
    answers(monkeypatch, ["127.0.0.1"])
    told = refusal(replace(post, url=f"http://inward.example:{hook.port}/"))
    assert told.startswith("127.0.0.1 leads to the console's own machine")
    assert hook.got == []


def test_an_address_that_turns_out_to_be_of_this_machine(hook, post, monkeypatch, settings):
    """As one of a network card would: nothing tells it from others before it is connected to."""
    settings.CONSOLE_ALLOWED_NETWORKS = []
    monkeypatch.setattr(webhooks, "_addresses_of", lambda _: ["127.0.0.1"])
    far = replace(post, url=f"http://outward.example:{hook.port}/")
    assert refusal(far).startswith("127.0.0.1 leads to the console's own machine")
    assert hook.got == []
    settings.CONSOLE_ALLOWED_NETWORKS = ["127.0.0.1"]
    webhooks.send(far)
    assert len(hook.got) == 1


@pytest.mark.parametrize(
    ("own", "peer", "sent"),
    [
        ("10.0.4.11", "10.0.4.11", False),
        ("fd00::7", "fd00::7", False),
        ("10.0.4.11", "10.0.4.12", True),
        ("fd00::7", "fd00::8", True),
    ],
)
def test_both_ends_at_one_address_are_this_machine(own, peer, sent):
    class Connected:
        def getsockname(self):
            return own, 40000

        def getpeername(self):
            return peer, 443

    if sent:
        webhooks._refuse_own(Connected())
        return
    with pytest.raises(NotTaken, match="CONSOLE_ALLOWED_NETWORKS"):
        webhooks._refuse_own(Connected())


def test_a_name_is_asked_for_once_and_no_more(hook, post, monkeypatch):
    real = socket.create_connection
    made = []

    def create_connection(address, timeout):
        made.append(address)
        return real(address, timeout=timeout)

    asked = answers(monkeypatch, ["127.0.0.1"], ["127.0.0.1"], ["169.254.169.254"])
    monkeypatch.setattr(webhooks.socket, "create_connection", create_connection)
    webhooks.send(replace(post, url=f"http://rebinding.example:{hook.port}/"))
    assert made == [("127.0.0.1", hook.port)]
    assert asked[0] == "rebinding.example"
    assert "rebinding.example" not in asked[1:]
    assert hook.got[0].headers["Host"] == f"rebinding.example:{hook.port}"


def test_the_next_address_is_tried_where_one_does_not_answer(hook, post, monkeypatch, settings):
    real = socket.create_connection

    def create_connection(address, timeout):
        if address[0] == "127.0.0.9":
            raise ConnectionRefusedError
        return real(address, timeout=timeout)

    monkeypatch.setattr(webhooks.socket, "create_connection", create_connection)
    monkeypatch.setattr(webhooks, "_addresses_of", lambda _: ["127.0.0.9", "127.0.0.1"])
    webhooks.send(replace(post, url=f"http://two.example:{hook.port}/"))
    assert len(hook.got) == 1


def test_proxies_of_the_environment_are_not_used(hook, post, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9/")
    webhooks.send(post)
    assert len(hook.got) == 1

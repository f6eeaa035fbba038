"""Adding and editing instances, against real SSH servers. No JavaScript here."""

from __future__ import annotations

import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from commands.models import Credential, HostKeyChange, Instance
from commands.models.instance import fingerprint
from commands.services import instances
from tests.filled import shown_fields
from tests.sshd import Sshd, ssh_keygen

pytestmark = pytest.mark.django_db

ADD = "/instances/add/"
FORM = "instance-form"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Sshd.started(tmp_path_factory.mktemp("server")) as [one]:
        yield one


@pytest.fixture
def alice(cast, sign_in):
    return sign_in(cast.alice)


@pytest.fixture
def begun(alice, server):
    """The form as a person fills it in first, with a key that the server knows."""

    def fill(**fields):
        form = shown_fields(alice.get(ADD).text, FORM)
        given = {
            "host": "127.0.0.1",
            "port": str(server.port),
            "user": server.endpoint.user,
            "name": "web-21",
            "way": "key",
            "private_key": server.endpoint.private_key,
            **fields,
        }
        return {**form, **given}

    return fill


def again(answer, **fields):
    """What the page that came would send, with some fields changed."""
    return {**shown_fields(answer.text, FORM), **fields}


def problems(answer):
    found = re.search(r'<ul>(.*?)</ul>\s*</div>\s*<nav class="crumb"', answer.text, re.DOTALL)
    return re.sub("<[^>]*>", " ", found[1]).strip() if found else ""


def confirmed(alice, data):
    """What came after the host key was compared."""
    answer = alice.post(ADD, data)
    assert answer.status_code == 200, problems(answer)
    return alice.post(ADD, again(answer, confirmed="on", action="save"), follow=True)


# ---------- adding ----------


def test_two_steps_add_an_instance(alice, begun, server, cast):
    answer = alice.post(ADD, begun(tags="role=web, demo", action="read"))
    assert answer.status_code == 200
    assert fingerprint(server.endpoint.host_key) in answer.text
    assert "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub" in answer.text
    assert "PRIVATE KEY-----\n" not in answer.text
    assert server.endpoint.private_key.splitlines()[1] not in answer.text
    assert not Instance.objects.exists()
    assert not Credential.objects.exists()
    fields = again(answer, confirmed="on", action="save")
    assert fields["private_key"] == [""]
    answer = alice.post(ADD, fields, follow=True)
    assert re.search(r"web-21 answered in \d+ ms\.", answer.text)
    instance = Instance.objects.get()
    assert answer.redirect_chain == [(reverse("instance", args=[instance.uid]), 303)]
    assert (instance.team, instance.host_key) == (cast.team, server.endpoint.host_key)
    assert [str(tag) for tag in instance.tags.all()] == ["demo", "role=web"]
    assert instance.credential.name == "Key of web-21"
    assert instance.credential.secret == server.endpoint.private_key
    assert "hidden_values" not in alice.session


def test_nothing_is_kept_before_the_key_was_compared(alice, begun):
    answer = alice.post(ADD, begun())
    answer = alice.post(ADD, again(answer, action="save"))
    assert answer.status_code == 422
    assert "Compare the fingerprint" in problems(answer)
    assert not Instance.objects.exists()


def test_the_name_may_be_left_to_the_host(alice, begun):
    confirmed(alice, begun(name="", host="localhost"))
    assert Instance.objects.get().name == "localhost"


def test_a_key_from_a_file_with_a_passphrase(alice, begun, server, tmp_path):
    public = ssh_keygen(tmp_path / "key", "ecdsa", "open sesame")
    with (server.directory / "authorized_keys").open("a") as keys:
        keys.write(public + "\n")
    file = SimpleUploadedFile("key", (tmp_path / "key").read_bytes())
    data = begun(private_key="", key_file=file, passphrase="open sesame")
    answer = alice.post(ADD, data)
    assert "open sesame" not in answer.text
    answer = alice.post(ADD, again(answer, confirmed="on"), follow=True)
    assert "answered in" in answer.text
    assert Instance.objects.get().credential.passphrase == "open sesame"


def test_an_existing_credential(alice, begun, server, cast):
    known = instances.add_credential(
        actor=cast.alice,
        team=cast.team,
        region=cast.region,
        name="Deploy",
        private_key=server.endpoint.private_key,
    )
    foreign = instances.add_credential(
        actor=cast.charlie, team=cast.other_team, region=cast.region, name="Their", password="p"
    )
    for wrong in (str(foreign.pk), "", "x", "9" * 40):
        answer = alice.post(ADD, begun(way="existing", credential=wrong))
        assert answer.status_code == 422
        assert "Choose a credential" in problems(answer)
        assert "Their" not in answer.text
    answer = alice.post(ADD, begun(way="existing", credential=str(known.pk), private_key=""))
    assert "command-console-Deploy" in answer.text  # its public half, to be installed
    alice.post(ADD, again(answer, confirmed="on"))
    assert Instance.objects.get().credential == known
    assert Credential.objects.filter(team=cast.team).count() == 1


def test_a_generated_key_is_installed_by_its_public_half(alice, begun, server):
    answer = alice.post(ADD, begun(way="generate", private_key=""))
    assert answer.status_code == 200
    line = re.search(r"ssh-ed25519 [\w+/=]+ command-console-[\w.-]+", answer.text)[0]
    made = Credential.objects.get()
    assert made.name == "Generated key of web-21"
    assert "PRIVATE KEY-----\n" not in answer.text
    fields = again(answer, confirmed="on", action="save")
    assert (fields["way"], fields["credential"]) == (["existing"], [str(made.pk)])
    answer = alice.post(ADD, fields)
    assert answer.status_code == 422
    assert "did not let" in problems(answer)
    assert "(SignInRefused)" in problems(answer)
    assert line in answer.text
    with (server.directory / "authorized_keys").open("a") as keys:
        keys.write(line + "\n")
    answer = alice.post(ADD, again(answer, action="save"), follow=True)
    assert "answered in" in answer.text
    assert Instance.objects.get().credential == made
    assert line in answer.text
    assert made.secret not in answer.text


def test_a_refused_password_waits_for_the_next_try(alice, begun):
    answer = confirmed(alice, begun(way="password", private_key="", password="hunter2"))
    assert answer.status_code == 422
    assert "did not let" in problems(answer)
    assert "hunter2" not in answer.text
    assert "One is kept" in answer.text
    assert not Instance.objects.exists()
    assert not Credential.objects.exists()


def test_behind_a_jump_host(alice, begun, server, tmp_path):
    confirmed(alice, begun(name="bastion"))
    bastion = Instance.objects.get()
    with Sshd.started(tmp_path) as [inner]:
        data = begun(
            name="db-01",
            port=str(inner.port),
            private_key=inner.endpoint.private_key,
            jump=bastion.uid,
        )
        answer = confirmed(alice, data)
        assert "db-01 answered in" in answer.text
    made = Instance.objects.get(name="db-01")
    assert (made.jump_host, made.host_key) == (bastion, inner.endpoint.host_key)
    answer = alice.post(ADD, begun(name="x", jump=made.uid))
    assert "Choose a jump host" in problems(answer)


def test_another_address_than_the_one_whose_key_was_compared(alice, begun, tmp_path):
    answer = alice.post(ADD, begun())
    with Sshd.started(tmp_path) as [other]:
        fields = again(answer, port=str(other.port), confirmed="on", action="save")
        answer = alice.post(ADD, fields)
        assert answer.status_code == 200
        assert fingerprint(other.endpoint.host_key) in answer.text
        assert "confirmed" not in again(answer)
    assert not Instance.objects.exists()


def test_a_key_that_changes_between_the_steps(alice, begun, tmp_path):
    with Sshd.started(tmp_path) as [one]:
        data = begun(port=str(one.port), private_key=one.endpoint.private_key)
        answer = alice.post(ADD, data)
        new_host_key(one)
        answer = alice.post(ADD, again(answer, confirmed="on", action="save"))
        assert answer.status_code == 422
        assert "(HostKeyChanged)" in problems(answer)
        assert "key" not in again(answer)
        answer = alice.post(ADD, again(answer, action="read"))
        assert fingerprint(one.endpoint.host_key) in answer.text
    assert not Instance.objects.exists()


def new_host_key(server):
    """Start the server again with another host key, as if it was rebuilt."""
    server.stop()
    for name in ("host_key", "host_key.pub"):
        (server.directory / name).unlink()
    ssh_keygen(server.directory / "host_key")
    server.start()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"port": "1"}, "does not answer on port 1"),
        ({"port": "x"}, "Port must be between"),
        ({"host": ""}, "Enter the host"),
        ({"host": "169.254.169.254"}, "CONSOLE_ALLOWED_NETWORKS"),
        ({"host": "a b"}, "A host is a name"),
        ({"host": "x.invalid"}, "does not answer"),
        ({"name": "x" * 10_000}, "128 characters or fewer"),
        ({"name": "web 🙂"}, "letters, digits, spaces"),
        ({"name": "a\0b"}, "letters, digits, spaces"),
        ({"user": ""}, "Enter the user"),
        ({"user": "\0"}, "on one line"),
        ({"os": "plan9"}, "Choose an operating system"),
        ({"tags": "acs:x"}, "acs"),
        ({"private_key": ""}, "Paste the private key"),
        ({"private_key": "nonsense \0 🙂"}, "not a private key"),
        ({"private_key": "x" * 40_000}, "too long for a private key"),
        ({"way": "password"}, "Enter the password"),
        ({"way": "generate", "credential_name": "x" * 10_000}, "100 characters or fewer"),
        ({"jump": "i-none"}, "Choose a jump host"),
    ],
)
def test_what_is_wrong_is_said_and_the_form_stays(alice, begun, fields, sentence):
    sent = begun(**fields)
    answer = alice.post(ADD, sent)
    assert answer.status_code == 422
    assert sentence in problems(answer)
    kept = again(answer)
    for name in ("host", "port", "user", "name"):
        assert kept[name] == [sent[name]]
    assert not Instance.objects.exists()
    assert not Credential.objects.exists()


def test_several_problems_are_said_at_once(alice, begun):
    answer = alice.post(ADD, begun(host="", port="x", user="", way="password", private_key=""))
    for word in ("host", "Port", "user", "password"):
        assert word in problems(answer)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"x" * 40_000, "too large for a private key"), (b"ssh-ed25519 AAAA", "not a private key")],
)
def test_files_that_are_no_private_key(alice, begun, content, sentence):
    data = begun(private_key="", key_file=SimpleUploadedFile("key", content))
    answer = alice.post(ADD, data)
    assert answer.status_code == 422
    assert sentence in problems(answer)


@pytest.mark.parametrize(("content", "status"), [(b"x" * 3_000_000, 413), (b"\xff\x00", 400)])
def test_uploads_that_are_not_even_read(alice, begun, content, status):
    data = begun(private_key="", key_file=SimpleUploadedFile("key", content))
    assert alice.post(ADD, data).status_code == status
    assert not Instance.objects.exists()


def test_a_key_that_needs_its_passphrase(alice, begun, tmp_path):
    ssh_keygen(tmp_path / "key", passphrase="right")
    key = (tmp_path / "key").read_text()
    for passphrase in ("", "wrong"):
        answer = alice.post(ADD, begun(private_key=key, passphrase=passphrase))
        assert answer.status_code == 422
        assert "passphrase" in problems(answer)


def test_a_credential_s_name_that_is_taken(alice, begun, cast):
    instances.add_credential(
        actor=cast.alice, team=cast.team, region=cast.region, name="Deploy", password="p"
    )
    answer = confirmed(alice, begun(credential_name="Deploy"))
    assert answer.status_code == 409
    assert "called Deploy already" in problems(answer)
    answer = alice.post(ADD, begun(way="generate", private_key="", credential_name="Deploy"))
    assert answer.status_code == 409
    assert not Instance.objects.exists()


def test_secrets_of_one_form_are_not_filled_into_another(alice, begun):
    answer = alice.post(ADD, begun(host=""))
    assert "A key is kept" in answer.text
    answer = alice.post(ADD, begun(private_key=""))
    assert "Paste the private key" in problems(answer)


# ---------- editing ----------


@pytest.fixture
def web(alice, begun):
    confirmed(alice, begun(tags="role=web"))
    return Instance.objects.get()


def edit(instance):
    return reverse("instance-edit", args=[instance.uid])


def test_editing_shows_what_is_and_keeps_what_is_said(alice, web):
    fields = shown_fields(alice.get(edit(web)).text, FORM)
    assert (fields["name"], fields["tag"], fields["way"]) == (
        ["web-21"],
        ["role=web"],
        ["existing"],
    )
    answer = alice.post(edit(web), {**fields, "name": "web-22", "tag": [], "tags": "a=b"})
    assert answer.status_code == 303
    kept = Instance.objects.get()
    assert kept.name == "web-22"
    assert [str(tag) for tag in kept.tags.all()] == ["a=b"]
    assert kept.credential == web.credential


def test_another_port_takes_another_look_at_the_host_key(alice, web, tmp_path):
    fields = shown_fields(alice.get(edit(web)).text, FORM)
    with Sshd.started(tmp_path) as [other]:
        answer = alice.post(edit(web), {**fields, "port": str(other.port)})
        assert answer.status_code == 200
        assert fingerprint(other.endpoint.host_key) in answer.text
        answer = alice.post(edit(web), again(answer, action="save"))
        assert "Compare the fingerprint" in problems(answer)
        assert Instance.objects.get().port == web.port
        answer = alice.post(edit(web), again(answer, confirmed="on", action="save"), follow=True)
    assert "Saved web-21." in answer.text
    assert "Now at 127.0.0.1" in answer.text
    kept = Instance.objects.get()
    assert (kept.port, kept.host_key) == (other.port, other.endpoint.host_key)
    assert HostKeyChange.objects.get().old_key == web.host_key


def test_another_credential_may_be_generated_first(alice, web):
    fields = shown_fields(alice.get(edit(web)).text, FORM)
    answer = alice.post(edit(web), {**fields, "way": "generate"})
    assert answer.status_code == 200
    assert "command-console-Generated-key-of-web-21" in answer.text
    assert Instance.objects.get().credential == web.credential
    alice.post(edit(web), again(answer))
    assert Instance.objects.get().credential.name == "Generated key of web-21"


def test_it_is_not_its_own_jump_host(alice, web):
    fields = shown_fields(alice.get(edit(web)).text, FORM)
    answer = alice.post(edit(web), {**fields, "jump": web.uid})
    assert answer.status_code == 422
    assert "Choose a jump host" in problems(answer)


# ---------- checking, and a host key that changed ----------


def test_a_server_that_was_rebuilt(alice, begun, tmp_path):
    with Sshd.started(tmp_path) as [server]:
        confirmed(alice, begun(port=str(server.port), private_key=server.endpoint.private_key))
        instance = Instance.objects.get()
        check = reverse("instance-check", args=[instance.uid])
        assert "web-21 answered in" in alice.post(check, follow=True).text
        new_host_key(server)
        answer = alice.post(check, follow=True)
        assert "is not the recorded one" in answer.text
        assert Instance.objects.get().connection == "host_key_changed"
        url = reverse("instance-host-key", args=[instance.uid])
        text = alice.get(url).text
        for key in (instance.host_key, server.endpoint.host_key):
            assert fingerprint(key) in text
        data = {"key": server.endpoint.host_key, "reason": "Rebuilt", "confirmed": "on"}
        alice.post(url, data)
        assert "web-21 answered in" in alice.post(check, follow=True).text
        (server.directory / "authorized_keys").write_text("")
        assert "did not let" in alice.post(check, follow=True).text
        assert Instance.objects.get().connection == "sign_in_refused"
    assert "refused the connection" in alice.post(check, follow=True).text
    assert Instance.objects.get().connection == "unreachable"

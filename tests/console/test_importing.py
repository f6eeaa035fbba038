"""Pages that import instances: from a form to a table to instances."""

from __future__ import annotations

import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from commands.models import Import, ImportRow, Instance
from commands.rules import limits
from commands.services import importing
from commands.services.importing import Key
from console import resolve
from tests.conftest import HOST_KEY
from tests.filled import shown_fields

pytestmark = pytest.mark.django_db

URL = "/instances/import/"
CSV = "name,host,user\nweb-01,a.example,deploy\nweb-02,b.example,deploy\n-bad-,-x,deploy\n"
OTHER_KEY = HOST_KEY[:-4] + "AAAA"
KNOWN = f"a.example {HOST_KEY}\n@cert-authority *.example {HOST_KEY}\n"


@pytest.fixture
def alice(sign_in, cast):
    return sign_in(cast.alice)


@pytest.fixture
def sent(credential) -> dict:
    return {
        "format": "csv",
        "text": CSV,
        "known_hosts": KNOWN,
        "credential": str(credential.pk),
    }


def begun(client, sent) -> str:
    answer = client.post(URL, sent)
    assert answer.status_code == 303, answer.content.decode()
    return answer["Location"]


def pressed(client, url, action, **changes):
    fields = shown_fields(client.get(url).content.decode(), "import-form")
    fields.pop("action", None)
    return client.post(url, {**fields, **changes, "action": action})


def test_from_a_text_to_instances(alice, sent):
    assert "Import instances" in alice.get(URL).content.decode()
    url = begun(alice, sent)
    page = alice.get(url).content.decode()
    assert "3 servers in the file" in page
    assert "Import 1 instance" in page
    assert "Read the host key of 1 host" in page
    assert "from known_hosts" in page
    assert "-x is no host name or IP address." in page
    assert "Certificates are not used here" in page
    assert page.index("-bad-") < page.index("web-01")  # what is wrong comes first
    assert not Instance.objects.exists()
    answer = pressed(alice, url, "import")
    assert answer.status_code == 303
    page = alice.get(answer["Location"]).content.decode()
    assert "1 instance was added." in page
    assert "1 without a host key was left out." in page
    assert Instance.objects.get().name == "web-01"


def test_a_file_counts_before_a_text(alice, sent):
    file = SimpleUploadedFile("a.csv", "\ufeffhost;user\r\nc.example;x\r\n".encode())
    known = SimpleUploadedFile("known_hosts", f"c.example {HOST_KEY}".encode())
    url = begun(alice, {**sent, "file": file, "known_hosts_file": known})
    page = alice.get(url).content.decode()
    assert "c.example" in page
    assert "web-01" not in page
    assert "Import 1 instance" in page


def test_an_ssh_configuration(alice, sent):
    text = "Host gate\n HostName a.example\n User u\nHost *\n Port 22\n"
    url = begun(alice, {**sent, "format": "ssh-config", "text": text})
    page = alice.get(url).content.decode()
    assert "gate" in page
    assert "* is a pattern, no server." in page


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"text": ""}, "Choose a file, or paste its text."),
        ({"text": "host,pasword\na,b"}, "there is no column pasword"),
        ({"text": 'host\n"a'}, "The quotes in the row that begins on line 2"),
        ({"text": "host\na\0b"}, "Line 2 has a character that is no text (U+0000)"),
        ({"format": "yaml"}, "Choose CSV or OpenSSH configuration."),
        ({"user": "-x"}, "no name of a user"),
        ({"known_hosts": "\0"}, "Line 1 has a character that is no text"),
        ({"file": SimpleUploadedFile("a.csv", b"host\nm\xfcnchen")}, "Line 2 is no UTF-8 text."),
        (
            {"file": SimpleUploadedFile("a.csv", b"x" * (limits.IMPORT_BYTES + 1))},
            "larger than 1,048,576 bytes",
        ),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_lost(alice, sent, change, said):
    answer = alice.post(URL, {**sent, **change})
    page = answer.content.decode()
    assert answer.status_code == 422
    assert said in page
    assert "<title>Error: " in page
    for name, value in ({**sent, **change}).items():
        if isinstance(value, str) and "\0" not in value and name != "format":
            assert value.replace('"', "&quot;").strip() in page
    assert not Import.objects.exists()


def test_too_many_comparisons(alice, sent, monkeypatch):
    monkeypatch.setattr(limits, "IMPORT_COMPARISONS", 1)
    answer = alice.post(URL, {**sent, "known_hosts": f"*.example {HOST_KEY}"})
    assert answer.status_code == 422
    assert "would have to be compared" in answer.content.decode()


def test_markup_in_a_file_is_text(alice, sent):
    text = "name,host,user,tags\n<b>x</b>,<img>,u,<i>=<script>\n"
    page = alice.get(begun(alice, {**sent, "text": text})).content.decode()
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "<b>x" not in page
    assert "<script>" not in page


def test_choosing(alice, sent, credential):
    url = begun(alice, {**sent, "credential": ""})
    assert "It has no credential." in alice.get(url).content.decode()
    answer = pressed(alice, url, "choose", credential=str(credential.pk))
    assert answer.status_code == 303
    page = alice.get(url).content.decode()
    assert "It has no credential." not in page
    fields = shown_fields(page, "import-form")
    assert len(fields["rows"]) == 2
    pressed(alice, url, "choose", rows=fields["rows"][:1], credential="nonsense")
    assert ImportRow.objects.filter(chosen=True, name__startswith="web").count() == 1
    assert Import.objects.get().credential is None


def test_host_keys_that_are_read(alice, sent):
    url = begun(alice, {**sent, "known_hosts": ""})
    assert pressed(alice, url, "keys").status_code == 303
    page = alice.get(url).content.decode()
    assert "0 of 2 hosts asked for their keys" in page
    assert "htmx" in page
    part = alice.get(f"{url}keys/").content.decode()
    assert "<html" not in part
    assert "hx-get" in part
    first, second = ImportRow.objects.filter(wanted=True)
    importing.record_keys(keys=[Key(first.pk, HOST_KEY), Key(second.pk, problem="It is away.")])
    part = alice.get(f"{url}keys/").content.decode()
    assert "2 hosts were asked for their keys. 1 showed none" in part
    assert "data-done" in part
    page = alice.get(url).content.decode()
    assert "shown by the host: compare it" in page
    assert "It is away." in page
    refused = pressed(alice, url, "import")
    assert refused.status_code == 422
    assert "Compare the fingerprints" in refused.content.decode()
    assert not Instance.objects.exists()
    assert pressed(alice, url, "import", confirmed="on").status_code == 303
    assert Instance.objects.get().host_key == HOST_KEY


def test_keys_that_arrive_while_the_page_is_made(alice, sent, monkeypatch):
    url = begun(alice, {**sent, "known_hosts": ""})
    pressed(alice, url, "keys")
    real = importing.review

    def reviewed_then_answered(origin):
        found = real(origin)
        asked = ImportRow.objects.filter(wanted=True)
        importing.record_keys(keys=[Key(row.pk, HOST_KEY) for row in asked])
        return found

    monkeypatch.setattr(importing, "review", reviewed_then_answered)
    page = alice.get(url).content.decode()
    # It shows no key yet, so it has to look again.
    assert "shown by the host" not in page
    assert "0 of 2 hosts asked for their keys" in page
    page = alice.get(url).content.decode()
    assert "2 hosts were asked for their keys." in page
    assert page.count("shown by the host: compare it") == 2


def shown_on(client, url):
    fields = shown_fields(client.get(url).content.decode(), "import-form")
    fields.pop("action", None)
    return fields


def test_a_key_that_arrives_while_others_are_compared(alice, sent):
    url = begun(alice, {**sent, "known_hosts": ""})
    pressed(alice, url, "keys")
    first, second = ImportRow.objects.filter(wanted=True)
    importing.record_keys(keys=[Key(first.pk, HOST_KEY)])
    fields = shown_on(alice, url)
    importing.record_keys(keys=[Key(second.pk, HOST_KEY)])
    answer = alice.post(url, {**fields, "confirmed": "on", "action": "import"})
    page = answer.content.decode()
    assert answer.status_code == 409
    assert "1 row that you chose means something else by now" in page
    assert page.count("Not what was shown when you chose it") == 1
    assert page.index("web-02") < page.index("web-01")  # it comes first
    assert not Instance.objects.exists()
    chosen = ImportRow.objects.filter(chosen=True, name__startswith="web")
    assert [row.name for row in chosen] == ["web-01"]
    assert pressed(alice, url, "import", confirmed="on").status_code == 303
    assert [one.name for one in Instance.objects.all()] == ["web-01"]


def test_a_new_one_that_somebody_else_added_meanwhile(alice, sent, make_instance):
    url = begun(alice, sent)
    fields = shown_on(alice, url)
    old = make_instance("web-01", host="10.9.9.9", host_key=OTHER_KEY)
    answer = alice.post(url, {**fields, "action": "import"})
    page = answer.content.decode()
    assert answer.status_code == 409
    assert "Host: 10.9.9.9 → a.example." in page
    kept = Instance.objects.get(pk=old.pk)
    assert (kept.host, kept.host_key) == ("10.9.9.9", OTHER_KEY)
    # Who looks and chooses it again means it.
    rows = re.findall(r'value="(\d+-[0-9a-f]+)"', page)
    assert pressed(alice, url, "import", rows=rows).status_code == 303
    assert Instance.objects.get(pk=old.pk).host_key == HOST_KEY


def test_rows_without_a_mark_are_shown_first(alice, sent):
    url = begun(alice, sent)
    row = ImportRow.objects.get(name="web-01")
    for value in (f"{row.pk}", f"{row.pk}-", f"{row.pk}-{'0' * 32}", f"{row.pk}-é"):
        assert pressed(alice, url, "import", rows=[value]).status_code == 409
    assert not Instance.objects.exists()


@pytest.mark.parametrize("action", ["choose", "keys", "import"])
def test_one_that_ends_in_this_moment(alice, sent, monkeypatch, action):
    url = begun(alice, sent)
    fields = shown_on(alice, url)
    real = resolve.inventory_import

    def found_then_gone(request, uid):
        origin = real(request, uid)
        Import.objects.all().delete()
        return origin

    monkeypatch.setattr(resolve, "inventory_import", found_then_gone)
    answer = alice.post(url, {**fields, "action": action})
    assert (answer.status_code, answer["Location"]) == (303, URL)
    assert "That import is done already, or was forgotten." in alice.get(URL).content.decode()


def test_nothing_is_chosen(alice, sent):
    url = begun(alice, sent)
    answer = pressed(alice, url, "import", rows=["x", "-1", "9" * 30])
    assert answer.status_code == 422
    assert "Select at least one instance that has a host key." in answer.content.decode()


def test_giving_up(alice, sent):
    url = begun(alice, sent)
    page = alice.post(url, {"action": "give-up"}, follow=True).content.decode()
    assert "Nothing was imported." in page
    assert not Import.objects.exists()
    page = alice.get(url, follow=True).content.decode()
    assert "That import is done already, or was forgotten." in page
    assert alice.get(f"{url}keys/").status_code == 204


def test_importing_again_says_that_all_is_there(alice, sent):
    pressed(alice, begun(alice, sent), "import", confirmed="on")
    page = alice.get(begun(alice, {**sent, "text": CSV.partition("web-02")[0]})).content.decode()
    assert "Already there" in page
    assert 'id="import"' not in page


def test_who_may_import(alice, sent, sign_in, cast, credential):
    url = begun(alice, sent)
    for user in (cast.bob, cast.vera):
        client = sign_in(user)
        assert client.get(URL).status_code == 404
        assert client.post(URL, sent).status_code == 404
    charlie = sign_in(cast.charlie)
    # Whoever leads another team sees neither this one's credentials nor its imports.
    assert f'value="{credential.pk}"' not in charlie.get(URL).content.decode()
    for client in (sign_in(cast.bob), charlie):
        assert "a.example" not in client.get(url, follow=True).content.decode()
        client.post(url, {"action": "import"})
    assert not Instance.objects.exists()
    mark = f"{cast.team.uid} {cast.region.uid}"
    assert charlie.post(URL, {**sent, "scope": mark}).status_code == 404
    assert alice.get("/instances/import/%00/").status_code == 404


def test_who_lost_the_right_meanwhile(alice, sent, cast):
    url = begun(alice, sent)
    cast.alice.memberships.update(role="operator")
    assert alice.get(url).status_code == 404
    assert alice.post(url, {"action": "import"}).status_code == 404


def test_an_import_that_is_too_old(alice, sent):
    url = begun(alice, sent)
    Import.objects.update(expires_at=timezone.now())
    answer = alice.post(url, {"action": "import"})
    assert (answer.status_code, answer["Location"]) == (303, URL)


def test_who_is_not_signed_in(client):
    for url in (URL, f"{URL}m-x/", f"{URL}m-x/keys/"):
        assert client.get(url).status_code == 302


def test_secrets_of_credentials_are_not_read(alice, sent, credential, settings):
    settings.CONSOLE_ENCRYPTION_KEYS = ["MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="]
    page = alice.get(begun(alice, sent)).content.decode()
    assert "key" in page

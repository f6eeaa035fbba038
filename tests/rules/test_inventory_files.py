"""CSV inventories: every column, every error with its line, and whatever else people send."""

from __future__ import annotations

import contextlib
import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.errors import Invalid
from commands.rules import inventory_files, limits
from commands.rules.inventory_files import Entry, checked_text, read_csv, text_of
from tests.conftest import HOST_KEY

FULL = f"""\
Name;Host;Port;User;Credential;Tags;Jump Host;OS;Host Key
web-01;10.0.4.11;2222;deploy;Key of ops;"role=web; env=prod, canary";gate;Linux;{HOST_KEY} me
"""


def one(text: str) -> Entry:
    [entry] = read_csv(checked_text(text)).entries
    return entry


def test_all_columns():
    assert one(FULL) == Entry(
        line=2,
        name="web-01",
        host="10.0.4.11",
        port=2222,
        user="deploy",
        credential="Key of ops",
        tags={"role": "web", "env": "prod", "canary": ""},
        jump_host="gate",
        os_type="linux",
        host_key=HOST_KEY,
    )


def test_only_the_host_is_needed():
    assert one("host\nweb.example\n") == Entry(line=2, name="web.example", host="web.example")


@pytest.mark.parametrize(
    "text",
    [
        "user,HOST,Name\ndeploy,10.0.0.1,web",
        "\ufeffname,host,user\r\nweb,10.0.0.1,deploy\r\n",
        "name\thost\tuser\nweb\t10.0.0.1\tdeploy",
        'sep=;\nname;host;user\n"web";"10.0.0.1";deploy\n\n',
        "Host-Name,username,name,\n10.0.0.1,deploy,web,\n",
        "\nname , address , user\n web , 10.0.0.1 , deploy ",
    ],
)
def test_forms_of_one_file(text):
    entry = one(text)
    assert (entry.name, entry.host, entry.user) == ("web", "10.0.0.1", "deploy")
    assert entry.problems == ()


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("name", "🦄", "letters, digits"),
        ("name", "$(reboot)", "letters, digits"),
        ("name", '=HYPERLINK("http://x")', "letters, digits"),
        ("name", "x" * 10_000, "128 characters"),
        ("host", "", "no host"),
        ("host", "-oProxyCommand=x", "no host name"),
        ("host", "deploy@web", "no host name"),
        ("host", "web:22", "no host name"),
        ("host", "a b", "no host name"),
        ("host", "x" * 300, "253 characters"),
        ("port", "0", "between 1 and 65,535"),
        ("port", "65536", "between 1 and 65,535"),
        ("port", "٢٢", "between 1 and 65,535"),
        ("port", "22.5", "between 1 and 65,535"),
        ("user", "-x", "no name of a user"),
        ("user", "a b", "no name of a user"),
        ("user", "u" * 65, "no name of a user"),
        ("credential", "c" * 101, "100 characters"),
        ("tags", "=web", "key for tag 1"),
        ("tags", "role=a; role=b", "there twice"),
        ("os", "beos", "linux or windows"),
        ("host key", "SHA256:abc", "fingerprint"),
        ("host key", "ssh-ed25519 AAAA", "damaged"),
        ("host key", "nonsense", "reads like"),
    ],
)
def test_a_wrong_value_is_told_with_its_row(column, value, said):
    row = {"name": "web", "host": "10.0.0.1", column: value}
    file = io.StringIO()
    writer = csv.DictWriter(file, list(row))
    writer.writeheader()
    writer.writerow(row)
    entry = one(file.getvalue())
    assert any(said in problem for problem in entry.problems), entry.problems
    assert entry.line == 2
    assert len(entry.name) <= limits.INSTANCE_NAME_CHARS
    assert all(len(problem) < 250 for problem in entry.problems)


def test_every_wrong_value_of_a_row_is_told():
    assert len(one("host,port,os\na b,0,dos").problems) == 3


def test_addresses_of_both_kinds():
    for host, kept in (("::1", "::1"), ("[fe80::1%eth0]", "fe80::1%eth0"), ("10.0.0.1",) * 2):
        assert one(f"host\n{host}").host == kept


def test_lines_count_what_a_cell_spans():
    text = 'name,host\n"a\nb",10.0.0.1\n\nc,10.0.0.2\n'
    first, second = read_csv(text).entries
    assert (first.line, second.line) == (2, 5)
    assert first.problems
    assert not second.problems


def test_a_name_that_was_there_before():
    first, second = read_csv("name,host\na,h1\na,h2").entries
    assert first.problems == ()
    assert second.problems == ("The name is on line 2 already.",)


def test_a_value_without_a_column():
    assert "without a name" in one("host\na,b").problems[0]
    assert "without a name" in one("host,\na,b").problems[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Line 1: the first row must name the columns"),
        ("web-01,10.0.0.1", "Line 1: there is no column web-01"),
        ("name,port\na,22", "one must be host"),
        ("host,pasword\na,b", "there is no column pasword"),
        ("host,hostname\na,b", "there twice"),
        ("host", "no server below"),
        ('host,name\na,"b\nc,d\n', "row that begins on line 2"),
        ('host,name\nx,y\na,"b"c\n', "row that begins on line 3"),
        ('host\n"' + "x" * 200_000, "row that begins on line 2"),
    ],
)
def test_files_that_are_refused(text, said):
    with pytest.raises(Invalid, match=said) as caught:
        read_csv(text)
    assert caught.value.field == "file"


def test_a_limit_of_rows(monkeypatch):
    monkeypatch.setattr(limits, "IMPORT_ROWS", 2)
    assert len(read_csv("host\na\nb").entries) == 2
    with pytest.raises(Invalid, match="more than 2"):
        read_csv("host\na\nb\nc")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"host\nm\xfcnchen", "Line 2 is no UTF-8"),
        (b"host\na\0b", "Line 2 has a character that is no text"),
        (b"\x7fELF\x02\x01", "Line 1"),
        (b"x" * (limits.IMPORT_BYTES + 1), "larger than 1,048,576 bytes"),
    ],
)
def test_files_that_are_no_text(data, said):
    with pytest.raises(Invalid, match=said):
        text_of(data)


def test_text_as_excel_writes_it():
    assert text_of("host\r\nmünchen".encode("utf-16")) == "host\nmünchen"
    assert text_of("\ufeffhost".encode()) == "host"


@given(st.text())
def test_text_is_refused_or_fit_to_be_stored(text):
    with contextlib.suppress(Invalid):
        found = checked_text(text)
        found.encode()
        assert not {"\0", "\r"} & set(found)


cells = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(st.lists(st.tuples(cells, cells, cells, cells, cells), min_size=1, max_size=5))
def test_whatever_stands_in_cells_becomes_entries(rows):
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["name", "host", "port", "user", "tags"])
    writer.writerows(rows)
    entries: tuple[Entry, ...] = ()
    with contextlib.suppress(Invalid):
        entries = read_csv(checked_text(file.getvalue())).entries
    for entry in entries:
        if not entry.problems:
            assert inventory_files.NAME.fullmatch(entry.name)
            assert entry.host
            assert 1 <= entry.port <= 65_535


@given(st.text(max_size=200))
def test_nothing_in_a_file_breaks_it(text):
    with contextlib.suppress(Invalid):
        assert read_csv(text).entries

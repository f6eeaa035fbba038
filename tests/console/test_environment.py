"""Settings from environment variables: what is wrong is said in a sentence that names it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from commands import checks
from commands.outputs.wake import redis_url
from console import environment


@pytest.fixture
def given(monkeypatch):
    def set_to(value):
        monkeypatch.setenv("VALUE", value)

    monkeypatch.delenv("VALUE", raising=False)
    return set_to


@pytest.mark.parametrize(("value", "expected"), [("", True), ("0", False), ("Yes", True)])
def test_flags(given, value, expected):
    given(value)
    assert environment.flag("VALUE", True) is expected


def test_numbers_names_paths_and_zones(given, tmp_path):
    given("7")
    assert environment.number("VALUE", 3) == 7
    given(" a, b ,,")
    assert environment.names("VALUE", []) == ["a", "b"]
    given(str(tmp_path))
    assert environment.directory("VALUE", tmp_path / "x") == tmp_path
    given("Asia/Shanghai")
    assert environment.time_zone("VALUE", "UTC") == "Asia/Shanghai"


def test_networks(given):
    assert environment.networks("VALUE") == []
    given("169.254.10.0/24, fe80::7")
    assert environment.networks("VALUE") == ["169.254.10.0/24", "fe80::7"]
    given("169.254.10.7/24")
    with pytest.raises(ImproperlyConfigured, match="VALUE must be networks"):
        environment.networks("VALUE")


def test_mail(given):
    def read() -> dict[str, object]:
        return environment.mail("VALUE", Path("/data/mail"))

    assert read()["EMAIL_FILE_PATH"] == "/data/mail"
    given("file:///var/mail%20box")
    assert read()["EMAIL_FILE_PATH"] == "/var/mail box"
    given("console:")
    assert str(read()["EMAIL_BACKEND"]).endswith("console.EmailBackend")
    given("smtp+tls://me%40example.com:p%2Fw@mail.example")
    assert read() == {
        "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "EMAIL_HOST": "mail.example",
        "EMAIL_PORT": 587,
        "EMAIL_HOST_USER": "me@example.com",
        "EMAIL_HOST_PASSWORD": "p/w",
        "EMAIL_USE_TLS": True,
        "EMAIL_USE_SSL": False,
    }
    given("smtp+ssl://mail.example:4650")
    assert (read()["EMAIL_PORT"], read()["EMAIL_USE_SSL"]) == (4650, True)


def test_databases_and_brokers(given):
    given("postgres://me:secret@db.example:5433/console")
    assert environment.database("VALUE", Path("/x"))["HOST"] == "db.example"
    given("sqlite:////tmp/some.db")
    assert environment.database("VALUE", Path("/x"))["NAME"] == "/tmp/some.db"
    given("")
    assert environment.database("VALUE", Path("/a+b/%41"))["NAME"] == "/a+b/%41"
    given("amqp://guest@127.0.0.1//")
    assert environment.broker("VALUE", "").startswith("amqp://")
    for url in ("redis://h", "rediss://:p@[::1]:6379/0", "redis+socket:///run/x.sock"):
        given(url)
        assert environment.broker("VALUE", "") == url
    assert redis_url("amqp://x") is None
    assert redis_url("redis+socket:///a/b.sock") == "unix:///a/b.sock"
    assert redis_url("rediss://h/0") == "rediss://h/0"


@pytest.mark.parametrize(
    ("reader", "value", "sentence"),
    [
        (lambda: environment.flag("VALUE", True), "maybe", "true or false"),
        (lambda: environment.number("VALUE", 3, least=1), "0", "whole number from 1"),
        (lambda: environment.number("VALUE", 3), "many", "whole number"),
        (lambda: environment.time_zone("VALUE", "UTC"), "Mars/Base", "IANA time zone"),
        (lambda: environment.number("VALUE", 3), "9" * 5000, "whole number"),
        (lambda: environment.directory("VALUE", Path()), "~nobody-of-that-name/x", "directory"),
        (lambda: environment.hosts("VALUE", []), "https://a.example", "without http://"),
        (lambda: environment.hosts("VALUE", []), "a.example,b.example:8000", "without a port"),
        (lambda: environment.hosts("VALUE", []), "[::1]:8000", "without a port"),
        (lambda: environment.origins("VALUE", []), "a.example", "origins"),
        (lambda: environment.origins("VALUE", []), "https://a.example/path", "origins"),
        (lambda: environment.addresses("VALUE", []), "127.0.0.1,proxy", "networks.*'proxy'"),
        (lambda: environment.one_of("VALUE", ["A", "B"], "A"), "c", "one of A, B"),
        (lambda: environment.database("VALUE", Path()), "mysql://x", "postgres://"),
        (lambda: environment.database("VALUE", Path()), "postgres://u@h:port/x", "an address"),
        (lambda: environment.database("VALUE", Path()), "postgres://u@h/", "an address"),
        (lambda: environment.database("VALUE", Path()), "sqlite://", "absolute path"),
        (lambda: environment.database("VALUE", Path()), "sqlite:///x.db", "absolute path"),
        (lambda: environment.broker("VALUE", ""), "kafka://x", "Redis, Valkey or RabbitMQ"),
        (lambda: environment.broker("VALUE", ""), "memory://", "Redis, Valkey or RabbitMQ"),
        (lambda: environment.broker("VALUE", ""), "redis://h/queue", "Redis, Valkey"),
        (lambda: environment.broker("VALUE", ""), "redis+socket://", "Redis, Valkey"),
        (lambda: environment.mail("VALUE", Path("/m")), "mail.example", "must be smtp"),
        (lambda: environment.mail("VALUE", Path("/m")), "smtp://", "must be smtp"),
        (lambda: environment.mail("VALUE", Path("/m")), "smtp://h:port", "must be smtp"),
        (lambda: environment.mail("VALUE", Path("/m")), "file://here", "must be smtp"),
        (lambda: environment.broker("VALUE", ""), "amqp://h:port//", "Redis, Valkey"),
        (lambda: environment.secret_key("VALUE", None), "short", "at least 32"),
        (lambda: environment.encryption_keys("VALUE", None), "nonsense", "newest first"),
    ],
)
def test_wrong_values_are_said_in_a_sentence(given, reader, value, sentence):
    given(value)
    with pytest.raises(ImproperlyConfigured, match=f"VALUE.*{sentence}"):
        reader()


def test_lists_of_names_and_addresses(given):
    given("console.example,.below.example,*,[::1],127.0.0.1")
    assert len(environment.hosts("VALUE", [])) == 5
    given("https://console.example:8443, http://x")
    assert environment.origins("VALUE", []) == ["https://console.example:8443", "http://x"]
    given("127.0.0.1,10.0.0.0/8,fd00::/8,*")
    assert len(environment.addresses("VALUE", [])) == 4
    given("b")
    assert environment.one_of("VALUE", ["A", "B"], "A") == "B"


def test_a_package_that_is_missing_is_named(given, monkeypatch):
    monkeypatch.setattr(environment, "find_spec", lambda name: None)
    given("postgres://u:p@h/x")
    with pytest.raises(ImproperlyConfigured, match=r"pip install -e '\.\[production\]'"):
        environment.database("VALUE", Path())


def test_a_variable_that_is_taken_is_gone():
    look = (
        "import os\n"
        "from console import environment\n"
        "assert environment.taken('VALUE') == 'pass word'\n"
        "assert environment.taken('VALUE') == ''\n"
        "assert 'VALUE' not in os.environ\n"
        "os.system('env')\n"
        "print(open('/proc/self/environ').read())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", look],
        env={**os.environ, "VALUE": "pass word", "OTHER": "stays"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pass word" not in done.stdout
    assert done.stdout.count("OTHER=stays") == 2


def test_keys_are_made_once_private_and_kept(given, tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: environment.secret_key("VALUE", tmp_path / "k"), range(8)))
    assert len(made) == 1
    root = tmp_path / "new"
    environment.secret_key("VALUE", root / "keys")
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    [path] = (tmp_path / "k").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Fernet(environment.encryption_keys("VALUE", tmp_path / "k")[0])


def test_several_encryption_keys_keep_their_order(given):
    keys = [Fernet.generate_key().decode() for _ in range(2)]
    given(",".join(keys))
    assert environment.encryption_keys("VALUE", None) == keys


def test_a_directory_that_can_not_be_written_is_named(given, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ImproperlyConfigured, match="CONSOLE_DATA_DIR"):
        environment.secret_key("VALUE", tmp_path / "file" / "keys")


class TestChecks:
    """System checks with ids and hints."""

    def test_an_open_data_directory(self, settings, tmp_path):
        settings.DATA_DIR = tmp_path
        tmp_path.chmod(0o755)
        [found] = checks.private_data_directory()
        assert (found.id, "chmod 700" in found.hint) == ("commands.W001", True)
        tmp_path.chmod(0o700)
        assert checks.private_data_directory() == []
        settings.DATA_DIR = tmp_path / "none"
        assert checks.private_data_directory() == []

    def test_production_wants_its_own_keys_and_database(self, settings, monkeypatch):
        for name in ("SECRET_KEY", "CONSOLE_ENCRYPTION_KEYS", "CONSOLE_AUDIT_KEY"):
            monkeypatch.delenv(name, raising=False)
        assert [found.id for found in checks.production_keys()] == ["commands.W002"] * 3
        monkeypatch.setenv("SECRET_KEY", "x")
        assert len(checks.production_keys()) == 2
        database = settings.DATABASES["default"]
        monkeypatch.setitem(database, "ENGINE", "django.db.backends.sqlite3")
        assert [found.id for found in checks.production_database()] == ["commands.W003"]
        monkeypatch.setitem(database, "ENGINE", "django.db.backends.postgresql")
        assert checks.production_database() == []

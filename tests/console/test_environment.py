"""Settings from environment variables: what is wrong is said in a sentence that names it."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor

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


def test_databases_and_brokers(given):
    given("postgres://me:secret@db.example:5433/console")
    assert environment.database("VALUE", "")["HOST"] == "db.example"
    given("amqp://guest@127.0.0.1//")
    assert environment.broker("VALUE", "").startswith("amqp://")
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
        (lambda: environment.database("VALUE", ""), "mysql://x", "postgres://"),
        (lambda: environment.broker("VALUE", ""), "kafka://x", "Redis, Valkey or RabbitMQ"),
        (lambda: environment.secret_key("VALUE", None), "short", "at least 32"),
        (lambda: environment.encryption_keys("VALUE", None), "nonsense", "newest first"),
    ],
)
def test_wrong_values_are_said_in_a_sentence(given, reader, value, sentence):
    given(value)
    with pytest.raises(ImproperlyConfigured, match=f"VALUE.*{sentence}"):
        reader()


def test_keys_are_made_once_private_and_kept(given, tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: environment.secret_key("VALUE", tmp_path / "k"), range(8)))
    assert len(made) == 1
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
        for name in ("SECRET_KEY", "CONSOLE_ENCRYPTION_KEYS"):
            monkeypatch.delenv(name, raising=False)
        assert [found.id for found in checks.production_keys()] == ["commands.W002"] * 2
        monkeypatch.setenv("SECRET_KEY", "x")
        assert len(checks.production_keys()) == 1
        database = settings.DATABASES["default"]
        monkeypatch.setitem(database, "ENGINE", "django.db.backends.sqlite3")
        assert [found.id for found in checks.production_database()] == ["commands.W003"]
        monkeypatch.setitem(database, "ENGINE", "django.db.backends.postgresql")
        assert checks.production_database() == []

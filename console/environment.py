"""Typed readers of environment variables, for the settings alone.

Each takes a variable's name and a default and returns a value of one type, or raises
ImproperlyConfigured with a sentence that names the variable and says what it takes.
"""

from __future__ import annotations

import os
import secrets
import zoneinfo
from pathlib import Path
from typing import Any

import environ
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured


def text(name: str, default: str = "") -> str:
    """The variable as it is, without white space around it."""
    return os.environ.get(name, "").strip() or default


def flag(name: str, default: bool) -> bool:
    """A yes or no: 1, true, yes, on; 0, false, no, off."""
    value = text(name).lower()
    if not value:
        return default
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name} must be true or false, not {value!r}.")


def number(name: str, default: int, *, least: int = 0) -> int:
    """A whole number, not below ``least``."""
    value = text(name) or str(default)
    if not value.isdecimal() or int(value) < least:
        raise ImproperlyConfigured(f"{name} must be a whole number from {least}, not {value!r}.")
    return int(value)


def names(name: str, default: list[str]) -> list[str]:
    """Values separated by commas."""
    values = [part.strip() for part in text(name).split(",")]
    return [part for part in values if part] or default


def directory(name: str, default: Path) -> Path:
    """An absolute path; ``~`` is the home directory."""
    return Path(text(name) or default).expanduser().resolve()


def time_zone(name: str, default: str) -> str:
    """An IANA time zone, such as ``Asia/Shanghai``."""
    value = text(name, default)
    if value not in zoneinfo.available_timezones():
        raise ImproperlyConfigured(
            f"{name} must be an IANA time zone such as Asia/Shanghai, not {value!r}."
        )
    return value


def database(name: str, default: str) -> dict[str, Any]:
    """A database from a URL: ``postgres://user:password@host/name`` or ``sqlite:///path``."""
    url = text(name, default)
    scheme = url.partition(":")[0]
    if scheme not in {"postgres", "postgresql", "sqlite"}:
        raise ImproperlyConfigured(
            f"{name} must begin with postgres:// or sqlite:///, not with {scheme!r}."
        )
    parsed: dict[str, Any] = environ.Env.db_url_config(url)
    return parsed


def broker(name: str, default: str) -> str:
    """A Celery broker: ``redis://``, ``rediss://``, ``redis+socket:///`` or ``amqp://``."""
    url = text(name, default)
    schemes = ("redis", "rediss", "redis+socket", "amqp", "amqps", "memory")
    if url.partition("://")[0] not in schemes:
        raise ImproperlyConfigured(
            f"{name} must be the address of a Redis, Valkey or RabbitMQ server, such as "
            "redis://127.0.0.1:6379/0."
        )
    return url


def secret_key(name: str, keys: Path) -> str:
    """Django's secret key, else the one kept in the data directory, made at first need."""
    value = text(name)
    if value and len(value) < 32:
        raise ImproperlyConfigured(f"{name} must have at least 32 characters.")
    return value or _kept(keys / "secret_key", secrets.token_urlsafe(48))


def encryption_keys(name: str, keys: Path) -> list[str]:
    """Fernet keys, newest first, else the one kept in the data directory."""
    values = names(name, []) or [_kept(keys / "encryption_key", Fernet.generate_key().decode())]
    for value in values:
        try:
            Fernet(value)
        except ValueError:
            raise ImproperlyConfigured(
                f"{name} must be a comma-separated list of keys, newest first, each 32 random "
                "bytes in URL-safe Base64. Make one with: python -c 'from cryptography.fernet "
                "import Fernet; print(Fernet.generate_key().decode())'"
            ) from None
    return values


def _kept(path: Path, fresh: str) -> str:
    # Exclusive creation: of several processes that start at once, one writes, all read it.
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(fresh)
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        return path.read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(
            f"{path} can't be written or read ({error.strerror}). Set CONSOLE_DATA_DIR to a "
            "directory of yours, or SECRET_KEY and CONSOLE_ENCRYPTION_KEYS."
        ) from None

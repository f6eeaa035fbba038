"""Typed readers of environment variables, for the settings alone.

Each takes a variable's name and a default and returns a value of one type, or raises
ImproperlyConfigured with a sentence that names the variable and says what it takes.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import re
import secrets
import zoneinfo
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import environ
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured


def text(name: str, default: str = "") -> str:
    """The variable as it is, without white space around it."""
    return os.environ.get(name, "").strip() or default


def taken(name: str) -> str:
    """The variable as it is, which this process forgets: for what is needed once, by it alone.

    No child gets it, and ``/proc`` does not show it any more. For that, the memory is cleared
    from which the kernel shows the environment that this process began with.
    """
    value = os.environ.get(name, "")
    getenv = ctypes.CDLL(None)["getenv"]
    getenv.restype = ctypes.c_void_p
    if where := getenv(name.encode()):
        ctypes.memset(where, 0, len(ctypes.string_at(where)))
    os.environ.pop(name, None)
    return value


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
    if not re.fullmatch("[0-9]{1,9}", value) or int(value) < least:
        raise ImproperlyConfigured(f"{name} must be a whole number from {least}, not {value!r}.")
    return int(value)


def names(name: str, default: list[str]) -> list[str]:
    """Values separated by commas."""
    values = [part.strip() for part in text(name).split(",")]
    return [part for part in values if part] or default


def hosts(name: str, default: list[str]) -> list[str]:
    """Names to reach the console by: ``console.example``, or ``.example`` for all below it."""
    values = names(name, default)
    for value in values:
        if re.search(r"[/@\s]|[^:\]]:\d+$|\]:", value):
            raise ImproperlyConfigured(
                f"{name} must be names such as console.example, without http:// and without a "
                f"port, not {value!r}."
            )
    return values


def origins(name: str, default: list[str]) -> list[str]:
    """Origins, such as ``https://console.example``."""
    values = names(name, default)
    for value in values:
        if not re.fullmatch(r"https?://[^/@\s]+", value):
            raise ImproperlyConfigured(
                f"{name} must be origins such as https://console.example, not {value!r}."
            )
    return values


def addresses(name: str, default: list[str]) -> list[str]:
    """Addresses of machines or networks; ``*`` is any."""
    values = names(name, default)
    for value in values:
        try:
            if value != "*":
                ipaddress.ip_network(value)
        except ValueError:
            raise ImproperlyConfigured(
                f"{name} must be addresses or networks such as 10.0.0.7 or 10.0.0.0/24, "
                f"not {value!r}."
            ) from None
    return values


def networks(name: str) -> list[str]:
    """Networks, such as ``169.254.10.0/24``; an address is one of its own. None by default."""
    values = names(name, [])
    for value in values:
        try:
            ipaddress.ip_network(value)
        except ValueError:
            raise ImproperlyConfigured(
                f"{name} must be networks such as 169.254.10.0/24, not {value!r}."
            ) from None
    return values


def one_of(name: str, choices: Collection[str], default: str) -> str:
    """One of these words, which are in capitals; the value need not be."""
    value = text(name, default).upper()
    if value not in choices:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(choices)}, not {value!r}.")
    return value


def directory(name: str, default: Path) -> Path:
    """An absolute path; ``~`` is the home directory."""
    value = text(name) or str(default)
    try:
        return Path(value).expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise ImproperlyConfigured(
            f"{name} must be the path of a directory, not {value!r} ({error})."
        ) from None


def time_zone(name: str, default: str) -> str:
    """An IANA time zone, such as ``Asia/Shanghai``."""
    value = text(name, default)
    if value not in zoneinfo.available_timezones():
        raise ImproperlyConfigured(
            f"{name} must be an IANA time zone such as Asia/Shanghai, not {value!r}."
        )
    return value


def database(name: str, default: Path) -> dict[str, Any]:
    """A database from a URL: ``postgres://user:password@host/name`` or ``sqlite:////path``.

    Without one, it is SQLite in the file ``default``.
    """
    url = text(name)
    if not url:
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(default)}
    scheme = url.partition(":")[0]
    if scheme not in {"postgres", "postgresql", "sqlite"}:
        raise ImproperlyConfigured(
            f"{name} must begin with postgres:// or sqlite:////, not with {scheme!r}."
        )
    try:
        parsed: dict[str, Any] = environ.Env.db_url_config(url)
    except ValueError:  # its words may quote the password
        parsed = {"NAME": ""}
    if scheme == "sqlite":
        # In memory, or relative to a working directory, each process would have its own.
        if not Path(parsed["NAME"]).is_absolute():
            raise ImproperlyConfigured(
                f"{name} must name an SQLite file by its absolute path: sqlite:////path/to/file."
            )
    elif not parsed["NAME"]:
        raise ImproperlyConfigured(
            f"{name} must be an address such as postgres://user:password@host:5432/name."
        )
    elif not (find_spec("psycopg") and find_spec("psycopg_pool")):
        raise ImproperlyConfigured(
            f"{name} names a PostgreSQL database, and the package for it is not installed. Run: "
            "pip install -e '.[production]'"
        )
    return parsed


def own_url(name: str) -> str:
    """The address of the console itself, without a slash at its end; "" by default."""
    value = text(name).rstrip("/")
    if value and not re.fullmatch(r"https?://[^/@\s?#]+", value):
        raise ImproperlyConfigured(
            f"{name} must be an address such as https://console.example, not {value!r}."
        )
    return value


def broker(name: str, default: str) -> str:
    """A Celery broker: ``redis://``, ``rediss://``, ``redis+socket:///`` or ``amqp://``."""
    url = text(name, default)
    if not _names_a_broker(url):
        raise ImproperlyConfigured(
            f"{name} must be the address of a Redis, Valkey or RabbitMQ server, such as "
            "redis://127.0.0.1:6379/0."
        )
    return url


_MAIL = {"smtp": 25, "smtp+tls": 587, "smtp+ssl": 465}
"""Schemes of mail servers, and their usual ports."""


def mail(name: str, default: Path) -> dict[str, Any]:
    """Settings for e-mail: ``smtp+tls://user:password@host:587``, ``file:///path``, ``console:``.

    Without a value, messages become files in the directory ``default``.
    """
    backend = "django.core.mail.backends.{}.EmailBackend"
    value = text(name)
    if not value:
        return {"EMAIL_BACKEND": backend.format("filebased"), "EMAIL_FILE_PATH": str(default)}
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:  # its words may quote the password
        parts, host, port = urlsplit(""), None, None
    if parts.scheme == "console":
        return {"EMAIL_BACKEND": backend.format("console")}
    if parts.scheme == "file" and not host and parts.path.startswith("/"):
        return {
            "EMAIL_BACKEND": backend.format("filebased"),
            "EMAIL_FILE_PATH": unquote(parts.path),
        }
    if parts.scheme not in _MAIL or not host:
        raise ImproperlyConfigured(
            f"{name} must be smtp://, smtp+tls:// or smtp+ssl:// with user:password@host:port, "
            "file:///path, or console:."
        )
    return {
        "EMAIL_BACKEND": backend.format("smtp"),
        "EMAIL_HOST": host,
        "EMAIL_PORT": port or _MAIL[parts.scheme],
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_TLS": parts.scheme == "smtp+tls",
        "EMAIL_USE_SSL": parts.scheme == "smtp+ssl",
    }


def _names_a_broker(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # reading the port checks it
    except ValueError:
        return False
    path = parts.path.strip("/")
    if parts.scheme == "redis+socket":
        return bool(path)
    if parts.scheme in {"redis", "rediss"}:
        return bool(host) and (not path or path.isdecimal())
    return parts.scheme in {"amqp", "amqps"}


def secret_key(name: str, keys: Path) -> str:
    """Django's secret key, else the one kept in the data directory, made at first need."""
    value = text(name)
    if value and len(value) < 32:
        raise ImproperlyConfigured(f"{name} must have at least 32 characters.")
    return value or _kept(keys / "secret_key", secrets.token_urlsafe(48))


def audit_key(name: str, keys: Path) -> str:
    """The key of the audit trail's digests, else the one kept in the data directory."""
    value = text(name)
    if value and len(value) < 32:
        raise ImproperlyConfigured(f"{name} must have at least 32 characters.")
    return value or _kept(keys / "audit_key", secrets.token_urlsafe(48))


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
        for folder in (path.parent.parent, path.parent):  # the mode is for the last one only
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
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

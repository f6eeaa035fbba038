#!/usr/bin/env python
"""Django's command line for Command Console; ``./manage.py up`` starts everything.

Settings are read before a command sees its options, and they need to know the data directory.
So ``--data DIR`` (or ``--data=DIR``) is looked for here, for every command. What is wrong with
the settings or the database is said in a sentence; ``--traceback`` shows where it was found.
"""

from __future__ import annotations

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import OperationalError

_FOR_OTHERS = {"collectstatic", "compilemessages", "makemessages", "makemigrations"}
"""Commands whose files others are to read. Those of all others are private."""


def data_option(arguments: list[str]) -> str | None:
    """The value of ``--data`` among the arguments, or None."""
    for position, argument in enumerate(arguments):
        if argument.startswith("--data="):
            return argument.partition("=")[2]
        if argument == "--data" and position + 1 < len(arguments):
            return arguments[position + 1]
    return None


def main(arguments: list[str]) -> None:
    """Run the command that the arguments name."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
    if directory := data_option(arguments[2:]):
        os.environ["CONSOLE_DATA_DIR"] = directory
    if not _FOR_OTHERS.intersection(arguments[1:2]):
        os.umask(0o077)
    try:
        execute_from_command_line(arguments)
    except ImproperlyConfigured as error:
        if "--traceback" in arguments:
            raise
        sys.exit(str(error))
    except OperationalError as error:
        if "--traceback" in arguments:
            raise
        sys.exit(f"The database of DATABASE_URL cannot be used: {error}")


if __name__ == "__main__":
    main(sys.argv)

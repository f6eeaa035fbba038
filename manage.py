#!/usr/bin/env python
"""Django's command line for Command Console; ``./manage.py up`` starts everything.

Settings are read before a command sees its options, and they need to know the data directory.
So ``--data DIR`` (or ``--data=DIR``) is looked for here, for every command.
"""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line


def data_option(arguments: list[str]) -> str | None:
    """The value of ``--data`` among the arguments, or None."""
    for position, argument in enumerate(arguments):
        if argument.startswith("--data="):
            return argument.partition("=")[2]
        if argument == "--data" and position + 1 < len(arguments):
            return arguments[position + 1]
    return None


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
    if directory := data_option(sys.argv[2:]):
        os.environ["CONSOLE_DATA_DIR"] = directory
    execute_from_command_line(sys.argv)

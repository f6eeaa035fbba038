"""``manage.py catalogue``: collect all words of pages and sentences, and compile translations."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, call_command
from django.core.management.commands import makemessages

LOCALES = ["zh_Hans"]
IGNORED = ["tests/*", "var/*", "build/*", "docs/*", "static/*"]


class Collect(makemessages.Command):
    """Django's command, which also knows sentences that are stored (``commands.words``)."""

    xgettext_options = [*makemessages.Command.xgettext_options, "--keyword=kept"]


def source(locale: str) -> Path:
    """The file with the translations of a language."""
    return Path(settings.LOCALE_PATHS[0]) / locale / "LC_MESSAGES/django.po"


def collect() -> None:
    """Bring the words of code and templates into every language's file; what is gone goes.

    The files say neither when that was nor in which line a word stands: then nothing changes in
    them but words.
    """
    with contextlib.chdir(settings.BASE_DIR):
        call_command(
            Collect(),
            locale=LOCALES,
            ignore_patterns=IGNORED,
            add_location="file",
            no_obsolete=True,
            verbosity=0,
        )
    for locale in LOCALES:
        path = source(locale)
        dated = r'^"(?:POT-Creation-Date|PO-Revision-Date): .*\n'
        path.write_text(re.sub(dated, "", path.read_text(), flags=re.MULTILINE))


def compile_all() -> None:
    """Compile every language's file; wrong placeholders are refused."""
    with contextlib.chdir(Path(settings.LOCALE_PATHS[0]).parent):
        call_command("compilemessages", locale=LOCALES, verbosity=0)


class Command(BaseCommand):
    """Collect words and compile translations. Needs GNU gettext."""

    help = "Collect the words to be translated into console/locale, and compile the translations."

    def handle(self, *args: Any, **options: Any) -> None:
        """Do both."""
        collect()
        compile_all()

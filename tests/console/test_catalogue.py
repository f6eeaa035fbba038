"""The catalogue of words: complete, in step with the code, compiled, and true to placeholders."""

from __future__ import annotations

import gettext
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from console.management.commands import catalogue
from tests.conftest import missing

PLACEHOLDERS = re.compile(r"%\(\w+\)[sd]|\{\w+\}|</?[a-z]+|%%")
STAYS_ENGLISH = re.compile(r"^[\W\d_]*$")


@pytest.fixture(params=catalogue.LOCALES)
def source(request) -> Path:
    for program in ("xgettext", "msgfmt", "msgattrib"):
        if shutil.which(program) is None:
            missing(program)
    return catalogue.source(request.param)


def words(path: Path) -> dict[object, str]:
    """Translations by what they translate; of plurals one for each form."""
    with path.open("rb") as file:
        found: dict[object, str] = gettext.GNUTranslations(file)._catalog
    return {key: text for key, text in found.items() if key}


def told(source: Path, *options: str) -> str:
    """What msgattrib says of ``source``."""
    done = subprocess.run(
        ["msgattrib", *options, "--no-wrap", str(source)],
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout


def test_every_word_of_code_and_pages_is_in_the_catalogue_and_no_other(source):
    before = source.read_text()
    try:
        catalogue.collect()
        after = source.read_text()
    finally:
        source.write_text(before)
    assert after == before, "run: manage.py catalogue"


def test_nothing_is_missing_or_unsure(source):
    assert told(source, "--untranslated") == ""
    assert told(source, "--only-fuzzy") == ""


def test_what_is_compiled_is_the_source(source, tmp_path):
    compiled = tmp_path / "django.mo"
    subprocess.run(["msgfmt", "--check", "-o", str(compiled), str(source)], check=True)
    assert words(compiled) == words(source.with_suffix(".mo")), "run: manage.py catalogue"


def test_a_translation_has_the_placeholders_and_tags_of_what_it_translates(source):
    wrong = {}
    for key, text in words(source.with_suffix(".mo")).items():
        plural = isinstance(key, tuple)  # whose singular may say "one" instead of the number
        original = key[0] if isinstance(key, tuple) else str(key)
        original = original.partition("\x04")[2] or original  # its context stands before it
        ours, theirs = (Counter(PLACEHOLDERS.findall(one)) for one in (text, original))
        if not theirs <= ours or (ours != theirs and not plural):
            wrong[original] = text
    assert wrong == {}


def test_a_translation_is_one(source):
    """Whatever has a word in it reads otherwise, but for names that are the same everywhere."""
    same = {
        str(key)
        for key, text in words(source.with_suffix(".mo")).items()
        if text == key and not STAYS_ENGLISH.match(PLACEHOLDERS.sub("", text))
    }
    assert same <= {"stderr"}

"""Sentences for people, in the language of who reads them, for code that knows no web framework.

Rules and services raise sentences while a request is answered, so that its language is in force:
``gettext`` and ``ngettext`` look there. They speak English until the application has started
(``apps`` hands over a translator), and in background jobs, which nobody reads.

What a job stores with a run is English for everybody. ``gettext_noop`` marks such a sentence,
``kept`` one with values in it; ``retold`` says what was stored in the reader's language.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_PLACEHOLDER = re.compile(r"%\\\((\w+)\\\)s")


def _same(text: str) -> str:
    return text


def _by_number(one: str, many: str, number: int) -> str:
    return one if number == 1 else many


_translate: Callable[[str], str] = _same
_translate_number: Callable[[str, str, int], str] = _by_number
_kept: dict[str, re.Pattern[str]] = {}


def speak(one: Callable[[str], str], number: Callable[[str, str, int], str]) -> None:
    """Ask these for translations from now on."""
    global _translate, _translate_number
    _translate, _translate_number = one, number


def gettext(text: str) -> str:
    """``text`` in the language in force."""
    return _translate(text)


def ngettext(one: str, many: str, number: int) -> str:
    """``one`` or ``many``, whichever ``number`` of something wants, in the language in force."""
    return _translate_number(one, many, number)


def gettext_noop(text: str) -> str:
    """``text`` itself, to be translated where it is read."""
    return text


IT = (gettext_noop("it"), gettext_noop("It"))
"""Stands in a stored sentence for what the sentence around it speaks of."""


def kept(template: str) -> str:
    """A sentence with ``%(name)s`` in it, to be stored filled in and retold later.

    ``%(what)s`` is a sentence, or the beginning of one, that is retold itself.
    """
    seen: set[str] = set()

    def place(found: re.Match[str]) -> str:
        again = found[1] in seen
        seen.add(found[1])
        return f"(?P={found[1]})" if again else f"(?P<{found[1]}>.*?)"

    _kept[template] = re.compile(_PLACEHOLDER.sub(place, re.escape(template)), re.DOTALL)
    return template


def _vagueness(template: str) -> tuple[bool, bool, int]:
    """Least for what is tried first: a sentence in a sentence, then what says most.

    Else the one inside, where it begins with a value, would take what stands around it for that.
    """
    return "%(what)s" not in template, template.startswith("%("), -len(template)


def retold(text: str) -> str:
    """A sentence that was stored, in the language in force; what is not known stays as it is."""
    if not text:
        return text
    for template in sorted(_kept, key=_vagueness):
        if found := _kept[template].fullmatch(text):
            values = found.groupdict()
            if "what" in values:
                values["what"] = retold(values["what"])
            told = {name: gettext(text) if text in IT else text for name, text in values.items()}
            return gettext(template) % told
    return gettext(text)

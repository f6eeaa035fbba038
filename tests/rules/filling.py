"""Filling scripts in tests, and texts to fill them with."""

from __future__ import annotations

from hypothesis import strategies as st

from commands.rules import parameters
from commands.rules.content import CommandType
from commands.rules.grammar import Builtin
from commands.rules.quoting import Insertion

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
PLAIN = st.text(st.characters(exclude_characters="{}\0", exclude_categories=["Cs"]))
VALUES = {builtin: f"<{builtin}>" for builtin in Builtin}


def fill(content, values=None, quoted=(), command_type=CommandType.SHELL):
    insertions = dict.fromkeys(quoted, Insertion.QUOTED)
    return parameters.fill(content, values or {}, VALUES, insertions, command_type=command_type)

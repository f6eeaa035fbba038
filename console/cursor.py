"""The opaque position in an event stream: which output is watched, and how far it was sent."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SEQUENCE = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Cursor:
    """``sequence`` is the last chunk that the client has of ``instance_uid``; -1 for none."""

    instance_uid: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.instance_uid}:{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Cursor | None:
        """The cursor that ``text`` is, or None for anything else."""
        instance_uid, _, sequence = text.rpartition(":")
        if not instance_uid or not (sequence == "-1" or _SEQUENCE.fullmatch(sequence)):
            return None
        return cls(instance_uid, int(sequence))

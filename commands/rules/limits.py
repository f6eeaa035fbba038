"""Every number that limits something, once, with its source.

*procedure* is Alibaba Cloud's page on creating and running a command in one step, *reference*
its CreateCommand API reference; *ours* marks a choice of this product where those are silent.
"""

from __future__ import annotations

from typing import Final

CONTENT_BYTES: Final = 18_432
"""Most bytes of a command after Base64, saved or not (reference: 18 KB)."""

NAME_CHARS: Final = 128
"""Most characters of a command's name (reference)."""

DESCRIPTION_CHARS: Final = 512
"""Most characters of a command's description (reference)."""

WORKDIR_CHARS: Final = 200
"""Most characters of an execution path (reference)."""

TIMEOUT_DEFAULT: Final = 60
"""Seconds a command may run if nothing else is said (procedure, reference)."""

TIMEOUT_MIN: Final = 10
"""Shortest timeout in seconds; smaller numbers are raised to it (procedure)."""

TIMEOUT_MAX: Final = 86_400
"""Longest timeout in seconds, one day (ours; a sister service's limit)."""

INSTANCES_PER_TASK: Final = 50
"""Most instances of one task (procedure)."""

CLIENT_TOKEN_CHARS: Final = 64
"""Most characters of a client token, ASCII only (reference)."""

LAST_LINE_CHARS: Final = 200
"""Characters of a run's last output line that lists show (ours)."""

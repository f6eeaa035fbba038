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

TIMEOUT_ASKED_MIN: Final = -(10**12)
"""Smallest timeout that is kept as it was asked for (ours; it only has to be told)."""

INSTANCES_PER_TASK: Final = 50
"""Most instances of one task (procedure)."""

CLIENT_TOKEN_CHARS: Final = 64
"""Most characters of a client token, ASCII only (reference)."""

LAST_LINE_CHARS: Final = 200
"""Characters of a run's last output line that lists show (ours)."""

OUTPUT_KEPT: Final = 2_097_152
"""Bytes of a run's output that are kept unless set otherwise, both streams (ours; 2 MB)."""

OUTPUT_KEPT_MIN: Final = 131_072
"""Fewest bytes that can be set for it (ours; one stored chunk for head and tail each)."""

PARAMETERS: Final = 20
"""Most custom parameters of a command; built-in ones are not counted (procedure, reference)."""

PARAMETER_NAME_BYTES: Final = 64
"""Most bytes of a parameter's name (reference)."""

PARAMETER_CHOICES: Final = 100
"""Most values that a parameter can be chosen from (ours; a list longer than that is no help)."""

PARAMETER_PATTERN_CHARS: Final = 200
"""Most characters of the pattern that a parameter's value must match (ours)."""

PARAMETER_PATTERN_VALUE_CHARS: Final = 256
"""Most characters of a value that is matched against a pattern (ours; bounds the time)."""

PARAMETER_PATTERN_WAYS: Final = 20_000_000
"""Most ways in which a pattern may match, an upper bound of its steps (ours; under a second)."""

RUN_AS_CHARS: Final = 32
"""Most characters of the user that a script runs as (ours; what Linux's user tools take)."""

TAG_FILTERS: Final = 20
"""Most tags that instances are filtered by at once (ours)."""

PROBLEMS: Final = 20
"""Most problems of one script that are told at once (ours)."""

FORM_CONTENT_CHARS: Final = 65_536
"""Longest script that a form looks for parameters in (ours; far above what may run)."""

SYSTEM_CHARS: Final = 80
"""Characters of an operating system's name that are kept (ours)."""

LAUNCHER_BYTES: Final = 1024
"""Most bytes of a launcher (reference: 1 KB)."""

LAUNCHER_EXTENSION_CHARS: Final = 16
"""Most characters of the file extension that a launcher asks for, dot included (ours)."""

SECRET_BYTES_MIN: Final = 3
"""Fewest bytes of a value that is masked in output; shorter ones are everywhere (ours)."""

TAGS: Final = 20
"""Most tags of a command or a task (reference)."""

TAG_KEY_CHARS: Final = 64
"""Most characters of a tag's key (reference)."""

TAG_VALUE_CHARS: Final = 128
"""Most characters of a tag's value (reference)."""

SAVED_COMMANDS: Final = 100
"""Saved commands of a team in a region unless its quota says otherwise (procedure)."""

SAVED_COMMANDS_MIN: Final = 1
"""Smallest quota of saved commands (ours)."""

SAVED_COMMANDS_MAX: Final = 50_000
"""Largest quota of saved commands (reference: 500 to 50,000)."""

TASKS_PER_DAY: Final = 5_000
"""Tasks of a team in a region and day unless its quota says otherwise (procedure)."""

SEARCH_WORDS: Final = 10
"""Words of a search that are looked for; further ones are ignored (ours; bounds the query)."""

CONCURRENCY_MAX: Final = 10_000
"""Most runs at a time, in a first batch, or failures, that a task can ask for (ours)."""

BATCH_PAUSE_MAX: Final = 86_400
"""Longest pause between two batches in seconds, one day (ours)."""

MAX_FAILURES_CHARS: Final = 8
"""Characters of a task's limit of failures, a number or a percentage (ours)."""

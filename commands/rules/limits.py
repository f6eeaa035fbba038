"""Every number that limits something, once, with its source.

*procedure* is Alibaba Cloud's page on creating and running a command in one step, *reference*
its CreateCommand API reference; *ours* marks a choice of this product where those are silent.
"""

from __future__ import annotations

from typing import Final

CONTENT_BYTES: Final = 18_432
"""Most bytes of a command after Base64 unless a quota says otherwise (reference: 18 KB)."""

CONTENT_BYTES_MIN: Final = 1_024
"""Smallest quota of them (ours)."""

CONTENT_BYTES_MAX: Final = 24_576
"""Largest quota of them (Cloud Assistant's newest software: 24 KB)."""

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

KEEP_DAYS: Final = 28
"""Days that a task and its output are kept after it has ended (Cloud Assistant: 4 weeks)."""

KEEP_DAYS_MIN: Final = 1
"""Fewest days that a team can set (ours)."""

KEEP_DAYS_MAX: Final = 3_650
"""Most days that a team can set, ten years (ours)."""

REASON_CHARS_MIN: Final = 20
"""Fewest characters of the reason for a higher limit (ours)."""

REASON_CHARS_MAX: Final = 1_000
"""Most characters of that reason, and of the comment of who decides (ours)."""

RUNS_AT_A_TIME: Final = 2_000
"""Runs of a team in a region that have not ended unless its quota says otherwise (ours)."""

SEARCH_WORDS: Final = 10
"""Words of a search that are looked for; further ones are ignored (ours; bounds the query)."""

CONCURRENCY_MAX: Final = 10_000
"""Most runs at a time, in a first batch, or failures, that a task can ask for (ours)."""

BATCH_PAUSE_MAX: Final = 86_400
"""Longest pause between two batches in seconds, one day (ours)."""

MAX_FAILURES_CHARS: Final = 8
"""Characters of a task's limit of failures, a number or a percentage (ours)."""

PERSON_CHARS: Final = 301
"""Characters of a person's name that are kept beside what they did (Django: two names)."""

REASON_CHARS: Final = 500
"""Most characters of a reason that somebody gives (ours)."""

INSTANCE_NAME_CHARS: Final = 128
"""Most characters of an instance's name (ours)."""

CREDENTIAL_NAME_CHARS: Final = 100
"""Most characters of a credential's name (ours)."""

PRIVATE_KEY_BYTES: Final = 32_768
"""Most bytes of a private key (ours; an RSA key of 16,384 bits takes 13 KB)."""

COMPARED_LINES: Final = 1_000
"""Lines of two outputs between which differences are looked for (ours; bounds the time)."""

COMPARED_BYTES: Final = 32_768
"""Bytes of those lines, of each output (ours; bounds the time)."""

INSTANCE_HOST_CHARS: Final = 253
"""Most characters of an instance's host name or address (what DNS allows)."""

INSTANCE_USER_CHARS: Final = 64
"""Most characters of the user to sign in as (ours)."""

IMPORT_ROWS: Final = 5_000
"""Most instances of one import (ours)."""

IMPORT_BYTES: Final = 1_048_576
"""Most bytes of a file that is imported, inventory or known_hosts (ours)."""

IMPORT_COMPARISONS: Final = 2_000_000
"""Most comparisons of a host with a hashed name or a pattern (ours; some seconds)."""

SSH_CONFIG_PATTERNS: Final = 200
"""Most patterns in the Host lines of an SSH configuration that is imported (ours)."""

INVITATION_DAYS: Final = 7
"""Days after which an invitation can't be accepted any more (ours)."""

INVITATIONS: Final = 100
"""Most invitations of a team that wait at a time (ours)."""

NOTICE_TESTS: Final = 20
"""Most tests of notices that a team sends within an hour (ours; bounds its mail)."""

INVITATIONS_A_DAY: Final = 200
"""Most that a team sends within a day, whatever became of them (ours; bounds its mail)."""

INVITATIONS_TO_ONE: Final = 3
"""Most of those to one address (ours)."""

TEAM_NAME_CHARS: Final = 100
"""Most characters of a team's name (ours)."""

RESOURCE_GROUP_NAME_CHARS: Final = 50
"""Most characters of a resource group's name (ours)."""

RESOURCE_GROUP_NAMED: Final = 50
"""Of what was moved to a resource group at once, so many names are in the audit trail (ours)."""

FULL_NAME_CHARS: Final = 150
"""Most characters of a person's full name (ours; what Django keeps)."""

NOTICE_RULES: Final = 20
"""Most rules of a team on who is told when tasks end (ours)."""

NOTICE_ADDRESSES: Final = 20
"""Most e-mail addresses of one rule (ours)."""

WEBHOOK_CHARS: Final = 2_000
"""Most characters of a webhook's address (ours)."""

ACCESS_KEYS: Final = 5
"""Most access keys of a member in a team that work at a time (ours)."""

ACCESS_KEYS_A_DAY: Final = 20
"""Most access keys that a member makes in a team within a day (ours).

Calls are counted by key, so whoever makes keys without end calls without end.
"""

ACCESS_KEY_KEEP_DAYS: Final = 90
"""Days that an access key is listed after its end (ours)."""

ACCESS_KEY_NAME_CHARS: Final = 100
"""Most characters of an access key's name (ours; fits where a command's name goes)."""

ACCESS_KEY_SECRET_CHARS: Final = 40
"""Letters and digits of an access key's secret (ours; 238 bits)."""

ACCESS_KEY_DAYS: Final = (30, 90, 365)
"""Days after which an access key can be made to expire (ours)."""

API_SKEW_SECONDS: Final = 900
"""Seconds by which the time of a signed request may differ (customary: 15 minutes)."""

API_CALLS_PER_MINUTE: Final = 600
"""Most calls with one access key in a minute (ours)."""

API_PAGE: Final = 10
"""Rows of a page of the API unless it is asked for others (reference)."""

API_PAGE_MAX: Final = 50
"""Most rows of a page of the API (reference)."""

API_INSTANCES_PAGE_MAX: Final = 100
"""Most instances of a page of the API, or that can be asked for by their ids (reference)."""

API_OUTPUT_BYTES: Final = 24_576
"""Most bytes of a run's output in an answer of the API (reference: 24 KB)."""

API_OUTPUT_HEAD_BYTES: Final = 6_000
"""How many of those come from its beginning if it is longer (Cloud Assistant's agent)."""

APPROVAL_HOURS: Final = 24
"""Hours after which a task that nobody has approved never runs, unless a team says otherwise."""

APPROVAL_HOURS_MAX: Final = 720
"""Most hours that a team may give (ours): 30 days."""

APPROVAL_VALUES: Final = 20
"""Most tags, and most users, that one team's rule names (ours)."""

APPROVAL_COMMENT_CHARS: Final = 500
"""Most characters of what somebody says to a decision (ours)."""

"""The third share of what runs on PostgreSQL too."""

from __future__ import annotations

from tests.postgresql import again


def test_what_touches_rows_also_passes_on_postgresql() -> None:
    again.assert_passes(2)

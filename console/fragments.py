"""Events of a stream: fragments of the task page's own templates, framed as server-sent events.

state   out-of-band swaps by id: title pill, progress, rows, head and foot of the panel
out     lines for the output panel; ``id`` is the cursor after them
earlier  so many lines before the next ones are not shown; lines shown before are older
beat    still here
done    nothing more will come
"""

from __future__ import annotations

from collections.abc import Sequence

from django.template.loader import get_template

from console.cursor import Cursor
from console.lines import Line
from console.presentation import RunView, TaskView

RETRY_MS = 1_000
_STATE_PARTS = ("task_state", "progress")
_SHOWN_PARTS = ("panel_state", "gap_note", "log_note")


class Fragments:
    """Renders events. Templates are looked up once."""

    def __init__(self) -> None:
        self._templates = {
            name: get_template(f"parts/_{name}.html")
            for name in (
                "task_state",
                "progress",
                "row",
                "panel_state",
                "gap_note",
                "log_note",
                "lines",
            )
        }

    def hello(self, cursor: Cursor | None) -> bytes:
        """The first event: how soon to reconnect, and from where."""
        position = f"id: {cursor}\n" if cursor else ""
        return f"retry: {RETRY_MS}\n{position}event: hello\ndata:\n\n".encode()

    def state(
        self,
        task: TaskView,
        rows: Sequence[RunView],
        shown: RunView | None,
        *,
        has_output: bool,
    ) -> bytes:
        """States of the task, of some of its runs, and of the one that is shown."""
        context = {
            "task": task,
            "progress": task.progress,
            "shown": shown,
            "has_output": has_output,
            "oob": True,
        }
        parts = [self._render(name, context) for name in _STATE_PARTS]
        parts += [self._render("row", {**context, "run": run}) for run in rows]
        if shown is not None:
            parts += [self._render(name, context) for name in _SHOWN_PARTS]
        return _event("state", "".join(parts))

    def lines(self, lines: Sequence[Line], cursor: Cursor) -> bytes:
        """Lines of output, with the position after them."""
        return _event("out", self._render("lines", {"lines": lines}), cursor)

    def earlier(self, count: int) -> bytes:
        """Say that ``count`` lines before those to come are not shown.

        It carries no cursor: the next event does, with the lines that are still open.
        """
        return _event("earlier", str(count))

    def beat(self) -> bytes:
        """A sign of life, as an event: scripts in a browser can't hear comments."""
        return _event("beat", "")

    def done(self) -> bytes:
        """The last event."""
        return _event("done", "")

    def _render(self, name: str, context: dict[str, object]) -> str:
        return self._templates[name].render(context)


def _event(name: str, data: str, cursor: Cursor | None = None) -> bytes:
    position = f"id: {cursor}\n" if cursor else ""
    # CR and LF end a field (other line breaks do not), so each line is a field of its own.
    fields = data.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    body = "".join(f"data: {line}\n" for line in fields)
    return f"{position}event: {name}\n{body}\n".encode()

"""Events of a stream: fragments of the task page's own templates, framed as server-sent events.

state   out-of-band swaps by id: title pill, progress, head and foot of the panel; of a task on one
        instance its facts, on a few their rows, on many a letter for the state of each
out     lines for the output panel; ``id`` is the cursor after them
earlier  so many lines before the next ones are not shown; lines shown before are older
beat    still here
done    nothing more will come
"""

from __future__ import annotations

from collections.abc import Sequence

from django.http import QueryDict
from django.template.loader import get_template

from commands.models import Run
from console.cursor import Cursor
from console.groups import told
from console.lines import Line
from console.presentation import RunView, Size, TaskView, squares

RETRY_MS = 1_000
_STATE_PARTS = ("task_state", "progress", "retry")
_SIZE_PARTS = {
    Size.ONE: ("facts",),
    Size.FEW: ("same",),
    Size.MANY: ("same", "squares"),
}
_SHOWN_PARTS = ("panel_state", "gap_note", "log_note", "ran_on", "machine_note")


class Fragments:
    """Renders events. Templates are looked up once."""

    def __init__(self) -> None:
        self._templates = {
            name: get_template(f"parts/_{name}.html")
            for name in (
                "task_state",
                "progress",
                "retry",
                "row",
                "facts",
                "same",
                "squares",
                "panel_state",
                "gap_note",
                "log_note",
                "ran_on",
                "machine_note",
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
        runs: Sequence[Run],
        has_output: bool,
    ) -> bytes:
        """States of the task, of some of its ``runs`` as ``rows``, and of the one that is shown."""
        many = task.size is Size.MANY
        context = {
            "task": task,
            "progress": task.progress,
            "shown": shown,
            "has_output": has_output,
            "same": told(runs),
            "squares": squares(runs) if many else "",
            "query": QueryDict(),
            "oob": True,
        }
        names = _STATE_PARTS + _SIZE_PARTS[task.size]
        parts = [self._render(name, context) for name in names]
        parts += [self._row(run) for run in rows]
        if shown is not None:
            parts += [self._render(name, context) for name in _SHOWN_PARTS]
        return _event("state", "".join(parts))

    def rows(self, rows: Sequence[RunView]) -> bytes:
        """The rows of runs of which nothing else has changed; b"" for none."""
        return _event("state", "".join(map(self._row, rows))) if rows else b""

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

    def _row(self, run: RunView) -> str:
        return self._render("row", {"run": run, "oob": True})

    def _render(self, name: str, context: dict[str, object]) -> str:
        return self._templates[name].render(context)


def _event(name: str, data: str, cursor: Cursor | None = None) -> bytes:
    position = f"id: {cursor}\n" if cursor else ""
    # CR and LF end a field (other line breaks do not), so each line is a field of its own.
    fields = data.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    body = "".join(f"data: {line}\n" for line in fields)
    return f"{position}event: {name}\n{body}\n".encode()

"""What a browser without JavaScript would send again: the fields of a form in a page."""

from __future__ import annotations

from html.parser import HTMLParser


class _Reader(HTMLParser):
    """Collects names and values of one form, as browsers do."""

    def __init__(self, form_id: str) -> None:
        super().__init__()
        self.fields: dict[str, list[str]] = {}
        self._form_id = form_id
        self._inside = False
        self._templates = 0
        self._textarea: str | None = None
        self._select: str | None = None
        self._option: str | None = None
        self._chosen = False
        self._first: str | None = None
        self._text = ""

    def add(self, name: str | None, value: str) -> None:
        if name:
            self.fields.setdefault(name, []).append(value)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "form":
            self._inside = given.get("id") == self._form_id
        if tag == "template":
            self._templates += 1
        if not self._inside or self._templates or "disabled" in given:
            return
        if tag == "input":
            ticked = given.get("type") not in ("checkbox", "radio") or "checked" in given
            if ticked:
                self.add(given.get("name"), given.get("value") or self._usual(given))
        elif tag == "textarea":
            self._textarea, self._text = given.get("name"), ""
        elif tag == "select":
            self._select, self._chosen, self._first = given.get("name"), False, None
        elif tag == "option" and self._select:
            self._option, self._text = given.get("value"), ""
            self._selected = "selected" in given

    def _usual(self, given):
        return "on" if given.get("type") == "checkbox" else ""

    def handle_data(self, data):
        self._text += data

    def handle_endtag(self, tag):
        if tag == "form":
            self._inside = False
        elif tag == "template":
            self._templates -= 1
        elif tag == "textarea" and self._textarea:
            self.add(self._textarea, self._text.removeprefix("\n"))
            self._textarea = None
        elif tag == "option" and self._select:
            value = self._text.strip() if self._option is None else self._option
            self._first = value if self._first is None else self._first
            if self._selected:
                self.add(self._select, value)
                self._chosen = True
        elif tag == "select" and self._select:
            if not self._chosen and self._first is not None:
                self.add(self._select, self._first)
            self._select = None


def shown_fields(page: str, form_id: str = "run-form") -> dict[str, list[str]]:
    """Names and values of the form of that id in ``page``."""
    reader = _Reader(form_id)
    reader.feed(page)
    return reader.fields

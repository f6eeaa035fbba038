"""``/instances/import/``: bring servers from a file, look at what they mean, import them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.db.models import Count, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_http_methods, require_safe

from commands.access import Permission
from commands.errors import Conflict, Forgotten, Invalid, Outdated
from commands.models import Credential, Import, ImportRow
from commands.rules import limits
from commands.rules.inventory_files import COLUMNS
from commands.services import importing as service
from commands.services.importing import Report
from commands.services.judging import Line, Review, State
from console import errors, resolve
from console.forms.importing import CSV, SSH_CONFIG, ImportForm, credential_of
from console.pages.answers import SeeOther
from console.resolve import Scope

_LOOKS = {
    State.WRONG: (gettext_lazy("Wrong"), "bad", "bad"),
    State.CHANGED: (gettext_lazy("Changed"), "warn", "warn"),
    State.NEW: (gettext_lazy("New"), "run", "plus"),
    State.SAME: (gettext_lazy("Already there"), "idle", "tick"),
}
_SOURCES = {
    ImportRow.KeySource.FILE.value: gettext_lazy("from the file"),
    ImportRow.KeySource.KNOWN_HOSTS.value: gettext_lazy("from known_hosts"),
    ImportRow.KeySource.READ.value: gettext_lazy("shown by the host: compare it"),
    ImportRow.KeySource.NONE.value: gettext_lazy("pinned already"),
}


@dataclass(frozen=True, slots=True)
class RowView:
    """A row of the table: what it means, how that is shown, and whether it was other before."""

    line: Line
    label: str
    state: str
    icon: str
    outdated: bool

    @property
    def value(self) -> str:
        """What its box sends: which row it is, and what was shown of it."""
        return f"{self.line.row.pk}-{self.line.mark}"

    @property
    def key_source(self) -> str:
        """Where its host key is from."""
        return str(_SOURCES[self.line.row.key_source])


@dataclass(frozen=True, slots=True)
class Reading:
    """How far reading host keys is: of ``total`` hosts, ``waiting`` have not answered yet."""

    total: int
    waiting: int
    unanswered: int

    @property
    def done(self) -> int:
        """Hosts that answered, or will not."""
        return self.total - self.waiting


@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def begin(request: HttpRequest) -> HttpResponse:
    """Show the form (GET); read what was sent, and lead to the table of what it means (POST)."""
    scope = _scope(request)
    if request.method != "POST":
        return _form(request, scope, ImportForm())
    form = ImportForm(request.POST, request.FILES)
    if not form.is_valid():
        return _form(request, scope, form, status=422)
    try:
        origin = service.begin(
            actor=resolve.person(request),
            team=scope.team,
            region=scope.region,
            inventory=form.inventory,
            known=form.known,
            credential=form.chosen_credential(scope.team, scope.region),
            user=form.cleaned_data["user"],
            now=timezone.now(),
        )
    except Invalid as error:
        form.add_error(error.field if error.field in form.fields else None, error.message)
        return _form(request, scope, form, status=422)
    return SeeOther(reverse("instance-import-review", args=[origin.uid]))


@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def review(request: HttpRequest, uid: str) -> HttpResponse:
    """The table of what a file means (GET), and what is to become of it (POST)."""
    origin = resolve.inventory_import(request, uid)
    if origin is None:
        return _over(request)
    if request.method != "POST":
        return _table(request, origin)
    try:
        return _act(request, origin)
    except Forgotten:  # in another tab, in this moment
        return _over(request)


def _over(request: HttpRequest) -> HttpResponse:
    messages.info(request, _("That import is done already, or was forgotten."))
    return SeeOther(reverse("instance-import"))


def _act(request: HttpRequest, origin: Import) -> HttpResponse:
    action = request.POST.get("action", "import")
    if action == "give-up":
        service.give_up(actor=resolve.person(request), origin=origin)
        messages.info(request, _("Nothing was imported."))
        return SeeOther(reverse("instance-import"))
    if action == "import":
        return _finish(request, origin)
    _remember(request, origin)
    if action == "keys":
        service.ask_for_keys(actor=resolve.person(request), origin=origin)
    return SeeOther(reverse("instance-import-review", args=[origin.uid]))


@resolve.signed_in
@require_safe
def reading(request: HttpRequest, uid: str) -> HttpResponse:
    """How far reading host keys is, as a fragment of the table's page."""
    origin = resolve.inventory_import(request, uid)
    if origin is None:
        return HttpResponse(status=204)
    context = {"origin": origin, "reading": _reading(origin)}
    return render(request, "instances/_import_reading.html", context)


def _scope(request: HttpRequest) -> Scope:
    """The team and region to import into. Raises Http404 for those who may not."""
    scope = resolve.scope_of(request, request.POST.get("scope", ""))
    if scope is None or not resolve.may(request, Permission.INSTANCE_MANAGE, scope):
        raise Http404
    return scope


def _form(
    request: HttpRequest, scope: Scope, form: ImportForm, *, status: int = 200
) -> HttpResponse:
    context = {
        "form": form,
        "scope": scope,
        "credentials": _credentials(scope),
        "formats": [(CSV, "CSV"), (SSH_CONFIG, _("OpenSSH client configuration"))],
        "columns": COLUMNS,
        "limits": {"rows": limits.IMPORT_ROWS, "megabytes": limits.IMPORT_BYTES >> 20},
    }
    return render(request, "instances/import.html", context, status=status)


def _credentials(scope: Scope) -> QuerySet[Credential]:
    found = Credential.objects.filter(team=scope.team, region=scope.region)
    return found.defer("secret", "passphrase")


def _ticked(request: HttpRequest) -> dict[int, str]:
    """The rows that are ticked, and the marks of what was shown of them."""
    sent = (each.partition("-") for each in request.POST.getlist("rows"))
    return {
        int(row): mark
        for row, _dash, mark in sent
        if row.isascii() and row.isdecimal() and len(row) < 19
    }


def _remember(request: HttpRequest, origin: Import, outdated: Collection[int] = ()) -> None:
    """Keep what is ticked, but for what is outdated."""
    value = request.POST.get("credential", "")
    service.choose(
        actor=resolve.person(request),
        origin=origin,
        row_ids=_ticked(request).keys() - outdated,
        credential=credential_of(origin.team, origin.region, value),
    )


def _finish(request: HttpRequest, origin: Import) -> HttpResponse:
    _remember(request, origin)
    try:
        report = service.finish(
            actor=resolve.person(request),
            origin=origin,
            shown=_ticked(request),
            confirmed=request.POST.get("confirmed") == "on",
            now=timezone.now(),
        )
    except Outdated as error:
        _remember(request, origin, error.ids)
        return _table(request, origin, error.message, status=409, outdated=error.ids)
    except Forgotten:
        raise
    except (Invalid, Conflict) as error:
        return _table(request, origin, error.message, status=errors.status_code(error))
    for text in _told(report):
        messages.success(request, text)
    return SeeOther(reverse("instances"))


def _told(report: Report) -> list[str]:
    """What became of an import, in sentences."""
    parts = [
        (
            report.new,
            ngettext("%(n)d instance was added.", "%(n)d instances were added.", report.new),
        ),
        (
            report.changed,
            ngettext(
                "%(n)d instance was changed.", "%(n)d instances were changed.", report.changed
            ),
        ),
        (
            report.left_out,
            ngettext(
                "%(n)d without a host key was left out. Import the file again for it.",
                "%(n)d without a host key were left out. Import the file again for them.",
                report.left_out,
            ),
        ),
    ]
    return [text % {"n": number} for number, text in parts if number]


def _table(
    request: HttpRequest,
    origin: Import,
    error: str = "",
    *,
    status: int = 200,
    outdated: Collection[int] = (),
) -> HttpResponse:
    """The table; first what is ``outdated``, so that nobody has to search for it."""
    # Before the rows: a key that arrives in between is shown, and looked for once more. The
    # other way round the page would say that all have answered, and never show what they did.
    reading = _reading(origin)
    found = service.review(origin)
    rows = [_view(line, line.row.pk in outdated) for line in found.lines]
    rows.sort(key=lambda view: not view.outdated)
    chosen = [line for line in found.lines if line.row.chosen and line.importable]
    context: dict[str, Any] = {
        "origin": origin,
        "rows": rows,
        "counts": _counts(found),
        "error": error,
        "credentials": _credentials(Scope(origin.team, origin.region)),
        "ready": sum(not line.keyless for line in chosen),
        "keyless": sum(line.keyless for line in chosen),
        "importable": sum(line.importable for line in found.lines),
        "compare": any(
            line.importable and line.row.key_source == ImportRow.KeySource.READ
            for line in found.lines
        ),
        "reading": reading,
    }
    return render(request, "instances/import_review.html", context, status=status)


def _counts(found: Review) -> list[tuple[str, str, str, int]]:
    """Label, state, icon and number for each state, in the order of the table."""
    return [
        (str(label), color, icon, found.count(state))
        for state, (label, color, icon) in _LOOKS.items()
    ]


def _view(line: Line, outdated: bool) -> RowView:
    label, state, icon = _LOOKS[line.state]
    return RowView(line, str(label), state, icon, outdated)


def _reading(origin: Import) -> Reading:
    """How far it is; nothing was asked for where ``total`` is 0."""
    found = origin.rows.aggregate(
        waiting=Count("pk", filter=Q(wanted=True)),
        read=Count("pk", filter=Q(key_source=ImportRow.KeySource.READ.value)),
        unanswered=Count("pk", filter=~Q(unanswered="")),
    )
    return Reading(sum(found.values()), found["waiting"], found["unanswered"])

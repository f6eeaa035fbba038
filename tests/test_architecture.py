"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from commands import access
from commands.models import Role
from commands.rules.status import ErrorCode
from console.api import actions, errors

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path
    for package in ("commands", "console")
    for path in (ROOT / package).rglob("*.py")
    if "migrations" not in path.parts
)
ERROR_CODES = ROOT / "docs/error-codes.md"
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
CHANGES = {
    "save",
    "delete",
    "create",
    "update",
    "bulk_create",
    "bulk_update",
    "get_or_create",
    "update_or_create",
}


def manager_calls(tree):
    """Calls that change rows: ``….objects….create()`` and ``instance.save()`` and the like."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        name = node.func.attr
        chain = ast.unparse(node.func.value)
        if name in {"save", "delete"} or (name in CHANGES and "objects" in chain):
            yield f"{chain}.{name}()"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_why_it_exists(path):
    assert ast.get_docstring(ast.parse(path.read_text())), "a module needs a docstring"


def test_the_console_changes_rows_only_through_services():
    offences = {
        str(path.relative_to(ROOT)): found
        for path in SOURCES
        if path.is_relative_to(ROOT / "console")
        and (found := list(manager_calls(ast.parse(path.read_text()))))
    }
    assert offences == {}


def test_the_domain_speaks_no_http():
    banned = re.compile(
        r"^(from|import) (django\.(http|shortcuts|urls|views|template)|django_htmx)", re.MULTILINE
    )
    offences = [
        str(path)
        for path in SOURCES
        if path.is_relative_to(ROOT / "commands") and banned.search(path.read_text())
    ]
    assert offences == []


def test_every_htmx_request_also_works_as_a_plain_link_or_form():
    for path in TEMPLATES:
        for tag in re.findall(r"<[^>]*\bhx-(?:get|post)=[^>]*>", path.read_text()):
            assert re.search(r"\b(href|action|formaction)=", tag), f"{path}: {tag}"


def test_templates_keep_the_content_security_policy():
    for path in TEMPLATES:
        text = path.read_text()
        assert not re.search(r"\sstyle=|\son[a-z]+=|javascript:|hx-on", text), path
        assert not re.search(r"<script(?![^>]*\bsrc=)", text), path
        assert not re.search(r"""(src|href)=["'](https?:)?//""", text), path


def test_every_error_code_is_documented_and_no_other():
    documented = set(
        re.findall(r"^\| `(\w+)`", (ROOT / "docs/error-codes.md").read_text(), re.MULTILINE)
    )
    assert documented == {code.value for code in ErrorCode}


def test_every_action_and_error_code_of_the_api_is_documented_and_no_other():
    text = (ROOT / "docs/api.md").read_text()
    head, codes = text.split("## Error codes")
    documented = re.findall(r"^\| `(\w+)`", head.partition("## Actions")[2], re.MULTILINE)
    assert documented == list(actions.ACTIONS)
    rows = re.findall(r"^\| `([\w.]+)` \| (\d+)", codes, re.MULTILINE)
    assert {code: int(status) for code, status in rows} == errors.STATUSES
    assert len(rows) == len(errors.STATUSES)


def test_every_code_that_a_rule_or_service_raises_is_known_to_the_api():
    raised = {
        code
        for path in SOURCES
        if path.is_relative_to(ROOT / "commands/rules")
        or path.name in {"definitions.py", "invocations.py", "library.py", "eligibility.py"}
        for code in re.findall(
            r'"((?:Cmd|Invalid|Missing|Parameter|Instance)\w*\.\w+)"', path.read_text()
        )
    }
    known = errors.STATUSES.keys() | errors.RENAMED.keys()
    assert raised - known == set()
    assert len(raised) > 20


def test_every_setting_is_in_the_readme():
    names = set()
    for module in ("settings", "server", "seed"):
        text = (ROOT / "console" / f"{module}.py").read_text()
        names |= set(re.findall(r'environment\.\w+\(\s*"([A-Z_]+)"', text))
        names |= set(re.findall(r'environ(?:\.get)?[\[(]\s*"([A-Z_]+)"', text))
    readme = (ROOT / "README.md").read_text()
    names.discard("DJANGO_SETTINGS_MODULE")
    assert {name for name in names if f"`{name}`" not in readme} == set()


def test_nothing_but_the_agreed_names_stands_at_the_top():
    agreed = {
        "manage.py",
        "pyproject.toml",
        "README.md",
        "console",
        "commands",
        "templates",
        "static",
        "tests",
        "docs",
        "LICENSE",
        "CHANGELOG.md",
        "requirements.lock",
    }
    ignored = {"var", "build", "dist", "htmlcov"}
    found = {
        path.name
        for path in ROOT.iterdir()
        if not path.name.startswith(".") and path.suffix != ".egg-info"
    }
    assert found - ignored <= agreed


def test_the_documented_roles_are_those_of_the_code():
    text = (ROOT / "docs/teams.md").read_text()
    head = next(line for line in text.splitlines() if line.startswith("| Permission |"))
    labels = [cell.strip() for cell in head.strip("|").split("|")][1:]
    roles = {str(Role(value).label): value for value in Role.values}
    assert set(labels) == set(roles)
    rows = re.findall(r"^\| `(\w+:\w+)` \|(.*)\|$", text, re.MULTILINE)
    documented = {
        (roles[label], permission)
        for permission, cells in rows
        for label, cell in zip(labels, cells.split("|"), strict=True)
        if cell.strip() == "yes"
    }
    assert {permission for permission, _ in rows} == set(access.Permission)
    assert documented == {
        (role, permission) for role, allowed in access.PERMISSIONS.items() for permission in allowed
    }

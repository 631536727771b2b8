"""The roles that requests of users need are those that functions/README.md says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from noetl_serverless.control_plane.openapi import PATH_PARAMETER
from noetl_serverless.control_plane.routes import OPERATIONS
from noetl_serverless.errors import Forbidden
from noetl_serverless.gateway.proxy import target_and_role
from noetl_serverless.gateway.roles import ROLES, allows

PAGE = (Path(__file__).parents[3] / "functions/README.md").read_text()


def documented() -> dict[str, list[str]]:
    """The paths that the page names, by role."""
    section = PAGE.split("### Who may do what")[1].split("\n### ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.M)
    return {role: re.findall(r"`(/api/[^`]+)`", text) for role, text in rows}


def is_below(path: str, top: str) -> bool:
    return f"{path}/".startswith(f"{top}/")


def role_on_the_page(method: str, path: str) -> str:
    named = documented()
    if method == "GET" or path in named["viewer"]:
        return "viewer"
    return next(role for role in ("editor", "admin") if any(is_below(path, top) for top in named[role]))


def may(role: str, method: str, path: str) -> bool:
    try:
        _, needed = target_and_role(method, PATH_PARAMETER.sub("1", path).removeprefix("/api/"))
    except Forbidden:
        return False
    return allows((role,), needed)


OF_USERS = [
    (operation.method, PATH_PARAMETER.sub(r"{\1}", operation.path))
    for operation in OPERATIONS
    if "gateway" in operation.roles and may("admin", operation.method, operation.path)
]


@pytest.mark.parametrize(("method", "path"), OF_USERS)
def test_an_operation_needs_the_role_of_the_page(method: str, path: str) -> None:
    allowed = [role for role in ROLES if may(role, method, path)]
    assert allowed[0] == role_on_the_page(method, path)


def test_the_page_names_only_what_there_is() -> None:
    named = documented()
    assert list(named) == list(ROLES)
    paths = [path for _, path in OF_USERS]
    assert [top for tops in named.values() for top in tops if not any(is_below(path, top) for path in paths)] == []

"""Who may do what: a viewer reads; an editor also registers, runs, controls and answers; an admin does everything. The
table in functions/README.md lists it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, get_args

Role = Literal["viewer", "editor", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
Permission = Literal["view", "execute", "edit"]

_NEEDED: dict[Permission, Role] = {"view": "viewer", "execute": "editor", "edit": "editor"}
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# reads that are a POST
_READ_POSTS = re.compile(r"catalog/(?:list|resource|agents/list|versions|diff)|executions/[0-9]+/analyze")
_EDITING = re.compile(r"(?:execute|catalog|executions|quarantine|result|schedules|temp|triggers|vars)(?:/.*)?")


def allows(roles: Iterable[str], needed: Role) -> bool:
    return any(role in ROLES and ROLES.index(role) >= ROLES.index(needed) for role in roles)


def role_for_permission(permission: Permission) -> Role:
    return _NEEDED[permission]


def role_for_request(method: str, path: str) -> Role:
    """The role that a control-plane request needs; `path` is the one below /api/."""
    if method in _SAFE or (method == "POST" and _READ_POSTS.fullmatch(path)):
        return "viewer"
    return "editor" if _EDITING.fullmatch(path) else "admin"

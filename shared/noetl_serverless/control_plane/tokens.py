"""Service tokens identify the callers of the control plane. A token is a JWT (HS256) with a role, signed with a key of
its own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal, get_args

import jwt

from ..errors import Unauthenticated

Role = Literal["gateway", "worker", "reconciler", "operator"]
ROLES: frozenset[Role] = frozenset(get_args(Role))
# a role for calling workers and reconcilers; the control plane itself does not accept it
CONTROL_PLANE = "control_plane"
ISSUER = "noetl"
ALGORITHM = "HS256"
# how far the clocks of two functions may be apart, in seconds
LEEWAY_SECONDS = 30.0
KEY_BYTES = 32
MAX_REMEMBERED = 1000


class BadKey(ValueError):
    """The token key is missing or too short."""


@dataclass(frozen=True, slots=True)
class Caller:
    role: Role
    subject: str


def check_key(key: str) -> None:
    """Raises BadKey."""
    if len(key.encode()) < KEY_BYTES:
        raise BadKey(
            f"NOETL_TOKEN_KEY must have at least {KEY_BYTES} bytes; without it, no caller can be authenticated"
        )


def mint(
    key: str, role: str, subject: str, ttl: float, *, now: float | None = None, token_id: str | None = None
) -> str:
    """A token that is valid for `ttl` seconds from `now` (seconds since 1970). `token_id` distinguishes tokens minted
    in the same second. Raises BadKey, and ValueError for an unknown role."""
    check_key(key)
    if role not in (*ROLES, CONTROL_PLANE):
        raise ValueError(f"unknown role {role!r}; the roles are {', '.join(sorted({*ROLES, CONTROL_PLANE}))}")
    issued = time.time() if now is None else now
    claims = {"iss": ISSUER, "sub": subject, "role": role, "iat": int(issued), "exp": int(issued + ttl)}
    if token_id is not None:
        claims["jti"] = token_id
    return jwt.encode(claims, key, algorithm=ALGORITHM)


class Verifier:
    """Checks tokens, and remembers them until they expire: workers send the same one all day."""

    def __init__(self, key: str) -> None:
        check_key(key)
        self._key = key
        self._cached: dict[str, tuple[Caller, float]] = {}

    def caller(self, token: str, now: float | None = None) -> Caller:
        """The caller that sent `token`. Raises Unauthenticated with a message that says what to do."""
        at = time.time() if now is None else now
        cached = self._cached.get(token)
        if cached is None:
            cached = self._check(token)
            if len(self._cached) >= MAX_REMEMBERED:
                self._cached.clear()
        caller, expires = cached
        if at > expires + LEEWAY_SECONDS:
            self._cached.pop(token, None)
            raise Unauthenticated("the service token has expired; mint a new one")
        self._cached[token] = cached
        return caller

    def _check(self, token: str) -> tuple[Caller, float]:
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                # checked in `caller` against our own `now`; nothing else here depends on the time
                options={"require": ["exp", "sub", "iss", "role"], "verify_exp": False, "verify_iat": False},
            )
            role, expires = claims["role"], float(claims["exp"])
        except (jwt.InvalidTokenError, TypeError, ValueError):
            raise Unauthenticated("the service token was not issued by this deployment") from None
        if not isinstance(role, str) or role not in ROLES:
            raise Unauthenticated("the service token has no known role")
        return Caller(role, str(claims["sub"])), expires

"""Sessions: the client keeps a random token, and the key-value bucket has the user that it stands for."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import Forbidden, Unauthenticated
from ..ports import KeyValue
from .roles import Role, allows

_MAX_TOKEN_CHARACTERS = 512


@dataclass(frozen=True, slots=True)
class User:
    user_id: str
    email: str = ""
    display_name: str = ""
    roles: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "user_id": self.user_id,
            "email": self.email,
            "display_name": self.display_name or self.user_id,
            "roles": list(self.roles),
        }


@dataclass(frozen=True, slots=True)
class Session:
    """`session_id` identifies it in logs and grants no access; `expires_at` is in seconds since 1970."""

    session_id: str
    user: User
    expires_at: float

    def require(self, role: Role) -> None:
        """Forbidden unless the user has `role` or a higher one."""
        if not allows(self.user.roles, role):
            raise Forbidden(f"This requires the role {role}")

    @property
    def expires(self) -> str:
        return datetime.fromtimestamp(self.expires_at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class _Kept(BaseModel):
    """A session as the bucket has it."""

    model_config = ConfigDict(strict=True)

    session_id: str
    user_id: str
    email: str
    display_name: str
    roles: list[str]
    # up to the year 9999
    expires_at: float = Field(ge=0, lt=253_402_300_800)


class Sessions:
    def __init__(self, values: KeyValue, ttl: float, now: Callable[[], float] = time.time) -> None:
        self._values = values
        self._ttl = ttl
        self._now = now

    async def open(self, user: User, duration: float | None = None) -> tuple[str, Session]:
        """A new session and its token, for `duration` seconds but no longer than sessions may live."""
        token = secrets.token_urlsafe(32)
        lifetime = self._ttl if duration is None else min(duration, self._ttl)
        session = Session(secrets.token_hex(8), user, self._now() + lifetime)
        await self._values.put(token, _encode(session))
        return token, session

    async def find(self, token: str) -> Session:
        """Raises Unauthenticated if there is no such session or it has expired."""
        if not 0 < len(token) <= _MAX_TOKEN_CHARACTERS:
            raise Unauthenticated("The session token is not valid")
        value = await self._values.get(token)
        session = _decode(value) if value else None
        if session is None:
            raise Unauthenticated("The session token is not valid")
        if session.expires_at <= self._now():
            await self._values.delete(token)
            raise Unauthenticated("The session has expired; sign in again")
        return session

    async def close(self, token: str) -> None:
        if 0 < len(token) <= _MAX_TOKEN_CHARACTERS:
            await self._values.delete(token)


def _encode(session: Session) -> bytes:
    value = {"session_id": session.session_id, "expires_at": session.expires_at}
    return orjson.dumps({**value, **session.user.to_dict()})


def _decode(value: bytes) -> Session | None:
    try:
        stored = _Kept.model_validate_json(value)
    except ValidationError:
        return None
    user = User(stored.user_id, stored.email, stored.display_name, tuple(stored.roles))
    return Session(stored.session_id, user, stored.expires_at)

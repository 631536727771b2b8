"""Signing in: the port, and the sign-in without proof of identity for the local host only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

from pydantic import BaseModel, Field

from ..errors import InvalidRequest
from ..settings import Settings
from .roles import Role
from .sessions import User

# of a login; how long the session lasts is for whoever opens it
_FIELDS = ("user", "roles", "session_duration_hours")
_NAME = re.compile(r"[\w.@+\-]{1,128}")


class SignIn(Protocol):
    async def sign_in(self, body: Mapping[str, Any]) -> User:
        """The user whose identity the body of a login proves. Raises Unauthenticated if it proves none."""
        ...


class _Development(BaseModel):
    user: str
    roles: list[Role] = Field(default=["editor"], max_length=3)


class DevelopmentSignIn:
    """Accepts any name and roles without proof: {"user": name, "roles": [...]}. For a laptop."""

    def __init__(self, settings: Settings) -> None:
        """ValueError anywhere but on the local host."""
        if settings.host != "local":
            raise ValueError("development_sign_in is allowed only on the local host")

    async def sign_in(self, body: Mapping[str, Any]) -> User:
        # "role" instead of "roles" would make an editor of whoever wants to be a viewer
        if unknown := sorted(body.keys() - _FIELDS):
            raise InvalidRequest(f"There is no field {unknown[0]!r}; there are {', '.join(_FIELDS)}")
        login = _Development.model_validate({key: body[key] for key in _Development.model_fields if key in body})
        if not _NAME.fullmatch(login.user):
            raise InvalidRequest("A user name must have 1 to 128 characters: letters, digits and . _ - @ +")
        email = login.user if "@" in login.user else ""
        return User(login.user, email, login.user, tuple(login.roles))


def choose(settings: Settings) -> SignIn | None:
    """The sign-in that the settings require, if any; ValueError if it is not allowed here."""
    if settings.development_sign_in:
        return DevelopmentSignIn(settings)
    if settings.oidc_issuer:
        from .oidc import OidcSignIn

        return OidcSignIn(settings.oidc_issuer, settings.oidc_audience)
    return None

"""Signing in with an identity provider: Auth0, or any other that supports OpenID Connect."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
import urllib.request
from collections.abc import Mapping
from typing import Any

import jwt

from ..errors import InvalidRequest, Unauthenticated, Unavailable
from .roles import ROLES
from .sessions import User

logger = logging.getLogger(__name__)

# signatures by a key pair; a shared secret would let anyone who knows the audience sign
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
_MAX_TOKEN_BYTES = 16 * 1024
# seconds between two refreshes of the provider's keys because of an unknown key id
_REFRESH_SECONDS = 30.0


class OidcSignIn:
    """Verifies an ID token: {"id_token": ...}, or as `auth0_token`, like the clients of the original NoETL."""

    def __init__(self, issuer: str, audience: str, *, jwks_url: str | None = None, timeout: float = 5.0) -> None:
        """The keys are looked up by the issuer's discovery document unless `jwks_url` is given."""
        if not audience:
            raise ValueError(
                "oidc_issuer requires oidc_audience: without it, any token of the issuer would be accepted"
            )
        self._issuer = issuer
        self._audience = audience
        self._jwks_url = jwks_url
        self._timeout = timeout
        self._keys: jwt.PyJWKClient | None = None
        self._refreshed = float("-inf")
        self._lock = threading.Lock()

    async def sign_in(self, body: Mapping[str, Any]) -> User:
        token = body.get("id_token") or body.get("auth0_token")
        if not isinstance(token, str) or len(token) > _MAX_TOKEN_BYTES:
            raise InvalidRequest("Send the provider's ID token as id_token")
        claims = await asyncio.to_thread(self._verify, token)
        return User(
            user_id=str(claims["sub"]),
            email=str(claims.get("email") or ""),
            display_name=str(claims.get("name") or claims.get("nickname") or ""),
            roles=_roles(claims),
        )

    def _verify(self, token: str) -> dict[str, Any]:
        try:
            key = self._key(str(jwt.get_unverified_header(token).get("kid", "")))
            return jwt.decode(
                token,
                key,
                algorithms=_ALGORITHMS,
                audience=self._audience,
                issuer=self._issuer,
                leeway=30,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWKClientConnectionError, OSError, json.JSONDecodeError) as error:
            logger.warning("the identity provider is not available: %s", type(error).__name__)
            raise Unavailable("The identity provider is not available; try again later") from error
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"The ID token is not valid: {error}") from error

    def _key(self, kid: str) -> jwt.PyJWK:
        with self._lock:
            if self._keys is None:
                url = self._jwks_url or self._discover()
                self._keys = jwt.PyJWKClient(url, timeout=self._timeout)
            for refresh in (False, True):
                if refresh and time.monotonic() - self._refreshed < _REFRESH_SECONDS:
                    break
                if refresh:
                    self._refreshed = time.monotonic()
                for key in self._keys.get_signing_keys(refresh=refresh):
                    if key.key_id == kid:
                        return key
        raise jwt.InvalidKeyError("the provider has no such key")

    def _discover(self) -> str:
        url = self._issuer.rstrip("/") + "/.well-known/openid-configuration"
        with urllib.request.urlopen(url, timeout=self._timeout) as response:
            document = json.loads(response.read(1_000_000))
        return str(document["jwks_uri"])


def _roles(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """From `roles`, plain or under a namespace as Auth0 requires; a viewer if the provider sends no roles."""
    for name, value in claims.items():
        if (name == "roles" or name.endswith("/roles")) and isinstance(value, list):
            return tuple(role for role in value if role in ROLES)
    return ("viewer",)

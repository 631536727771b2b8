"""Who calls: OAuth access tokens for the APIs, and signed ID tokens for the functions."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from .errors import Unauthenticated

ISSUER = "https://accounts.google.com"
LIFETIME = 3600
SIGNATURE_REMOVED = "SIGNATURE_REMOVED_BY_GOOGLE"
_SERVICE_ACCOUNT_DOMAIN = ".gserviceaccount.com"


@dataclass(frozen=True, slots=True)
class Caller:
    """`subject` is a service account's unique id; a person has none of their own here, and goes by the address."""

    email: str
    subject: str
    is_admin: bool = False

    @property
    def member(self) -> str:
        return member_of(self.email)


def member_of(email: str) -> str:
    """As policies name it."""
    kind = "serviceAccount" if email.endswith(_SERVICE_ACCOUNT_DOMAIN) else "user"
    return f"{kind}:{email}"


@dataclass(slots=True)
class AccessTokens:
    """Opaque, as Google's are; the administrator's is given, and lasts."""

    admin: str
    _issued: dict[str, tuple[Caller, float]] = field(default_factory=dict)

    def issue(self, caller: Caller, seconds: float = LIFETIME) -> str:
        now = time.time()
        self._issued = {token: issued for token, issued in self._issued.items() if issued[1] > now}
        token = f"ya29.{secrets.token_urlsafe(48)}"
        self._issued[token] = (caller, now + seconds)
        return token

    def caller(self, authorization: str) -> Caller:
        """Whose header that is. Unauthenticated."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer" and secrets.compare_digest(token.encode(), self.admin.encode()):
            return Caller("admin@example.org", "admin@example.org", is_admin=True)
        caller, expires = self._issued.get(token, (None, 0.0))
        if scheme.lower() != "bearer" or caller is None or expires < time.time():
            raise Unauthenticated(
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or "
                "other valid authentication credential."
            )
        return caller

    def revoke(self, subject: str) -> None:
        """All tokens of an account that is gone or disabled."""
        self._issued = {token: issued for token, issued in self._issued.items() if issued[0].subject != subject}


class IdTokens:
    """Signed with RS256 by a key that is made anew with each process."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._public_key = self._key.public_key()
        self._key_id = secrets.token_hex(20)

    def issue(self, caller: Caller, audience: str, *, with_email: bool = True, seconds: float = LIFETIME) -> str:
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": audience,
            "azp": caller.subject,
            "sub": caller.subject,
            "iat": now,
            "exp": now + int(seconds),
        }
        if with_email:
            claims |= {"email": caller.email, "email_verified": True}
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": self._key_id})

    def subject(self, token: str, audiences: list[str]) -> str:
        """Whom a token is for. Unauthenticated if it is not ours, has expired or is for another audience."""
        try:
            claims = jwt.decode(token, self._public_key, algorithms=["RS256"], audience=audiences, issuer=ISSUER)
        except jwt.PyJWTError as error:
            raise Unauthenticated(str(error)) from None
        return str(claims["sub"])


def without_signature(token: str) -> str:
    return f"{token.rpartition('.')[0]}.{SIGNATURE_REMOVED}"

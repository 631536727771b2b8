"""The tokens of callback URLs: JWTs (HS256), signed with a key that is derived from the token key for them alone.

Who holds one may give one answer, and learns what it is about. It is accepted nowhere else, nor is a service token
here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import jwt

from ..errors import Problem
from .tokens import ALGORITHM, ISSUER, check_key

AUDIENCE: Final = "noetl:callback"
MAX_CHARACTERS: Final = 4000
_CLAIMS: Final = ("iss", "aud", "sub", "exp", "jti", "signal", "entry", "round", "seq")


class CallbackInvalid(Problem):
    status, code, title = 404, "callback.invalid", "No such callback"


class CallbackExpired(Problem):
    status, code, title = 410, "callback.expired", "The URL has expired"


@dataclass(frozen=True, slots=True)
class Callback:
    """`entry`: of the keychain; `round`: see orchestrator.callbacks; `seq`: that of the log's last event when it was
    made."""

    execution_id: str
    signal: str
    entry: str
    round: int
    seq: int
    expires_at: datetime

    @property
    def id(self) -> str:
        """The same for all URLs of an entry that are made in one round, so that they give one answer together. It is no
        secret: a token needs the key, too."""
        text = "\0".join((self.execution_id, self.entry, self.signal, str(self.round)))
        return hashlib.sha256(text.encode()).hexdigest()


class CallbackTokens:
    def __init__(self, token_key: str) -> None:
        """Raises tokens.BadKey."""
        check_key(token_key)
        self._token_key = token_key
        self._key: bytes | None = None

    def sign(self, callback: Callback) -> str:
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": callback.execution_id,
            "exp": int(callback.expires_at.timestamp()),
            "jti": callback.id,
            "signal": callback.signal,
            "entry": callback.entry,
            "round": callback.round,
            "seq": callback.seq,
        }
        return jwt.encode(claims, self._derived_key(), algorithm=ALGORITHM)

    def callback(self, token: str, now: datetime) -> Callback:
        """What the token stands for. Raises CallbackInvalid and CallbackExpired."""
        if len(token) > MAX_CHARACTERS:
            raise _invalid()
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._derived_key(),
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                # the time is checked below, against `now`
                options={"require": list(_CLAIMS), "verify_exp": False},
            )
            callback = Callback(
                execution_id=claims["sub"],
                signal=claims["signal"],
                entry=claims["entry"],
                round=claims["round"],
                seq=claims["seq"],
                expires_at=datetime.fromtimestamp(claims["exp"], UTC),
            )
        except (jwt.InvalidTokenError, TypeError, ValueError, OverflowError):
            raise _invalid() from None
        if now >= callback.expires_at:
            raise CallbackExpired(f"this URL was valid until {callback.expires_at:%Y-%m-%d %H:%M} UTC")
        return callback

    def _derived_key(self) -> bytes:
        if self._key is None:
            # not needed by other requests
            from cryptography.hazmat.primitives.hashes import SHA256
            from cryptography.hazmat.primitives.kdf.hkdf import HKDF

            self._key = HKDF(SHA256(), 32, salt=None, info=AUDIENCE.encode()).derive(self._token_key.encode())
        return self._key


def _invalid() -> CallbackInvalid:
    return CallbackInvalid("this deployment has made no such URL; copy all of it")

"""The secrets of a stack: made once, kept in a file only its owner may read."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from .layout import write_private

_LIFETIME_SECONDS = 400 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Secrets:
    encryption_keys: str
    token_key: str
    postgres_password: str
    # of the database role for the playbooks' own data, separate from the engine's
    workspace_password: str
    nats_password: str
    # the token that the command line sends to the control plane
    operator_token: str

    @property
    def worker_password(self) -> str:
        """Of the database role of direct workers. Derived: the release before refuses a file with one more secret."""
        return hmac.digest(self.token_key.encode(), b"database role of workers", "sha256").hex()

    @property
    def reader_password(self) -> str:
        """Of the database role that reads for operators; derived, as that of workers."""
        return hmac.digest(self.token_key.encode(), b"database role of readers", "sha256").hex()

    @classmethod
    def load(cls, path: Path) -> Secrets:
        """Those in `path`; made there if it does not exist. ValueError if the file is damaged."""
        if not path.exists():
            write_private(path, asdict(cls._make()))
        try:
            return cls(**json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is damaged: {error}. Without it the data beside it cannot be read") from error

    @classmethod
    def _make(cls) -> Secrets:
        token_key = secrets.token_urlsafe(48)
        return cls(
            encryption_keys=f"local1:{base64.b64encode(secrets.token_bytes(32)).decode()}",
            token_key=token_key,
            postgres_password=secrets.token_hex(24),
            workspace_password=secrets.token_hex(24),
            nats_password=secrets.token_hex(24),
            operator_token=service_token(token_key, "operator", "noetls", lifetime=10 * _LIFETIME_SECONDS),
        )


def service_token(key: str, role: str, subject: str, lifetime: float = _LIFETIME_SECONDS) -> str:
    """A JWT with the role and the subject of its holder, signed with `key`."""
    from ...control_plane.tokens import mint

    return mint(key, role, subject, lifetime)

"""The database URL for a role of IAM, determined for each new connection."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import quote, unquote, urlsplit

from ...tools.aws_signature import signed_query
from .account import Account

# RDS accepts a token for 15 minutes
TOKEN_SECONDS = 900


class IamDatabaseUrl:
    """The URL with a signed connection request as the password. The database knows the IAM role; no password is
    stored."""

    def __init__(
        self, configured: str, account: Account, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """ValueError unless the URL names the user and the server."""
        parts = urlsplit(configured)
        if not parts.username or not parts.hostname:
            raise ValueError("database_auth=iam needs postgresql://USER@HOST:PORT/DATABASE")
        self._parts = parts
        self._account = account
        self._now = now

    def __call__(self) -> str:
        parts = self._parts
        host_port = f"{parts.hostname}:{parts.port or 5432}"
        user = unquote(parts.username or "")
        query = signed_query(
            self._account.credentials,
            self._account.region,
            "rds-db",
            host_port,
            [("Action", "connect"), ("DBUser", user)],
            self._now(),
            TOKEN_SECONDS,
        )
        token = quote(f"{host_port}/?{query}", safe="")
        return parts._replace(netloc=f"{quote(user, safe='')}:{token}@{host_port}").geturl()

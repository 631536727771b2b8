"""The address and connection options of a PostgreSQL server, read the same way for the engine's store and for tasks."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# what `PostgresTarget.from_mapping` reads
FIELDS = frozenset(
    {
        *("url", "host", "hostname", "port", "user", "username", "password"),
        *("database", "dbname", "sslmode", "sslrootcert"),
    }
)
_LOCAL = ("localhost", "127.0.0.1", "::1")
_PEM = "-----BEGIN "


@dataclass(frozen=True, slots=True)
class PostgresTarget:
    """`host` may be the directory of a Unix socket. `sslrootcert`, PEM or the name of a file, is trusted instead of the
    system's authorities."""

    host: str
    _: KW_ONLY
    port: int = 5432
    user: str | None = None
    password: str | None = None
    database: str | None = None
    sslmode: str = "prefer"
    sslrootcert: str | None = None

    def __post_init__(self) -> None:
        if self.sslmode not in MODES:
            raise ValueError(f"sslmode {self.sslmode!r} is not one of PostgreSQL's: {', '.join(MODES)}")

    @classmethod
    def from_url(cls, url: str) -> PostgresTarget:
        """Parse `postgresql://user:password@host:port/database?sslmode=...&sslrootcert=...`; raises ValueError."""
        return cls.from_mapping(_parts(url))

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> PostgresTarget:
        """Read `url`, or host, port, user, password, database, sslmode, sslrootcert, which override the URL's."""
        if data.get("url"):
            data = {**_parts(str(data["url"])), **data}
        host = str(data.get("host") or data.get("hostname") or "localhost")
        return cls(
            host,
            port=int(data.get("port") or 5432),
            user=data.get("user") or data.get("username"),
            password=data.get("password"),
            database=data.get("database") or data.get("dbname"),
            sslmode=str(data.get("sslmode") or ("disable" if host in _LOCAL else "prefer")),
            sslrootcert=data.get("sslrootcert"),
        )

    def arguments(self) -> dict[str, Any]:
        """The arguments of pg8000's connection."""
        login = {"user": self.user, "password": self.password, "database": self.database}
        if self.host.startswith("/"):
            return {**login, "unix_sock": f"{self.host}/.s.PGSQL.{self.port}", "ssl_context": False}
        return {**login, "host": self.host, "port": self.port, "ssl_context": self._tls()}

    def _tls(self) -> ssl.SSLContext | bool | None:
        """Like libpq, except that `allow` also tries TLS first. For pg8000, False means no TLS, and None means TLS if
        the server offers it, without verification."""
        match self.sslmode:
            case "disable":
                return False
            case "allow" | "prefer":
                return None
        context = ssl.create_default_context(**self._authority())
        # with an explicit authority, `require` verifies as much as `verify-ca`
        verified = self.sslmode != "require" or self.sslrootcert is not None
        context.check_hostname = self.sslmode == "verify-full"
        context.verify_mode = ssl.CERT_REQUIRED if verified else ssl.CERT_NONE
        return context

    def _authority(self) -> dict[str, Any]:
        if self.sslrootcert is None:
            return {}
        return {"cadata" if _PEM in self.sslrootcert else "cafile": self.sslrootcert}


def _parts(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme not in ("postgres", "postgresql"):
        raise ValueError("the URL of a PostgreSQL database begins with postgresql://")
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    found = {
        "host": query.get("host", parts.hostname),
        "port": parts.port,
        "user": unquote(parts.username or "") or None,
        "password": unquote(parts.password or "") or None,
        "database": unquote(parts.path.lstrip("/")) or None,
        "sslmode": query.get("sslmode"),
        "sslrootcert": query.get("sslrootcert"),
    }
    return {name: value for name, value in found.items() if value is not None}

"""AWS Signature Version 4, for the header and for the query."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"
_UNRESERVED = "-_.~"
EMPTY = hashlib.sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"

Query = Sequence[tuple[str, str]]


class Credentials(Protocol):
    """Keys of AWS; `token` is empty for those of a user."""

    @property
    def key_id(self) -> str: ...
    @property
    def secret(self) -> str: ...
    @property
    def token(self) -> str: ...


@dataclass(frozen=True, slots=True)
class UserKeys:
    """Keys that a credential holds."""

    key_id: str
    secret: str = field(repr=False)
    token: str = field(repr=False)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> UserKeys | None:
        key_id, secret = data.get("access_key_id"), data.get("secret_access_key")
        return cls(str(key_id), str(secret), str(data.get("session_token") or "")) if key_id and secret else None


def encode_path(path: str) -> str:
    return quote(path, safe=f"/{_UNRESERVED}")


def encode_query(query: Query) -> str:
    return "&".join(f"{_encode(key)}={_encode(value)}" for key, value in sorted(query))


def signed_headers(
    credentials: Credentials,
    region: str,
    service: str,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    now: datetime,
    digest: str | None = None,
) -> dict[str, str]:
    """`headers` and those that sign them. `url` is encoded already, its query in order; `now` is in UTC; `digest` is
    the body's SHA-256, if it is known."""
    parts = urlsplit(url)
    timestamp = now.strftime("%Y%m%dT%H%M%SZ")
    digest = digest or (hashlib.sha256(body).hexdigest() if body else EMPTY)
    signed = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    signed |= {"host": parts.netloc, "x-amz-date": timestamp}
    if credentials.token:
        signed["x-amz-security-token"] = credentials.token
    if service == "s3":
        signed["x-amz-content-sha256"] = digest
        path = parts.path
    else:
        # every service but S3 signs the path encoded a second time
        path = encode_path(parts.path)
    names = ";".join(sorted(signed))
    scope = f"{timestamp[:8]}/{region}/{service}/aws4_request"
    signature = _sign(credentials, scope, timestamp, _canonical(method, path, parts.query, signed, names, digest))
    authorization = (
        f"{_ALGORITHM} Credential={credentials.key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return {**signed, "authorization": authorization}


def signed_query(
    credentials: Credentials,
    region: str,
    service: str,
    host: str,
    query: Query,
    now: datetime,
    seconds: int,
    path: str = "/",
    digest: str = EMPTY,
) -> str:
    """The encoded query of a GET of `path`, which is encoded already, on `host`, valid for `seconds` from `now` (UTC).
    `digest`: UNSIGNED for S3."""
    timestamp = now.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{timestamp[:8]}/{region}/{service}/aws4_request"
    all_of_it = [
        *query,
        ("X-Amz-Algorithm", _ALGORITHM),
        ("X-Amz-Credential", f"{credentials.key_id}/{scope}"),
        ("X-Amz-Date", timestamp),
        ("X-Amz-Expires", str(seconds)),
        ("X-Amz-SignedHeaders", "host"),
    ]
    if credentials.token:
        all_of_it.append(("X-Amz-Security-Token", credentials.token))
    encoded = encode_query(all_of_it)
    signature = _sign(credentials, scope, timestamp, _canonical("GET", path, encoded, {"host": host}, "host", digest))
    return f"{encoded}&X-Amz-Signature={signature}"


def _canonical(method: str, path: str, query: str, headers: Mapping[str, str], names: str, digest: str) -> str:
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    return f"{method}\n{path or '/'}\n{query}\n{lines}\n{names}\n{digest}"


def _sign(credentials: Credentials, scope: str, timestamp: str, canonical: str) -> str:
    text = f"{_ALGORITHM}\n{timestamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    return _hmac(_key(credentials.secret, scope), text).hex()


@lru_cache(maxsize=16)
def _key(secret: str, scope: str) -> bytes:
    """The signing key for one day, region and service."""
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _encode(text: str) -> str:
    return quote(text, safe=_UNRESERVED)

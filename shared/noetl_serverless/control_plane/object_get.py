"""Reads an object of S3 or Google Cloud Storage with the keys of a stored credential, instead of those of this host.

No message of an error contains anything of the credential.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from ..playbook.scripts import Source
from ..tools.aws_signature import UserKeys, signed_headers
from ..tools.google_account import GRANT_TYPE, Unusable, account_of, assertion, token_url
from .http_get import NotFetched, http_request

GOOGLE_STORAGE: Final = "https://storage.googleapis.com"
READ_ONLY: Final = "https://www.googleapis.com/auth/devstorage.read_only"
# of the answer of a token endpoint
TOKEN_BYTES: Final = 64 * 1024
# what a header may carry
_PLAIN: Final = re.compile(r"[!-~]+")
_REGION: Final = re.compile(r"[a-z0-9-]{1,50}")


def object_get(
    url: str, source: Source, data: Mapping[str, Any], *, allow_private: bool, seconds: float, max_bytes: int
) -> bytes:
    """`url`: s3://bucket/key or gs://bucket/key; `data`: the fields of the credential. Runs in a thread. Raises
    NotFetched, and TimeoutError."""
    until = time.monotonic() + seconds
    parts = urlsplit(url)
    path = f"{parts.netloc}/{quote(parts.path.removeprefix('/'), safe='/-_.~')}"
    if parts.scheme == "gs":
        address = f"{GOOGLE_STORAGE}/{path}"
        headers = {"Authorization": f"Bearer {_google_token(data, allow_private, seconds)}"}
    else:
        address, headers = _signed(source, data, path, allow_private)
    remaining = max(0.01, until - time.monotonic())
    return http_request(
        "GET", address, headers=headers, allow_private=allow_private, seconds=remaining, max_bytes=max_bytes
    )


def _signed(source: Source, data: Mapping[str, Any], path: str, allow_private: bool) -> tuple[str, dict[str, str]]:
    """The address of an object of S3, and the headers that sign the request."""
    keys, region = UserKeys.of(data), source.region or data.get("region")
    if keys is None or not region:
        raise NotFetched("the credential has no keys of AWS: it needs access_key_id, secret_access_key and region")
    if not all(_PLAIN.fullmatch(text) for text in (keys.key_id, keys.token or "-")) or not _is_region(region):
        raise NotFetched("the keys of AWS in the credential cannot be sent: they contain a space or a line break")
    host = source.endpoint.rstrip("/") if source.endpoint else f"https://s3.{region}.amazonaws.com"
    if not allow_private and not host.startswith("https://"):
        raise NotFetched(f"{host}: the keys of a credential are sent by https only")
    address = f"{host}/{path}"
    return address, signed_headers(keys, str(region), "s3", "GET", address, {}, b"", datetime.now(UTC))


def _is_region(region: Any) -> bool:
    return isinstance(region, str) and _REGION.fullmatch(region) is not None


def _google_token(data: Mapping[str, Any], allow_private: bool, seconds: float) -> str:
    try:
        account = account_of(data)
        form = {"grant_type": GRANT_TYPE, "assertion": assertion(account, {"scope": READ_ONLY})}
    except Unusable as error:
        raise NotFetched(f"the credential {error}") from None
    try:
        answer = http_request(
            "POST",
            token_url(account),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body=urlencode(form).encode(),
            allow_private=allow_private,
            seconds=seconds,
            max_bytes=TOKEN_BYTES,
        )
    except NotFetched as error:
        status = f": the answer is {error.status}" if error.status else ""
        raise NotFetched(f"the token endpoint of the credential gave no token{status}") from None
    try:
        token = json.loads(answer)["access_token"]
    except (ValueError, TypeError, KeyError, RecursionError):
        token = None
    if not isinstance(token, str) or not _PLAIN.fullmatch(token):
        raise NotFetched("Google answered without an access_token")
    return token

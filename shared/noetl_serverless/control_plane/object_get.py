"""Reads an object of S3 or Google Cloud Storage with the keys of a stored credential, instead of those of this host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
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


def object_get(
    url: str, source: Source, data: Mapping[str, Any], *, allow_private: bool, seconds: float, max_bytes: int
) -> bytes:
    """`url`: s3://bucket/key or gs://bucket/key; `data`: the fields of the credential. Runs in a thread. Raises
    NotFetched, and TimeoutError."""
    send = partial(http_request, allow_private=allow_private, seconds=seconds)
    parts = urlsplit(url)
    key = quote(parts.path.lstrip("/"), safe="/-_.~")
    if parts.scheme == "gs":
        address = f"{GOOGLE_STORAGE}/{parts.netloc}/{key}"
        headers = {"Authorization": f"Bearer {_google_token(data, send)}"}
    else:
        region = source.region or data.get("region")
        keys = UserKeys.of(data)
        if keys is None or not region:
            raise NotFetched("the credential has no keys of AWS: it needs access_key_id, secret_access_key and region")
        host = source.endpoint.rstrip("/") if source.endpoint else f"https://s3.{region}.amazonaws.com"
        address = f"{host}/{parts.netloc}/{key}"
        headers = signed_headers(keys, str(region), "s3", "GET", address, {}, b"", datetime.now(UTC))
    return bytes(send("GET", address, headers=headers, max_bytes=max_bytes))


def _google_token(data: Mapping[str, Any], send: Any) -> str:
    for name in ("access_token", "token"):
        if data.get(name):
            return str(data[name])
    try:
        account = account_of(data)
        form = {"grant_type": GRANT_TYPE, "assertion": assertion(account, {"scope": READ_ONLY})}
    except Unusable as error:
        raise NotFetched(f"the credential {error}") from None
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = send("POST", token_url(account), headers=headers, body=urlencode(form).encode(), max_bytes=TOKEN_BYTES)
    try:
        token = json.loads(answer)["access_token"]
    except (ValueError, TypeError, KeyError, RecursionError):
        token = None
    if not isinstance(token, str) or not token:
        raise NotFetched("Google answered without an access_token")
    return token

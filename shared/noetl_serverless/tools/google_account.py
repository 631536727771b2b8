"""Service accounts of Google: the key file that a credential holds, and what its key signs (RFC 7523)."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final

TOKEN_URL: Final = "https://oauth2.googleapis.com/token"
GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
# that an assertion is valid
SECONDS: Final = 3600


class Unusable(ValueError):
    """It is no service account, or its key cannot be read."""


def account_of(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The key file: the fields of a credential, or JSON in one of them; raises Unusable."""
    for value in (data, *data.values()):
        if isinstance(value, str) and value.lstrip().startswith("{"):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                continue
        if isinstance(value, Mapping) and value.get("client_email") and value.get("private_key"):
            return value
    raise Unusable("is no service account: it needs client_email and private_key")


def token_url(account: Mapping[str, Any]) -> str:
    return str(account.get("token_uri") or TOKEN_URL)


def assertion(account: Mapping[str, Any], claims: Mapping[str, str]) -> str:
    """What its token endpoint takes for a token; `claims`: the scope or the target_audience. Raises Unusable."""
    # only for Google's service accounts
    import jwt

    now = int(time.time())
    payload = {"iss": account["client_email"], "aud": token_url(account), "iat": now, "exp": now + SECONDS, **claims}
    key_id = account.get("private_key_id")
    try:
        return jwt.encode(
            payload, str(account["private_key"]), "RS256", headers={"kid": str(key_id)} if key_id else None
        )
    except Exception:
        # whatever the libraries say of a key is not told
        raise Unusable("has a private_key that cannot be read") from None

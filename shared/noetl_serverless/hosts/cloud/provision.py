"""Creates the secrets of a new deployment inside it, so that neither Terraform's state nor a person ever holds them."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Mapping
from typing import Any

from ...errors import Unavailable
from .nats_server import make_server_secret
from .vault import Vault

TOKEN_PREFIX = "service_token/"
# followed by the names of the nodes that the certificate is for
NATS_SERVER = "nats_server/"
NATS_CA = "nats_ca"
# followed by the name of the database role whose name and password it holds
DATABASE_ROLE = "database_role/"
DAY_SECONDS = 86400
# the share of a service token's lifetime that is left when it is renewed
RENEWAL_SHARE = 0.25


async def provision(vault: Vault, secret_ids: Mapping[str, str], token_days: float, host: str) -> list[str]:
    """Fill each of `secret_ids` (name -> id) that has no value, and renew tokens that expire soon; returns the names
    of those written. A new token is valid for `token_days`; `host` is in the names of new keys and tokens.

    ValueError for a name for which no value can be made. May run twice at once: the first to write a value wins.
    """
    created: list[str] = []
    for name in sorted(secret_ids, key=_order):
        current = await vault.read(secret_ids[name])
        value = await _new_value(vault, name, current, secret_ids, token_days, host)
        if value is not None and await vault.replace(secret_ids[name], value, previous=current):
            created.append(name)
    return created


async def _new_value(
    vault: Vault, name: str, current: str | None, secret_ids: Mapping[str, str], token_days: float, host: str
) -> str | None:
    """The value to write; None if the current one can stay."""
    if name.startswith(TOKEN_PREFIX):
        key = await vault.read(secret_ids["token_key"])
        if key is None:
            raise Unavailable("the secret token_key has been written and is not readable yet: migrate again")
        is_usable = current is not None and not ends_soon(current, key)
        return None if is_usable else service_token(key, name.removeprefix(TOKEN_PREFIX), token_days, host)
    if current is not None:
        return None
    if name == NATS_CA:
        server = next(secret_id for other, secret_id in secret_ids.items() if other.startswith(NATS_SERVER))
        return str(json.loads(await vault.read(server) or "{}")["ca"])
    return _random(name, host)


def service_token(key: str, role: str, days: float, host: str) -> str:
    """A service token. It is unique even if another is minted for the same role in the same second."""
    from ...control_plane.tokens import mint

    return mint(key, role, f"{role}@{host}", days * DAY_SECONDS, token_id=secrets.token_hex(8))


def role_secret(role: str) -> str:
    """The name of a database role and a new password for it, in the form that RDS Proxy reads."""
    return json.dumps({"username": role, "password": secrets.token_hex(24)})


def password_of(secret: str) -> str:
    """Of a database role."""
    return str(json.loads(secret)["password"])


def _order(name: str) -> tuple[bool, str]:
    """A sort key: secrets that are derived from others come after them."""
    return name.startswith(TOKEN_PREFIX) or name == NATS_CA, name


def _random(name: str, host: str) -> str:
    match name:
        case "token_key":
            return secrets.token_urlsafe(48)
        case "encryption_keys":
            return f"{host}1:{base64.b64encode(secrets.token_bytes(32)).decode()}"
        case "nats_password":
            return secrets.token_hex(24)
        case _ if name.startswith(DATABASE_ROLE):
            return role_secret(name.removeprefix(DATABASE_ROLE))
        case _ if name.startswith(NATS_SERVER):
            return make_server_secret(name.removeprefix(NATS_SERVER).split(","))
        case _:
            raise ValueError(f"cannot generate the secret {name!r}")


def ends_soon(token: str, key: str) -> bool:
    """Whether the token must be renewed; also true of one that another key has signed."""
    import jwt

    try:
        claims: dict[str, Any] = jwt.decode(token, key, algorithms=["HS256"], options={"verify_exp": False})
        end = float(claims["exp"])
        return end - time.time() < RENEWAL_SHARE * (end - float(claims["iat"]))
    except (jwt.InvalidTokenError, KeyError, TypeError, ValueError):
        return True

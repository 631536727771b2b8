"""A function's settings, from the environment and from its secrets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from ...errors import Unavailable
from ...ports import SecretStore
from ...settings import Settings

NATS_USER = "noetl"


class MissingSecret(Unavailable):
    """A secret has no value yet: the deployment has not been migrated."""


async def settings_with_secrets(environ: Mapping[str, str], store: SecretStore) -> Settings:
    """The settings from NOETL_* of `environ`; each of NOETL_SECRETS that is not set there is read from `store`. Raises
    MissingSecret."""
    settings = Settings.from_environment(environ)
    # the database's secret is read for each connection, since it may be rotated
    names = [name for name in settings.secrets if name != "database_url" and f"NOETL_{name.upper()}" not in environ]
    values = await asyncio.gather(*(_read(store, name) for name in names))
    settings = replace(settings, **dict(zip(names, values, strict=True)))
    if settings.nats_password:
        settings = replace(settings, nats_url=_nats_url(settings.nats_url, settings.nats_password))
    return settings


async def _read(store: SecretStore, name: str) -> Any:
    try:
        return await store.read(name)
    except KeyError:
        raise MissingSecret(f"the secret {name!r} has no value; has the deployment been migrated?") from None


def database_url(configured: str, secret: str) -> str:
    """`configured` with the user and the password of `secret`: a whole URL, a password, or RDS's own JSON."""
    if secret.startswith(("postgresql://", "postgres://")):
        return secret
    parts = urlsplit(configured)
    user, password = parts.username or "", secret
    if secret.lstrip().startswith("{"):
        values = json.loads(secret)
        user, password = values.get("username", user), values["password"]
    return _with_credentials(configured, user, password)


def _nats_url(configured: str, password: str) -> str:
    """Every server of the comma-separated list gets the credentials, unless it has its own."""
    urls = configured.split(",")
    return ",".join(url if urlsplit(url).username else _with_credentials(url, NATS_USER, password) for url in urls)


def _with_credentials(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    host_port = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{host_port}"))

from __future__ import annotations

import asyncio
import json

import pytest

from noetl_serverless.hosts.cloud.configuration import MissingSecret, database_url, settings_with_secrets
from noetl_serverless.hosts.cloud.database import SecretDatabaseUrl, database_url_of
from noetl_serverless.settings import Settings
from noetl_serverless.testing.host import MemorySecretStore

RDS = json.dumps({"username": "noetl", "password": "p@ss/w:rd"})


def environ(**more: str) -> dict[str, str]:
    return {"NOETL_SECRETS": json.dumps({"service_token": "arn:1", "database_url": "arn:2"}), **more}


async def test_secrets_fill_the_settings_that_they_are_named_for() -> None:
    settings = await settings_with_secrets(environ(), MemorySecretStore({"service_token": "token"}))
    assert settings.service_token == "token"


async def test_the_database_is_left_for_each_new_connection() -> None:
    url = "postgresql://db/noetl"
    settings = await settings_with_secrets(
        environ(NOETL_DATABASE_URL=url), MemorySecretStore({"service_token": "token", "database_url": "never read"})
    )
    assert settings.database_url == url


async def test_the_environment_wins() -> None:
    settings = await settings_with_secrets(environ(NOETL_SERVICE_TOKEN="mine"), MemorySecretStore({}))
    assert settings.service_token == "mine"


async def test_a_secret_without_a_value_is_named() -> None:
    with pytest.raises(MissingSecret, match="service_token"):
        await settings_with_secrets(environ(), MemorySecretStore({}))


async def test_the_password_of_nats_goes_to_each_server_that_has_none() -> None:
    given = {
        "NOETL_NATS_URL": "tls://one:4222,tls://me:mine@two:4222",
        "NOETL_SECRETS": json.dumps({"nats_password": "arn:1"}),
    }
    settings = await settings_with_secrets(given, MemorySecretStore({"nats_password": "s/t"}))
    assert settings.nats_url == "tls://noetl:s%2Ft@one:4222,tls://me:mine@two:4222"


@pytest.mark.parametrize(
    ("secret", "url"),
    [
        (RDS, "postgresql://noetl:p%40ss%2Fw%3Ard@db:5432/engine?sslmode=require"),
        ("plain", "postgresql://me:plain@db:5432/engine?sslmode=require"),
        ("postgresql://a:b@c/d", "postgresql://a:b@c/d"),
    ],
)
def test_the_database_is_shown_its_password(secret: str, url: str) -> None:
    assert database_url("postgresql://me@db:5432/engine?sslmode=require", secret) == url


async def test_a_database_secret_without_a_value_is_named_with_what_belongs_there() -> None:
    url = SecretDatabaseUrl("postgresql://db/noetl", MemorySecretStore({}), asyncio.get_running_loop())
    with pytest.raises(MissingSecret, match="'database_url' has no value: put the database's password"):
        await asyncio.to_thread(url)


async def test_a_database_url_with_its_password_needs_no_secret() -> None:
    settings = Settings(database_url="postgresql://me:mine@db/noetl", secrets={"database_url": "arn:1"})
    assert database_url_of(settings, MemorySecretStore({}), asyncio.get_running_loop()) == settings.database_url

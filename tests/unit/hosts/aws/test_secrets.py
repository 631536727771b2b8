from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.hosts.cloud.conftest import MemoryVault

from noetl_serverless.hosts.aws.api import Api
from noetl_serverless.hosts.aws.secrets import SecretsManagerVault
from noetl_serverless.hosts.cloud.secrets import CachedSecrets
from noetl_serverless.hosts.cloud.vault import Vault
from noetl_serverless.ports import SecretStore
from noetl_serverless.testing.host import MemorySecretStore


@pytest.fixture(params=["memory", "aws"])
def store(request: pytest.FixtureRequest, api: Api, client: Callable[[str], Any]) -> SecretStore:
    if request.param == "memory":
        return MemorySecretStore({"token_key": "value"})
    arn = client("secretsmanager").create_secret(Name="noetl/token_key", SecretString="value")["ARN"]
    return CachedSecrets(SecretsManagerVault(api), {"token_key": arn})


async def test_a_secret_is_read(store: SecretStore) -> None:
    assert await store.read("token_key") == "value"


async def test_what_is_not_there_is_a_key_error(store: SecretStore) -> None:
    with pytest.raises(KeyError):
        await store.read("another")


async def test_a_secret_without_a_value_is_a_key_error(api: Api, client: Callable[[str], Any]) -> None:
    arn = client("secretsmanager").create_secret(Name="noetl/empty")["ARN"]
    with pytest.raises(KeyError):
        await CachedSecrets(SecretsManagerVault(api), {"empty": arn}).read("empty")


async def test_a_value_is_kept_for_a_while_and_then_read_anew(api: Api, client: Callable[[str], Any]) -> None:
    boto, now = client("secretsmanager"), [0.0]
    boto.create_secret(Name="n", SecretString="old")
    store = CachedSecrets(SecretsManagerVault(api), {"n": "n"}, ttl=300, clock=lambda: now[0])
    assert await store.read("n") == "old"
    boto.put_secret_value(SecretId="n", SecretString="new")
    now[0] = 299.0
    assert await store.read("n") == "old"
    now[0] = 301.0
    assert await store.read("n") == "new"


@pytest.fixture(params=["memory", "aws"])
def vault(request: pytest.FixtureRequest, api: Api, client: Callable[[str], Any]) -> Vault:
    if request.param == "memory":
        return MemoryVault({"noetl/empty": None})
    client("secretsmanager").create_secret(Name="noetl/empty")
    return SecretsManagerVault(api)


async def test_a_vault_holds_what_was_put_in_last(vault: Vault) -> None:
    assert await vault.read("noetl/empty") is None
    assert await vault.replace("noetl/empty", "first", None)
    assert await vault.replace("noetl/empty", "second", "first")
    assert await vault.read("noetl/empty") == "second"


async def test_the_first_of_two_who_fill_a_secret_wins(vault: Vault) -> None:
    assert await vault.replace("noetl/empty", "mine", None)
    assert not await vault.replace("noetl/empty", "theirs", None)
    assert await vault.read("noetl/empty") == "mine"

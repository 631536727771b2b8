"""The result store of Google Cloud: the contract of all result stores, under the role of a worker."""

from __future__ import annotations

from typing import Any

import pytest
from google.cloud.storage import Client
from tests.infra.google_cloud.standin import REGION, Standin
from tests.infra.google_cloud.test_storage import grant, storage_client
from tests.unit.results.contract import ResultStoreContract

from noetl_serverless.hosts.gcp.api import Api
from noetl_serverless.hosts.gcp.default_credentials import Anonymous
from noetl_serverless.hosts.gcp.results import GcsResultStore

LARGE = 60 * 2**20


class Token:
    def __init__(self, token: str) -> None:
        self._token = token

    async def access_token(self) -> str:
        return self._token


@pytest.fixture
def bucket(standin: Standin, unique: str) -> Any:
    client: Client = storage_client(standin)
    made: Any = client.bucket(f"noetl-{unique}")
    made.iam_configuration.uniform_bucket_level_access_enabled = True
    client.create_bucket(made, location=REGION)
    return made


def store_of(standin: Standin, bucket: Any, account: str) -> GcsResultStore:
    credentials: Any = standin.credentials(account)
    return GcsResultStore(Api(Token(credentials.token), standin.url), f"gs://{bucket.name}/results", Anonymous())


@pytest.fixture
def store(standin: Standin, bucket: Any, account: str) -> GcsResultStore:
    grant(bucket, "roles/storage.objectUser", account)
    return store_of(standin, bucket, account)


class TestContract(ResultStoreContract):
    """Google Cloud."""


async def test_objects_are_named_gcs(store: GcsResultStore) -> None:
    assert (await store.put("1/a/k", b"x")).store == "gcs"


async def test_a_large_object_is_written_in_parts_and_read_whole(store: GcsResultStore) -> None:
    data = bytes(range(256)) * (LARGE // 256)
    await store.put("1/a/large", data)
    assert await store.get("1/a/large") == data
    assert await store.get_range("1/a/large", LARGE - 3, 100) == data[-3:]

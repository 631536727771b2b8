"""The result store of Google Cloud: the contract of all result stores, through gcsfs, under the role of a worker."""

from __future__ import annotations

from typing import Any

import pytest
from google.cloud.storage import Client
from tests.infra.google_cloud.standin import REGION, Standin
from tests.infra.google_cloud.test_storage import storage_client
from tests.unit.results.contract import FsspecContract

from noetl_serverless.results.store import FsspecResultStore

# gcsfs uploads what is larger than 50 MiB in parts
LARGE = 60 * 2**20


@pytest.fixture
def store(standin: Standin, unique: str, account: str) -> FsspecResultStore:
    client: Client = storage_client(standin)
    bucket: Any = client.bucket(f"noetl-{unique}")
    bucket.iam_configuration.uniform_bucket_level_access_enabled = True
    client.create_bucket(bucket, location=REGION)
    policy = bucket.get_iam_policy()
    policy.bindings.append({"role": "roles/storage.objectUser", "members": {f"serviceAccount:{account}"}})
    bucket.set_iam_policy(policy)
    url = f"gs://{bucket.name}/results"
    # as `hosts.gcp.results`, with the token of an account in place of a function's metadata server
    return FsspecResultStore(
        url, token=standin.credentials(account), endpoint_url=standin.url, use_listings_cache=False
    )


class TestContract(FsspecContract):
    """Google Cloud."""


async def test_objects_are_named_gcs(store: FsspecResultStore) -> None:
    assert (await store.put("1/a/k", b"x")).store == "gcs"


async def test_a_large_object_is_written_in_parts_and_read_whole(store: FsspecResultStore) -> None:
    data = bytes(range(256)) * (LARGE // 256)
    await store.put("1/a/large", data)
    assert await store.get("1/a/large") == data
    assert await store.get_range("1/a/large", LARGE - 3, 100) == data[-3:]

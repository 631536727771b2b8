"""The result store of Google Cloud: the contract of all result stores, under the role of a worker."""

from __future__ import annotations

from typing import Any

import pytest
from google.cloud.storage import Client
from tests.infra.google_cloud.conftest import new_account
from tests.infra.google_cloud.standin import PROJECT, REGION, Standin, call
from tests.infra.google_cloud.test_storage import grant, storage_client
from tests.unit.results.contract import ResultStoreContract

from noetl_serverless.errors import AccessDenied
from noetl_serverless.hosts.gcp.api import Api
from noetl_serverless.hosts.gcp.results import GcsResultStore
from noetl_serverless.hosts.gcp.signing import IamSigner

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
    api = Api(Token(credentials.token), standin.url)

    async def email() -> str:
        return account

    return GcsResultStore(api, f"gs://{bucket.name}/results", IamSigner(api, email))


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


async def refused(store: GcsResultStore, match: str) -> None:
    for read in (store.get("1/a/k"), store.get_range("1/a/k", 0, 1)):
        with pytest.raises(AccessDenied, match=match):
            await read


async def test_who_may_list_and_not_read_learns_what_is_there_and_what_is_not(
    standin: Standin, bucket: Any, store: GcsResultStore, unique: str
) -> None:
    await store.put("1/a/k", b"x")
    account = new_account(standin, f"l{unique}")
    grant(bucket, "roles/storage.legacyBucketReader", account)
    lists = store_of(standin, bucket, account)
    await refused(lists, "has '1/a/k' and refuses it")
    with pytest.raises(KeyError):
        await lists.get("1/a/none")
    for write in (lists.put("1/a/new", b"x"), lists.delete("1/a/k")):
        with pytest.raises(AccessDenied):
            await write


async def test_who_may_neither_learns_that_it_may_be_missing(
    standin: Standin, bucket: Any, store: GcsResultStore, unique: str
) -> None:
    await store.put("1/a/k", b"x")
    nobody = store_of(standin, bucket, new_account(standin, f"n{unique}"))
    await refused(nobody, r"may also be missing.*storage\.objects\.list")


async def test_a_worker_s_role_learns_what_is_missing_below_its_prefix(
    standin: Standin, bucket: Any, account: str
) -> None:
    """As infra/modules/gcp/function grants it."""
    expression = " || ".join(
        [
            f'resource.name.startsWith("projects/_/buckets/{bucket.name}/objects/results/")',
            'api.getAttribute("storage.googleapis.com/objectListPrefix", "").startsWith("results/")',
        ]
    )
    grant(bucket, "roles/storage.objectUser", account, expression)
    store = store_of(standin, bucket, account)
    await store.put("1/a/k", b"x")
    assert await store.get("1/a/k") == b"x"
    assert [key async for key in store.list("1/")] == ["1/a/k"]
    with pytest.raises(KeyError):
        await store.get("1/a/none")


async def test_an_account_signs_urls_as_itself_if_it_may(standin: Standin, store: GcsResultStore, account: str) -> None:
    async def signed() -> str:
        return await store.signed_url("1/a/k", 60, content_type="text/csv", filename="k.csv")

    with pytest.raises(AccessDenied, match=r"roles/iam\.serviceAccountTokenCreator"):
        await signed()
    name = f"projects/{PROJECT}/serviceAccounts/{account}"
    bindings = [{"role": "roles/iam.serviceAccountTokenCreator", "members": [f"serviceAccount:{account}"]}]
    call(f"{standin.url}/v1/{name}:setIamPolicy", "POST", {"policy": {"bindings": bindings}}, standin.token)
    assert "X-Goog-Signature=" in await signed()

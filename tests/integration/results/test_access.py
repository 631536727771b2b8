"""What is refused is told from what is missing, on servers that enforce who may do what."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.results.conftest import BUCKET, Servers, s3_environment
from tests.object_servers import SeaweedFS

from noetl_serverless.errors import AccessDenied
from noetl_serverless.hosts.local.objects import object_store
from noetl_serverless.ports import ResultStore

ARN = f"arn:aws:s3:::{BUCKET}"
OBJECTS = f"{ARN}/results/*"
READ = {"Action": ["s3:GetObject"], "Resource": OBJECTS}
LIST = {
    "Action": ["s3:ListBucket"],
    "Resource": ARN,
    "Condition": {"StringLike": {"s3:prefix": ["results/*"]}},
}


class Access:
    def __init__(self, servers: Servers, unique: str) -> None:
        self._servers = servers
        self._unique = unique
        self.admin = self._store(None)

    def store(self, *statements: dict[str, Any]) -> ResultStore:
        """As a new user with this policy sees it."""
        return self._store(self._servers.ministack.user(self._unique, *statements))

    def _store(self, keys: tuple[str, str] | None) -> ResultStore:
        environ = s3_environment(self._servers.ministack.url, *([keys] if keys else []))
        return object_store(f"s3://{BUCKET}/results/{self._unique}", environ)


@pytest.fixture
def access(servers: Servers, unique: str) -> Access:
    return Access(servers, unique)


async def test_who_may_read_and_list_learns_what_is_missing(access: Access) -> None:
    await access.admin.put("1/a/k", b"x")
    store = access.store(READ, LIST)
    assert await store.get("1/a/k") == b"x"
    for call in (store.get("1/a/none"), store.get_range("1/a/none", 0, 1)):
        with pytest.raises(KeyError):
            await call
    for refused in (store.put("1/a/new", b"x"), store.delete("1/a/k")):
        with pytest.raises(AccessDenied):
            await refused
    assert await access.admin.get("1/a/k") == b"x"


async def test_who_may_list_and_not_read_learns_what_is_there_and_what_is_not(access: Access) -> None:
    await access.admin.put("1/a/k", b"x")
    # S3 answers 403 to both
    store = access.store(LIST)
    for call in (store.get("1/a/k"), store.get_range("1/a/k", 0, 1)):
        with pytest.raises(AccessDenied, match="has '1/a/k' and refuses it"):
            await call
    # of the first, what is there is only the beginning
    for key in ("1/a", "1/a/none"):
        with pytest.raises(KeyError):
            await store.get(key)


async def test_who_may_neither_learns_that_it_may_be_missing(access: Access) -> None:
    await access.admin.put("1/a/k", b"x")
    store = access.store({"Action": ["s3:GetObject"], "Resource": f"{ARN}/elsewhere/*"})
    for key in ("1/a/k", "1/a/none"):
        with pytest.raises(AccessDenied, match=r"may also be missing.*s3:ListBucket"):
            await store.get(key)


async def test_a_server_of_another_kind_refuses_and_misses_alike(servers: Servers) -> None:
    url = servers.seaweedfs.url
    await object_store(f"s3://{BUCKET}", s3_environment(url)).put("1/a/k", b"x")
    reader = object_store(f"s3://{BUCKET}", s3_environment(url, SeaweedFS.READER))
    assert await reader.get("1/a/k") == b"x"
    with pytest.raises((KeyError, AccessDenied)):
        await reader.get("1/a/none")
    with pytest.raises(AccessDenied):
        [key async for key in reader.list("1/")]
    for keys in (("nobody", "secret"), (SeaweedFS.READER[0], "wrong")):
        store = object_store(f"s3://{BUCKET}", s3_environment(url, keys))
        for call in (store.get("1/a/k"), store.get("1/a/none"), store.put("1/a/j", b"x"), store.delete("1/a/k")):
            with pytest.raises(AccessDenied) as raised:
                await call
            assert keys[1] not in str(raised.value)


async def test_a_bucket_of_another_region_says_so(servers: Servers) -> None:
    store = object_store(f"s3://{BUCKET}/results", {**s3_environment(servers.ministack.url), "AWS_REGION": "us-east-1"})
    for call in (store.put("1/a/k", b"x"), store.get("1/a/k"), store.delete("1/a/k")):
        with pytest.raises(AccessDenied, match="not in the region us-east-1: set AWS_REGION"):
            await call


@pytest.mark.parametrize("name", ["ministack", "gcs"])
async def test_a_bucket_that_does_not_exist_is_no_missing_key(servers: Servers, name: str) -> None:
    if name == "gcs":
        store = object_store("gs://nobodys/results", {"STORAGE_EMULATOR_HOST": servers.gcs.url})
    else:
        store = object_store("s3://nobodys/results", s3_environment(servers.ministack.url))
    with pytest.raises(AccessDenied) as refused:
        await store.put("1/a/k", b"x")
    assert refused.value.code == "result_store.denied"

from __future__ import annotations

import base64

import pytest

from noetl_serverless.hosts.gcp.api import Api, GoogleError
from noetl_serverless.hosts.gcp.secrets import SecretManagerVault

from .conftest import Google, error

ID = "projects/p/secrets/noetl-token_key"


def payload(value: str) -> tuple[int, object]:
    return 200, {"name": f"{ID}/versions/1", "payload": {"data": base64.b64encode(value.encode()).decode()}}


async def test_the_latest_version_is_read(google: Google, api: Api) -> None:
    google.answers = [payload("ä secret")]
    assert await SecretManagerVault(api).read(ID) == "ä secret"
    assert google.requests == [("GET", f"/v1/{ID}/versions/latest:access", None)]


async def test_a_secret_without_a_version_has_no_value(google: Google, api: Api) -> None:
    google.answers = [error(404, "NOT_FOUND")]
    assert await SecretManagerVault(api).read(ID) is None
    assert [path for _, path, _ in google.requests] == [f"/v1/{ID}/versions/{name}:access" for name in ("latest", "1")]


async def test_a_first_version_that_is_not_yet_the_latest_is_found_by_its_number(google: Google, api: Api) -> None:
    google.answers = [error(404, "NOT_FOUND"), payload("first"), error(404, "NOT_FOUND"), payload("first")]
    vault = SecretManagerVault(api)
    assert await vault.read(ID) == "first"
    assert not await vault.replace(ID, "another", None)


async def test_what_has_just_been_written_is_read_though_google_shows_the_old(google: Google, api: Api) -> None:
    google.answers = [payload("old"), (200, {}), payload("old")]
    vault = SecretManagerVault(api)
    assert await vault.replace(ID, "new", "old")
    assert await vault.read(ID) == "new"


async def test_what_may_not_be_read_is_not_taken_for_empty(google: Google, api: Api) -> None:
    google.answers = [error(403, "PERMISSION_DENIED")]
    with pytest.raises(GoogleError):
        await SecretManagerVault(api).read(ID)


async def test_a_new_value_is_a_new_version(google: Google, api: Api) -> None:
    google.answers = [payload("old"), (200, {})]
    assert await SecretManagerVault(api).replace(ID, "new", "old")
    assert google.requests[1] == ("POST", f"/v1/{ID}:addVersion", {"payload": {"data": "bmV3"}})


async def test_a_value_that_another_has_replaced_meanwhile_stays(google: Google, api: Api) -> None:
    google.answers = [payload("theirs")]
    assert not await SecretManagerVault(api).replace(ID, "mine", None)
    assert len(google.requests) == 1

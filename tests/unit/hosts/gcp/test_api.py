from __future__ import annotations

import pytest

from noetl_serverless.hosts.gcp.api import Api, GoogleError

from .conftest import Google, error

PATH = "/v2/projects/p/locations/l/queues/q/tasks"


async def test_a_call_carries_the_token_of_the_service_account(google: Google, api: Api) -> None:
    google.answers = [(200, {"name": "task"})]
    assert await api.json("cloudtasks", "POST", PATH, {"task": {}}) == {"name": "task"}
    assert google.requests == [("POST", PATH, {"task": {}})]
    assert google.tokens == ["Bearer token-1"]


@pytest.mark.parametrize("failure", [error(503, "UNAVAILABLE"), error(429, "RESOURCE_EXHAUSTED"), (502, "not ours")])
async def test_what_may_pass_is_tried_again(google: Google, api: Api, failure: tuple[int, object]) -> None:
    google.answers = [failure, (200, {})]
    assert await api.json("cloudtasks", "POST", PATH, {}) == {}
    assert len(google.requests) == 2


async def test_what_is_refused_is_not_tried_again(google: Google, api: Api) -> None:
    google.answers = [error(403, "PERMISSION_DENIED", "cloudtasks.tasks.create denied")]
    with pytest.raises(GoogleError, match=r"403 PERMISSION_DENIED: cloudtasks.tasks.create denied") as caught:
        await api.json("cloudtasks", "POST", PATH, {})
    assert caught.value.code == "PERMISSION_DENIED"
    assert len(google.requests) == 1


async def test_an_answer_that_is_not_googles_is_an_error_too(google: Google, api: Api) -> None:
    google.answers = [(404, ["a proxy"])]
    with pytest.raises(GoogleError, match="404 UNKNOWN"):
        await api.json("secretmanager", "GET", "/v1/x")


async def test_an_answer_that_is_not_json_is_an_error(google: Google, api: Api) -> None:
    google.raw = b"<html>"
    with pytest.raises(GoogleError, match="the answer is not JSON"):
        await api.json("cloudtasks", "POST", PATH, {})


async def test_a_redirection_is_an_error(google: Google, api: Api) -> None:
    google.answers = [(302, {})]
    with pytest.raises(GoogleError, match="302"):
        await api.json("cloudtasks", "POST", PATH, {})

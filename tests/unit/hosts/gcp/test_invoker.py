from __future__ import annotations

import base64
import json
import logging
from typing import Any

import pytest

from noetl_serverless.hosts.gcp.api import Api
from noetl_serverless.hosts.gcp.invoker import CloudTasksInvoker

from .conftest import Google, error

QUEUE = "projects/p/locations/europe-west1/queues/noetl-shared"
NOW = 1_800_000_000.0


@pytest.fixture
def invoker(api: Api) -> CloudTasksInvoker:
    return CloudTasksInvoker(api, {"shared": QUEUE}, per_invocation=16, clock=lambda: NOW)


def tasks(google: Google) -> list[dict[str, Any]]:
    return [body["task"] for _, _, body in google.requests]


def message(task: dict[str, Any]) -> Any:
    return json.loads(base64.b64decode(task["httpRequest"]["body"]))


async def test_an_invocation_is_a_task_of_the_functions_queue(google: Google, invoker: CloudTasksInvoker) -> None:
    await invoker.invoke("shared", {"pool": "shared", "sweep": True})
    assert [request[:2] for request in google.requests] == [("POST", f"/v2/{QUEUE}/tasks")]
    (task,) = tasks(google)
    assert message(task) == {"function": "shared", "pool": "shared", "sweep": True}
    assert task["httpRequest"]["httpMethod"] == "POST"
    assert "scheduleTime" not in task
    # longer than any function that is invoked may run: otherwise the task would be dispatched again meanwhile
    assert task["dispatchDeadline"] == "1800s"


@pytest.mark.parametrize(("waiting", "invocations"), [(1, 1), (16, 1), (17, 2), (100, 7), (100_000, 10)])
async def test_many_waiting_commands_invoke_more_instances(
    google: Google, invoker: CloudTasksInvoker, waiting: int, invocations: int
) -> None:
    await invoker.invoke("shared", {"pool": "shared", "waiting": waiting})
    assert [message(task) for task in tasks(google)] == [{"function": "shared", "pool": "shared"}] * invocations


@pytest.mark.parametrize(
    ("delay", "due"),
    [(0.5, "2027-01-15T08:00:00.500000Z"), (3600, "2027-01-15T09:00:00Z"), (1e9, "2027-02-13T08:00:00Z")],
)
async def test_a_delay_is_the_tasks_and_at_most_what_cloud_tasks_takes(
    google: Google, invoker: CloudTasksInvoker, delay: float, due: str
) -> None:
    await invoker.invoke("shared", {}, delay)
    assert [task["scheduleTime"] for task in tasks(google)] == [due]


async def test_an_invocation_that_is_refused_is_reported_and_lost(
    google: Google, invoker: CloudTasksInvoker, caplog: pytest.LogCaptureFixture
) -> None:
    google.answers = [error(403, "PERMISSION_DENIED")]
    with caplog.at_level(logging.WARNING):
        await invoker.invoke("shared", {})
    assert "an invocation of shared was lost" in caplog.text


async def test_a_function_without_a_queue_is_reported_and_not_invoked(
    google: Google, invoker: CloudTasksInvoker, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await invoker.invoke("elsewhere")
    assert "no queue for function elsewhere" in caplog.text
    assert google.requests == []

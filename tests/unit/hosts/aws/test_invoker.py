from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from noetl_serverless.hosts.aws.api import Api
from noetl_serverless.hosts.aws.invoker import SqsInvoker

NOW = 1_800_000_000.0


class Queue:
    def __init__(self, boto: Any) -> None:
        self._boto = boto
        self.url = boto.create_queue(QueueName="noetl-shared")["QueueUrl"]

    def messages(self) -> list[dict[str, Any]]:
        found = self._boto.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(message["Body"]) for message in found]

    def delayed(self) -> int:
        name = "ApproximateNumberOfMessagesDelayed"
        return int(self._boto.get_queue_attributes(QueueUrl=self.url, AttributeNames=[name])["Attributes"][name])


@pytest.fixture
def queue(client: Callable[[str], Any]) -> Queue:
    return Queue(client("sqs"))


@pytest.fixture
def invoker(api: Api, queue: Queue) -> SqsInvoker:
    return SqsInvoker(api, {"shared": queue.url}, per_invocation=16, clock=lambda: NOW)


async def test_an_invocation_is_a_message(invoker: SqsInvoker, queue: Queue) -> None:
    await invoker.invoke("shared", {"pool": "shared", "sweep": True})
    assert queue.messages() == [{"function": "shared", "pool": "shared", "sweep": True}]


@pytest.mark.parametrize(("waiting", "invocations"), [(1, 1), (16, 1), (17, 2), (100, 7), (100_000, 10)])
async def test_many_waiting_commands_invoke_more_instances(
    invoker: SqsInvoker, queue: Queue, waiting: int, invocations: int
) -> None:
    await invoker.invoke("shared", {"pool": "shared", "waiting": waiting})
    assert queue.messages() == [{"function": "shared", "pool": "shared"}] * invocations


async def test_a_short_delay_is_the_queues(invoker: SqsInvoker, queue: Queue) -> None:
    await invoker.invoke("shared", {}, delay=0.4)
    assert queue.messages() == []
    assert queue.delayed() == 1


async def test_a_long_delay_is_a_chain_of_short_ones(invoker: SqsInvoker, api: Api, queue: Queue) -> None:
    sent: list[dict[str, Any]] = []

    async def keep(service: str, target: str, body: dict[str, Any], version: str = "1.1") -> dict[str, Any]:
        sent.append(body)
        return {}

    api.json = keep  # type: ignore[method-assign,assignment]
    await invoker.invoke("shared", {"pool": "shared"}, delay=2000)
    message = json.loads(sent[0]["MessageBody"])
    assert (sent[0]["DelaySeconds"], message["at"]) == (900, NOW + 2000)
    await invoker.requeue(message, 1100)
    await invoker.requeue(message, 199.5)
    assert [one["DelaySeconds"] for one in sent] == [900, 900, 200]
    assert {one["MessageBody"] for one in sent[1:]} == {json.dumps(message, separators=(",", ":"))}


async def test_a_function_without_a_queue_is_reported_and_not_invoked(
    invoker: SqsInvoker, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await invoker.invoke("elsewhere")
    assert "no queue for function elsewhere" in caplog.text


async def test_an_invocation_that_cannot_be_sent_is_lost_without_an_error(
    api: Api, endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await SqsInvoker(api, {"shared": f"{endpoint}/123456789012/gone"}).invoke("shared")
    assert "an invocation of shared was lost" in caplog.text

"""The faults that every host survives, on a laptop and on Lambda. On Cloud Run: test_deployment_on_google_cloud.py."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.faults import BrokenStack, broken_stack
from tests.e2e.test_lost_hints import published
from tests.infra import faults
from tests.infra.deployment import Deployment

from noetl_serverless.hosts.local.nats import Nats
from noetl_serverless.hosts.local.ports import free_port

# seconds
LEASE = 3


class Laptop:
    def __init__(self, stack: BrokenStack) -> None:
        self._stack = stack

    def register(self, text: str) -> None:
        self._stack.register(text)

    def begin(self, path: str, workload: Mapping[str, Any]) -> str:
        return self._stack.execute(path, dict(workload))

    def wait(self, execution_id: str, patience: float) -> dict[str, Any]:
        return self._stack.wait([execution_id], patience)[execution_id]

    def events(self, execution_id: str) -> list[dict[str, Any]]:
        return self._stack.log(execution_id)

    def kill_workers(self) -> int:
        return int(self._stack.kill("worker server", random.Random(0)) is not None)

    @contextmanager
    def without_notifications(self) -> Iterator[None]:
        """The stack has been told to send none."""
        yield
        assert asyncio.run(published(self._stack.running["nats_url"])) == 0


class Lambda:
    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def register(self, text: str) -> None:
        self._deployment.register(text)

    def begin(self, path: str, workload: Mapping[str, Any]) -> str:
        return self._deployment.execute(path, workload)

    def wait(self, execution_id: str, patience: float) -> dict[str, Any]:
        return self._deployment.wait(execution_id, patience=patience)

    def events(self, execution_id: str) -> list[dict[str, Any]]:
        return self._deployment.events(execution_id)

    def kill_workers(self) -> int:
        killed = [environment for environment in self._deployment["worker"].environments if environment.alive]
        for environment in killed:
            environment.kill()
        return len(killed)

    @contextmanager
    def without_notifications(self) -> Iterator[None]:
        """The messages of the pool's queue are taken away unread."""
        self._deployment.mappings.pop("shared").stop()
        yield
        url = self._deployment.queues["shared"]
        lost = self._deployment.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        self._deployment.sqs.purge_queue(QueueUrl=url)
        self._deployment.map("shared", "worker")
        assert lost, "no notification was sent"


@pytest.fixture
def lambda_host(postgres_url: str, data_dir: Path) -> Iterator[Lambda]:
    server = Nats(data_dir / "nats", free_port(), "password", data_dir / "nats.log")
    process = server.start()
    deployment = Deployment(postgres_url, server.url, settings={"lease": str(LEASE)})
    deployment.start()
    yield Lambda(deployment)
    deployment.stop()
    process.stop()


def test_a_kill_on_a_laptop_loses_no_step() -> None:
    with broken_stack(lease=LEASE) as stack:
        faults.check_kill(Laptop(stack))


def test_a_lost_notification_on_a_laptop_loses_no_step() -> None:
    with broken_stack(lease=LEASE, notify="false") as stack:
        faults.check_lost_notification(Laptop(stack))


def test_a_kill_on_lambda_loses_no_step(lambda_host: Lambda) -> None:
    faults.check_kill(lambda_host)


def test_a_lost_notification_on_lambda_loses_no_step(lambda_host: Lambda) -> None:
    faults.check_lost_notification(lambda_host)

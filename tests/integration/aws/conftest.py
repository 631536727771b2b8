"""The functions on Lambda, as near as this machine comes to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.infra.deployment import Deployment

from noetl_serverless.hosts.local.nats import Nats
from noetl_serverless.hosts.local.ports import free_port

Deploy = Callable[..., Deployment]


@pytest.fixture
def deploy(postgres_url: str, data_dir: Path) -> Iterator[Deploy]:
    """Makes a deployment, migrated and running unless told otherwise; with a NATS of its own."""
    server = Nats(data_dir / "nats", free_port(), "password", data_dir / "nats.log")
    process = server.start()
    made: list[Deployment] = []

    def make(*, start: bool = True, **options: Any) -> Deployment:
        deployment = Deployment(postgres_url, server.url, **options)
        made.append(deployment)
        if start:
            deployment.start()
        return deployment

    yield make
    for deployment in made:
        deployment.stop()
    process.stop()

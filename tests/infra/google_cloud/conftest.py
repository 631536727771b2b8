"""One process of the stand-ins for all tests here: each names its resources with a name of its own."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.pubsub_v1 import PublisherClient, SubscriberClient
from tests.infra.google_cloud.recorder import Recorder
from tests.infra.google_cloud.standin import PROJECT, Standin, call
from tests.serving import end


@pytest.fixture(scope="session")
def standin() -> Iterator[Standin]:
    with tempfile.TemporaryDirectory(prefix="noetl-google-") as folder:
        standin = Standin(Path(folder))
        yield standin
        standin.stop()


@pytest.fixture
def unique() -> str:
    """Letters and digits that no other test has."""
    return f"t{secrets.token_hex(5)}"


@pytest.fixture
def account(standin: Standin, unique: str) -> str:
    """The address of a service account without any role."""
    return new_account(standin, unique)


def new_account(standin: Standin, id: str) -> str:
    url = f"{standin.url}/v1/projects/{PROJECT}/serviceAccounts"
    created: dict[str, Any] = call(url, "POST", {"accountId": id}, standin.token)
    return str(created["email"])


@pytest.fixture
def target() -> Recorder:
    return Recorder()


@pytest.fixture
def target_port(target: Recorder) -> Iterator[int]:
    """Where the target listens."""
    server = target.serve()
    yield server.server_port
    end(server)


@pytest.fixture
def publisher(standin: Standin) -> Any:
    return standin.client(PublisherClient)


@pytest.fixture
def subscriber(standin: Standin) -> Any:
    return standin.client(SubscriberClient)


@pytest.fixture
def topic(publisher: Any, unique: str) -> str:
    return str(publisher.create_topic(name=f"projects/{PROJECT}/topics/{unique}").name)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from noetl_serverless.archive.messages import ClaimedBatch
from noetl_serverless.settings import Settings
from noetl_serverless.testing.bus import MemoryNotifier
from noetl_serverless.worker import worker as worker_module
from noetl_serverless.worker.archive import LEASE_SECONDS
from noetl_serverless.worker.drain.summary import Summary
from noetl_serverless.worker.worker import Worker


class Client:
    """Has nothing to archive."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    async def call(self, method: str, path: str, answer: Any, request: Any = None) -> ClaimedBatch:
        self.requests.append((method, path, request.worker_id, request.lease))
        return ClaimedBatch(batch=None)

    def supports(self, version: int) -> bool:
        return True

    async def credential(self, name: str) -> Any:
        raise NotImplementedError

    async def manifest(self, execution_id: str, step: str, generation: int, after: int) -> Any:
        raise NotImplementedError


class EndedDrain:
    """Has ended with this summary, while these requests arrived."""

    more = notified = sweep = False

    def __init__(self, context: Any, budget: Any, requests: Any, commands: Any) -> None:
        self._requests = requests

    async def run(self) -> Summary:
        self._requests.notified, self._requests.sweep = self.notified, self.sweep
        return Summary(claimed=3, more=self.more)


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def worker(client: Client, tmp_path: Path) -> Worker:
    control_plane: Any = client
    unused: Any = None
    settings = Settings(scratch=str(tmp_path))
    return Worker(settings, control_plane, MemoryNotifier(), unused, unused, unused, unused)


async def test_a_worker_claims_batches_for_the_archive_under_its_own_id(worker: Worker, client: Client) -> None:
    summary = await worker.archive_writer.run(1000.0)
    assert (summary.registered, summary.failed, summary.more) == (0, 0, False)
    assert client.requests == [("POST", "/api/archives/claim", worker.id, LEASE_SECONDS)]


@pytest.mark.parametrize("left", ["more", "notified", "sweep", None])
async def test_a_drain_says_that_work_is_left_if_any_is_or_if_it_was_notified_at_its_end(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, left: str | None
) -> None:
    monkeypatch.setattr(worker_module, "Drain", EndedDrain)
    if left is not None:
        monkeypatch.setattr(EndedDrain, left, True)
    summary = await worker.drain(30.0)
    assert (summary["status"], summary["claimed"], summary["more"]) == ("drained", 3, left is not None)
    if left is not None:
        monkeypatch.setattr(EndedDrain, left, False)
    assert (await worker.drain(30.0))["more"] is False, "what one drain has left is left by the next, too"

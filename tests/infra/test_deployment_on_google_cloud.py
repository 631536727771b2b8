"""The whole deployment on stand-ins for Google Cloud: applied by Terraform, used, broken, changed, and destroyed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.infra import faults
from tests.infra.fake_provider.configuration import provider
from tests.infra.google_deployment import GoogleDeployment
from tests.infra.google_journey import Journey
from tests.infra.same_runs import golden, serve_flights

STEPS = [name for name, _ in Journey(GoogleDeployment(Path("nowhere"))).steps()]


class CloudRun:
    """The deployment as a host for `faults`."""

    def __init__(self, journey: Journey) -> None:
        self._journey = journey
        self._standin = journey.deployment.standin

    def register(self, text: str) -> None:
        self._journey.gateway.register(text)

    def begin(self, path: str, workload: Mapping[str, Any]) -> str:
        started = self._journey.gateway.ask("POST", "execute", {"path": path, "payload": dict(workload)})
        return str(started["execution_id"])

    def wait(self, execution_id: str, patience: float) -> dict[str, Any]:
        return self._journey.gateway.wait(execution_id, patience)

    def events(self, execution_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._journey.gateway.ask("GET", f"executions/{execution_id}/events", limit=1000)
        return found

    def kill_workers(self) -> int:
        return self._journey.kill_workers()

    @contextmanager
    def without_notifications(self) -> Iterator[None]:
        """The tasks of the pool's queue are dropped when they are added."""
        with self._journey.without_tasks("shared") as lost:
            yield
        assert lost(), "no notification was sent"


@pytest.fixture(scope="module")
def journey() -> Iterator[Journey]:
    with tempfile.TemporaryDirectory(prefix="noetl-google-") as folder:
        deployment = GoogleDeployment(Path(folder), provider=provider())
        deployment.package()
        try:
            yield Journey(deployment, serve_flights)
        finally:
            deployment.stop_servers()


@pytest.mark.parametrize("step", STEPS[:-1])
def test_step(journey: Journey, step: str) -> None:
    # in this order: each stands on those before it
    run(journey, step)


def run(journey: Journey, step: str) -> None:
    try:
        dict(journey.steps())[step]()
    except (AssertionError, RuntimeError, TimeoutError) as error:
        pytest.fail(f"{error}\n\nthe ends of the logs:\n{journey.deployment.logs()}")


def test_the_digests_are_those_of_every_host(journey: Journey) -> None:
    assert journey.digests == golden()


def test_a_kill_on_cloud_run_loses_no_step(journey: Journey) -> None:
    with journey.fast_clock():
        faults.check_kill(CloudRun(journey))


def test_a_lost_notification_on_cloud_run_loses_no_step(journey: Journey) -> None:
    with journey.fast_clock():
        faults.check_lost_notification(CloudRun(journey))


def test_destroying_it_leaves_nothing(journey: Journey) -> None:
    run(journey, STEPS[-1])

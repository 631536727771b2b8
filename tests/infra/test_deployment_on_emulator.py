"""The whole deployment: applied by Terraform to an emulator, used through its HTTP API, changed, and destroyed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from localstack.emulated import Emulated
from localstack.journey import Journey
from tests.infra.fake_provider.configuration import provider
from tests.infra.same_runs import golden, serve_flights

from noetl_serverless.hosts.local.ports import free_port

STEPS = [name for name, _ in Journey(Emulated(Path("nowhere"), 0)).steps()]


@pytest.fixture(scope="module")
def journey() -> Iterator[Journey]:
    with tempfile.TemporaryDirectory(prefix="noetl-emulated-") as folder:
        emulated = Emulated(Path(folder), free_port(), provider())
        emulated.package()
        try:
            yield Journey(emulated, serve_flights)
        finally:
            emulated.stop_servers()


@pytest.mark.parametrize("step", STEPS)
def test_step(journey: Journey, step: str) -> None:
    # in this order: each stands on those before it
    try:
        dict(journey.steps())[step]()
    except (AssertionError, RuntimeError, TimeoutError) as error:
        pytest.fail(f"{error}\n\nthe end of the emulator's log:\n{journey.deployment.logs()}")


def test_the_digests_are_those_of_every_host(journey: Journey) -> None:
    assert journey.digests == golden()

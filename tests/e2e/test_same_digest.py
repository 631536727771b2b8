"""The flagship and a fan-out have the same digest on a laptop as on every cloud, whose deployments are held against the
same file."""

from __future__ import annotations

import pytest
from localstack.usage import FAN_OUT, ITEMS
from tests.e2e.stack import PLAYBOOKS, Stack
from tests.infra.same_runs import golden, serve_flights

pytestmark = pytest.mark.e2e


def test_the_flagship_has_the_digest_that_it_has_everywhere(stack: Stack) -> None:
    with serve_flights() as url:
        done = stack.run(PLAYBOOKS / "flight_delays.yaml", {"data_url": url})
    assert stack.ask("digest", done["execution_id"])["digest"] == golden()["flagship"]


def test_a_fan_out_has_the_digest_that_it_has_everywhere(stack: Stack) -> None:
    file = stack.data / "squares.yaml"
    file.write_text(FAN_OUT)
    done = stack.run(file, {"items": ITEMS})
    assert stack.ask("digest", done["execution_id"])["digest"] == golden()["fan_out"]

"""Which workers may have the database in their own process."""

from __future__ import annotations

import pytest

from noetl_serverless.hosts.assembly.worker import DirectRefused, is_direct
from noetl_serverless.settings import Settings

OTHERS = dict.fromkeys(("python", "shell", "container", "agent", "mcp", "duckdb"), "code")


def test_remote_is_the_default_everywhere() -> None:
    assert [is_direct(Settings(host=host)) for host in ("local", "aws", "gcp")] == [False, False, False]


def test_on_a_laptop_any_pool_may() -> None:
    assert is_direct(Settings(orchestrator="direct"))


@pytest.mark.parametrize("host", ["aws", "gcp"])
def test_on_a_cloud_a_pool_that_runs_no_users_code_may(host: str) -> None:
    assert is_direct(Settings(host=host, orchestrator="direct", pools=OTHERS))


@pytest.mark.parametrize("host", ["aws", "gcp"])
@pytest.mark.parametrize("kind", sorted(OTHERS))
def test_on_a_cloud_a_pool_that_runs_users_code_may_not(host: str, kind: str) -> None:
    with pytest.raises(DirectRefused, match=kind):
        is_direct(Settings(host=host, orchestrator="direct", pools={**OTHERS, kind: "shared"}))
    without = {name: pool for name, pool in OTHERS.items() if name != kind}
    with pytest.raises(DirectRefused, match=kind):
        is_direct(Settings(host=host, orchestrator="direct", pools=without))


def test_another_way_is_refused() -> None:
    with pytest.raises(ValueError, match="expected remote or direct"):
        is_direct(Settings(orchestrator="straight"))

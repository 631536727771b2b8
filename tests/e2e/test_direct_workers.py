"""A worker with a process of its own that reaches the database by itself, in the role of workers."""

from __future__ import annotations

from contextlib import closing

import pytest
from tests.e2e.stack import PLAYBOOKS, Stack

from noetl_serverless.hosts.local.layout import Layout
from noetl_serverless.store.connection import connect

SIGNED_IN = "SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = 'noetl' AND application_name = 'noetl'"


def test_playbooks_run_to_their_end(noetls: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOETL_ORCHESTRATOR", "direct")
    assert noetls("up", "--detach", "--processes", "separate").status == 0
    for name in ("hello.yaml", "fan_out.yaml", "timer.yaml"):
        assert noetls.run(PLAYBOOKS / name)["status"] == "COMPLETED"
    run = Layout(noetls.data).running()
    assert run is not None
    with closing(connect(run["database_url"])) as database:
        assert {name for (name,) in database.run(SIGNED_IN)} == {"noetl", "noetl_worker"}

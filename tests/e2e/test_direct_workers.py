"""A worker with a process of its own that reaches the database by itself, in the role of workers."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from tests.e2e.stack import PLAYBOOKS, Stack
from tests.e2e.stores import LARGE, SMALL, playbook, stored_by_step

from noetl_serverless.hosts.local.layout import Layout
from noetl_serverless.store.connection import connect

SIGNED_IN = "SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = 'noetl' AND application_name = 'noetl'"


def test_playbooks_run_to_their_end(noetls: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOETL_ORCHESTRATOR", "direct")
    # each would have a process of its own
    monkeypatch.setenv("NOETL_LOCAL_POOLS", "")
    assert noetls("up", "--detach", "--processes", "separate").status == 0
    for name in ("hello.yaml", "fan_out.yaml", "timer.yaml"):
        assert noetls.run(PLAYBOOKS / name)["status"] == "COMPLETED"
    file = tmp_path / "stores.yaml"
    file.write_text(playbook("kv", "postgres"))
    id = noetls.run(file)["execution_id"]
    assert stored_by_step(noetls, id) == {
        f"kv_{SMALL}": "kv",
        f"kv_{LARGE}": "disk",
        **{f"postgres_{size}": "postgres" for size in (SMALL, LARGE)},
    }
    run = Layout(noetls.data).running()
    assert run is not None
    with closing(connect(run["database_url"])) as database:
        assert {name for (name,) in database.run(SIGNED_IN)} == {"noetl", "noetl_worker"}


def test_where_direct_has_no_effect_up_says_so(noetls: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOETL_ORCHESTRATOR", "direct")
    up = noetls("up", "--detach", "--json")
    assert (up.status, up.json["status"]) == (0, "running")
    assert up.err == (
        "note: NOETL_ORCHESTRATOR=direct has no effect: no worker has a process of its own (--processes separate, "
        "--workers N)\n"
    )
    noetls("down")
    assert noetls("up", "--detach", "--workers", "2").err == ""


@pytest.mark.parametrize("more", [[], ["--detach"]])
def test_an_unknown_orchestrator_is_refused(noetls: Stack, monkeypatch: pytest.MonkeyPatch, more: list[str]) -> None:
    monkeypatch.setenv("NOETL_ORCHESTRATOR", "dirct")
    up = noetls("up", "--processes", "separate", *more)
    assert (up.status, up.err) == (1, "error: NOETL_ORCHESTRATOR='dirct': expected remote or direct\n")
    assert noetls("status", "--json").json["status"] == "stopped"

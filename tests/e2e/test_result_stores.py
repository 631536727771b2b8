"""Results in each store of a deployment, written and read by workers that do not reach the database."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.e2e.stack import Stack
from tests.e2e.stores import LARGE, SMALL, playbook, stored_by_step


def test_every_store_gives_what_it_was_given(noetls: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # each would have a process of its own
    monkeypatch.setenv("NOETL_LOCAL_POOLS", "")
    monkeypatch.setenv("NOETL_RESULT_AUTO", "kv,postgres")
    file = tmp_path / "stores.yaml"
    file.write_text(playbook("kv", "postgres", "disk", "auto"))
    assert noetls("up", "--detach", "--processes", "separate").status == 0
    ended = noetls.run(file)
    sizes = {f"{kind}_{size}": size for kind in ("kv", "postgres", "disk", "auto") for size in (SMALL, LARGE)}
    assert (ended["status"], ended["result"]) == ("COMPLETED", sizes)
    assert stored_by_step(noetls, ended["execution_id"]) == {
        f"kv_{SMALL}": "kv",
        f"postgres_{SMALL}": "postgres",
        f"disk_{SMALL}": "disk",
        f"auto_{SMALL}": "kv",
        # what an entry of NATS is too small for goes where the others go
        f"kv_{LARGE}": "postgres",
        f"postgres_{LARGE}": "postgres",
        f"disk_{LARGE}": "disk",
        f"auto_{LARGE}": "postgres",
    }

"""Results that are put into executions whose results are not kept any more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.integration.control_plane.conftest import SETTINGS, Client, Clock
from tests.integration.control_plane.test_put_results import objects, put, put_json

from noetl_serverless.control_plane import result_puts
from noetl_serverless.results.content import Incoming
from noetl_serverless.settings import Settings
from noetl_serverless.store.database import Database


@pytest.fixture
def settings(results_url: str) -> Settings:
    return replace(SETTINGS, result_url=results_url, result_ttl_days=2)


async def test_when_its_results_are_deleted_an_execution_takes_only_permanent_ones(
    user: Client, started: str, clock: Clock, results_url: str
) -> None:
    clock.minutes = 3 * 24 * 60
    await put(user, started, "early", "while it runs, however long")
    assert (await user.post(f"/api/executions/{started}/cancel", {})).status == 200
    clock.minutes = 24 * 60
    await put(user, started, "note", "after a day")
    clock.minutes = 3 * 24 * 60
    for scope in ("execution", "workflow"):
        refused = await put_json(user, started, {"name": "note", "data": "late", "scope": scope, "ttl": "1d"})
        assert (refused.status, refused.json["code"]) == (409, "resource.conflict")
        assert "2 days" in refused.json["detail"] and "permanent" in refused.json["detail"]
    assert len(objects(results_url)) == 2
    await put(user, started, "note", "late", scope="permanent", ttl="1d")


@pytest.mark.parametrize("is_known", [False, True])
async def test_what_is_written_while_the_results_of_the_execution_are_deleted_is_deleted_too(
    user: Client,
    started: str,
    clock: Clock,
    database: Database,
    results_url: str,
    monkeypatch: pytest.MonkeyPatch,
    is_known: bool,
) -> None:
    """The collection does not come back to the execution, and has seen no row."""
    if is_known:
        await put(user, started, "note", "late", scope="permanent", ttl="1d")
    assert (await user.post(f"/api/executions/{started}/cancel", {})).status == 200
    passed: list[str] = []

    async def written_slowly(call: Any, *args: Any) -> Any:
        done = await before(call, *args)
        clock.minutes = 3 * 24 * 60
        passed.append("the time is over")
        return done

    name = "_exists" if is_known else "_write"
    before = getattr(result_puts, name)
    monkeypatch.setattr(result_puts, name, written_slowly)
    refused = await put_json(user, started, {"name": "note", "data": "late", "scope": "execution"})
    assert passed and (refused.status, refused.json["code"]) == (409, "resource.conflict"), refused.body
    assert "2 days" in refused.json["detail"] and "permanent" in refused.json["detail"]
    assert objects(results_url) == []
    assert await database.run("SELECT key FROM noetl.result_ref") == []


@pytest.mark.parametrize("scope", ["step", "execution"])
async def test_what_has_come_when_its_time_is_over_is_not_written(
    user: Client, started: str, clock: Clock, results_url: str, monkeypatch: pytest.MonkeyPatch, scope: str
) -> None:
    end = Incoming.end

    async def came_slowly(self: Incoming) -> None:
        await end(self)
        assert (await user.post(f"/api/executions/{started}/cancel", {})).status == 200
        clock.minutes = 3 * 24 * 60

    monkeypatch.setattr(Incoming, "end", came_slowly)
    refused = await put_json(user, started, {"name": "note", "data": "late", "scope": scope})
    assert (refused.status, refused.json["code"]) == (409, "resource.conflict"), refused.body
    assert objects(results_url) == []

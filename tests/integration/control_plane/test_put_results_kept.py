"""Results that are put into executions whose results are not kept any more."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.integration.control_plane.conftest import SETTINGS, Client, Clock
from tests.integration.control_plane.test_put_results import objects, put, put_json

from noetl_serverless.settings import Settings


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

"""The requests that functions/README.md has for copying."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.integration.control_plane.conftest import Client

PAGE = (Path(__file__).parents[3] / "functions/README.md").read_text()
REQUESTS = [
    (f"/api/{path}", json.loads(body))
    for path, body in re.findall(r"curl -s \$GATEWAY/noetl/(\S+) [^\n]*\\\n +-d '([^']+)'", PAGE)
]


async def test_the_bodies_on_the_page_register_a_playbook_and_start_it(user: Client) -> None:
    assert [path for path, _ in REQUESTS] == ["/api/catalog/register", "/api/execute"]
    answers = [await user.post(path, body) for path, body in REQUESTS]
    assert [answer.status for answer in answers] == [200, 200], [answer.body for answer in answers]
    started = answers[-1].json["execution_id"]
    recording = await user.get(f"/api/executions/{started}/recording")
    assert recording.json["workload"]["name"] == REQUESTS[-1][1]["payload"]["name"]


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/api/credentials", {"type": "bearer", "data": {}}),
        ("/api/schedules", {"path": "demo/two", "interval_seconds": 60}),
    ],
)
async def test_next_of_a_list_by_offset_is_the_offset_of_the_next_page(
    user: Client, registered: dict[str, Any], path: str, more: dict[str, Any]
) -> None:
    for name in ("one", "two"):
        assert (await user.post(path, {"name": name, **more})).status in (200, 201)
    first = (await user.get(path, limit=1)).json
    last = (await user.get(path, limit=1, offset=first["next"])).json
    assert (first["next"], last["next"], first["items"] == last["items"]) == (1, None, False)

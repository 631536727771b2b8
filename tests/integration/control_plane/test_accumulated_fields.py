"""Of a step that accumulates, its table is what it has accumulated, however much that is and wherever it is stored."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from tests.integration.control_plane.conftest import Answer, Client, FakeWorker
from tests.integration.control_plane.test_accumulated_results import Stored, report, small, stored
from tests.integration.control_plane.test_put_results import put

from noetl_serverless.control_plane import converted
from noetl_serverless.playbook.views import COLLECTED
from noetl_serverless.tables.media_types import MEDIA_TYPES

__all__ = ["stored"]

ALL = [{"n": 1}, {"n": 2}, {"n": 3}]
LAST = [{"n": 3}]
CSV = b'"n"\n1\n2\n3\n'


@pytest.fixture
def playbook() -> str:
    return """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: two, path: demo/two}
workflow:
  - step: first
    tool:
      - {name: page, kind: noop, output: {accumulate: {strategy: concat, merge_path: $.rows, manifest_as: all}}}
      - {name: fault, kind: noop, output: {accumulate: {manifest_as: faults, on_success: false, on_error: true}}}
"""


async def csv(user: Client, path: str, **query: Any) -> Answer:
    return await user.call("GET", path, query=query, headers={"accept": "text/csv"})


async def test_a_result_in_the_log_has_the_table_that_a_large_one_has(
    user: Client, hands: FakeWorker, started: str
) -> None:
    (command,) = await hands.claim()
    await hands.report(command, data={"rows": LAST, "all": ALL})
    path = f"/api/result/{started}/first"
    found = await csv(user, path, resolve="true")
    assert found.body == CSV, "the last page is given for all of them while they are few"
    assert (await csv(user, path, resolve="true", table="rows")).body == b'"n"\n3\n'
    head = await user.call("HEAD", path, query={"resolve": "true"}, headers={"accept": "*/*"})
    assert head.headers["noetl-accumulated"] == "all", "whoever converts the JSON does not know what is meant"


async def test_of_several_fields_in_the_log_one_is_named(user: Client, hands: FakeWorker, started: str) -> None:
    (command,) = await hands.claim()
    await hands.report(command, data={"rows": LAST, "all": ALL, "faults": [{"e": 1}]})
    refused = await csv(user, f"/api/result/{started}/first", resolve="true")
    assert (refused.status, refused.json["tables"]) == (400, ["rows", "all", "faults"]), refused.body
    assert "2 fields were accumulated: all, faults" in refused.json["detail"]


async def test_a_stored_result_without_parts_has_the_table_that_one_with_parts_has(
    user: Client, hands: FakeWorker, stored: Stored
) -> None:
    """As where `select` names fields of it."""
    (command,) = await hands.claim()
    ref = await stored.ref({"rows": LAST, "all": ALL}, "whole")
    await hands.report(command, ref=ref)
    assert (await csv(user, f"/api/result/{stored.execution_id}/first", resolve="true")).body == CSV
    assert (await csv(user, "/api/result/resolve", ref=ref["ref"])).body == CSV
    head = await user.call("HEAD", "/api/result/resolve", query={"ref": ref["ref"]}, headers={"accept": "*/*"})
    assert head.headers["noetl-accumulated"] == "all,faults"


async def test_beside_what_is_in_parts_a_few_items_were_accumulated_as_well(
    user: Client, hands: FakeWorker, stored: Stored
) -> None:
    manifest = stored.manifest(await stored.parts([ALL]))
    await report(hands, stored, {"rest": {"rows": LAST, "faults": [{"e": 1}]}, COLLECTED: {"all": manifest}})
    path = f"/api/result/{stored.execution_id}/first"
    refused = await csv(user, path, resolve="true")
    assert refused.status == 400 and "2 fields were accumulated: all, faults" in refused.json["detail"], refused.body
    answer = await user.call("GET", path, query={"resolve": "true"}, headers={"accept": "*/*"})
    assert answer.headers["noetl-accumulated"] == "all,faults"


async def test_what_a_user_has_put_was_not_accumulated(user: Client, started: str) -> None:
    ref = (await put(user, started, "first", {"rows": LAST, "all": ALL}))["ref"]
    assert (await csv(user, "/api/result/resolve", ref=ref)).body == b'"n"\n3\n'


async def test_tables_do_not_count_as_json_that_is_too_large_to_be_converted(
    user: Client, hands: FakeWorker, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaves = await stored.parts([small(1, 2), small(3)])
    root = [{"ref": await stored.ref(leaves, "list"), "index": 0, "count": 3, "bytes": 20, "level": 1}]
    large = stored.manifest(root, total_bytes=converted.MAX_JSON_BYTES + 1)
    await report(hands, stored, {"rest": {}, COLLECTED: {"all": large}})
    path = f"/api/result/{stored.execution_id}/first?resolve=true"
    found = await user.call("GET", path, headers={"accept": MEDIA_TYPES["arrow"]})
    assert found.status == 200, found.body
    columns = pa.ipc.open_stream(found.body).read_all()
    assert (columns.schema.field("n").type, columns.num_rows) == (pa.int8(), 3)

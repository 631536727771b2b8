"""Whatever a worker sends, the control plane answers, and nothing that was not asked for gets into the log."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .conftest import FUZZ, Answer, Client, FakeWorker, Snapshot
from .test_fences import LOOP

texts = st.one_of(st.sampled_from(["", "1", "x", "shared", "0" * 19, "9" * 19, "\x00", "../1"]), st.text(max_size=8))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)


def objects(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of the fields, mostly of the right kind; now and then one is anything."""
    return st.fixed_dictionaries(
        {}, optional={name: st.one_of(field, field, field, values) for name, field in fields.items()}
    )


async def send(client: Client, path: str, body: Any) -> Answer:
    # unlike orjson it writes numbers of any size
    return await client.call("POST", path, json.dumps(body).encode())


fences = st.one_of(st.integers(-2, 2), st.integers(2**62, 2**64))
refs = objects(
    kind=st.just("result_ref"),
    ref=texts,
    store=texts,
    key=texts,
    scope=st.sampled_from(["execution", "permanent", "x"]),
    expires_at=st.sampled_from([None, "2020-01-01T00:00:00Z", "soon", "infinity"]),
    meta=objects(bytes=st.integers(-1, 2**65), sha256=texts, content_type=texts, created_at=texts),
    extracted=values,
)
frames = objects(
    start=st.integers(-1, 3),
    end=st.integers(-1, 3),
    ok=st.integers(-1, 3),
    failed=st.integers(-1, 3),
    errors=st.dictionaries(texts, values, max_size=2),
    item_ms=st.floats(allow_nan=False),
    digest=texts,
)
outcomes = objects(
    status=st.sampled_from(["done", "error", "deferred", "parked", "released"]),
    data=values,
    ref=st.one_of(st.none(), refs),
    error=st.dictionaries(st.sampled_from(["kind", "code", "message", "retryable", "at"]), values, max_size=4),
    extra=st.dictionaries(texts, values, max_size=2),
    set=st.dictionaries(texts, values, max_size=2),
    meta=st.dictionaries(st.sampled_from(["attempt", "duration_ms", "started_at", "digest"]), values, max_size=3),
    frame=st.one_of(st.none(), frames),
    count=st.one_of(st.none(), st.integers(-1, 2**65)),
    delay=st.one_of(st.none(), st.floats(allow_nan=False)),
    resume=st.one_of(st.none(), st.dictionaries(texts, values, max_size=2)),
    child=objects(path=texts, version=st.integers(-1, 2**65), payload=values, return_step=texts),
    at=st.one_of(st.none(), st.integers(-(2**65), 2**65)),
    order=st.one_of(st.none(), texts),
)
strangers = st.fixed_dictionaries({"execution_id": texts, "command_id": texts, "fence": fences})


@FUZZ
@given(body=st.data())
async def test_reports_on_what_is_not_theirs_change_nothing(
    worker: Client, started: str, rows: Snapshot, body: st.DataObject
) -> None:
    before = await rows()
    drawn = body.draw(st.lists(st.builds(dict.__or__, outcomes, strangers), max_size=3))
    answer = await send(worker, "/api/commands/report", {"worker_id": "w", "outcomes": drawn})
    assert answer.status in (200, 400), answer.body
    assert await rows() == before


@pytest.mark.parametrize("path", ["demo/two", "demo/loop"])
@FUZZ
@given(outcome=outcomes)
async def test_any_outcome_of_a_held_command_is_taken_or_refused(
    user: Client, worker: Client, hands: FakeWorker, registered: dict[str, Any], path: str, outcome: dict[str, Any]
) -> None:
    """Refused, it is an error of the step: the execution goes on, and its projections are still what its log says."""
    await user.post("/api/catalog/register", {"content": LOOP})
    execution = (await user.post("/api/execute", {"path": path})).json["execution_id"]
    [command] = await hands.claim()
    named = {key: command[key] for key in ("execution_id", "command_id", "fence")}
    sent = {"worker_id": "w-1", "outcomes": [{"status": "done", **outcome, **named}]}
    answer = await send(worker, "/api/commands/report", sent)
    assert answer.status in (200, 400), (sent, answer.body)
    found = await user.get("/api/replay/validate", execution_id=execution)
    assert (found.status, found.json["differences"]) == (200, []), sent
    assert (await user.get(f"/api/executions/{execution}/status")).status == 200
    await user.post(f"/api/executions/{execution}/cancel")

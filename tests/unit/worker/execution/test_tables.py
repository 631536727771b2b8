"""Tables between steps, through the executor of a worker."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from tests.unit.worker import builders as make
from tests.unit.worker.conftest import Bench

from noetl_serverless.protocol import Frame
from noetl_serverless.results.files import ResultFiles
from noetl_serverless.results.reader import ReferenceNotAvailable, Resolver
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.sealed import sealed
from noetl_serverless.tables.stream import in_field, write_table
from noetl_serverless.tables.table import Table
from noetl_serverless.tables.value import read_value
from noetl_serverless.tools.port import ToolOutcome

ROWS = [{"id": n, "name": f"row {n}"} for n in range(5_000)]


def result(bench: Bench, rows: list[dict[str, Any]] = ROWS, **rest: Any) -> Any:
    """What a tool returns: an object with a table in its field `rows`."""
    descriptor = bench.files.open(1_000)
    written = write_table(descriptor, pa.Table.from_pylist(rows), in_field("rows", {"row_count": len(rows), **rest}))
    return read_value(MappedFile(sealed(descriptor, written.bytes), written.bytes))


async def loaded(bench: Bench, data: Any, **output: Any) -> dict[str, Any]:
    """The outcome of a step `load`, as later steps see it."""
    bench.tool("load", ToolOutcome("ok", data=data))
    outcome = await bench.run(make.step(make.task("load", kind="load", output=output), name="load"))
    assert outcome.error is None, outcome.error
    assert outcome.data is None
    return {"status": "ok", "ref": outcome.ref}


async def rendered(bench: Bench, template: str, load: dict[str, Any]) -> Any:
    """What a tool is given for a template that reads it."""
    tool: Any = bench.tool("use", ToolOutcome("ok"))
    tool.takes_tables = True
    await bench.run(make.step(make.task("use", kind="use", config={"x": template}), name="use"), steps={"load": load})
    return tool.calls[0].config["x"]


async def test_a_table_goes_by_reference_as_arrow(bench: Bench) -> None:
    load = await loaded(bench, result(bench))
    ref = load["ref"]
    assert ref["meta"]["content_type"] == "application/vnd.apache.arrow.stream"
    assert ref["meta"]["row_count"] == 5_000
    assert ref["extracted"] == {"row_count": 5_000}
    assert orjson.loads(ref["preview"])["rows"] == ROWS[:5]
    assert ref["key"].endswith(".arrow")
    content = await bench.store.get(ref["key"])
    assert pa.ipc.open_stream(content).read_all().to_pylist() == ROWS, "others cannot read it"
    assert len(orjson.dumps(ref)) < 2_000


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ load.row_count }}", 5_000),
        ("{{ load.rows | length }}", 5_000),
        ("{{ load.rows[4999].name }}", "row 4999"),
        ("{{ load.rows[-1]['id'] }}", 4_999),
        ("{{ load.rows[10:12] | map(attribute='id') | list }}", [10, 11]),
        ("{{ load.rows | selectattr('id', 'lt', 2) | list }}", ROWS[:2]),
        ("{{ load.rows | sum(attribute='id') }}", sum(range(5_000))),
        ("{% for row in load.rows[:3] %}{{ row.id }} {% endfor %}", "0 1 2 "),
        ("{{ (load.rows | first).name }}", "row 0"),
        ("{{ load.rows[:1] | tojson }}", '[{"id": 0, "name": "row 0"}]'),
        ("{{ 'rows' in load }}", True),
    ],
)
async def test_templates_read_rows(bench: Bench, template: str, value: Any) -> None:
    assert await rendered(bench, template, await loaded(bench, result(bench))) == value


async def test_a_template_that_is_a_table_passes_it_on_as_it_is(bench: Bench) -> None:
    load = await loaded(bench, result(bench))
    rows = await rendered(bench, "{{ load.rows }}", load)
    assert isinstance(rows, Table)
    assert rows == ROWS
    whole = await rendered(bench, "{{ load }}", load)
    assert (whole["row_count"], type(whole["rows"])) == (5_000, Table)


async def test_fields_are_read_without_the_table(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    load = await loaded(bench, result(bench), select=[{"path": "$.rows[7].name", "as": "seventh"}])

    async def never(ref: Any) -> Any:
        raise AssertionError("the result was fetched")

    monkeypatch.setattr(bench.resolver, "load", never)
    assert await rendered(bench, "{{ load.row_count }} {{ load.seventh }}", load) == "5000 row 7"


async def test_the_next_step_maps_what_is_in_shared_memory(bench: Bench) -> None:
    load = await loaded(bench, result(bench))
    await bench.store.delete(load["ref"]["key"])
    rows = await rendered(bench, "{{ load.rows }}", load)
    assert rows == ROWS
    assert bench.shared.counts == {"admitted": 1, "read": 1}


@pytest.mark.parametrize("reason", ["expired", "missing", "node", "length", "digest", "no_hint"])
async def test_whatever_is_wrong_with_the_hint_the_same_rows_come_from_the_store(
    bench: Bench, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    load = await loaded(bench, result(bench))
    hint = load["ref"]["ipc"]
    match reason:
        case "expired":
            monkeypatch.setattr(bench.shared, "_now", lambda: 4e9)
        case "missing":
            bench.shared.evict(hint["shm_name"])
        case "node":
            hint["node_id"] = "another"
        case "length":
            hint["byte_length"] = 1_000
        case "digest":
            hint["sha256"] = "0" * 64
        case _:
            del load["ref"]["ipc"]
    assert await rendered(bench, "{{ load.rows }}", load) == ROWS
    assert bench.shared.counts[reason] == 1
    assert bench.shared.counts["read"] == 0
    if reason != "expired":
        # what was fetched is in shared memory now
        assert await rendered(bench, "{{ load.rows }}", load) == ROWS
        assert bench.shared.counts["read"] == 1


async def test_without_shared_memory_the_rows_come_from_the_store(bench: Bench, tmp_path: Path) -> None:
    load = await loaded(bench, result(bench))
    resolver = Resolver(bench.stores, files=ResultFiles(tmp_path))
    assert (await resolver.load(load["ref"]))["rows"] == ROWS


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
async def test_a_compressed_table_is_stored_small_and_shared_as_it_is(bench: Bench, codec: str) -> None:
    load = await loaded(bench, result(bench), compression=codec)
    meta = load["ref"]["meta"]
    stored = await bench.store.get(load["ref"]["key"])
    assert (meta["compression"], meta["stored_bytes"]) == (codec, len(stored))
    assert len(stored) < meta["bytes"] / 2
    assert await rendered(bench, "{{ load.rows }}", load) == ROWS
    del load["ref"]["ipc"]
    assert await rendered(bench, "{{ load.rows }}", load) == ROWS


@pytest.mark.parametrize("codec", [None, "gzip", "zstd"])
async def test_what_was_changed_in_the_store_is_not_read(bench: Bench, codec: str | None) -> None:
    load = await loaded(bench, result(bench), **({"compression": codec} if codec else {}))
    ref = load["ref"]
    del ref["ipc"]
    content = bytearray(await bench.store.get(ref["key"]))
    for change in (content[:-1], content[:500] + b"\xff" + content[501:], b"", content + b"x"):
        await bench.store.delete(ref["key"])
        await bench.store.put(ref["key"], bytes(change))
        with pytest.raises(ReferenceNotAvailable) as raised:
            await bench.resolver.load(ref)
        assert raised.value.extra["reason"] == "changed"
    await bench.store.delete(ref["key"])
    with pytest.raises(ReferenceNotAvailable) as raised:
        await bench.resolver.load(ref)
    assert raised.value.extra["reason"] == "missing"


async def test_a_loop_takes_its_items_from_the_table_that_is_there(bench: Bench) -> None:
    load = await loaded(bench, result(bench))
    bench.tool("a", ToolOutcome("ok"))
    step = make.step(make.task("a"), loop=make.loop(items="{{ load.rows }}"))
    opened = await bench.run(step, kind="open", steps={"load": load})
    assert opened.error is None
    assert opened.count == 5_000
    assert (opened.ref["key"], opened.ref["field"]) == (load["ref"]["key"], "rows"), "it was stored again"
    frame = Frame(index=3, start=4_000, end=4_003, concurrency=1)
    tool = bench.tool("a", ToolOutcome("ok"))
    step = make.step(make.task("a", config={"x": "{{ iter.item }}"}), loop=make.loop(items="{{ load.rows }}"))
    outcome = await bench.run(step, kind="frame", frame=frame, count=5_000, collection=opened.ref)
    assert outcome.error is None
    assert [call.config["x"] for call in tool.calls] == ROWS[4_000:4_003]


async def test_a_pipeline_keeps_the_tables_of_all_its_tasks_and_each_once(bench: Bench) -> None:
    bench.tool("load", ToolOutcome("ok", data=result(bench)))
    bench.tool("other", ToolOutcome("ok", data={"n": 1, "rows": result(bench, [{"x": 1.5}])["rows"]}))
    outcome = await bench.run(make.step(make.task("load", kind="load"), make.task("other", kind="other"), name="both"))
    assert outcome.error is None
    both = {"status": "ok", "ref": outcome.ref}
    assert outcome.ref["meta"]["bytes"] < 300_000
    for template, value in (
        ("{{ load.rows[0].x }}", 1.5),
        ("{{ load.results.load.rows[4999].id }}", 4_999),
        ("{{ load.results.other.n }}", 1),
    ):
        assert await rendered(bench, template, both) == value


async def test_a_value_that_is_set_may_be_a_table(bench: Bench) -> None:
    load = await loaded(bench, result(bench))
    bench.tool("a", ToolOutcome("ok", data=1))
    rule = make.rule("continue", set={"ctx.rows": "{{ load.rows }}", "ctx.few": "{{ load.rows[:2] }}"})
    outcome = await bench.run(make.step(make.task("a", rule)), steps={"load": load})
    assert outcome.error is None
    assert outcome.set == {"few": ROWS[:2]}
    assert outcome.set_refs["rows"]["key"] == load["ref"]["key"]
    assert outcome.set_refs["rows"]["field"] == "rows"


async def test_a_table_may_be_anywhere_in_a_result(bench: Bench) -> None:
    load = await loaded(bench, {"deep": [{"rows": result(bench)["rows"]}]})
    assert await rendered(bench, "{{ load.deep[0].rows[9].id }}", load) == 9


async def test_a_step_that_fails_leaves_no_file_open(bench: Bench) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        bench.tool("load", ToolOutcome("error", data=result(bench), error={"code": "x", "message": "no"}))
        await bench.run(make.step(make.task("load", kind="load"), name="load"))
    bench.tools.clear()
    descriptors = os.listdir("/proc/self/fd")
    assert len(descriptors) - before <= 6, f"descriptors are not closed: {sorted(map(_target, descriptors))}"


def _target(descriptor: str) -> str:
    """What it is open for; nothing of that with which all were listed."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:
        return ""

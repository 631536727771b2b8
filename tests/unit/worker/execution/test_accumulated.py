"""What a task accumulates is stored in parts as it comes, and reads as if it were one value."""

from __future__ import annotations

import os
import random
import tracemalloc
from collections.abc import Iterator
from typing import Any

import orjson
import pyarrow
import pytest

from noetl_serverless.commands.fact import references
from noetl_serverless.engine import events as e
from noetl_serverless.engine.digest import digest
from noetl_serverless.inspection.expected_projections import results_of
from noetl_serverless.limits import INLINE_BYTES
from noetl_serverless.playbook.views import COLLECTED
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.media_types import MANIFEST_WITH_TABLES
from noetl_serverless.tables.stream import MEDIA_TYPE, in_field, write_table
from noetl_serverless.tables.table import Table
from noetl_serverless.tables.value import read_value
from noetl_serverless.testing.playbooks import PlaybookRun, run_playbook
from noetl_serverless.tools.port import ToolFailure
from noetl_serverless.worker.execution import collected
from noetl_serverless.worker.execution.pipeline import Pipeline

HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: t}\n"
PAGES = (
    HEAD
    + """
workflow:
  - step: all
    tool:
      - name: page
        kind: http
        url: "http://api/items?page={{ ctx.page | default(0) }}"
        output:
          accumulate: ACCUMULATE
        spec:
          policy:
            rules:
              - {when: "{{ output.error.retryable }}", then: {do: retry, attempts: 1000, delay: 10m}}
              - when: "{{ output.data.next }}"
                then: {do: jump, to: page, set: {ctx.page: "{{ output.data.next }}"SET}}
NEXT"""
)
AWAY = ToolFailure("http", "http.timeout", "no answer", retryable=True)


async def pages(accumulate: str, answers: list[Any], *, set: str = "", next: str = "", **options: Any) -> PlaybookRun:
    """`answers`: of one call after the other; each AWAY suspends the pipeline."""
    remaining = iter(answers)

    def answer(call: Any) -> Any:
        found = next_of(remaining)
        if isinstance(found, Exception):
            raise found
        return found

    text = PAGES.replace("ACCUMULATE", accumulate).replace("SET", set).replace("NEXT", next)
    return await run_playbook(text, tools={"http": answer}, **options)


def next_of(answers: Iterator[Any]) -> Any:
    return next(answers)


def answers_of(parts: list[Any], suspended: set[int]) -> list[Any]:
    answers: list[Any] = []
    for index, part in enumerate(parts):
        if index in suspended:
            answers.append(AWAY)
        answers.append({"part": part, "next": index + 1 if index + 1 < len(parts) else None})
    return answers


def in_memory(strategy: str, parts: list[Any]) -> Any:
    match strategy:
        case "append":
            return parts
        case "concat":
            return [item for part in parts for item in part]
        case "merge":
            merged: dict[str, Any] = {}
            for part in parts:
                merged = {**merged, **part}
            return merged
    return parts[-1]


def random_part(dice: random.Random, strategy: str) -> Any:
    size = dice.choice((0, 1, 10, 1000, 30_000, 70_000, 200_000))
    match strategy:
        case "merge":
            return {f"k{dice.randrange(30)}": "x" * (size // 5) + str(n) for n in range(dice.randrange(6))}
        case "concat":
            return ["x" * (size // 5) + str(n) for n in range(dice.randrange(6))]
    return dice.choice(("x" * size, ["x" * size], {"a": "x" * size}, None, 1.5))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("strategy", ["append", "replace", "merge", "concat"])
async def test_whatever_its_parts_and_wherever_it_waits_it_is_the_same_value(strategy: str, seed: int) -> None:
    dice = random.Random(f"{strategy}{seed}")
    parts = [random_part(dice, strategy) for _ in range(dice.choice((1, 5, 30, 70)))]
    suspended = {index for index in range(len(parts)) if dice.random() < 0.3}
    accumulate = f"{{strategy: {strategy}, merge_path: $.part}}"
    use = "      - {name: use, kind: python, input: {v: '{{ accumulated }}'}, code: 'result = [len(str(v)), v]'}\n"
    run = await pages(accumulate, answers_of(parts, suspended), next=use)
    assert run.error is None, run.error
    expected = in_memory(strategy, parts)
    assert run.result["accumulated"] == expected
    assert run.result["results"]["use"][1] == expected, "a task that follows must read the same value"
    assert run.result["results"]["page"]["next"] is None, "the task's own result stays its last one"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the objects that are written."""
    sizes: list[int] = []
    put = FsspecResultStore.put

    async def counted(self: FsspecResultStore, key: str, data: bytes) -> Any:
        sizes.append(len(data))
        return await put(self, key, data)

    monkeypatch.setattr(FsspecResultStore, "put", counted)
    return sizes


async def test_the_last_of_1000_pages_costs_what_the_first_ones_cost(written: list[int]) -> None:
    parts = [[f"{index:05}{'x' * 5000}"] for index in range(1000)]
    answers = answers_of(parts, set(range(0, 1000, 8)))
    at: list[int] = []

    class Counting(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            for answer in super().__iter__():
                at.append(sum(written))
                yield answer

    run = await pages("{strategy: concat, merge_path: $.part}", Counting(answers))
    assert run.error is None, run.error
    early, late = at[400] - at[150], at[-50] - at[-300]
    assert late < 1.3 * early, f"250 calls late in the run write {late} bytes, early ones {early}"
    total = len(orjson.dumps(run.result["accumulated"]))
    assert sum(written) < 8 * total, f"{sum(written)} bytes are written for {total}"
    assert len(run.result["accumulated"]) == 1000


async def test_many_small_pages_become_few_objects(written: list[int]) -> None:
    parts = [[index] for index in range(1000)]
    run = await pages("{strategy: concat, merge_path: $.part}", answers_of(parts, set()))
    assert run.result["accumulated"] == list(range(1000))
    assert written == [], "what fits into an event stays there"


async def test_the_result_refers_to_the_parts_and_their_references_are_reported_once() -> None:
    parts = [[f"{index:03}" + "x" * 70_000] for index in range(100)]
    run = await pages("{strategy: concat, merge_path: $.part}", answers_of(parts, {3, 50}))
    ref = run.outcomes["all"]["ref"]
    manifest = ref[COLLECTED]["accumulated"]
    assert (manifest["count"], manifest["total_parts"], manifest["strategy"]) == (100, 100, "concat")
    assert len(orjson.dumps(ref)) < 4000, "the reference does not grow with the parts"
    assert "parts" not in run.outcomes["all"]


async def test_a_step_that_follows_reads_it_like_any_field() -> None:
    parts = [[f"{index:03}" + "x" * 70_000] for index in range(100)]
    expected = {
        "all.accumulated | length": 100,
        "all.accumulated[7][:3]": "007",
        "all.accumulated | last | length": 70_003,
        "all.accumulated[98:] | length": 2,
        "all.data.accumulated | count": 100,
        "all.result.accumulated | count": 100,
        "all.results.page.part[0][:3]": "099",
        "all.accumulated is defined": True,
        "all._ref.kind": "result_ref",
        "all.accumulated.index(all.accumulated[5])": 5,
    }
    run = await pages("{strategy: concat, merge_path: $.part}", answers_of(parts, {50}), expressions=list(expected))
    assert run.values == expected


async def test_its_length_is_known_where_nothing_is_fetched() -> None:
    parts = [["x" * 70_000] for _ in range(3)]
    arcs = """    next: {arcs: [{step: a, when: "{{ all.accumulated | length == 3 }}"}, {step: b}]}
  - {step: a}
  - {step: b}
"""
    run = await pages("{strategy: concat, merge_path: $.part}", answers_of(parts, set()), next=arcs)
    assert run.outcomes["a"]["status"] == "ok", run.outcomes


async def test_rules_read_its_length_without_loading_it(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    get = FsspecResultStore.get

    async def counted(self: FsspecResultStore, key: str) -> bytes:
        reads.append(key)
        return await get(self, key)

    monkeypatch.setattr(FsspecResultStore, "get", counted)
    parts = [["x" * 70_000] for _ in range(20)]
    run = await pages(
        "{strategy: concat, merge_path: $.part}",
        answers_of(parts, set()),
        set=', ctx.n: "{{ accumulated | length }}"',
        next="    next: {arcs: [{step: last}]}\n  - {step: last}\n",
        expressions=["ctx.n"],
    )
    assert run.values["ctx.n"] == 19
    assert reads == [], "only the length is read"


async def test_a_loop_takes_its_items_frame_by_frame() -> None:
    parts = [[f"{index:03}" + "x" * 70_000] for index in range(70)]
    loop = """    next: {arcs: [{step: each}]}
  - step: each
    loop: {in: "{{ all.accumulated }}", iterator: item}
    tool: {kind: python, input: {v: "{{ iter.item[:3] }}"}, code: "result = v"}
"""
    run = await pages("{strategy: concat, merge_path: $.part}", answers_of(parts, set()), next=loop)
    assert run.error is None, run.error
    assert run.result["results"] == [f"{index:03}" for index in range(70)]


async def test_items_of_a_loop_accumulate_each_for_itself() -> None:
    text = (
        HEAD
        + """
workflow:
  - step: all
    loop: {in: [1, 2, 3], iterator: n}
    tool:
      - name: page
        kind: http
        url: "http://api/{{ iter.n }}"
        output: {accumulate: {strategy: concat, merge_path: $.part}}
        spec: {policy: {rules: [
          {when: "{{ output.error.retryable }}", then: {do: retry, attempts: 9, delay: 10m}},
          {when: "{{ accumulated | length < 4 }}", then: {do: jump, to: page}}]}}
"""
    )
    calls: dict[str, int] = {}

    def answer(call: Any) -> Any:
        url = call.config["url"]
        calls[url] = calls.get(url, 0) + 1
        if calls[url] == 3:
            raise AWAY
        return {"part": [url[-1] + "x" * 70_000]}

    run = await run_playbook(text, tools={"http": answer})
    assert run.error is None, run.error
    assert [[item[0] for item in it["accumulated"]] for it in run.result["results"]] == [
        ["1"] * 4,
        ["2"] * 4,
        ["3"] * 4,
    ]


@pytest.mark.parametrize(
    ("accumulate", "parts", "error"),
    [
        (
            "{strategy: concat, merge_path: $.part, max_items: 2}",
            [["x" * 70_000]] * 3,
            "has 3 items; its max_items is 2",
        ),
        ("{merge_path: $.part, max_items: 2}", ["x" * 70_000] * 3, "has 3 items; its max_items is 2"),
        (
            "{strategy: merge, merge_path: $.part, max_items: 2}",
            [{"a": "x" * 70_000}, {"a": 1}, {"b": 2}, {"c": 1}],
            "has 3 items; its max_items is 2",
        ),
        ("{strategy: merge, merge_path: $.part, max_items: 2}", [{"a": "x" * 70_000}, {"a": 1}, {"b": 2}], None),
    ],
)
async def test_max_items_holds_across_parts(accumulate: str, parts: list[Any], error: str | None) -> None:
    run = await pages(accumulate, answers_of(parts, {1}))
    if error is None:
        assert run.error is None, run.error
    else:
        assert run.error is not None and run.error["code"] == "value.too_large"
        assert error in run.error["message"]


async def test_the_worker_holds_a_few_parts_and_not_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    size, count = 1_000_000, 60
    held: list[int] = []
    stored = 0
    put = FsspecResultStore.put

    async def copied(self: FsspecResultStore, key: str, data: bytes) -> Any:
        # the store of the test is in memory: it keeps no more than the bytes, which are counted
        nonlocal stored
        stored += len(data)
        return await put(self, key, bytes(memoryview(data)))

    monkeypatch.setattr(FsspecResultStore, "put", copied)

    class Made(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            tracemalloc.start()
            for index in range(count):
                held.append(tracemalloc.get_traced_memory()[0] - stored)
                yield {"part": [f"{index:09}" * (size // 9)], "next": index + 1}
            tracemalloc.stop()
            yield {"part": [], "next": None}

    await pages("{strategy: concat, merge_path: $.part}", Made())
    assert stored > 50 * size, "the pages are stored as they come"
    assert max(held) < 12 * size, f"beside the stored parts, {max(held)} bytes are held"


def all_references(run: PlaybookRun) -> set[str]:
    return {ref["key"] for event in run.events if event.type in e.REPORTS for ref in e.references_in(event.payload)}


async def test_every_part_has_a_row_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: set[str] = set()
    put = FsspecResultStore.put

    async def noted(self: FsspecResultStore, key: str, data: bytes) -> Any:
        keys.add(key)
        return await put(self, key, data)

    monkeypatch.setattr(FsspecResultStore, "put", noted)
    parts = [[f"{index:03}" + "x" * 70_000] for index in range(150)]
    run = await pages("{strategy: concat, merge_path: $.part}", answers_of(parts, set()))
    assert len(run.result["accumulated"]) == 150
    # what the pipeline goes on with is needed until the execution ends only
    kept = {ref["key"] for event in run.events if (ref := event.payload.get("resume", {}).get("locals", {}).get("ref"))}
    assert all_references(run) == keys - kept
    rows = {row["key"]: row for event in run.events if event.type in e.REPORTS for row in references(event)}
    assert [rows[key] for key in sorted(rows)] == results_of(run.events), "a rebuild must find the same rows"
    steps = [row["step"] for row in rows.values()]
    assert steps.count("all") == 1, "only the result is one of the step's results"
    assert max(len(orjson.dumps(event.payload)) for event in run.events) < INLINE_BYTES, "no event grows with the parts"
    assert sum(len(event.payload.get("parts", ())) for event in run.events) == len(keys - kept) - 1, "each once"


async def test_the_digest_does_not_depend_on_how_pages_are_grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    found = set()
    for size, width in ((64 * 1024, 32), (100, 3), (30_000, 2)):
        monkeypatch.setattr(collected, "PART_BYTES", size)
        monkeypatch.setattr(collected, "FANOUT", width)
        parts = [[f"{index:03}" + "x" * 9_000] for index in range(50)]
        run = await pages("{strategy: concat, merge_path: $.part}", answers_of(parts, set()))
        assert "ref" in run.outcomes["all"]
        id = run.outcomes["all"]["ref"]["ref"].split("/")[3]
        found.add(digest(id, run.events).value)
    assert len(found) == 1
    parts[20] = ["another one"]
    other = await pages("{strategy: concat, merge_path: $.part}", answers_of(parts, set()))
    id = other.outcomes["all"]["ref"]["ref"].split("/")[3]
    assert digest(id, other.events).value not in found, "of another list it is another one"


async def test_what_the_release_before_has_left_whole_goes_on_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = 0

    def stores_parts(self: Pipeline) -> bool:
        return begun > 10

    monkeypatch.setattr(Pipeline, "_stores_parts", property(stores_parts))
    parts = [[f"{index:03}" + "x" * 30_000] for index in range(20)]

    class Counted(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            nonlocal begun
            for answer in super().__iter__():
                begun += 1
                yield answer

    run = await pages("{strategy: concat, merge_path: $.part}", Counted(answers_of(parts, {2, 7, 11, 15})))
    assert run.error is None, run.error
    assert run.result["accumulated"] == [item for part in parts for item in part]
    assert COLLECTED in run.outcomes["all"]["ref"], "from then on in parts"


def table(start: int, end: int, name: str = "id") -> Any:
    """A page whose rows are a table in its field `rows`."""
    descriptor = os.memfd_create("page")
    rows = pyarrow.table({name: range(start, end)})
    written = write_table(descriptor, rows, in_field("rows", {"next": end if end < 40_000 else None}))
    return read_value(MappedFile(descriptor, written.bytes))


async def test_tables_of_one_schema_become_one_table() -> None:
    answers = [table(0, 10_000), AWAY, table(10_000, 30_000), AWAY, table(30_000, 40_000)]
    run = await pages(
        "{strategy: concat, merge_path: $.rows}",
        answers,
        expressions=[
            "all.accumulated",
            "all.accumulated | length",
            "all.results.page.next",
            "all.accumulated[39999].id",
        ],
    )
    assert run.error is None, run.error
    found, *others = run.values.values()
    assert isinstance(found, Table), f"it is a {type(found).__name__}"
    assert others == [40_000, None, 39_999]
    assert [row["id"] for row in found] == list(range(40_000))
    types = [ref["meta"]["content_type"] for event in run.events for ref in event.payload.get("parts", ())]
    assert types.count(MEDIA_TYPE) == 3, f"each stays a table, but they are {types}"


async def test_short_tables_become_few_objects() -> None:
    short = [table(start, start + 3) for start in range(10_000, 10_900, 3)]
    answers = [table(0, 10_000), *short[:150], AWAY, *short[150:], table(30_000, 40_000)]
    run = await pages(
        "{strategy: concat, merge_path: $.rows}",
        answers,
        set=', ctx.n: "{{ accumulated | length }}", ctx.last: "{{ accumulated[-1].id }}"',
        expressions=["all.accumulated", "ctx.n", "ctx.last"],
    )
    assert run.error is None, run.error
    found, count, last = run.values.values()
    assert isinstance(found, Table), f"it is a {type(found).__name__}"
    assert [row["id"] for row in found] == [*range(10_900), *range(30_000, 40_000)]
    assert (count, last) == (10_900, 10_899), "a rule does not read the tables that are not stored yet"
    # one for each of both, for what was suspended, and for what comes before the last
    assert run.outcomes["all"]["ref"][COLLECTED]["accumulated"]["total_parts"] == 4


async def test_between_short_tables_other_columns_and_lists_keep_their_order() -> None:
    answers = [table(0, 10_000), table(1, 3), table(3, 5, "number"), table(5, 6), {"rows": [7], "next": 1}]
    run = await pages("{strategy: concat, merge_path: $.rows}", [*answers, table(8, 9), table(30_000, 40_000)])
    assert run.error is None, run.error
    between = [{"id": 1}, {"id": 2}, {"number": 3}, {"number": 4}, {"id": 5}, 7, {"id": 8}]
    assert run.result["accumulated"][10_000:-10_000] == between


async def test_its_reference_names_no_table_though_one_is_beside_it() -> None:
    run = await pages("{strategy: concat, merge_path: $.rows}", [table(0, 10_000), table(30_000, 40_000)])
    ref = run.outcomes["all"]["ref"]
    assert ref["meta"]["content_type"] == MANIFEST_WITH_TABLES
    assert not {"row_count", "schema_digest"} & ref["meta"].keys(), "it says of the last page what is not of the whole"
    assert '"rows":[{"id":30000}' in ref["preview"], ref["preview"]


async def test_the_preview_looks_at_the_beginning_of_large_cells_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """To convert all of one may be more than a row may have, and fail the step at its very end."""
    monkeypatch.setattr("noetl_serverless.tables.rows.ROW_BYTES", 1 << 16)
    descriptor = os.memfd_create("page")
    size = write_table(descriptor, pyarrow.table({"b": [b"a" * 300_000]}), in_field("rows", {"next": None})).bytes
    run = await pages("{strategy: concat, merge_path: $.rows}", [read_value(MappedFile(descriptor, size))])
    assert run.error is None, run.error
    assert '"rows":[{"b":"YWFh' in run.outcomes["all"]["ref"]["preview"]


async def test_tables_of_several_schemas_and_lists_become_one_list() -> None:
    answers = [{"rows": [1], "next": 1}, table(0, 20_000), {"rows": [2], "next": 1}, table(30_000, 40_000, "number")]
    run = await pages("{strategy: concat, merge_path: $.rows}", answers)
    assert run.error is None, run.error
    expected = [1, *({"id": n} for n in range(20_000)), 2, *({"number": n} for n in range(30_000, 40_000))]
    assert run.result["accumulated"] == expected


async def test_a_short_page_after_a_table_is_one_and_keeps_the_types_of_the_whole() -> None:
    text = (
        HEAD
        + """
workflow:
  - step: all
    tool:
      - name: page
        kind: duckdb
        query: |
          SELECT range AS id, DATE '2026-01-01' AS day, 1.5::DECIMAL(9,2) AS amount
          FROM range({{ ctx.begin | default(0) }}, {{ ctx.end | default(20000) }})
        output:
          accumulate: {strategy: concat, merge_path: $.rows}
        spec:
          policy:
            rules:
              # two further pages: a short one, and one without rows
              - when: "{{ output.data.row_count > 0 }}"
                then: {do: jump, to: page, set: {ctx.begin: "{{ ctx.end | default(20000) }}", ctx.end: 20005}}
"""
    )
    run = await run_playbook(text, expressions=["all.accumulated", "all.results.page.row_count"])
    assert run.error is None, run.error
    found, count = run.values.values()
    assert isinstance(found, Table), f"it is a {type(found).__name__}"
    assert found.schema.types == [pyarrow.int64(), pyarrow.date32(), pyarrow.decimal128(9, 2)]
    assert (len(found), found[20_004]["day"], count) == (20_005, "2026-01-01", 0)


async def test_the_keys_of_objects_may_be_in_several_parts() -> None:
    parts = [{"a": "x" * 70_000, "b": 1}, {"b": 2, "c": "y" * 70_000}, {"a": 3}]
    run = await pages(
        "{strategy: merge, merge_path: $.part}",
        answers_of(parts, {1, 2}),
        expressions=[
            "all.accumulated.a",
            "all.accumulated | length",
            "all.accumulated.keys() | list",
            "all.accumulated.b",
        ],
    )
    assert list(run.values.values()) == [3, 3, ["a", "b", "c"], 2]


@pytest.mark.parametrize("path", ["$.accumulated[1].n", "$..n", "$.accumulated[?@.n == 1].n"])
async def test_what_is_selected_of_it_is_found(path: str) -> None:
    text = (
        HEAD
        + """
workflow:
  - step: all
    tool:
      kind: http
      url: x
      output: {accumulate: {strategy: append}, select: [{path: "PATH", as: found}]}
      spec: {policy: {rules: [{when: "{{ accumulated | length < 3 }}", then: {do: retry, attempts: 5}}]}}
""".replace("PATH", path)
    )
    numbers = iter(range(3))
    run = await run_playbook(text, tools={"http": lambda call: {"n": next(numbers), "text": "x" * 70_000}})
    assert run.error is None, run.error
    found = run.outcomes["all"]["ref"]["extracted"]["found"]
    assert found in (1, [1], [2, 0, 1, 2]), f"{path} gives {found}"
    assert [it["n"] for it in run.result["accumulated"]] == [0, 1, 2]


@pytest.mark.parametrize("path", ["", ", merge_path: $.rows"], ids=["whole results", "a field"])
async def test_results_with_tables_are_appended(path: str) -> None:
    answers = [table(0, 10_000), {"rows": [1], "next": 1}, table(10_000, 20_000), AWAY, table(20_000, 40_000)]
    run = await pages(f"{{strategy: append{path}}}", answers)
    assert run.error is None, run.error
    found = [list(part if path else part["rows"]) for part in run.result["accumulated"]]
    expected = [answer["rows"] for answer in answers if isinstance(answer, dict)]
    assert found == [list(rows) for rows in expected]


async def test_a_small_table_and_a_large_one_are_stored_apart() -> None:
    answers = [table(0, 3), table(3, 40_000)]
    run = await pages("{strategy: concat, merge_path: $.rows}", answers)
    assert run.error is None, run.error
    assert [row["id"] for row in run.result["accumulated"]] == list(range(40_000))

"""Results that a tool has written as JSON to a file are not written again."""

from __future__ import annotations

import os
from typing import Any

import orjson
from tests.unit.worker import builders as make
from tests.unit.worker.conftest import Bench

from noetl_serverless.results.reader import Resolver
from noetl_serverless.tables.json_text import JsonText
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tools.port import ToolOutcome

LONG = "x" * 1_200_000
DATA = {"n": 1, "long": LONG}


def written(bench: Bench, data: Any) -> ToolOutcome:
    """In a form by which it is recognized where it can be."""
    descriptor = bench.files.open(1_000)
    size = os.write(descriptor, orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE))
    return ToolOutcome("ok", data=data, stored=True, written=MappedFile(descriptor, size))


async def made(bench: Bench, data: Any = DATA, *rules: Any) -> dict[str, Any]:
    """The reference to a step's result."""
    bench.tool("make", written(bench, data))
    outcome = await bench.run(make.step(make.task("make", *rules, kind="make"), name="make"))
    assert outcome.error is None, outcome.error
    ref: dict[str, Any] = outcome.ref
    return ref


async def used(bench: Bench, ref: dict[str, Any], **input: Any) -> dict[str, Any]:
    """The parts of the call of the next step that are given as files: their JSON."""
    tool = bench.tool("use", ToolOutcome("ok"))
    step = make.step(make.task("use", kind="use"), name="use", input=input)
    outcome = await bench.run(step, steps={"make": {"status": "done", "ref": ref}})
    assert outcome.error is None, outcome.error
    (call,) = tool.calls
    for name in input:
        assert call.input[name] == {"long": LONG, "n": 1, "whole": DATA}[name]
    return {name: orjson.loads(content(text)) for name, text in (call.texts or {}).items()}


def content(text: JsonText) -> bytes:
    return text.file.read()[text.start : text.end]


async def test_the_file_is_stored_as_it_is(bench: Bench) -> None:
    ref = await made(bench)
    assert await bench.store.get(ref["key"]) == orjson.dumps(DATA) + b"\n"
    assert ref["extracted"] == {"n": 1}


async def test_what_rules_pass_on_is_stored_as_it_is_and_what_they_set_apart(bench: Bench) -> None:
    ref = await made(bench, DATA, make.rule("continue", set={"ctx.n": "{{ output.data.n }}"}))
    assert (await bench.store.get(ref["key"])).endswith(b"\n")


async def test_a_result_with_a_secret_in_it_is_written_again(bench: Bench) -> None:
    async def use(call: Any, context: Any) -> ToolOutcome:
        credential = await context.credential("db")
        return written(bench, {"n": 1, "long": LONG + credential.data["password"]})

    bench.tool("make", use)
    outcome = await bench.run(make.step(make.task("make", kind="make"), name="make"))
    stored = await bench.store.get(outcome.ref["key"])
    assert orjson.loads(stored) == {"n": 1, "long": LONG + "***"}
    assert b"s3cr3t" not in stored


async def test_a_pipeline_stores_what_its_tasks_gave_together(bench: Bench) -> None:
    bench.tool("make", written(bench, DATA))
    outcome = await bench.run(make.step(make.task("first", kind="make"), make.task("last", kind="make"), name="make"))
    stored = orjson.loads(await bench.store.get(outcome.ref["key"]))
    assert stored == {**DATA, "results": {"first": DATA, "last": DATA}, "status": "ok"}


async def test_the_next_step_is_given_the_files_parts(bench: Bench) -> None:
    # too large to be kept for more than the next one
    bench.resolver = Resolver(bench.stores, files=bench.files, cache_bytes=1_000_000)
    bench.tool("make", ToolOutcome("ok", data=DATA, stored=True, written=compact(bench)))
    ref = (await bench.run(make.step(make.task("make", kind="make"), name="make"))).ref
    given = await used(bench, ref, long="{{ make.long }}", n="{{ make.n }}", whole="{{ make.result }}")
    assert given == {"long": LONG, "whole": DATA}


async def test_what_is_read_from_the_store_is_given_as_values(bench: Bench) -> None:
    ref = await made(bench)
    bench.resolver = Resolver(bench.stores, files=bench.files, cache_bytes=1_000_000)
    assert await used(bench, ref, long="{{ make.long }}") == {}


def compact(bench: Bench) -> MappedFile:
    descriptor = bench.files.open(1_000)
    return MappedFile(descriptor, os.write(descriptor, orjson.dumps(DATA)))

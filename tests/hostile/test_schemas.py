"""Schemas and values that are made to crash a check, to keep it busy, or to get a secret out of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl_serverless.playbook.json_schema import check, validate_schema
from noetl_serverless.playbook.json_schema.rules import ALL, REFUSED

from .conftest import FUZZ, Client, Snapshot

NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.sampled_from(sorted({*ALL, *REFUSED, "a", "#", "#/$defs/a", "#/properties/a", "(a+)+$", "object", "string"}))
SCHEMAS = st.recursive(
    VALUES | WORDS, lambda inner: st.dictionaries(WORDS, inner, max_size=5) | st.lists(inner, max_size=3), max_leaves=12
)


@FUZZ
@given(schema=SCHEMAS, value=VALUES)
def test_any_schema_is_refused_or_compares_any_value(schema: Any, value: Any) -> None:
    if validate_schema(schema) == []:
        check(schema, value)


DOUBLING = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(30)}


@pytest.mark.parametrize(
    ("schema", "payload", "words"),
    [
        ({"$ref": "#/$defs/d0", "$defs": {**DOUBLING, "d30": True}}, {}, "too large to be checked"),
        ({"properties": {"a": {"pattern": "^(a|a)*$"}}}, {"a": "a" * 60_000 + "!"}, "matches"),
        ({"properties": {"a": {"uniqueItems": True}}}, {"a": [[i] for i in range(20_000)] + [[0]]}, "same as item 0"),
        ({"additionalProperties": {"type": "integer"}}, {f"k{i}" * 50: "x" for i in range(5000)}, "an integer"),
    ],
    ids=["doubling", "pattern", "unique", "many"],
)
async def test_a_start_that_would_keep_the_control_plane_busy_is_refused(
    user: Client, playbook: str, rows: Snapshot, schema: Any, payload: Any, words: str
) -> None:
    text = playbook.replace("workflow:", f"schemas: {{input: {json.dumps(schema)}}}\nworkflow:")
    assert (await user.post("/api/catalog/register", {"content": text})).status == 200
    before = await rows()
    answer = await user.post("/api/execute", {"path": "demo/two", "payload": payload})
    assert (answer.status, answer.json["code"]) == (422, "input.invalid")
    assert words in answer.json["errors"][0]["message"]
    assert len(answer.json["errors"]) <= 20
    assert len(answer.body) < 50_000
    assert await rows() == before


@pytest.mark.parametrize("place", ["http://127.0.0.1:1/x", "file:///etc/passwd", "//x", "x.json", "#/../x", "urn:x"])
async def test_a_schema_is_never_loaded(user: Client, playbook: str, rows: Snapshot, place: str) -> None:
    before = await rows()
    text = playbook.replace("workflow:", f"schemas: {{input: {{$ref: '{place}'}}}}\nworkflow:")
    answer = await user.post("/api/catalog/register", {"content": text})
    assert (answer.status, answer.json["errors"][0]["code"]) == (422, "playbook.schema")
    assert await rows() == before

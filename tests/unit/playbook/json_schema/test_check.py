from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noetl_serverless.playbook.json_schema import check, checked, validate_schema
from noetl_serverless.playbook.json_schema.check import MAX_FAULTS
from noetl_serverless.playbook.json_schema.rules import DIALECT

NAMES = st.sampled_from(["a", "b", "ab"])
SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, 2.5]) | st.sampled_from(["", "a", "ab"])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
TYPES = st.sampled_from(["string", "integer", "number", "boolean", "null", "object", "array"])
COUNTS = st.integers(0, 3)


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    by_name = st.dictionaries(NAMES, inner, max_size=2)
    several = st.lists(inner, min_size=1, max_size=2)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES | st.lists(TYPES, min_size=1, max_size=2, unique=True),
            "enum": st.lists(VALUES, min_size=1, max_size=3),
            "const": VALUES,
            "minimum": COUNTS,
            "exclusiveMaximum": COUNTS,
            "multipleOf": st.sampled_from([1, 2, 0.5]),
            "minLength": COUNTS,
            "maxLength": COUNTS,
            "pattern": st.sampled_from(["^a", "b$", "."]),
            "properties": by_name,
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "b$"]), inner, max_size=2),
            "additionalProperties": inner,
            "unevaluatedProperties": inner,
            "propertyNames": inner,
            "required": st.lists(NAMES, max_size=2, unique=True),
            "minProperties": COUNTS,
            "dependentRequired": st.dictionaries(NAMES, st.lists(NAMES, max_size=2, unique=True), max_size=2),
            "dependentSchemas": by_name,
            "prefixItems": several,
            "items": inner,
            "unevaluatedItems": inner,
            "contains": inner,
            "minContains": COUNTS,
            "maxContains": COUNTS,
            "maxItems": COUNTS,
            "uniqueItems": st.booleans(),
            "allOf": several,
            "anyOf": several,
            "oneOf": several,
            "not": inner,
            "if": inner,
            "then": inner,
            "else": inner,
        },
    )


SCHEMAS = st.recursive(st.booleans() | st.fixed_dictionaries({"type": TYPES}), _schemas, max_leaves=4)


@settings(max_examples=150, deadline=None)
@given(schema=SCHEMAS, value=VALUES)
def test_a_value_fits_where_the_reference_implementation_says_so(schema: Any, value: Any) -> None:
    assert validate_schema(schema) == []
    expected = jsonschema.Draft202012Validator(schema).is_valid(value)
    assert (check(schema, value) == []) == expected, (schema, value)


def test_each_fault_has_its_place_what_is_expected_and_what_is_given() -> None:
    schema = {
        "type": "object",
        "properties": {
            "age": {"type": "integer", "minimum": 0},
            "tags": {"type": "array", "items": {"enum": ["new", "old"]}},
            "name": {"type": "string", "pattern": "^[a-z]+$"},
        },
        "required": ["name", "id"],
        "additionalProperties": False,
    }
    found = check(schema, {"age": -1, "tags": ["new", "odl"], "name": "X", "nmae": "x"})
    assert [(fault.pointer, fault.message) for fault in found] == [
        ("/age", "this must be a number of at least 0, not -1"),
        ("/tags/1", 'this must be one of "new", "old", not "odl"'),
        ("/name", 'this must be a string that matches ^[a-z]+$, not "X"'),
        ("/id", "'id' is required"),
        ("/nmae", "there is no property 'nmae'; did you mean 'name'?"),
    ]
    assert (found[0].expected, found[0].given) == ("a number of at least 0", "-1")


def test_numbers_are_multiples_as_they_are_written() -> None:
    assert check({"multipleOf": 0.1}, 0.3) == []
    assert len(check({"multipleOf": 0.1}, 0.35)) == 1
    assert check({"multipleOf": 1e-300}, 1e300) == []


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"key": {"type": "integer", "writeOnly": True}}},
        {"properties": {"key": {"type": "integer", "x-secret": True}}},
        {"properties": {"key": {"$ref": "#/$defs/key"}}, "$defs": {"key": {"type": "integer", "x-secret": True}}},
        {"properties": {"key": {"allOf": [{"writeOnly": True}], "type": "integer"}}},
        {"allOf": [{"properties": {"key": {"writeOnly": True}}}, {"properties": {"key": {"type": "integer"}}}]},
        {"additionalProperties": {"type": "integer", "writeOnly": True}},
        {"patternProperties": {"^k": {"writeOnly": True}}, "properties": {"key": {"type": "integer"}}},
        {"properties": {"key": {"type": "integer"}}, "x-secret": True},
        {"properties": {"kez": {}}, "additionalProperties": False},
        {
            "$defs": {"properties": {"not": {"writeOnly": True}}},
            "properties": {"other": {"$ref": "#/$defs/properties"}, "key": {"type": "integer"}},
        },
    ],
)
def test_a_secret_value_is_in_no_fault(schema: Any) -> None:
    assert validate_schema(schema) == []
    found = check(schema, {"key": "hunter2"})
    assert found
    assert "hunter2" not in str(found)


def test_an_object_is_described_and_not_repeated() -> None:
    assert check({"type": "string"}, {"key": "hunter2"})[0].given == "an object with 1 property"
    long = check({"type": "integer"}, "x" * 100_000)[0]
    assert len(long.message) < 300


def test_faults_are_bounded_in_number() -> None:
    assert len(check({"items": {"type": "string"}}, list(range(1000)))) == MAX_FAULTS


def _definitions(levels: int) -> dict[str, Any]:
    chain = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(levels)}
    return {"$defs": {**chain, f"d{levels}": {"type": "string"}}}


def _doubling(levels: int) -> dict[str, Any]:
    return {**_definitions(levels), "$ref": "#/$defs/d0"}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (_doubling(40), "x"),
        # for each property again by the root, with its dialect
        (
            {
                "$schema": DIALECT,
                "properties": {"self": {"$ref": "#"}, "x": {"$ref": "#/$defs/d0"}},
                **_definitions(40),
            },
            {"self": {"x": "x"}},
        ),
        ({"items": {"pattern": "(.{1,15}){1,15}x"}}, ["a" * 30_000] * 5),
        ({"items": {"anyOf": [{"enum": [[1]]}, {}]}}, [list(range(10_000))] * 30),
    ],
)
def test_what_would_take_too_long_is_a_fault_after_bounded_work(schema: Any, value: Any) -> None:
    assert validate_schema(schema) == []
    done = checked(schema, value, limit=20_000)
    assert ["too large to be checked" in fault.message for fault in done.faults] == [True]
    assert done.work < 100_000


class _Unwritten(dict[str, Any]):
    """What no text may be made of."""

    def __repr__(self) -> str:
        raise AssertionError("a text of it was made")


class _UnwrittenText(str):
    __slots__ = ()

    def __repr__(self) -> str:
        raise AssertionError("a text of it was made")


@pytest.mark.parametrize("value", [_Unwritten(key="x"), _UnwrittenText("x"), [_Unwritten(), _UnwrittenText("x")]])
@pytest.mark.parametrize(
    "branch",
    [
        False,
        {"type": "null"},
        {"enum": [1]},
        {"const": _Unwritten(a=1)},
        {"not": _Unwritten(title="any")},
        {"anyOf": [{"type": "null"}, False]},
        {"oneOf": [_Unwritten(title="one"), _Unwritten(title="two")]},
        {"minLength": 9, "minItems": 9, "minProperties": 9},
        {"items": False, "additionalProperties": False, "pattern": "y"},
        {"unevaluatedItems": False, "unevaluatedProperties": False, "maxLength": 0},
    ],
)
def test_a_branch_that_does_not_fit_makes_no_text_of_the_value_or_of_the_schema(branch: Any, value: Any) -> None:
    """It would take time and memory that nobody counts."""
    assert check({"not": branch}, value) == []
    assert len(check({"anyOf": [branch, branch]}, value)) == 1


def test_patterns_take_linear_time() -> None:
    done = checked({"pattern": "^(a+)+$"}, "a" * 50_000 + "!")
    assert len(done.faults) == 1
    assert done.work < 5000


def test_a_value_nested_too_deeply_is_a_fault() -> None:
    value: Any = 1
    for _ in range(120):
        value = {"inner": {"x": value}} if isinstance(value, int) else {"inner": value}
    schema = {"properties": {"inner": {"anyOf": [{"allOf": [{"$ref": "#"}]}]}}}
    assert ["nested too deeply" in fault.message for fault in check(schema, value)] == [True]


def test_no_fault_depends_on_the_hash_of_texts() -> None:
    schema = {"additionalProperties": {"type": "integer"}}
    value = {f"k{number}": "x" for number in range(100)}
    assert [fault.pointer for fault in check(schema, value)] == [f"/k{number}" for number in range(MAX_FAULTS)]

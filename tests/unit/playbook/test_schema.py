"""The JSON Schema of the language, as a validator of another make reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from noetl_serverless.playbook.document import plain_data, read_document
from noetl_serverless.tools import registry

from .playbooks import playbook, step, tool

PLAYBOOKS = Path(__file__).parents[3] / "playbooks"
EXAMPLES = sorted(path for path in PLAYBOOKS.glob("*.yaml") if not path.name.endswith(".test.yaml"))
SCHEMA = registry.playbook_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def faults(text: str) -> list[str]:
    """The JSON paths of what does not fit; those of the most specific schema that does not."""

    def leaves(error: Any) -> Iterator[str]:
        if error.context:
            best = max(error.context, key=lambda inner: len(inner.absolute_path))
            yield from leaves(best)
        else:
            yield error.json_path

    return [path for error in VALIDATOR.iter_errors(plain_data(read_document(text).root)) for path in leaves(error)]


def test_it_is_a_schema_of_its_dialect() -> None:
    json.dumps(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["required"] == ["apiVersion", "kind", "metadata", "workflow"]


def test_keys_are_those_of_the_document() -> None:
    definitions = SCHEMA["$defs"]
    assert "in" in definitions["Loop"]["properties"]
    assert "else" in definitions["Rule"]["properties"]
    assert set(definitions["Select"]["properties"]) == {"path", "as"}


def test_every_reference_is_defined_and_every_definition_is_used() -> None:
    text = json.dumps(SCHEMA)
    used = {part.split('"')[0] for part in text.split("#/$defs/")[1:]}
    assert used == SCHEMA["$defs"].keys()


def test_every_key_is_described() -> None:
    parts = {"": SCHEMA, **SCHEMA["$defs"]}
    missing = [
        f"{name}.{key}"
        for name, part in parts.items()
        for key, field in part.get("properties", {}).items()
        if "description" not in field and "const" not in field
    ]
    assert not missing, "add them to playbook/key_texts.py"
    assert not [name for name, part in parts.items() if "description" not in part]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_fit(path: Path) -> None:
    assert faults(path.read_text()) == []


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (step("stepp: a\ntool: {kind: noop}"), "$.workflow[0]"),
        (step("step: a\ntool: {kind: nop}"), "$.workflow[0].tool.kind"),
        (step("step: a\ntool: {}"), "$.workflow[0].tool"),
        (step("step: a b\ntool: {kind: noop}"), "$.workflow[0].step"),
        (tool("kind: http\nurl: x\nmethod: FETCH"), "$.workflow[0].tool.method"),
        (tool("kind: http\nulr: x"), "$.workflow[0].tool"),
        (tool("kind: http"), "$.workflow[0].tool"),
        (tool("kind: postgres\nauth: x\ncommand: SELECT 1\nmax_rows: many"), "$.workflow[0].tool.max_rows"),
        (tool("kind: postgres\ncommand: SELECT 1"), "$.workflow[0].tool"),
        (tool("kind: postgres\nauth: x\ncommand: SELECT 1\nmode: replace"), "$.workflow[0].tool"),
        (tool("kind: duckdb\nauth: x\ncommand: SELECT 1"), "$.workflow[0].tool"),
        (tool("kind: noop\nurl: x"), "$.workflow[0].tool"),
        (tool("kind: python\ncode: result = 1\nlibs: '{{ x }}'"), "$.workflow[0].tool.libs"),
        (tool("kind: python\nscript: '{{ x }}'"), "$.workflow[0].tool.script"),
        (tool("kind: python\nscript: {uri: a.py, source: '{{ x }}'}"), "$.workflow[0].tool.script.source"),
        (tool("kind: workbook"), "$.workflow[0].tool"),
        (tool("kind: workbook\nname: t\nurl: x"), "$.workflow[0].tool"),
        (step("step: a\ntool: [{kind: noop}, {kind: http}]"), "$.workflow[0].tool[1]"),
        (tool("kind: noop\nspec: {policy: {rules: [{else: {then: {do: stop}}}]}}"), ".then.do"),
        (step("step: a\ntool: {kind: noop}\nloop: {in: [1]}"), "$.workflow[0].loop"),
        (step("step: a\ntool: {kind: noop}\nloop: {in: [1], iterator: x, spec: {mode: some}}"), ".loop.spec.mode"),
        (step("step: a\ntool: {kind: noop}\nnext: {arcs: []}"), "$.workflow[0].next.arcs"),
        (playbook("workflow: []\n"), "$.workflow"),
        (
            playbook("workflow: [{step: a, tool: {kind: noop}}]\nexecutor: {spec: {weight: 0}}\n"),
            "$.executor.spec.weight",
        ),
        (playbook("workflow: [{step: a, tool: {kind: noop}}]\nvars: {}\n"), "$"),
    ],
)
def test_what_is_wrong_is_found_at_its_place(text: str, path: str) -> None:
    found = faults(text)
    assert any(fault.endswith(path) if path.startswith(".") else fault == path for fault in found), found


@pytest.mark.parametrize(
    "text",
    [
        tool("kind: http\nurl: '{{ x }}'\nmethod: '{{ x }}'\nheaders: '{{ x }}'\nverify_ssl: '{{ x }}'"),
        tool("kind: http\nurl: x\nheaders: {a: '{{ x }}'}\nparams: {a: '{{ x }}'}\ndata: {query: '{{ x }}'}"),
        tool("kind: http\nurl: x\ntimeout: {connect: '{{ x }}', total: 1}\nauth: {credential: c, type: '{{ x }}'}"),
        tool("kind: postgres\nauth: '{{ x }}'\ntable: t\nrows: '{{ x }}'\ncolumns: '{{ x }}'\nmax_rows: '{{ x }}'"),
        tool("kind: duckdb\ncommands: ['SELECT {{ x }}']\nthreads: '{% if x %}1{% endif %}'"),
        tool("kind: playbook\npath: x\nversion: '{{ x }}'\npayload: {a: '{{ x }}'}"),
        step("step: a\ntool: {kind: noop}\nloop: {in: '{{ x }}', iterator: i, spec: {max_in_flight: '{{ x }}'}}"),
    ],
)
def test_a_template_stands_for_a_value_of_any_type(text: str) -> None:
    assert faults(text) == []


@pytest.mark.parametrize(
    "text",
    [
        tool("kind: postgres\nauth: x\nscript: SELECT 1"),
        tool("kind: postgres\nauth: x\nscript: {uri: a.sql}"),
        tool("kind: duckdb\nscript: {uri: 's3://a/b.sql', source: {type: s3}}"),
        tool("kind: noop\nspec: {policy: {rules: [{else: {then: {do: retry, delay: 500ms, max_delay: '{{ x }}'}}}]}}"),
        step(
            "step: a\nloop: {cursor: {kind: postgres, auth: x, claim: SELECT 1}, iterator: i, "
            "spec: {mode: cursor, frame: {max_seconds: 5m, lease_seconds: 90s, heartbeat_seconds: 10}}}"
        ),
    ],
)
def test_what_the_language_takes_fits(text: str) -> None:
    assert faults(text) == []


def test_a_tool_of_a_package_is_described_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"type": "object", "properties": {"size": {"type": "integer"}}, "additionalProperties": False}
    monkeypatch.setattr(registry, "kinds", lambda: ["noop", "own"])
    monkeypatch.setattr(registry, "schema", lambda kind: own if kind == "own" else {"type": "object"})
    validator = Draft202012Validator(registry.playbook_schema())
    for size, fits in ((1, True), ("{{ x }}", True), ("big", False)):
        document = read_document(tool(f"kind: own\nsize: {json.dumps(size)}")).root
        assert validator.is_valid(plain_data(document)) is fits, size

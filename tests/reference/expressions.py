"""What templates may use, each with an expression that shows it and the value that this gives."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from noetl_serverless.playbook.methods import TYPES
from noetl_serverless.playbook.sandbox import GLOBALS, TEXT
from noetl_serverless.playbook.template import Template

FILE: Final = Path(__file__).parent / "expressions.toml"
WORKLOAD: Final[Mapping[str, Any]] = {
    "n": 5,
    "city": "Oslo",
    "ok": True,
    "none": None,
    "tags": ["a", "b"],
    "rows": [{"id": 1}, {"id": 2}],
}

# name -> (an expression, what it does)
Entries = Mapping[str, tuple[str, str]]


def tables() -> Iterator[tuple[str, list[str]]]:
    """The title and the lines of each table; ValueError if one is about other names than the engine has."""
    found = tomllib.loads(FILE.read_text())
    methods = found["methods"]
    yield "Functions", _table("functions", found["functions"], GLOBALS)
    yield "Filters", _table("filters", found["filters"], [name for name in TEXT.filters if not name.startswith("_")])
    yield "Tests", _table("tests", found["tests"], TEXT.tests)
    for what, (_, known) in TYPES.items():
        yield f"Methods of {what}", _table(f"methods.{what}", methods[what], known)


def workload() -> str:
    return json.dumps(WORKLOAD)


def _table(what: str, entries: Entries, known: Collection[str]) -> list[str]:
    if set(entries) != set(known):
        missing, gone = sorted(set(known) - set(entries)), sorted(set(entries) - set(known))
        raise ValueError(f"{FILE.name}: [{what}] lacks {missing} and has {gone}, which the engine does not have")
    rows = [
        f"| `{_cell(name)}` | {meaning} | `{_cell(expression)}` | `{_cell(_value(expression))}` |"
        for name, (expression, meaning) in sorted(entries.items())
    ]
    return ["| name | meaning | example | gives |", "|---|---|---|---|", *rows]


def _value(expression: str) -> str:
    return json.dumps(Template(expression).render(WORKLOAD), ensure_ascii=False)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "\\n").replace("\t", "\\t")

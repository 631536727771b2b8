from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from noetl_serverless import error_codes
from noetl_serverless.engine import events
from noetl_serverless.error_codes import FAULT, PROBLEM, REFERENCE_NOT_AVAILABLE, STEP, current_code, tables

PROJECT = Path(__file__).parents[2]
LIBRARY = PROJECT / "shared" / "noetl_serverless"
CODE = re.compile(r"[a-z_]+\.[a-z_]+")
ALL = {**STEP, **PROBLEM, **FAULT}
# names of the same form that are no codes: types of events, and places within an outcome
OTHERS = {
    *(name for name in vars(events).values() if isinstance(name, str) and CODE.fullmatch(name)),
    *("child.payload", "child.payload_ref"),
    # as conditions know events
    *("loop.failed", "step.done"),
}


def texts() -> Iterator[tuple[Path, str]]:
    for path in LIBRARY.rglob("*.py"):
        if path.name != "error_codes.py":
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield path, node.value


def test_the_library_uses_no_code_but_those_of_the_table_and_all_of_these() -> None:
    areas = {code.partition(".")[0] for code in ALL}
    used = {text: path for path, text in texts() if text in ALL or CODE.fullmatch(text)}
    unknown = {
        f"{path.relative_to(PROJECT)}: {text}"
        for text, path in used.items()
        if text not in ALL and text not in OTHERS and text.partition(".")[0] in areas
    }
    assert not unknown, "codes that error_codes.py does not have"
    kinds = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["entry-points"]["noetl_serverless.tools"]
    # made from the kind of the tool
    configs = {f"{kind}.config" for kind in kinds}
    assert configs <= STEP.keys()
    assert ALL.keys() - used.keys() - configs <= {REFERENCE_NOT_AVAILABLE}, "codes that nothing uses any more"


def test_codes_are_an_area_and_a_reason() -> None:
    assert [code for code in ALL if not CODE.fullmatch(code)] == [REFERENCE_NOT_AVAILABLE]
    assert all(meaning.endswith(".") for meaning in ALL.values())


@pytest.mark.parametrize("code", [*STEP, *PROBLEM, *FAULT, "boom"])
def test_a_code_of_today_or_of_a_user_stays_as_it_is(code: str) -> None:
    assert current_code(code) == code


def test_a_code_of_an_earlier_release_is_one_of_today() -> None:
    former = error_codes._FORMER
    assert {current_code(code) for code in former} <= ALL.keys()
    assert not former.keys() & ALL.keys()


def test_the_page_has_the_tables() -> None:
    page = (PROJECT / "playbooks" / "ERRORS.md").read_text()
    assert "\n".join(tables()).strip() in page, "python -m noetl_serverless.error_codes prints them"

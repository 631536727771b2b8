from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from noetl_serverless.engine import events
from noetl_serverless.error_codes import (
    ALL_CODES,
    FAULT,
    PROBLEM,
    REFERENCE_NOT_AVAILABLE,
    STEP,
    former_code,
    spellings,
    tables,
)

PROJECT = Path(__file__).parents[2]
LIBRARY = PROJECT / "shared" / "noetl_serverless"
# the codes of release 0.1 that no longer are codes
FORMER = (
    *("bad_gateway", "cancelled", "conflict", "delivery_limit", "failed", "forbidden", "internal_error"),
    *("invalid_playbook", "invalid_query", "invalid_request", "malformed_command", "no_loop", "no_plan", "no_stack"),
    *(
        "no_step",
        "not_found",
        "not_sealed_here",
        "result_store",
        "retry_exhausted",
        "set_too_large",
        "template_error",
        "time_budget",
    ),
    *("timeout", "too_large", "unauthenticated", "unavailable", "wrong_use"),
)
CODE = re.compile(r"[a-z_]+\.[a-z_]+")
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
    areas = {code.partition(".")[0] for code in ALL_CODES}
    used = {text: path for path, text in texts() if text in ALL_CODES or CODE.fullmatch(text)}
    unknown = {
        f"{path.relative_to(PROJECT)}: {text}"
        for text, path in used.items()
        if text not in ALL_CODES and text not in OTHERS and text.partition(".")[0] in areas
    }
    assert not unknown, "codes that error_codes.py does not have"
    kinds = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["entry-points"]["noetl_serverless.tools"]
    # made from the kind of the tool
    configs = {f"{kind}.config" for kind in kinds}
    assert configs <= STEP.keys()
    assert ALL_CODES - used.keys() - configs <= {REFERENCE_NOT_AVAILABLE}, "codes that nothing uses any more"


def made_codes() -> Iterator[tuple[str, str]]:
    """The place and the code of each error that the library makes with a constant for its code."""
    position = {"step_error": 1, "ToolFailure": 1, "_error": 0}
    for path in LIBRARY.rglob("*.py"):
        file = path.relative_to(PROJECT)
        for node in ast.walk(ast.parse(path.read_text())):
            place = f"{file}:{getattr(node, 'lineno', 0)}"
            match node:
                case ast.Call(func=ast.Name(id=name), args=[*args]) if name in position and len(args) > position[name]:
                    if isinstance(code := args[position[name]], ast.Constant) and isinstance(code.value, str):
                        yield place, code.value
                case ast.Call(keywords=[*keywords]):
                    for each in keywords:
                        if each.arg == "code" and isinstance(each.value, ast.Constant) and each.value.value:
                            yield place, str(each.value.value)
                case ast.Assign(targets=[ast.Tuple(elts=[*names])], value=ast.Tuple(elts=[*values])):
                    for target, value in zip(names, values, strict=False):
                        if isinstance(target, ast.Name) and target.id == "code" and isinstance(value, ast.Constant):
                            yield place, str(value.value)


def test_every_error_is_made_with_a_code_of_the_table() -> None:
    made = list(made_codes())
    assert len(made) > 60, "few errors are found: are they made in another way?"
    unknown = [f"{place}: {code}" for place, code in made if code not in ALL_CODES]
    assert not unknown, f"codes that error_codes.py does not have: {unknown}"


def test_codes_are_an_area_and_a_reason() -> None:
    assert [code for code in ALL_CODES if not CODE.fullmatch(code)] == [REFERENCE_NOT_AVAILABLE]
    assert all(meaning.endswith(".") for table in (STEP, PROBLEM, FAULT) for meaning in table.values())


@pytest.mark.parametrize("code", FORMER)
def test_a_code_of_the_first_release_is_a_spelling_of_one_of_today(code: str) -> None:
    assert spellings(code) & ALL_CODES, f"{code} was a code, and matches none of today's"


def test_two_spellings_match_each_other() -> None:
    for code in (*ALL_CODES, *FORMER):
        for other in spellings(code):
            assert code in spellings(other), f"{code} matches {other}, but not the other way round"


def test_each_code_has_one_former_spelling_and_that_stays_as_it_is() -> None:
    assert former_code("template.error") == former_code("template_error") == "template_error"
    for code in (*ALL_CODES, *FORMER, "boom"):
        assert former_code(former_code(code)) == former_code(code)
    assert spellings("boom") == {"boom"}


def test_the_page_has_the_tables() -> None:
    page = (PROJECT / "playbooks" / "ERRORS.md").read_text()
    assert "\n".join(tables()).strip() in page, "python -m noetl_serverless.error_codes prints them"
    command = [sys.executable, "-m", "noetl_serverless.error_codes"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed == "\n".join(tables()).strip() + "\n"

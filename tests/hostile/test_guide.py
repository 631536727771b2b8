"""The README names tests that exist, and none of this folder is left out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", (HERE / "README.md").read_text())


def named_in(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return {name for name in found if name.startswith("test_")}


def test_every_test_that_is_named_exists() -> None:
    assert len(NAMED) > 60
    assert [f"{file}::{name}" for file, name in NAMED if name not in named_in(HERE.parent / file)] == []


def test_every_file_of_this_folder_is_named() -> None:
    files = {f"hostile/{file.name}" for file in HERE.glob("test_*.py")} - {"hostile/test_guide.py"}
    assert files <= {file for file, _ in NAMED}

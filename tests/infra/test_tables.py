"""The generated part of the README of each root module."""

from __future__ import annotations

from pathlib import Path

import pytest
from infra.tools.tables import MODULES, with_tables


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_tables_say_what_the_module_says(module: Path) -> None:
    assert with_tables(module) == (module / "README.md").read_text(), "run `make infra-docs`"

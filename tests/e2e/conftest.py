"""The command line, on a stack that all end-to-end tests share, or on a directory of one's own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.stack import Stack


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker("e2e")


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """One that runs, started by the first test that asks."""
    with tempfile.TemporaryDirectory(prefix="noetl-e2e-") as folder:
        data = Path(folder)
        # under root PostgreSQL runs as somebody else, who must get through
        data.chmod(0o711)
        stack = Stack(data)
        stack.ask("up", "--detach")
        try:
            yield stack
        finally:
            stack.ask("down")


@pytest.fixture
def noetls(data_dir: Path) -> Iterator[Stack]:
    """On a directory where nothing runs yet."""
    stack = Stack(data_dir)
    yield stack
    stack("down")

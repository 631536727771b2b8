"""One stack for all end-to-end tests, started by the first that asks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .stack import Stack


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker("e2e")


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="noetl-e2e-") as folder:
        data = Path(folder)
        # under root PostgreSQL runs as somebody else, who must get through
        data.chmod(0o711)
        stack = Stack(data)
        stack.cli("up", "--detach")
        try:
            yield stack
        finally:
            stack.cli("down")

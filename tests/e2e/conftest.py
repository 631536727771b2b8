"""The command line, on a stack that all end-to-end tests share, or on a directory of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.stack import Stack, running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker("e2e")


@pytest.fixture(scope="package")
def stack() -> Iterator[Stack]:
    """One that runs, started by the first test that asks, and stopped after the last of them."""
    with running() as stack:
        yield stack


@pytest.fixture
def noetls(data_dir: Path) -> Iterator[Stack]:
    """On a directory where nothing runs yet."""
    stack = Stack(data_dir)
    yield stack
    stack("down")

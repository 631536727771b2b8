from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.aws.conftest import deploy

__all__ = ["deploy"]

# seconds: the first to ask waits until all packages are built
TIMEOUT = 1200


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.timeout(TIMEOUT))

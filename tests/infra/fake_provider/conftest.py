"""The stand-ins of Google's APIs, and configurations that are applied to them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.infra.fake_provider.google.scratch import Scratch
from tests.infra.google_cloud.standin import Standin


@pytest.fixture(scope="session")
def standin() -> Iterator[Standin]:
    with tempfile.TemporaryDirectory(prefix="noetl-google-") as folder:
        standin = Standin(Path(folder))
        yield standin
        standin.stop()


@pytest.fixture
def google(tmp_path: Path, standin: Standin) -> Scratch:
    return Scratch(tmp_path, standin)

"""What one unit test leaves behind must not show in another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from noetl_serverless.telemetry.masking import Masking, masking


@pytest.fixture(autouse=True)
def _secrets_are_forgotten() -> Iterator[None]:
    """The process masks what any test has registered as a secret, also where another test expects the same word."""
    yield
    vars(masking).update(vars(Masking()))

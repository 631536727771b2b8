from __future__ import annotations

from tests.integration.aws.conftest import deploy

__all__ = ["deploy"]

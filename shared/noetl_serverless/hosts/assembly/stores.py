"""The stores that a function has for results."""

from __future__ import annotations

from ...results.stores import ResultStores
from ..platform import Platform


def stores_of(platform: Platform) -> ResultStores:
    """ValueError for settings with which there is no store for large results, or that name what there is not."""
    return ResultStores(platform.results())

"""The short form of `make upgrade`: the same store and the same audit; both releases side by side, and no way back."""

from __future__ import annotations

import pytest

from .bed import bed
from .release import new_release, old_release
from .walk import Walk

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_what_the_release_before_left_goes_on_with_both_side_by_side() -> None:
    with bed() as made:
        walk = Walk(made, old_release(made.home), new_release(made.home))
        findings = walk.run_at_once()
    assert not findings, "\n".join(map(str, findings[:20]))
    assert len(walk.given) > 100

"""The short form of `make upgrade`: the same store, the same phases, the same audit; less that begins on the way."""

from __future__ import annotations

import pytest

from .bed import bed
from .playbooks import CHILDREN, FAN_OUT, MIXED, PIPELINED, TURNS
from .release import new_release, old_release
from .walk import Walk

pytestmark = pytest.mark.e2e


def test_what_the_release_before_left_goes_on_with_both_with_the_old_and_with_the_new() -> None:
    with bed() as made:
        walk = Walk(made, old_release(made.home), new_release(made.home), [CHILDREN, FAN_OUT, MIXED, PIPELINED, TURNS])
        findings = walk.run()
    assert not findings, "\n".join(map(str, findings[:20]))
    assert len(walk.given) > 150

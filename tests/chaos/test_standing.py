"""Of a function that does not answer it is told where it is."""

from __future__ import annotations

import os
import signal

import pytest
from tests.e2e.faults import eventually

from . import standing
from .stack import chaos_stack

pytestmark = pytest.mark.e2e


def test_who_is_silent_is_named_and_writes_down_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "ANSWER", 2.0)
    with chaos_stack() as stack:
        assert eventually(lambda: "silent" not in standing.standing(stack))
        server = stack.server("gateway")
        os.kill(server, signal.SIGSTOP)
        try:
            said = standing.standing(stack)
        finally:
            os.kill(server, signal.SIGCONT)
        assert "gateway is silent" in said
        assert "control_plane is silent" not in said
        eventually(lambda: stack.said("gateway", "Fatal Python error: Segmentation fault"), patience=20)

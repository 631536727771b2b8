"""An execution as the store loads it, for tests that need one of any playbook."""

from __future__ import annotations

from noetl_serverless.engine.state import State
from noetl_serverless.records import LoadedExecution


def loaded(state: State, *, head: int) -> LoadedExecution:
    """With a snapshot as of its head."""
    return LoadedExecution(
        execution_id=state.execution_id,
        catalog_id="1",
        path="t/t",
        version=1,
        plan_hash="h",
        parent=None,
        depth=0,
        head=head,
        snapshot=head,
        state=state,
    )

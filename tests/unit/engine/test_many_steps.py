"""The largest playbook that there may be."""

from __future__ import annotations

from noetl_serverless.engine import events as e
from noetl_serverless.playbook.model import MAX_STEPS

from .run import Run


def test_a_step_may_lead_to_all_others_at_once_and_they_to_one_join() -> None:
    middle = [f"m{n}" for n in range(MAX_STEPS - 2)]
    arcs = ", ".join(f"{{step: {name}}}" for name in middle)
    workflow = (
        f"- {{step: a, next: {{spec: {{mode: inclusive}}, arcs: [{arcs}]}}}}\n"
        + "".join(f"- {{step: {name}, next: {{arcs: [{{step: z}}]}}}}\n" for name in middle)
        + "- {step: z}\n"
    )
    run = Run(workflow)
    run.done("a")
    assert len(run.state.commands) == MAX_STEPS - 2
    assert run.state.status == "running"
    run.fact(e.CALL_DONE, step="m0", generation=1, command_id="m0#1", payload={"data": 1})
    assert run.state.waiting.keys() == {"z"}

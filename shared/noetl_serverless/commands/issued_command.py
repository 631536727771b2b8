"""Turns what a command was issued with into all that a worker needs to run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..engine.canonical import checksum
from ..playbook.plan import Plan
from ..protocol import ClaimedCommand


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """The terms of a worker's lease on a command; `until` is RFC 3339."""

    fence: int
    delivery: int
    until: str


def command_of(
    plan: Plan,
    path: str,
    names: tuple[str, str, str, int],
    issued: Mapping[str, Any],
    workload: Mapping[str, Any],
    terms: LeaseTerms,
    more: Mapping[str, Any],
) -> ClaimedCommand:
    """`names`: execution, command, step, generation; `issued`: the payload of the event that issued it; `more`: further
    fields, which override those made from it."""
    execution_id, command_id, step, generation = names
    fields = {
        "plan": plan.hash,
        "scope": issued["scope"],
        "workload": needed_workload(plan, step, workload),
        "resume": issued.get("resume"),
        **more,
    }
    return ClaimedCommand(
        execution_id=execution_id,
        command_id=command_id,
        step=step,
        generation=generation,
        kind=issued["kind"],
        attempt=issued["attempt"],
        delivery=terms.delivery,
        fence=terms.fence,
        lease_until=terms.until,
        path=path,
        **fields,
    )


def needed_workload(plan: Plan, step: str, workload: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the workload that the step's templates name."""
    keys = plan.steps[step].reads.get("workload", frozenset())
    if keys is None:
        return dict(workload)
    # sorted, because the order of a set differs between processes
    return {key: workload[key] for key in sorted(keys) if key in workload}


def digest_of(issued: Mapping[str, Any]) -> str:
    """SHA-256 of the payload that a command was issued with; TypeError if it has no JSON form."""
    return checksum(issued)

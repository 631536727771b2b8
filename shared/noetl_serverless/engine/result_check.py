"""Whether the result of an execution fits the schema that its playbook declares.

A result that is stored by reference is not there when the core decides. The worker that stores it compares it and
leaves its verdict in the reference, with the identity of the schema: a reference may come from a sub-playbook, whose
schema is another one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..playbook.plan import Plan, Step

# in the `meta` of a reference
VERDICT: Final = "result_check"
# faults in a verdict, which stays in the state
MAX_FAULTS: Final = 5
# units of a check that count as one of a decision
PER_UNIT: Final = 10


@dataclass(frozen=True, slots=True)
class ResultCheck:
    """`error`, the error of the execution if the result does not fit; `known`: whether the result was compared; `work`
    in units of a decision."""

    error: dict[str, Any] | None = None
    known: bool = True
    work: int = 0


def may_be_last(plan: Plan, step: Step) -> bool:
    """Whether an execution may end with the result of the step, as far as its arcs show."""
    return step.name == plan.final_step or all(arc.when is not None for arc in step.arcs)


def verdict_on(schema: Mapping[str, Any], value: Any) -> dict[str, Any]:
    """What a worker notes of a value that it stores by reference."""
    from ..playbook.json_schema import checked

    faults = [fault.to_dict() for fault in checked(schema, value).faults[:MAX_FAULTS]]
    return {"schema": _identity(schema), "faults": faults}


def check_result(schema: Mapping[str, Any], outcome: Mapping[str, Any]) -> ResultCheck:
    """`outcome`: of the last step, as in the state."""
    if "ref" not in outcome:
        # few playbooks have schemas, and a cold start need not read how they are compared
        from ..playbook.json_schema import checked

        done = checked(schema, outcome.get("data"))
        return ResultCheck(_error([fault.to_dict() for fault in done.faults]), work=done.work // PER_UNIT)
    verdict = (outcome["ref"].get("meta") or {}).get(VERDICT)
    if not isinstance(verdict, Mapping) or verdict.get("schema") != _identity(schema):
        return ResultCheck(known=False)
    return ResultCheck(_error(list(verdict.get("faults", ()))))


def _error(faults: list[dict[str, str]]) -> dict[str, Any] | None:
    if not faults:
        return None
    first = faults[0]
    what = f"{first['pointer']}: {first['message']}" if first["pointer"] else first["message"]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    message = f"the result does not fit schemas.result: {what}{more}"
    return {"kind": "result", "code": "result.invalid", "message": message, "retryable": False, "errors": faults}


def _identity(schema: Mapping[str, Any]) -> str:
    text = json.dumps(schema, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]

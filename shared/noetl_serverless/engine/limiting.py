"""What limits a command in the whole deployment, with the keys that it is counted by, as its event says it.

{"concurrency": {key, limit}, "rate": {key, per, limit}} of its step, and under "execution" the same of the playbook, as
long as nothing shows that the execution has begun: nobody has reported a command. Whoever hands it over looks whether
another command has begun it meanwhile.
"""

from __future__ import annotations

from typing import Any

from ..limits import LIMIT_KEY_CHARACTERS
from ..playbook.plan import Concurrency, Plan, Rate, Step
from ..playbook.scope import Scope
from ..playbook.template import Template
from ..playbook.values import InvalidValue
from . import events as e
from .canonical import canonical
from .events import Event

# of a value that is no key, how much is shown
MAX_SHOWN = 100
# facts that only an execution that has begun can have
_AFTER_A_COMMAND = e.REPORTS | {e.CHILD_ENDED}


def limits_of(plan: Plan, step: Step | None, fact: Event, scope: Scope) -> dict[str, Any]:
    """Of a command that follows from `fact`; without a step, those of the execution alone. Raises TemplateError, and
    InvalidValue for a key that is no text, or is too long."""
    limits = {} if step is None else _limits(step.concurrency, step.rate, scope)
    if plan.is_limited and fact.type not in _AFTER_A_COMMAND:
        limits["execution"] = _limits(plan.concurrency, plan.rate, scope)
    return limits


def _limits(concurrency: Concurrency | None, rate: Rate | None, scope: Scope) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    if concurrency is not None:
        limits["concurrency"] = {"key": _key("concurrency", concurrency.key, scope), "limit": concurrency.limit}
    if rate is not None:
        limits["rate"] = {"key": _key("rate", rate.key, scope), "per": rate.per, "limit": rate.limit}
    return limits


def _shown(value: Any) -> str:
    try:
        return canonical(value)[:MAX_SHOWN]
    except (TypeError, ValueError):
        return f"a value of type {type(value).__name__}"


def _key(name: str, key: str | Template, scope: Scope) -> str:
    if not isinstance(key, Template):
        return key
    value = key.render(scope)
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not 1 <= len(text) <= LIMIT_KEY_CHARACTERS or "\0" in text:
        line = f", line {key.place.line}" if key.place is not None else ""
        raise InvalidValue(
            f"spec.{name}.key{line} must give a text of 1 to {LIMIT_KEY_CHARACTERS} characters, not {_shown(value)}"
        )
    return text

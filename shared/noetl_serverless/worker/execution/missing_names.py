"""The names that a template may have meant: a worker is given only the keys that a step's templates name, but knows the
playbook, which has the others."""

from __future__ import annotations

import re

from ...playbook.plan import Plan
from ...playbook.sandbox import available, similar
from ...playbook.scope import VARIABLES
from ...playbook.template_error import TemplateError


def name_similar(error: TemplateError, plan: Plan) -> TemplateError:
    """The error, its message with names like the one that was missing, if it was one of the workload, of ctx or of the
    variables."""
    name = error.name
    if not name:
        return error
    # needs what compiles playbooks, which a worker that has compiled plans at hand may not have loaded
    from ...playbook.sites import assigned

    if error.message == f"'{name}' is not defined":
        set_somewhere = assigned(plan, "ctx")
        if name in plan.steps:
            error.message += ": the step has not run"
        elif name in set_somewhere:
            error.message += ": nothing has set it yet"
        else:
            error.message += similar(name, [*plan.workload, *plan.steps, *sorted(set_somewhere)])
    elif error.message.partition(" (")[0] in (f"there is no '{name}'", f"ctx has no '{name}'"):
        for scope in ("workload", "ctx", VARIABLES):
            if re.search(rf"\b{scope}(?:\.|\[['\"]){re.escape(name)}\b", error.template or ""):
                known = plan.workload if scope == "workload" else sorted(assigned(plan, scope))
                whole = "the workload" if scope == "workload" else scope
                error.message = f"{whole} has no '{name}'{available(name, known)}"
                break
    return error

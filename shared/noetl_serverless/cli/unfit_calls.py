"""What the steps of a playbook file give to the playbooks beside it, compared with the schemas of these."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .failure import Failure
from .options import TEST_SUFFIX, read_text
from .playbooks import STANDARD_INPUT, is_yaml, plan_of

if TYPE_CHECKING:
    from ..errors import Fault
    from ..playbook.plan import Plan

# files in the folder that are looked at
MAX_FILES = 500


def unfit_calls(text: str, file: str) -> Iterator[Fault]:
    """`text`: of a playbook without errors. A version that is asked for need not be the one in the folder."""
    from ..playbook.called_inputs import calls_of, faults_of
    from ..tools.plans import load_checked

    if file == STANDARD_INPUT or "kind: playbook" not in text:
        return
    calls = [call for call in calls_of(load_checked(text)) if call.version is None]
    for path in dict.fromkeys(call.path for call in calls):
        plan = _playbook_near(file, path)
        for call in calls if plan is not None else ():
            if call.path == path and plan is not None:
                yield from faults_of(call, plan.workload, plan.input_schema)


def _playbook_near(file: str, path: str) -> Plan | None:
    """The playbook of the folder that has this path in the catalog, if it declares schemas."""
    for other in sorted(Path(file).parent.iterdir())[:MAX_FILES]:
        if not is_yaml(other.name) or other.name.endswith(TEST_SUFFIX):
            continue
        try:
            text = read_text(str(other))
            if path in text and "schemas:" in text and (plan := plan_of(text, other.name)).path == path:
                return plan
        except Failure:
            # its faults are those of another file
            continue
    return None

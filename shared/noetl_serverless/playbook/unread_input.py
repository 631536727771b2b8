"""Keys of `input` that nothing reads: not the tool, which is given no input, and no template of its configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from .document import Path
from .faults import Faults
from .model import Playbook
from .plan import Plan, Task
from .reads import merge
from .semantics import tool_path
from .trees import templates_in

# tools of these kinds are given their configuration only
_GIVEN_NO_INPUT: Final = frozenset({"http", "noop"})


def check(playbook: Playbook, plan: Plan, faults: Faults) -> None:
    """Warn of each such key of a step and of its tools."""
    for index, written in enumerate(playbook.workflow):
        path: Path = ("workflow", index)
        tasks = plan.steps[written.step].tasks
        for place, (tool, task) in enumerate(zip(written.tools, tasks, strict=True)):
            for key in _unread(tool.input, [task]):
                _add(faults, key, (*tool_path(written, path, place), "input", key))
        for key in _unread(written.input, tasks):
            _add(faults, key, (*path, "input", key))


def _unread(keys: Iterable[str], tasks: Sequence[Task]) -> Iterator[str]:
    if any(task.kind not in _GIVEN_NO_INPUT for task in tasks):
        return
    read = {name.split(".")[0] for task in tasks for name in task.expects}
    read |= merge(template.reads for task in tasks for template in templates_in([task.config, task.timeout])).keys()
    yield from (key for key in keys if key not in read)


def _add(faults: Faults, key: Any, path: Path) -> None:
    faults.add(
        f"nothing reads '{key}' of the input: read it as {{{{ {key} }}}}", path, "playbook.unused_name", key=True
    )

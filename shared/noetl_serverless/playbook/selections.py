"""What `output.select` names, and cannot be read, or is nothing that the task's result has."""

from __future__ import annotations

from . import model
from .document import Path
from .faults import Faults
from .json_paths import first_name
from .own_fields import NOT_SELECTED, known_fields
from .plan import Step, Task
from .semantics import tool_path


def warn(step: Step, written: model.Step, path: Path, faults: Faults) -> None:
    """Warn of names under which nothing can be read, or something else could, of names that occur twice, and of paths
    into what is accumulated."""
    known = known_fields(step)
    # of all tasks, because they are read as fields of the step's result
    names: set[str] = set()
    for index, tool in enumerate(written.tools):
        for number, item in enumerate(tool.output.select if tool.output is not None else ()):
            here = (*tool_path(written, path, index), "output", "select", number)
            if item.name in names:
                message = f"another entry is named '{item.name}', and the last one counts: rename one"
                faults.add(message, (*here, "as"), "playbook.no_effect")
            names.add(item.name)
            if item.name in NOT_SELECTED:
                message = f"'{step.name}.{item.name}' is the step's own {item.name}, not what is selected: rename it"
                faults.add(message, (*here, "as"), "playbook.reserved_name")
            elif item.name in known and item.path not in (f"$.{item.name}", f"$['{item.name}']"):
                message = f"'{item.name}' of the tool's result cannot be read beside this: rename it"
                faults.add(message, (*here, "as"), "playbook.reserved_name")
            if _is_of_accumulated(step, step.tasks[index], item.path):
                name = step.tasks[index].name
                message = (
                    f"it matches nothing: '{first_name(item.path)}' is what '{name}' accumulates, and no field of its "
                    f"result; read {{{{ {step.name}{item.path.removeprefix('$')} }}}} in the input of a later step"
                )
                faults.add(message, (*here, "path"), "playbook.no_effect")


def _is_of_accumulated(step: Step, task: Task, selected: str) -> bool:
    """Whether the path is into what the task accumulates, which a list of tools has beside the results of its tasks;
    not where they have a field of that name, as far as that is known."""
    how = task.accumulate
    if how is None or not step.is_pipeline or first_name(selected) != how.name:
        return False
    return how.name not in known_fields(step) and (how.path is None or first_name(how.path) != how.name)

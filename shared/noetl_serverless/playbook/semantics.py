"""Checks beyond the grammar: names that must be unique or exist, and what is accepted only in some places."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from ..limits import IN_FLIGHT
from . import grammar, model
from .document import Path
from .faults import Faults, did_you_mean
from .part import NAME_RULE
from .sandbox import GLOBALS
from .scope import RESERVED
from .template import has_markers

# names that already have a meaning in templates, or that templates cannot use as names
RESERVED_NAMES: Final = (
    RESERVED
    | set(GLOBALS)
    | {"loop_index", "self"}
    | {"true", "false", "none", "True", "False", "None"}
    | {
        "and",
        "or",
        "not",
        "in",
        "is",
        "if",
        "else",
        "elif",
        "for",
        "set",
        "do",
        "recursive",
        "import",
        "with",
        "without",
    }
)
# names with another meaning in templates, which then cannot read a step of that name
HIDDEN_STEPS: Final = frozenset({"error", "event", "output"}) | set(GLOBALS)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SCOPES: Final = ("ctx", "vars", "iter", "step")
_ENGINE_SCOPES: Final = ("ctx", "vars")
# what templates read of any step, and what a step adds to the result of its last task
_OF_RESULTS: Final = frozenset({"status", "error", "data", "result", "results", "failed_task", "_ref"})


def labels(step: model.Step) -> list[str]:
    """The names of the step's tasks; an unnamed one of a pipeline is task_1, task_2, ..."""
    if not isinstance(step.tool, list):
        is_label = step.tool.name is not None and step.tool.kind != "workbook"
        return [step.tool.name if is_label and step.tool.name else step.step]
    return [tool.name or f"task_{index}" for index, tool in enumerate(step.tool, 1)]


def tool_path(step: model.Step, base: Path, index: int) -> tuple[str | int, ...]:
    return (*base, "tool", index) if isinstance(step.tool, list) else (*base, "tool")


def check(playbook: model.Playbook, kinds: Collection[str], faults: Faults) -> None:
    _Checker(playbook, kinds, faults).run()
    if playbook.schemas is not None:
        # few playbooks have them
        from . import declared_schemas

        declared_schemas.check(playbook.schemas, faults)


class _Checker:
    def __init__(self, playbook: model.Playbook, kinds: Collection[str], faults: Faults) -> None:
        self.playbook = playbook
        self.kinds = kinds
        self.add = faults.add
        # a dict, which is in the order of the document
        self.steps = dict.fromkeys(step.step for step in playbook.workflow)
        self.workbook = {task.name: task for task in playbook.workbook}

    def run(self) -> None:
        self._executor()
        self._unique(((task.name, ("workbook", i, "name")) for i, task in enumerate(self.playbook.workbook)), "task")
        for index, task in enumerate(self.playbook.workbook):
            path = ("workbook", index, "tool")
            if task.tool.kind == "workbook":
                self.add("a workbook task cannot refer to another one", (*path, "kind"))
            if task.tool.kind == "tool":
                self.add("a tool of the catalog is called from a step: write it there", (*path, "kind"))
            self._tool(task.tool, path)
            self._rules(task.tool, path, [task.name], 0)
        self._unique(((step.step, ("workflow", i, "step")) for i, step in enumerate(self.playbook.workflow)), "step")
        for index, step in enumerate(self.playbook.workflow):
            self._step(step, ("workflow", index))

    # -- the document

    def _executor(self) -> None:
        executor = self.playbook.executor
        if executor is None:
            return
        requires = executor.requires or model.Requires()
        for index, kind in enumerate(requires.tools):
            self._kind(kind, ("executor", "requires", "tools", index))
        for index, feature in enumerate(requires.features):
            if feature not in grammar.FEATURES:
                what = f"the feature '{feature}'"
                hint = did_you_mean(feature, grammar.FEATURES)
                self._later(what, ("executor", "requires", "features", index), hint)
        spec = self.playbook.executor_spec
        for key in ("entry_step", "final_step"):
            name = getattr(spec, key)
            if name is not None:
                self._known_step(name, ("executor", "spec", key))
        budget = spec.budget
        if (
            budget is not None
            and (budget.max_invocations, budget.max_billed_seconds, budget.max_cost_usd) == (None,) * 3
        ):
            limits = "max_invocations, max_billed_seconds or max_cost_usd"
            self.add(f"a budget requires a limit: {limits}", ("executor", "spec", "budget"), "playbook.missing_field")

    def _unique(self, names: Iterable[tuple[str, Path]], what: str) -> None:
        seen: set[str] = set()
        for name, path in names:
            if name in seen:
                self.add(f"there is another {what} named '{name}'", path, "playbook.duplicate_name")
            seen.add(name)

    def _known_step(self, name: str, path: Path) -> None:
        if name not in self.steps:
            self.add(f"there is no step '{name}'{did_you_mean(name, self.steps)}", path, "playbook.unknown_step")

    def _later(self, what: str, path: Path, hint: str = "", *, key: bool = False) -> None:
        self.add(f"{what} is not supported yet{hint}", path, "playbook.not_supported", key=key)

    def _usable(self, name: str, path: Path, what: str) -> None:
        if not _NAME.fullmatch(name):
            self.add(f"'{name}' is not a valid name: {NAME_RULE}", path)
        elif name in RESERVED_NAMES:
            self.add(
                f"'{name}' is reserved in templates; rename the {what}",
                path,
                "playbook.reserved_name",
            )

    # -- steps

    def _step(self, step: model.Step, path: Path) -> None:
        if step.step not in HIDDEN_STEPS:
            self._usable(step.step, (*path, "step"), "step")
        self._loop(step, path)
        self._spec(step, path)
        self._assignments(step.set, (*path, "set"), _ENGINE_SCOPES)
        if step.next is not None:
            for index, arc in enumerate(step.next.arcs):
                here = (*path, "next", "arcs", index)
                self._known_step(arc.step, (*here, "step"))
                self._assignments(arc.set, (*here, "set"), _ENGINE_SCOPES)
        self._tasks(step, path)
        if (undo := step.undo) is not None:
            here = (*path, "compensate")
            self._loop(undo, here)
            self._spec(undo, here)
            self._tasks(undo, here)

    def _loop(self, step: model.Step, path: Path) -> None:
        if step.loop is None:
            return
        iterator = step.loop.iterator
        self._usable(iterator, (*path, "loop", "iterator"), "iterator")
        if iterator in self.steps:
            self.add(f"the iterator '{iterator}' has the same name as a step; rename it", (*path, "loop", "iterator"))
        spec = step.loop.spec or model.LoopSpec()
        self._source(step.loop, spec, (*path, "loop"))
        self._frames(step, spec, path)
        self._loop_failure(step, spec, (*path, "loop", "spec", "policy", "failure"))
        width, at = spec.max_in_flight, (*path, "loop", "spec", "max_in_flight")
        if width is None:
            return
        if spec.mode == "sequential" and width != 1:
            self.add("max_in_flight requires mode: parallel or cursor", at)
        elif isinstance(width, int) and not 1 <= width <= IN_FLIGHT:
            self.add(f"max_in_flight must be from 1 to {IN_FLIGHT}", at)

    def _source(self, loop: model.Loop, spec: model.LoopSpec, path: Path) -> None:
        """Where the items come from."""
        if loop.items is None and loop.cursor is None:
            self.add("'in' is required, or 'cursor' with mode: cursor", path, "playbook.missing_field")
        if loop.cursor is not None:
            if loop.items is not None:
                self.add("a loop has either 'in' or 'cursor'", (*path, "cursor"))
            if spec.mode != "cursor":
                self.add("'cursor' requires spec: {mode: cursor}", (*path, "cursor"))
        elif spec.mode == "cursor":
            self.add("mode: cursor requires 'cursor'", (*path, "spec", "mode"), "playbook.missing_field")
        if spec.frame is not None and spec.mode != "cursor":
            self.add("'frame' requires mode: cursor", (*path, "spec", "frame"))
        if spec.mode == "cursor" and spec.policy is not None and spec.policy.exec is not None:
            self.add("'exec' is for loops over a collection", (*path, "spec", "policy", "exec"))

    def _frames(self, step: model.Step, spec: model.LoopSpec, path: Path) -> None:
        """A command waits for one sub-playbook or signal, not for those of several rows."""
        frame = spec.frame
        if frame is None or frame.max_rows == 1 or frame.process != "row":
            return
        for tool in step.tools:
            task = self.workbook.get(tool.name or "") if tool.kind == "workbook" else None
            if (task.tool if task is not None else tool).kind in grammar.PARKING_KINDS:
                message = "a sub-playbook or a wait for each row requires frames of one row: write max_rows: 1"
                self.add(message, (*path, "loop", "spec", "frame", "max_rows"))
                return

    def _loop_failure(self, step: model.Step, spec: model.LoopSpec, path: Path) -> None:
        """The failure mode of a loop may be in two places, but only once."""
        of_step = step.spec.policy.failure if step.spec and step.spec.policy else None
        if of_step is not None and spec.policy is not None and spec.policy.failure is not None:
            self.add("the step has 'spec.policy.failure' as well: write it in one place", path)

    def _spec(self, step: model.Step, path: Path) -> None:
        self._limits(step, path)
        policy = step.spec.policy if step.spec else None
        if policy is None:
            return
        if policy.failure is not None and policy.failure.mode == "best_effort" and step.loop is None:
            self.add("best_effort requires a loop", (*path, "spec", "policy", "failure", "mode"))
        if policy.admit is not None:
            rules = policy.admit.rules
            here = (*path, "spec", "policy", "admit", "rules")
            for index, rule in enumerate(rules):
                self._rule_shape(rule, index, len(rules), (*here, index))

    def _limits(self, step: model.Step, path: Path) -> None:
        """What is limited is commands, so that each has to be one call."""
        frame = step.loop.spec.frame if step.loop is not None and step.loop.spec is not None else None
        if step.spec is None or frame is None:
            return
        here = (*path, "loop", "spec", "frame")
        if step.spec.concurrency is not None and frame.row_concurrency != 1:
            message = "with spec.concurrency, the rows of a frame run one after the other: write row_concurrency: 1"
            self.add(message, (*here, "row_concurrency"))
        if step.spec.rate is not None and frame.max_rows != 1:
            self.add("with spec.rate, each row is a frame of its own: write max_rows: 1", (*here, "max_rows"))

    def _assignments(self, values: Mapping[str, object], path: Path, allowed: tuple[str, ...]) -> None:
        for key in values:
            scope, dot, name = key.partition(".")
            here = (*path, key)
            if dot and scope == "workload":
                self.add(f"the workload cannot be changed: write {allowed[0]}.{name.rpartition('.')[2]}", here)
            elif not dot or scope not in _SCOPES:
                self.add(f"'{key}' has no scope: write {allowed[0]}.{key.rpartition('.')[2]}", here)
            elif scope not in allowed:
                here_too = ", ".join(f"{one}." for one in allowed)
                self.add(f"'{scope}.' can be set only in a rule of a tool; here: {here_too}", here)
            elif not _NAME.fullmatch(name):
                self.add(f"'{name}' is not a valid name: {NAME_RULE}", here)

    # -- tools

    def _tasks(self, step: model.Step, path: Path) -> None:
        names = labels(step)
        for index, (tool, label) in enumerate(zip(step.tools, names, strict=True)):
            here = tool_path(step, path, index)
            if label != step.step:
                self._usable(label, (*here, "name"), "task")
            if label in grammar.PREVIOUS:
                self.add(f"'{label}' is reserved for the preceding task; rename the task", (*here, "name"))
            self._tool(tool, here)
            if step.loop is not None and tool.output is not None and tool.output.select:
                self.add("output.select is not allowed in a loop: its result is a list", (*here, "output"))
            self._rules(tool, here, names, index)
        self._unique(((name, (*tool_path(step, path, i), "name")) for i, name in enumerate(names)), "task")

    def _tool(self, tool: model.Tool, path: Path) -> None:
        self._kind(tool.kind, (*path, "kind"))
        self._names_of_results(tool, path)
        for key in grammar.LATER_CONFIG.get(tool.kind, frozenset()) & tool.config.keys():
            self._later(f"'{key}' of {tool.kind}", (*path, key), key=True)
        if tool.kind == "wait" and tool.spec is not None and tool.spec.timeout is not None:
            self.add("a wait is no call: write within beside its signal", (*path, "spec", "timeout"), key=True)
        if tool.kind != "workbook":
            return
        if tool.name is None:
            self.add("'name' is required: the name of a task of the workbook", path, "playbook.missing_field")
        elif tool.name not in self.workbook:
            hint = did_you_mean(tool.name, self.workbook)
            self.add(f"the workbook has no task '{tool.name}'{hint}", (*path, "name"), "playbook.unknown_task")
        for key in tool.config:
            message = f"'{key}' belongs in the task of the workbook; allowed here: name, input, spec, output"
            self.add(message, (*path, key), key=True)

    def _names_of_results(self, tool: model.Tool, path: Path) -> None:
        accumulated = tool.output.accumulate if tool.output is not None else None
        if accumulated is not None and accumulated.manifest_as in RESERVED_NAMES | _OF_RESULTS:
            message = (
                f"'{accumulated.manifest_as}' already has a meaning in templates or in a result; write another name"
            )
            self.add(message, (*path, "output", "accumulate", "manifest_as"), "playbook.reserved_name")
        contract = tool.contract or model.Contract()
        for key in ("expects", "returns"):
            for index, name in enumerate(getattr(contract, key)):
                if has_markers(name) or not all(name.split(".")) or name != name.strip():
                    message = f"{name[:80]!r} is not a name: write a, or a.b for b of a"
                    self.add(message, (*path, "assert", key, index))

    def _kind(self, kind: str, path: Path) -> None:
        if kind in self.kinds:
            return
        if kind in grammar.LATER_KINDS:
            self._later(f"the tool kind '{kind}'", path)
        else:
            self.add(f"unknown tool kind '{kind}'{did_you_mean(kind, self.kinds)}", path, "playbook.unknown_kind")

    def _rules(self, tool: model.Tool, path: Path, names: list[str], index: int) -> None:
        rules = own_rules(tool)
        here = (*path, "spec", "policy", "rules")
        for place, rule in enumerate(rules):
            at = (*here, place)
            self._rule_shape(rule, place, len(rules), at)
            then, base = (rule.otherwise.then, (*at, "else", "then")) if rule.otherwise else (rule.then, (*at, "then"))
            if then is not None:
                self._then(then, base, names, index)
                self._assignments(then.set, (*base, "set"), _SCOPES)

    def _rule_shape(self, rule: model.Rule | model.AdmitRule, index: int, count: int, path: Path) -> None:
        if rule.otherwise is not None:
            if rule.when is not None or rule.then is not None:
                self.add("a rule is {when, then} or {else: {then}}, not both", path)
            if index != count - 1:
                self.add("the rules after 'else' are never reached: put 'else' last", path)
        elif rule.then is None:
            self.add("'then' is required", path, "playbook.missing_field")
        elif rule.when is None:
            self.add(
                "'when' is required; for a default rule, write {else: {then: ...}}", path, "playbook.missing_field"
            )

    def _then(self, then: model.Then, path: Path, names: list[str], index: int) -> None:
        if then.do != "retry":
            for key in ("attempts", "backoff", "delay", "max_delay"):
                if getattr(then, key) is not None:
                    self.add(f"'{key}' requires do: retry", (*path, key))
        if then.do != "jump":
            if then.to is not None:
                self.add("'to' requires do: jump", (*path, "to"))
            return
        if then.to is None:
            self.add("'to' is required: the task to continue from", path, "playbook.missing_field")
        elif then.to in grammar.PREVIOUS:
            if index == 0:
                self.add("there is no task before the first one", (*path, "to"), "playbook.unknown_task")
        elif then.to not in names:
            self.add(
                f"there is no task '{then.to}'{did_you_mean(then.to, names)}", (*path, "to"), "playbook.unknown_task"
            )


def own_rules(tool: model.Tool) -> list[model.Rule]:
    policy = tool.spec.policy if tool.spec else None
    return policy.rules if policy else []

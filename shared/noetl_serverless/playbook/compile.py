"""Compiles a playbook to its plan."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..limits import DEFAULT_CURSOR_SLOTS, DEFAULT_IN_FLIGHT
from . import grammar, model
from .document import Path, plain_data
from .failure_only import only_on_failure
from .faults import Faults
from .graph import Reach, back_arcs, bodies
from .keychain_plan import Keychain, fields_of, keychain_names, reads_of
from .limit_keys import Limits
from .plan import FRAME_MAX_ROWS, AdmitRule, Arc, Budget, Cursor, Loop, Plan, Step, Task
from .python_names import EVERYTHING
from .reads import Reads, merge
from .scope import RESERVED, VARIABLES
from .tasks import Tasks
from .template import Template, Tree
from .trees import KEYCHAIN, Trees, templates_in
from .trigger_plan import compiled_triggers

if TYPE_CHECKING:
    from .called_tools import Define

# names that templates can use without their being sent to the worker
_LOCAL = (RESERVED - {"workload", "ctx"}) | {"loop_index"}
# parts of an output that distinguish a failure from a success
_OF_FAILURES = frozenset({"status", "error", "http", "pg", "py"})
# parts of a step's view that are the whole result
_WHOLE = frozenset({"data", "result"})


def build(playbook: model.Playbook, faults: Faults, define: Define) -> Plan:
    """The plan; not to be used if there are faults. `define` compiles the tools of the catalog that it calls."""
    return _Compiler(playbook, faults, define).plan()


def canonical_hash(data: Mapping[str, Any], scripts: Mapping[str, str]) -> str:
    """SHA-256 of the document, independent of its layout, comments and version label, and of the digests of its
    scripts."""
    canonical = {**data, "apiVersion": grammar.API_VERSION, **({"scripts": scripts} if scripts else {})}
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class _Compiler:
    def __init__(self, playbook: model.Playbook, faults: Faults, define: Define) -> None:
        self.playbook = playbook
        self.document = faults.document
        self.trees = Trees(faults, fields_of(playbook.keychain))
        self.keychain = Keychain(playbook.keychain, playbook.workload, self.trees).entries
        self.tasks = Tasks(playbook, self.trees, define)
        self.limits = Limits(playbook, self.trees)
        self.names = frozenset(step.step for step in playbook.workflow)
        # shared by all steps that read it
        self.everything: Reads = dict.fromkeys(["workload", "ctx", VARIABLES, *sorted(self.names)])
        # several steps may run at once
        self.parallel = any(
            step.next and step.next.spec and step.next.spec.mode == "inclusive" for step in playbook.workflow
        )

    def plan(self) -> Plan:
        self.tasks.check_workbook()
        spec = self.playbook.executor_spec
        entry = spec.entry_step if spec.entry_step in self.names else self.playbook.workflow[0].step
        targets = {step.step: self._targets(step) for step in self.playbook.workflow}
        back_edges = back_arcs(targets, entry)
        steps = {
            step.step: self._step(step, ("workflow", index), back_edges)
            for index, step in enumerate(self.playbook.workflow)
        }
        compensations = self._compensations()
        forward = {
            name: [target for index, target in enumerate(listed) if (name, index) not in back_edges]
            for name, listed in targets.items()
        }
        metadata = self.playbook.metadata
        schemas = self.playbook.schemas or model.Schemas()
        concurrency, rate = self.limits.of_executions(spec)
        back_sources, cycles = bodies(targets, back_edges)
        compiled = steps | compensations
        return Plan(
            # of the document as its author wrote it, so that it does not depend on how older forms are read
            hash=canonical_hash(plain_data(self.document.as_written), self.tasks.scripts),
            name=metadata.name,
            path=metadata.path or metadata.name,
            workload=plain_data(self.playbook.workload),
            entry=entry,
            final_step=spec.final_step,
            no_next_is_error=spec.no_next_is_error,
            steps=compiled,
            loops=frozenset(name for name, step in compiled.items() if step.loop is not None),
            has_step_timeouts=any(step.timeout is not None for step in compiled.values()),
            has_compensations=bool(compensations),
            has_slots=any(step.concurrency is not None for step in compiled.values()),
            sources=_sources(forward),
            reach=Reach(targets),
            reach_forward=Reach(forward),
            back_sources=back_sources,
            bodies=cycles,
            timeout=spec.timeout,
            max_turns=spec.max_turns,
            weight=spec.weight,
            budget=_budget(spec.budget),
            concurrency=concurrency,
            rate=rate,
            keychain=self.keychain,
            input_schema=plain_data(schemas.input),
            result_schema=plain_data(schemas.result),
            triggers=compiled_triggers(self.playbook.triggers, self.trees, metadata.path or metadata.name),
            durability=spec.durability,
        )

    def _compensations(self) -> dict[str, Step]:
        """Steps that no arc leads to, by name."""
        found: dict[str, Step] = {}
        for index, step in enumerate(self.playbook.workflow):
            if (undo := step.undo) is not None:
                compiled = self._step(undo, ("workflow", index, "compensate"), set())
                found[undo.step] = replace(compiled, compensates=step.step)
        return found

    def _targets(self, step: model.Step) -> list[str]:
        """The targets of its arcs, in order; one that does not exist, a fault elsewhere, becomes the step itself."""
        arcs = step.next.arcs if step.next else []
        return [arc.step if arc.step in self.names else step.step for arc in arcs]

    def _step(self, step: model.Step, path: Path, back_edges: set[tuple[str, int]]) -> Step:
        tasks = self.tasks.of_step(step, path)
        takes_secrets = all(self.tasks.takes_secrets(tool) for tool in step.tools)
        input_tree = self.trees.tree(step.input, (*path, "input"), secrets=takes_secrets) if step.input else None
        input_tree, secret_input = _without_secrets(input_tree)
        loop = self._loop(step, path)
        router = step.next.spec if step.next and step.next.spec else model.RouterSpec()
        policy = step.spec.policy if step.spec else None
        concurrency, rate = self.limits.of_commands(step, (*path, "spec"))
        arcs = self._arcs(step, path, back_edges)
        return Step(
            name=step.step,
            tasks=tasks,
            is_pipeline=isinstance(step.tool, list),
            input=input_tree,
            loop=loop,
            set=self.trees.assignments(step.set, (*path, "set")),
            arcs=arcs,
            mode=router.mode,
            on_no_match=router.on_no_match,
            warns_on_no_match=_warns(step, router, arcs),
            admit=self._admit(step, path),
            reads=self._reads([input_tree, *secret_input.values()], tasks, loop),
            ctx_is_stable=not self.parallel and not any(rule.set for task in tasks for rule in task.rules),
            sets_iter=any(item.scope == "iter" for task in tasks for rule in task.rules for item in rule.set),
            parks=any(task.kind in grammar.PARKING_KINDS for task in tasks),
            place=self.trees.place(path),
            secret_input=secret_input,
            secrets=keychain_names(secret_input.values()),
            timeout=policy.lifecycle.timeout if policy and policy.lifecycle else None,
            compensation=step.undo.step if step.undo else None,
            pool=step.pool,
            concurrency=concurrency,
            rate=rate,
        )

    def _loop(self, step: model.Step, path: Path) -> Loop | None:
        if step.loop is None:
            return None
        here = (*path, "loop")
        spec = step.loop.spec or model.LoopSpec()
        policy = spec.policy or model.LoopPolicy()
        failure = policy.failure or (step.spec.policy.failure if step.spec and step.spec.policy else None)
        return Loop(
            items=self.trees.collection(step.loop, here),
            iterator=step.loop.iterator,
            mode=spec.mode,
            max_in_flight=self._width(step.loop, spec, (*here, "spec", "max_in_flight")),
            best_effort=failure is not None and failure.mode == "best_effort",
            limit=step.loop.cursor.options.pool_size if step.loop.cursor and step.loop.cursor.options else None,
            exec=policy.exec,
            cursor=self._cursor(step.loop.cursor, spec.frame or model.FramePolicy(), (*here, "cursor")),
        )

    def _cursor(self, cursor: model.Cursor | None, frame: model.FramePolicy, path: Path) -> Cursor | None:
        if cursor is None:
            return None
        options = cursor.options or model.CursorOptions()
        return Cursor(
            kind=cursor.kind,
            auth=self.trees.tree(cursor.auth, (*path, "auth")),
            claim=self.trees.sql(cursor.claim, (*path, "claim")),
            max_frames=options.max_iterations,
            max_rows=frame.max_rows,
            max_bytes=frame.max_bytes,
            max_seconds=float(frame.max_seconds),
            lease_seconds=frame.lease_seconds,
            heartbeat_seconds=frame.heartbeat_seconds,
            concurrency=frame.row_concurrency,
            by_row=frame.process == "row",
            retries_all=frame.retry_mode == "whole_frame",
            max_attempts=frame.max_attempts,
        )

    def _width(self, loop: model.Loop, spec: model.LoopSpec, path: Path) -> int | Template:
        if spec.mode == "sequential":
            return 1
        width, options = spec.max_in_flight, loop.cursor.options if loop.cursor else None
        limit = options.pool_size if options else None
        if width is None and loop.cursor is not None:
            return limit or DEFAULT_CURSOR_SLOTS
        if width is None:
            return DEFAULT_IN_FLIGHT
        if isinstance(width, int):
            return min(width, limit or width)
        template = self.trees.template(width, path)
        if template is not None and not template.is_expression:
            self.trees.faults.add("max_in_flight is a number or one {{ expression }} that gives it", path)
        return template or DEFAULT_IN_FLIGHT

    def _arcs(self, step: model.Step, path: Path, back_edges: set[tuple[str, int]]) -> tuple[Arc, ...]:
        compiled = []
        for index, arc in enumerate(step.next.arcs if step.next else []):
            here = (*path, "next", "arcs", index)
            when = self.trees.condition(arc.when, (*here, "when"))
            compiled.append(
                Arc(
                    index=index,
                    source=step.step,
                    target=arc.step,
                    when=when,
                    set=self.trees.assignments(arc.set, (*here, "set")),
                    back=(step.step, index) in back_edges,
                    handles_failure=when is not None and _asks_about_failure(when.reads),
                )
            )
        return tuple(compiled)

    def _admit(self, step: model.Step, path: Path) -> tuple[AdmitRule, ...]:
        policy = step.spec.policy if step.spec else None
        rules = policy.admit.rules if policy and policy.admit else []
        here = (*path, "spec", "policy", "admit", "rules")
        compiled = []
        for index, rule in enumerate(rules):
            when = None if rule.otherwise else self.trees.condition(rule.when, (*here, index, "when"))
            then = rule.otherwise.then if rule.otherwise else rule.then
            compiled.append(AdmitRule(when, then is None or then.allow))
        return tuple(compiled)

    def _reads(self, inputs: Iterable[Tree], tasks: Collection[Task], loop: Loop | None) -> Reads:
        """The names that the worker must be given to render the step's templates, and for its code."""
        contexts = [task.context for task in tasks if task.context is not None]
        if any(EVERYTHING in context for context in contexts):
            return self.everything
        trees: list[Tree] = [*inputs, loop.items if loop else None]
        if loop and loop.cursor:
            trees += [loop.cursor.auth, loop.cursor.claim]
        local = {*_LOCAL, FRAME_MAX_ROWS}
        if loop:
            local |= {loop.iterator, "loop_event_id"}
        for task in tasks:
            local.add(task.name)
            trees += [task.config if task.interface is None else _of_caller(task.config), task.timeout]
            for rule in task.rules:
                trees += [rule.when, rule.attempts, rule.delay, rule.max_delay, *(item.value for item in rule.set)]
        of_templates = (template.reads for tree in trees for template in templates_in(tree))
        found = merge([*of_templates, *contexts])
        # the name of a credential may be that of an entry
        by_name = (loop is not None and loop.cursor is not None) or any(
            isinstance(task.config, dict) and task.config.keys() & grammar.AUTH_FIELDS for task in tasks
        )
        found = merge([found, reads_of(self.keychain, self.keychain if by_name else found.get(KEYCHAIN) or ())])
        return merge(self._resolved(name, parts, local) for name, parts in found.items())

    def _resolved(self, name: str, parts: frozenset[str] | None, local: set[str]) -> Reads:
        if name in ("workload", "ctx"):
            return {name: parts}
        if name in self.names:
            # even if a task has the same name: before that task has run, the name means the step. Before the step has
            # ended, it means a value
            values = {"ctx": frozenset({name}), "workload": frozenset({name})}
            return {name: None if parts is None or parts & _WHOLE else parts, **values}
        if name in local:
            return {}
        values = {"ctx": frozenset({name}), "workload": frozenset({name})}
        return {VARIABLES: parts, **values} if name == VARIABLES else values


def _without_secrets(tree: Tree) -> tuple[Tree, dict[str, Tree]]:
    """The input of a step without the keys that read the keychain, and those keys."""
    if not isinstance(tree, dict):
        return tree, {}
    secret = {key: value for key, value in tree.items() if keychain_names([value])}
    return {key: value for key, value in tree.items() if key not in secret} or None, secret


def _of_caller(config: Tree) -> Tree:
    """What the step itself gives to a tool of the catalog, which reads nothing else."""
    if not isinstance(config, dict):
        return None
    return {key: value for key, value in config.items() if key == "input" or key in grammar.AUTH_FIELDS}


def _budget(budget: model.Budget | None) -> Budget | None:
    if budget is None:
        return None
    return Budget(budget.max_invocations, budget.max_billed_seconds, budget.max_cost_usd, budget.prices)


def _warns(step: model.Step, router: model.RouterSpec, arcs: tuple[Arc, ...]) -> bool:
    """See `Step.warns`: where all arcs are only for failures, a step that ends well misses nothing."""
    if step.next is None or "on_no_match" in router.model_fields_set:
        return False
    # a condition that reads nothing of a failure need not be parsed again
    return not arcs or not all(arc.handles_failure and only_on_failure(arc.when) for arc in arcs)


def _asks_about_failure(reads: Reads) -> bool:
    if "event" in reads or "error" in reads:
        return True
    output = reads.get("output", frozenset())
    return output is None or bool(output & _OF_FAILURES)


def _sources(forward: Mapping[str, Iterable[str]]) -> dict[str, frozenset[str]]:
    sources: dict[str, set[str]] = {name: set() for name in forward}
    for source, targets in forward.items():
        for target in targets:
            sources[target].add(source)
    return {name: frozenset(found) for name, found in sources.items()}

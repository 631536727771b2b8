"""Steps of older playbooks, with their loops and arcs."""

from __future__ import annotations

import re
from collections import Counter
from functools import partial
from typing import Any, Final

from ..document import ListNode, MapNode, walk
from ..template import has_markers
from .edits import Edits, Place, can_hold, copied, put, removed, value_at
from .names import NAMES, TOOL_FIELDS, names_in, step_name
from .tools import Tools

_QUOTED: Final = re.compile(r"""(['"])([\w/.-]{1,100})\1""")


class Steps:
    def __init__(self, edits: Edits, root: Any) -> None:
        """`root`: of the playbook."""
        self.edits = edits
        self.tools = Tools(edits, root)
        # name of a step as it is written -> one that it may have
        self._new_names = _new_names(root)

    def of_playbook(self, root: Any) -> Any:
        root = self.edits.part(root, "workflow", (), self.edits.each(self._step))
        for key in ("entry_step", "final_step"):
            root = self.edits.deep(root, (), ("executor", "spec"), partial(self._named, key=key))
        root = self.edits.part(root, "workbook", (), self.edits.each(self._workbook_task))
        return self.tools.secrets.of_playbook(root)

    # -- steps

    def _step(self, step: Any, at: Place) -> Any:
        if not isinstance(step, MapNode):
            return step
        step = self._named(step, at)
        step = self.edits.renamed(step, at, NAMES["step"])
        step = self.edits.part(step, "input", at, self.tools.secrets.of_part)
        step = self.edits.part(step, "tool", at, self.edits.each(self.tools.labelled))
        step = self._with_tool(step, at)
        step = self._with_spec(step, at)
        in_loop = "loop" in step
        step = self.edits.part(step, "tool", at, lambda tool, place: self.tools.of_step(tool, place, in_loop=in_loop))
        if not in_loop:
            step = self._own_set(step, at)
        step = self.edits.part(step, "loop", at, self._loop)
        step = self._with_mode(step, at)
        return self.edits.part(step, "next", at, self._router)

    def _named(self, node: Any, at: Place, key: str = "step") -> Any:
        """The name of a step that is like a path, as one that templates can read."""
        name = node.get(key) if isinstance(node, MapNode) else None
        if not isinstance(name, str) or (new := self._new_names.get(name)) is None:
            return node
        self.edits.warn(f"a step's name consists of letters, digits and _: write {new}", node, at, key)
        return node.having(key, new, *node.marks_of(key))

    def _workbook_task(self, task: Any, at: Place) -> Any:
        if isinstance(task, MapNode):
            task = self.edits.moved_into(task, "assert", at, ("tool",), "assert")
        return self.edits.part(task, "tool", at, lambda tool, place: self.tools.tool(tool, place, in_list=True))

    def _with_tool(self, step: MapNode, at: Place) -> MapNode:
        """The tool as a mapping, with the fields of the tool that stand at the step."""
        tool, place = step.get("tool"), (*at, "tool")
        if isinstance(tool, str):
            self.edits.warn(f"write tool: {{kind: {tool[:40]}, ...}}", step, at, "tool")
            node = MapNode(step.value_marks["tool"])
            mark = step.value_marks["tool"]
            step = step.having("tool", node.having("kind", tool, mark, mark), *step.marks_of("tool"))
        if isinstance(step.get("tool"), MapNode):
            moved = TOOL_FIELDS | {"output", "output_select", "retry"}
            # text is the pool of workers; limits are those of the tool's connections
            moved -= set() if isinstance(step.get("pool"), MapNode) else {"pool"}
            for key in [key for key in step if key in moved]:
                step = self.edits.moved_into(step, key, at, ("tool",), key)
        elif isinstance(tool, ListNode) and tool and isinstance(tool[-1], MapNode) and "output" not in tool[-1]:
            # in a list, the result of the step is that of its last task
            step = self.edits.moved_to_item(step, "output", place, tool)
        return step

    def _with_spec(self, step: MapNode, at: Place) -> MapNode:
        step = self.edits.moved_into(step, "timeout", at, ("spec",), "timeout")
        policy = value_at(step, ("spec", "policy"))
        if isinstance(step.get("tool"), MapNode) and isinstance(policy, MapNode) and "rules" in policy:
            message = "'rules' belong to the tool: write tool: {spec: {policy: {rules: ...}}}"
            step = self.edits.moved_deep(step, at, ("spec", "policy"), "rules", ("tool", "spec", "policy"), message)
        return step

    def _own_set(self, step: MapNode, at: Place) -> MapNode:
        """`set` of the only tool as that of the step, which both run once the tool has ended well."""
        tool, own = step.get("tool"), step.get("set")
        if not isinstance(tool, MapNode) or not isinstance(given := tool.get("set"), MapNode):
            return step
        if isinstance(own, MapNode) and own.keys() & given.keys():
            return step
        if any(not key.startswith(("ctx.", "vars.")) for key in given):
            return step.having("tool", self.tools.rules.set_by_rule(tool, (*at, "tool")), *step.marks_of("tool"))
        return self.edits.moved_deep(step, at, ("tool",), "set", (), "'set' is written beside 'tool'")

    # -- loops and arcs

    def _with_mode(self, step: MapNode, at: Place) -> MapNode:
        """`spec.next_mode`, which says how the arcs of a list are taken, as the mode of a router."""
        mode, following = value_at(step, ("spec", "next_mode")), step.get("next")
        if mode not in ("exclusive", "inclusive") or value_at(following, ("spec", "mode")) is not None:
            return step
        if not isinstance(following, ListNode) and not (
            isinstance(following, MapNode) and can_hold(following, ("spec",))
        ):
            return step
        spec = step["spec"]
        self.edits.warn(f"write next: {{spec: {{mode: {mode}}}, arcs: ...}}", spec, (*at, "spec"), "next_mode")
        if isinstance(following, ListNode):
            self.edits.moved[(*at, "next", "arcs")] = self.edits.origin((*at, "next"))
            router = MapNode(following.mark).having("arcs", _arcs(following), *step.marks_of("next"))
            step = step.having("next", router, *step.marks_of("next"))
        self.edits.moved[(*at, "next", "spec", "mode")] = self.edits.origin((*at, "spec", "next_mode"))
        step = removed(step, ("spec",), "next_mode")
        return put(step, ("next", "spec"), "mode", mode, *spec.marks_of("next_mode"))

    def _router(self, router: Any, at: Place) -> Any:
        router = self._with_arcs(router, at)
        return self.edits.part(router, "arcs", at, self.edits.each(self._arc))

    def _arc(self, arc: Any, at: Place) -> Any:
        return self._named(self.edits.renamed(arc, at, NAMES["arc"]), at)

    def _with_arcs(self, router: Any, at: Place) -> Any:
        """The name of a step, or a list of one arc, as a router. Of several arcs in a list, whether all are taken or
        only the first is not said."""
        is_list = isinstance(router, ListNode) and len(router) == 1
        target, place = (router[0], (*at, 0)) if is_list else (router, at)
        is_arc = isinstance(target, MapNode) and "step" in target and is_list
        if not is_arc and not isinstance(target, str):
            return router
        mark = router.marks[0] if is_list else self.edits.document.find(self.edits.origin(at))[1]
        name = target.get("step") if isinstance(target, MapNode) else target
        more = ", ..." if isinstance(target, MapNode) and len(target) > 1 else ""
        self.edits.warn_at(f"write next: {{arcs: [{{step: {str(name)[:40]}{more}}}]}}", at, mark)
        arc = target if isinstance(target, MapNode) else MapNode(mark).having("step", target, mark, mark)
        arcs = ListNode(mark)
        arcs.append(arc)
        arcs.marks.append(mark)
        self.edits.moved[(*at, "arcs", 0)] = self.edits.origin(place)
        self.edits.moved[(*at, "arcs", 0, "step")] = self.edits.origin((*place, "step") if is_arc else place)
        return MapNode(mark).having("arcs", arcs, mark, mark)

    def _loop(self, loop: Any, at: Place) -> Any:
        if not isinstance(loop, MapNode):
            return loop
        loop = self.edits.renamed(loop, at, NAMES["loop"])
        for key in ("mode", "max_in_flight"):
            loop = self.edits.moved_into(loop, key, at, ("spec",), key)
        results = value_at(loop, ("spec", "policy", "results"))
        if isinstance(results, MapNode) and dict(results) == {"preserve_order": True}:
            policy, place = loop["spec"]["policy"], (*at, "spec", "policy")
            self.edits.warn("results are always in the order of the items: leave it out", policy, place, "results")
            loop = removed(loop, ("spec", "policy"), "results")
        mode = value_at(loop, ("spec", "mode"))
        if mode != "async":
            return loop
        spec = loop["spec"]
        self.edits.warn("write mode: parallel", spec, (*at, "spec"), "mode")
        parallel = spec.having("mode", "parallel", *spec.marks_of("mode"))
        return loop.having("spec", parallel, *loop.marks_of("spec"))


def _new_names(root: Any) -> dict[str, str]:
    """Of the steps whose names are no names, for / or - or a dot: with _ instead, unless something else is called so or
    a template compares the name as it is written."""
    workflow = value_at(root, ("workflow",))
    steps = workflow if isinstance(workflow, ListNode) else []
    names = [step["step"] for step in steps if isinstance(step, MapNode) and isinstance(step.get("step"), str)]
    new_names = {name: new for name in names if (new := step_name(name)) != name}
    if not new_names:
        return {}
    counts = Counter(map(step_name, names))
    taken = {name for part in ("workload", "workflow", "workbook") for name in names_in(value_at(root, (part,)))}
    texts = (value for _, value in walk(root) if isinstance(value, str) and has_markers(value))
    compared = {name for text in texts for _, name in _QUOTED.findall(text)}
    return {
        name: new for name, new in new_names.items() if counts[new] == 1 and new not in taken and name not in compared
    }


def _arcs(listed: ListNode) -> ListNode:
    """Names of steps as arcs to them."""
    named = {
        index: MapNode(mark).having("step", target, mark, mark)
        for index, (target, mark) in enumerate(zip(listed, listed.marks, strict=True))
        if isinstance(target, str)
    }
    return copied(listed, named)

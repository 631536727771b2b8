"""Older forms of the language, rewritten to today's before anything else looks at the document.

Each rewriting is a warning that names today's form. What could mean two things is left as it is, for the grammar to
refuse. Values keep their places in the text, so that a fault in one is reported where its author wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from ..errors import Fault
from . import grammar
from .document import Document, ListNode, MapNode, Mark, Path, plain_data
from .template import Template, TemplateError

Place = tuple[str | int, ...]
Rewrite = Callable[[Any, Place], Any]

CODE: Final = "playbook.older_form"

# fields of tools that older playbooks have at the step or in the tool's spec
_TOOL_FIELDS: Final = frozenset(
    """
    auth body code code_b64 command commands credential data database endpoint follow_redirects form headers json libs
    method params path payload pool query return_step script url verify_ssl version
    """.split()  # noqa: SIM905
)
_SPEC_FIELDS: Final = _TOOL_FIELDS | {"input"}
# part of the language -> today's key -> its older names
NAMES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "step": {"input": ("args", "with"), "timeout": ("timeout_seconds",)},
    "tool": {"input": ("args", "with"), "kind": ("type",)},
    "arc": {"when": ("cond", "condition")},
    "loop": {"in": ("collection",), "iterator": ("element",)},
    "retry": {
        "attempts": ("max_attempts", "max_retries"),
        "delay": ("initial_delay", "retry_delay"),
        "when": ("retry_when",),
    },
}
_THEN_KEYS: Final = ("do", "to", "attempts", "backoff", "delay", "max_delay", "set")
_OK: Final = "{{ output.status == 'ok' }}"
_FAILED: Final = "{{ output.status == 'error' }}"


def rewrite(document: Document) -> Document:
    """The document in today's forms, with its warnings; the same one if it has no older form."""
    rewriter = _Rewriter(document)
    root = rewriter.playbook(document.root)
    if root is document.root:
        return document
    return replace(document, root=root, warnings=rewriter.warnings, moved=rewriter.moved, written=document.root)


class _Rewriter:
    """Its methods return the node that they are given, or a copy if it has an older form: nodes may be shared through
    aliases, and the same one may be rewritten differently in two places."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.warnings: list[Fault] = []
        # place of a rewritten part -> where it stood
        self.moved: dict[Place, Place] = {}

    def playbook(self, root: Any) -> Any:
        root = self._part(root, "metadata", (), self._metadata)
        root = self._part(root, "workflow", (), self._each(self._step))
        return self._part(root, "workbook", (), self._each(self._workbook_task))

    def _metadata(self, metadata: Any, at: Place) -> Any:
        """A path from the root."""
        path = metadata.get("path") if isinstance(metadata, MapNode) else None
        if not isinstance(path, str) or not re.fullmatch("/[^/].*", path):
            return metadata
        self._warn(f"a path does not begin with a slash: write {path[1:200]}", metadata, at, "path")
        return metadata.having("path", path[1:], *metadata.marks_of("path"))

    # -- steps

    def _step(self, step: Any, at: Place) -> Any:
        if not isinstance(step, MapNode):
            return step
        step = self._renamed(step, at, NAMES["step"])
        step = self._part(step, "tool", at, self._each(self._labelled))
        step = self._with_tool(step, at)
        step = self._with_spec(step, at)
        in_loop = "loop" in step
        step = self._part(step, "tool", at, lambda tool, place: self._tools(tool, place, in_loop=in_loop))
        if not in_loop:
            step = self._own_set(step, at)
        step = self._part(step, "loop", at, self._loop)
        return self._part(step, "next", at, self._router)

    def _workbook_task(self, task: Any, at: Place) -> Any:
        if isinstance(task, MapNode):
            task = self._moved(task, "assert", at, ("tool",), "assert")
        return self._part(task, "tool", at, lambda tool, place: self._tool(tool, place, in_list=True))

    def _with_tool(self, step: MapNode, at: Place) -> MapNode:
        """The tool as a mapping, with the fields of the tool that stand at the step."""
        tool, place = step.get("tool"), (*at, "tool")
        if isinstance(tool, str):
            self._warn(f"write tool: {{kind: {tool[:40]}, ...}}", step, at, "tool")
            node = MapNode(step.value_marks["tool"])
            mark = step.value_marks["tool"]
            step = step.having("tool", node.having("kind", tool, mark, mark), *step.marks_of("tool"))
        if isinstance(step.get("tool"), MapNode):
            for key in [key for key in step if key in _TOOL_FIELDS or key in ("output", "output_select", "retry")]:
                step = self._moved(step, key, at, ("tool",), key)
        elif isinstance(tool, ListNode) and tool and isinstance(tool[-1], MapNode) and "output" not in tool[-1]:
            # in a list, the result of the step is that of its last task
            step = self._moved_to_item(step, "output", place, tool)
        return step

    def _with_spec(self, step: MapNode, at: Place) -> MapNode:
        step = self._moved(step, "timeout", at, ("spec",), "timeout")
        policy = _value(step, ("spec", "policy"))
        if isinstance(step.get("tool"), MapNode) and isinstance(policy, MapNode) and "rules" in policy:
            message = "'rules' belong to the tool: write tool: {spec: {policy: {rules: ...}}}"
            step = self._moved_deep(step, at, ("spec", "policy"), "rules", ("tool", "spec", "policy"), message)
        return step

    def _own_set(self, step: MapNode, at: Place) -> MapNode:
        """`set` of the only tool as that of the step, which both run once the tool has ended well."""
        tool, own = step.get("tool"), step.get("set")
        if not isinstance(tool, MapNode) or not isinstance(given := tool.get("set"), MapNode):
            return step
        if isinstance(own, MapNode) and own.keys() & given.keys():
            return step
        if any(not key.startswith("ctx.") for key in given):
            return step.having("tool", self._set_by_rule(tool, (*at, "tool")), *step.marks_of("tool"))
        return self._moved_deep(step, at, ("tool",), "set", (), "'set' is written beside 'tool'")

    # -- tools

    def _tools(self, tool: Any, at: Place, *, in_loop: bool) -> Any:
        if isinstance(tool, ListNode):
            return self._each(lambda item, place: self._tool(item, place, in_list=True))(tool, at)
        return self._tool(tool, at, in_list=in_loop)

    def _labelled(self, item: Any, at: Place) -> Any:
        """`- fetch: {kind: ...}` as {name: fetch, kind: ...}."""
        if not isinstance(item, MapNode) or len(item) != 1:
            return item
        (label,) = item
        inner = item[label]
        if not isinstance(inner, MapNode) or "name" in inner:
            return item
        if "kind" not in inner and inner.get("type") not in grammar.BUILTIN_KINDS:
            return item
        self._warn(f"write the name next to the kind: {{name: {label[:40]}, kind: ...}}", item, at, label)
        self.moved[at] = self._origin((*at, label))
        mark = item.key_marks[label]
        return inner.having("name", label, mark, mark)

    def _tool(self, tool: Any, at: Place, *, in_list: bool) -> Any:
        if not isinstance(tool, MapNode):
            return tool
        tool = self._renamed(tool, at, NAMES["tool"])
        spec = tool.get("spec")
        for key in [key for key in spec if key in _SPEC_FIELDS] if isinstance(spec, MapNode) else ():
            tool = self._moved_deep(
                tool, at, ("spec",), key, (), f"'{key}' is written in the tool itself, beside 'kind'"
            )
        kind = tool.get("kind")
        if isinstance(kind, str) and kind in grammar.BUILTIN_KINDS:
            tool = self._renamed(tool, at, {"timeout": ("timeout_seconds",)})
            if kind != "http":
                tool = self._moved(tool, "timeout", at, ("spec",), "timeout")
        if kind == "postgres":
            tool = self._renamed(tool, at, {"auth": ("credential",)})
        tool = self._part(tool, "script", at, self._script)
        tool = self._part(tool, "libs", at, self._libs)
        tool = self._selected(tool, at)
        tool = self._with_retry(tool, at)
        if in_list and "set" in tool:
            tool = self._set_by_rule(tool, at)
        rules = _value(tool, ("spec", "policy", "rules"))
        if isinstance(rules, ListNode):
            tool = self._deep(tool, at, ("spec", "policy", "rules"), self._each(self._rule))
        return tool

    def _script(self, script: Any, at: Place) -> Any:
        """A script whose place is made of the workload: that of the workload as it is written, when it is read."""
        uri = script.get("uri") if isinstance(script, MapNode) else None
        if not isinstance(uri, str) or "{{" not in uri:
            return script
        root = self.document.root
        workload = root.get("workload") if isinstance(root, MapNode) else None
        try:
            known = plain_data(workload) if isinstance(workload, MapNode) else {}
            place = Template(uri).render({**known, "workload": known})
        except TemplateError:
            return script
        if not isinstance(place, str) or "{{" in place:
            return script
        message = f"it is read when the playbook is registered, whatever a payload gives: write uri: {place[:200]}"
        self._warn(message, script, at, "uri")
        return script.having("uri", place, *script.marks_of("uri"))

    def _libs(self, libs: Any, at: Place) -> Any:
        """`{Path: {from: pathlib, import: Path}}` as {Path: pathlib.Path}."""
        if not isinstance(libs, MapNode):
            return libs
        for name, lib in libs.items():
            if not isinstance(lib, MapNode) or set(lib) != {"from", "import"}:
                continue
            if isinstance(lib["from"], str) and isinstance(lib["import"], str):
                path = f"{lib['from']}.{lib['import']}"
                self._warn(f"write {name[:40]}: {path[:200]}", libs, at, name)
                libs = libs.having(name, path, *libs.marks_of(name))
        return libs

    def _selected(self, tool: MapNode, at: Place) -> MapNode:
        """`output_select: [name]` as output: {select: [{path: $.name, as: name}]}."""
        output = tool.get("output")
        holder, place = (output, (*at, "output")) if isinstance(output, MapNode) else (tool, at)
        names = holder.get("output_select")
        if not isinstance(names, ListNode) or not all(isinstance(name, str) for name in names):
            return tool
        self._warn("write output: {select: [{path: $.name, as: name}]}", holder, place, "output_select")
        select = ListNode(names.mark)
        for name, mark in zip(names, names.marks, strict=True):
            pair = MapNode(mark).having("path", f"$.{name}", mark, mark)
            select.append(pair.having("as", name.rpartition(".")[2], mark, mark))
            select.marks.append(mark)
        key_mark, value_mark = holder.marks_of("output_select")
        self.moved[(*at, "output", "select")] = self._origin((*place, "output_select"))
        if holder is tool:
            tool = tool.without({"output_select"})
            holder = MapNode(key_mark)
        node = holder.without({"output_select"}).having("select", select, key_mark, value_mark)
        return tool.having("output", node, tool.key_marks.get("output", key_mark), node.mark)

    def _with_retry(self, tool: MapNode, at: Place) -> MapNode:
        """`retry` as a rule that repeats the call after an error."""
        retry = tool.get("retry")
        if "retry" not in tool or _value(tool, ("spec", "policy", "rules")) is not None:
            return tool
        key_mark, mark = tool.marks_of("retry")
        then = MapNode(mark).having("do", "retry", mark, mark)
        when: Any = _FAILED
        place = (*at, "retry")
        if isinstance(retry, MapNode):
            retry = self._renamed(retry, place, NAMES["retry"], warns=False)
            if (factor := retry.get("backoff_multiplier")) in (1, 2) and "backoff" not in retry:
                backoff = "fixed" if factor == 1 else "exponential"
                factor_mark = retry.value_marks["backoff_multiplier"]
                retry = retry.without({"backoff_multiplier"}).having("backoff", backoff, factor_mark, factor_mark)
            if isinstance(condition := retry.get("when"), str):
                when = _both(condition)
            for key, value in retry.without({"when"}).items():
                then = then.having(key, value, *retry.marks_of(key))
        elif isinstance(retry, int) and not isinstance(retry, bool):
            then = then.having("attempts", retry, mark, mark)
        elif retry is not True:
            return tool.without({"retry"}) if retry is False else tool
        self._warn("write a rule: spec: {policy: {rules: [{when: ..., then: {do: retry, ...}}]}}", tool, at, "retry")
        rule = MapNode(mark).having("when", when, mark, mark).having("then", then, key_mark, mark)
        self.moved[(*at, "spec", "policy", "rules", 0, "then")] = self._origin(place)
        return self._with_rule(tool.without({"retry"}), rule, key_mark)

    def _set_by_rule(self, tool: MapNode, at: Place) -> MapNode:
        """`set` of one task of several, or of an item of a loop, as a rule that applies when it has ended well."""
        given = tool.get("set")
        if not isinstance(given, MapNode) or _value(tool, ("spec", "policy", "rules")) is not None:
            return tool
        self._warn(
            "write a rule: spec: {policy: {rules: [{when: ..., then: {do: continue, set: ...}}]}}", tool, at, "set"
        )
        key_mark, mark = tool.marks_of("set")
        then = MapNode(mark).having("do", "continue", mark, mark).having("set", given, key_mark, mark)
        rule = MapNode(mark).having("when", _OK, mark, mark).having("then", then, mark, mark)
        self.moved[(*at, "spec", "policy", "rules", 0, "then", "set")] = self._origin((*at, "set"))
        return self._with_rule(tool.without({"set"}), rule, key_mark)

    def _with_rule(self, tool: MapNode, rule: MapNode, mark: Mark) -> MapNode:
        rules = ListNode(mark)
        rules.append(rule)
        rules.marks.append(mark)
        return _put(tool, ("spec", "policy"), "rules", rules, mark, mark)

    # -- rules, arcs and loops

    def _rule(self, rule: Any, at: Place) -> Any:
        if not isinstance(rule, MapNode):
            return rule
        if "then" not in rule and "else" not in rule:
            return self._with_then(rule, at)
        return self._part(rule, "else", at, self._with_then)

    def _with_then(self, node: Any, at: Place) -> Any:
        """`do` and what belongs to it within `then`."""
        if not isinstance(node, MapNode) or "then" in node or "do" not in node:
            return node
        self._warn("'do' belongs in 'then': write then: {do: ...}", node, at, "do")
        mark = node.key_marks["do"]
        then = MapNode(mark)
        for key in [key for key in node if key in _THEN_KEYS]:
            then = then.having(key, node[key], *node.marks_of(key))
            self.moved[(*at, "then", key)] = self._origin((*at, key))
        return node.without(then.keys()).having("then", then, mark, mark)

    def _router(self, router: Any, at: Place) -> Any:
        router = self._with_arcs(router, at)
        rename: Rewrite = lambda arc, place: self._renamed(arc, place, NAMES["arc"])  # noqa: E731
        return self._part(router, "arcs", at, self._each(rename))

    def _with_arcs(self, router: Any, at: Place) -> Any:
        """The name of a step, or a list of one arc, as a router. Of several arcs in a list, whether all are taken or
        only the first is not said."""
        is_list = isinstance(router, ListNode) and len(router) == 1
        target, place = (router[0], (*at, 0)) if is_list else (router, at)
        is_arc = isinstance(target, MapNode) and "step" in target and is_list
        if not is_arc and not isinstance(target, str):
            return router
        mark = router.marks[0] if is_list else self.document.find(self._origin(at))[1]
        name = target.get("step") if isinstance(target, MapNode) else target
        more = ", ..." if isinstance(target, MapNode) and len(target) > 1 else ""
        self._warn_at(f"write next: {{arcs: [{{step: {str(name)[:40]}{more}}}]}}", at, mark)
        arc = target if isinstance(target, MapNode) else MapNode(mark).having("step", target, mark, mark)
        arcs = ListNode(mark)
        arcs.append(arc)
        arcs.marks.append(mark)
        self.moved[(*at, "arcs", 0)] = self._origin(place)
        self.moved[(*at, "arcs", 0, "step")] = self._origin((*place, "step") if is_arc else place)
        return MapNode(mark).having("arcs", arcs, mark, mark)

    def _loop(self, loop: Any, at: Place) -> Any:
        if not isinstance(loop, MapNode):
            return loop
        loop = self._renamed(loop, at, NAMES["loop"])
        for key in ("mode", "max_in_flight"):
            loop = self._moved(loop, key, at, ("spec",), key)
        mode = _value(loop, ("spec", "mode"))
        if mode != "async":
            return loop
        spec = loop["spec"]
        self._warn("write mode: parallel", spec, (*at, "spec"), "mode")
        parallel = spec.having("mode", "parallel", *spec.marks_of("mode"))
        return loop.having("spec", parallel, *loop.marks_of("spec"))

    # -- moving

    def _renamed(self, node: Any, at: Place, names: Mapping[str, tuple[str, ...]], *, warns: bool = True) -> Any:
        if not isinstance(node, MapNode):
            return node
        for name, older in names.items():
            found = [key for key in older if key in node]
            if len(found) != 1 or name in node:
                continue
            (key,) = found
            if warns:
                self._warn(f"'{key}' is called '{name}' today", node, at, key)
            self.moved[(*at, name)] = self._origin((*at, key))
            node = node.having(name, node[key], *node.marks_of(key)).without({key})
        return node

    def _moved(self, node: MapNode, key: str, at: Place, into: Place, name: str) -> MapNode:
        """`node[key]` as `name` of the mapping at `into` below it, unless that has one."""
        holder = _value(node, into)
        if key not in node or not (holder is None or isinstance(holder, MapNode)) or name in (holder or ()):
            return node
        where = ": {".join(str(part) for part in into)
        self._warn(f"'{key}' belongs in '{into[0]}': write {where}: {{{name}: ...{'}' * len(into)}", node, at, key)
        self.moved[(*at, *into, name)] = self._origin((*at, key))
        return _put(node.without({key}), into, name, node[key], *node.marks_of(key))

    def _moved_deep(self, node: MapNode, at: Place, source: Path, key: str, into: Path, message: str) -> MapNode:
        """`key` of the mapping at `source` below `node` as one of the mapping at `into`, merged with what that has."""
        holder, target = _value(node, source), _value(node, into)
        value = holder[key]
        if target is not None and not isinstance(target, MapNode):
            return node
        known = None if target is None else target.get(key)
        if known is not None and not (isinstance(known, MapNode) and isinstance(value, MapNode)):
            return node
        place = (*at, *source)
        self._warn(message, holder, place, key)
        key_mark, value_mark = holder.marks_of(key)
        if isinstance(known, MapNode):
            for name, item in value.items():
                self.moved[(*at, *into, key, name)] = self._origin((*place, key, name))
                known = known.having(name, item, *value.marks_of(name))
            value = known
        else:
            self.moved[(*at, *into, key)] = self._origin((*place, key))
        node = _removed(node, source, key)
        return _put(node, into, key, value, key_mark, value_mark)

    def _moved_to_item(self, step: MapNode, key: str, at: Place, items: ListNode) -> MapNode:
        """`step[key]` as that of the last item."""
        if key not in step:
            return step
        self._warn(f"'{key}' belongs to the task: write it in the last one", step, at[:-1], key)
        self.moved[(*at, len(items) - 1, key)] = self._origin((*at[:-1], key))
        last = items[-1].having(key, step[key], *step.marks_of(key))
        rest = step.without({key})
        return rest.having("tool", _copied(items, {len(items) - 1: last}), *step.marks_of("tool"))

    # -- walking

    def _part(self, node: Any, key: str, at: Place, rewrite: Rewrite) -> Any:
        if not isinstance(node, MapNode) or key not in node:
            return node
        new = rewrite(node[key], (*at, key))
        if new is node[key]:
            return node
        return node.having(key, new, *node.marks_of(key))

    def _deep(self, node: Any, at: Place, path: Path, rewrite: Rewrite) -> Any:
        if len(path) == 1:
            return self._part(node, str(path[0]), at, rewrite)
        return self._part(node, str(path[0]), at, lambda child, place: self._deep(child, place, path[1:], rewrite))

    def _each(self, rewrite: Rewrite) -> Rewrite:
        def all_of(items: Any, at: Place) -> Any:
            if not isinstance(items, ListNode):
                return items
            changed = {}
            for index, item in enumerate(items):
                if (new := rewrite(item, (*at, index))) is not item:
                    changed[index] = new
            return _copied(items, changed) if changed else items

        return all_of

    def _origin(self, place: Place) -> Place:
        for length in range(len(place), 0, -1):
            if (origin := self.moved.get(place[:length])) is not None:
                return (*origin, *place[length:])
        return place

    def _warn(self, message: str, node: MapNode, at: Place, key: str) -> None:
        self._warn_at(message, (*at, key), node.key_marks[key])

    def _warn_at(self, message: str, at: Place, mark: Mark) -> None:
        pointer = Document(None, moved=self.moved).pointer(at)
        self.warnings.append(
            Fault(f"an older form: {message}", pointer=pointer, line=mark.line, column=mark.column, code=CODE)
        )


def _value(node: Any, path: Path) -> Any:
    for part in path:
        if not isinstance(node, MapNode) or part not in node:
            return None
        node = node[str(part)]
    return node


def _put(node: MapNode, into: Path, key: str, value: Any, key_mark: Mark, value_mark: Mark) -> MapNode:
    """`node` with `key` in the mapping at `into` below it, which is made if there is none."""
    if not into:
        return node.having(key, value, key_mark, value_mark)
    first = str(into[0])
    child = node.get(first)
    if not isinstance(child, MapNode):
        child = MapNode(key_mark)
    new = _put(child, into[1:], key, value, key_mark, value_mark)
    return node.having(first, new, node.key_marks.get(first, key_mark), node.value_marks.get(first, value_mark))


def _removed(node: MapNode, source: Path, key: str) -> MapNode:
    if not source:
        return node.without({key})
    first = str(source[0])
    return node.having(first, _removed(node[first], source[1:], key), *node.marks_of(first))


def _copied(items: ListNode, changed: Mapping[int, Any]) -> ListNode:
    copy = ListNode(items.mark)
    copy.extend(changed.get(index, item) for index, item in enumerate(items))
    copy.marks = items.marks
    return copy


def _both(condition: str) -> str:
    """The condition of a retry, which is asked after an error only."""
    inner = condition.strip()
    if inner.startswith("{{") and inner.endswith("}}") and "{{" not in inner[2:]:
        # a sign beside the braces is of the template's white space
        expression = re.sub(r"^[-+]|[-+]$", "", inner[2:-2]).strip()
        return "{{ output.status == 'error' and (" + expression + ") }}"
    return condition

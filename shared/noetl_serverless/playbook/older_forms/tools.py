"""Tools of older playbooks."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

from ...limits import INLINE_BYTES
from .. import grammar
from ..document import ListNode, MapNode, walk
from .edits import Edits, Place, can_hold, put, value_at
from .names import NAMES, SPEC_FIELDS, step_name
from .rules import Rules
from .scripts import Scripts
from .secrets import Secrets


class Tools:
    def __init__(self, edits: Edits, root: Any) -> None:
        """`root`: of the playbook."""
        self.edits = edits
        self.rules = Rules(edits)
        self.scripts = Scripts(edits, value_at(root, ("workload",)))
        self.secrets = Secrets(edits, root)

    def of_step(self, tool: Any, at: Place, *, in_loop: bool) -> Any:
        if isinstance(tool, ListNode):
            return self.edits.each(lambda item, place: self.tool(item, place, in_list=True))(tool, at)
        return self.tool(tool, at, in_list=in_loop)

    def labelled(self, item: Any, at: Place) -> Any:
        """`- fetch: {kind: ...}` as {name: fetch, kind: ...}."""
        if not isinstance(item, MapNode) or len(item) != 1:
            return item
        (label,) = item
        inner = item[label]
        if not isinstance(inner, MapNode) or "name" in inner:
            return item
        if "kind" not in inner and inner.get("type") not in grammar.BUILTIN_KINDS:
            return item
        self.edits.warn(f"write the name next to the kind: {{name: {label[:40]}, kind: ...}}", item, at, label)
        self.edits.moved[at] = self.edits.origin((*at, label))
        mark = item.key_marks[label]
        return inner.having("name", label, mark, mark)

    def tool(self, tool: Any, at: Place, *, in_list: bool) -> Any:
        if not isinstance(tool, MapNode):
            return tool
        tool = self.edits.renamed(tool, at, NAMES["tool"])
        spec = tool.get("spec")
        for key in [key for key in spec if key in SPEC_FIELDS] if isinstance(spec, MapNode) else ():
            tool = self.edits.moved_deep(
                tool, at, ("spec",), key, (), f"'{key}' is written in the tool itself, beside 'kind'"
            )
        kind = tool.get("kind")
        if isinstance(kind, str) and kind in grammar.BUILTIN_KINDS:
            tool = self.edits.renamed(tool, at, {"timeout": ("timeout_seconds",)})
            if kind != "http":
                tool = self.edits.moved_into(tool, "timeout", at, ("spec",), "timeout")
        if kind == "postgres":
            tool = self.edits.renamed(tool, at, {"auth": ("credential",)})
        if kind == "postgres" and "each_statement" not in tool and self._reads_each_statement:
            message = "its result has command_0, which this playbook reads, only with each_statement: true"
            self.edits.warn(message, tool, at, "kind")
            tool = tool.having("each_statement", True, *tool.marks_of("kind"))
        tool = self._with_secrets(tool, at)
        if kind == "playbook":
            tool = self._playbook(tool, at)
        tool = self.scripts.of_tool(tool, at)
        tool = self.edits.part(tool, "libs", at, self._libs)
        tool = self._selected(tool, at)
        tool = self.rules.with_retry(tool, at)
        if in_list and "set" in tool:
            tool = self.rules.set_by_rule(tool, at)
        rules = value_at(tool, ("spec", "policy", "rules"))
        if isinstance(rules, ListNode):
            tool = self.edits.deep(tool, at, ("spec", "policy", "rules"), self.edits.each(self.rules.rule))
        return tool

    def _with_secrets(self, tool: MapNode, at: Place) -> Any:
        if tool.get("kind") != "http":
            return self.edits.part(tool, "input", at, self.secrets.of_part)
        return self.edits.part(self.secrets.of_part(tool, at), "auth", at, self.secrets.of_auth)

    def _playbook(self, tool: MapNode, at: Place) -> MapNode:
        """Without `task`, which names the task once more; a step that is named like a path by its name of today."""
        if isinstance(tool.get("task"), str) and "path" in tool:
            self.edits.warn("leave it out: the playbook is called by its path", tool, at, "task")
            tool = tool.without({"task"})
        step = tool.get("return_step")
        if isinstance(step, str) and (new := step_name(step)) != step:
            self.edits.warn(f"a step's name consists of letters, digits and _: write {new}", tool, at, "return_step")
            tool = tool.having("return_step", new, *tool.marks_of("return_step"))
        return tool

    @cached_property
    def _reads_each_statement(self) -> bool:
        """Whether any text of the playbook, such as a template or code, names the result of a statement by number."""
        texts = (value for _, value in walk(self.edits.document.root) if isinstance(value, str))
        return any("command_" in text and re.search(r"\bcommand_\d", text) for text in texts)

    def _libs(self, libs: Any, at: Place) -> Any:
        """`{Path: {from: pathlib, import: Path}}` as {Path: pathlib.Path}."""
        if not isinstance(libs, MapNode):
            return libs
        for name, lib in libs.items():
            if not isinstance(lib, MapNode) or set(lib) != {"from", "import"}:
                continue
            if isinstance(lib["from"], str) and isinstance(lib["import"], str):
                path = f"{lib['from']}.{lib['import']}"
                self.edits.warn(f"write {name[:40]}: {path[:200]}", libs, at, name)
                libs = libs.having(name, path, *libs.marks_of(name))
        return libs

    def _selected(self, tool: MapNode, at: Place) -> MapNode:
        """`output_select: [name]` as output: {select: [{path: $.name, as: name}]}."""
        output = tool.get("output")
        holder, place = (output, (*at, "output")) if isinstance(output, MapNode) else (tool, at)
        names = holder.get("output_select")
        if isinstance(names, MapNode):
            return self._with_limit(tool, at, holder, place)
        if not isinstance(names, ListNode) or not all(isinstance(name, str) for name in names):
            return tool
        if "select" in holder or not can_hold(tool, ("output",)):
            return tool
        self.edits.warn("write output: {select: [{path: $.name, as: name}]}", holder, place, "output_select")
        select = ListNode(names.mark)
        for name, mark in zip(names, names.marks, strict=True):
            pair = MapNode(mark).having("path", f"$.{name}", mark, mark)
            select.append(pair.having("as", name.rpartition(".")[2], mark, mark))
            select.marks.append(mark)
        key_mark, value_mark = holder.marks_of("output_select")
        self.edits.moved[(*at, "output", "select")] = self.edits.origin((*place, "output_select"))
        if holder is tool:
            return put(tool.without({"output_select"}), ("output",), "select", select, key_mark, value_mark)
        node = holder.without({"output_select"}).having("select", select, key_mark, value_mark)
        return tool.having("output", node, *tool.marks_of("output"))

    def _with_limit(self, tool: MapNode, at: Place, holder: MapNode, place: Place) -> MapNode:
        """`output_select: {strategy: size_threshold, threshold_kb: 10}` as output: {inline_max_bytes: 10240}."""
        given = holder["output_select"]
        size = given.get("threshold_kb")
        if given.keys() != {"strategy", "threshold_kb"} or given["strategy"] != "size_threshold":
            return tool
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            return tool
        if not can_hold(tool, ("output",)) or "inline_max_bytes" in (value_at(tool, ("output",)) or ()):
            return tool
        limit = min(size * 1024, INLINE_BYTES)
        self.edits.warn(f"write output: {{inline_max_bytes: {limit}}}", holder, place, "output_select")
        self.edits.moved[(*at, "output", "inline_max_bytes")] = self.edits.origin((*place, "output_select"))
        marks = holder.marks_of("output_select")
        if holder is not tool:
            tool = tool.having("output", holder.without({"output_select"}), *tool.marks_of("output"))
        return put(tool.without({"output_select"}), ("output",), "inline_max_bytes", limit, *marks)

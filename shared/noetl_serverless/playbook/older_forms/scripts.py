"""Scripts of older playbooks: inline, or at a place that the workload names."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

from ..bounds import WorkMeter
from ..document import MapNode, plain_data
from ..scope import build_scope
from ..scripts import FIELDS, READ_SECONDS
from ..template import Template, TemplateError
from .edits import Edits, Place, value_at

# what all templates of one playbook that are rendered when it is read may take, in units of about ten microseconds
MAX_WORK: Final = 50_000


class Scripts:
    def __init__(self, edits: Edits, workload: Any) -> None:
        """`workload`: of the playbook, which may name where a script is."""
        self.edits = edits
        self._workload = workload
        self._meter = WorkMeter()

    def of_tool(self, tool: MapNode, at: Place) -> Any:
        return self.edits.part(self._inline(tool, at), "script", at, self._script)

    def _script(self, script: Any, at: Place) -> Any:
        """A script whose place is made of the workload: that of the workload as it is written, when it is read."""
        script = self._from_workload(script, "uri", at)
        return self.edits.part(script, "source", at, self._source)

    def _source(self, source: Any, at: Place) -> Any:
        for key in ("endpoint", "auth", "region"):
            source = self._from_workload(source, key, at)
        is_read = isinstance(source, MapNode) and source.get("type") in (None, "http", "s3", "gcs")
        seconds = source.get("timeout") if is_read else None
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or seconds <= READ_SECONDS:
            return source
        self.edits.warn(f"reading a script takes {READ_SECONDS:g} s at most: write that", source, at, "timeout")
        return source.having("timeout", READ_SECONDS, *source.marks_of("timeout"))

    def _inline(self, tool: MapNode, at: Place) -> MapNode:
        """A script that is no file: its code stands in the playbook, or in the workload."""
        script, kind = tool.get("script"), tool.get("kind")
        source, field = value_at(script, ("source",)), FIELDS.get(kind) if isinstance(kind, str) else None
        if field is None or field in tool or not isinstance(script, MapNode) or not isinstance(source, MapNode):
            return tool
        if (
            source.get("type") != "inline"
            or source.keys() != {"type", "code"}
            or not script.keys() <= {"uri", "source"}
        ):
            return tool
        self.edits.warn(f"write what it is in '{field}'", tool, at, "script")
        source = self._from_workload(source, "code", (*at, "script", "source"))
        self.edits.moved[(*at, field)] = self.edits.origin((*at, "script", "source", "code"))
        return tool.without({"script"}).having(field, source["code"], *source.marks_of("code"))

    def _from_workload(self, node: Any, key: str, at: Place) -> Any:
        source = node.get(key) if isinstance(node, MapNode) else None
        if not isinstance(source, str) or "{{" not in source or self._meter.spent > MAX_WORK:
            return node
        try:
            value = Template(source).render(self._scope)
        except TemplateError:
            return node
        if not isinstance(value, str) or "{{" in value:
            return node
        shown = value.partition("\n")[0][:200]
        self.edits.warn(
            f"the script is read when the playbook is registered, whatever a payload gives: write {key}: {shown}",
            node,
            at,
            key,
        )
        return node.having(key, value, *node.marks_of(key))

    @cached_property
    def _scope(self) -> Any:
        workload = plain_data(self._workload) if isinstance(self._workload, MapNode) else {}
        return build_scope(workload=workload, ctx={}, steps={}, loops=(), execution_id="", meter=self._meter)

"""What older playbooks have before their steps."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..catalog_path import catalog_path
from ..document import ListNode, MapNode
from ..model import ExecutorSpec
from .edits import Edits, Place, copied
from .names import FEATURES, NAMES


class Head:
    def __init__(self, edits: Edits) -> None:
        self.edits = edits

    def of_playbook(self, root: Any) -> Any:
        root = self.edits.part(root, "metadata", (), self._metadata)
        root = self.edits.part(root, "executor", (), self._executor)
        return self._with_workload(root)

    def _metadata(self, metadata: Any, at: Place) -> Any:
        """A path from the root."""
        path = metadata.get("path") if isinstance(metadata, MapNode) else None
        if not isinstance(path, str) or (today := catalog_path(path)) == path:
            return metadata
        self.edits.warn(f"a path does not begin with a slash: write {today[:199]}", metadata, at, "path")
        return metadata.having("path", today, *metadata.marks_of("path"))

    def _executor(self, executor: Any, at: Place) -> Any:
        renamed = partial(self.edits.renamed, names=NAMES["defaults"])
        executor = self.edits.deep(executor, at, ("spec", "policy", "defaults"), renamed)
        return self.edits.deep(executor, at, ("requires", "features"), self._features)

    def _features(self, features: Any, at: Place) -> Any:
        """A feature by its older name."""
        changed = {}
        for index, name in enumerate(features) if isinstance(features, ListNode) else ():
            if isinstance(name, str) and (today := FEATURES.get(name)):
                self.edits.warn_at(f"write {today}", (*at, index), features.marks[index])
                changed[index] = today
        return copied(features, changed) if changed else features

    def _with_workload(self, root: Any) -> Any:
        """`spec` of a playbook as a value of its workload, which is how its templates read it."""
        spec = root.get("spec") if isinstance(root, MapNode) else None
        if not isinstance(spec, MapNode) or spec.keys() & ExecutorSpec.model_fields.keys():
            return root
        return self.edits.moved_into(root, "spec", (), ("workload",), "spec")

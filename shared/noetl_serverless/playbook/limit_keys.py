"""The limits of commands and executions, with their keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..limits import LIMIT_KEY_CHARACTERS
from . import model
from .document import Path
from .plan import Concurrency, Rate
from .scope import RESERVED
from .template import Template, has_markers
from .trees import Trees

# what has a value before a step begins; the keychain is refused elsewhere, with a reason of its own
_BEFORE: Final = frozenset({"workload", "ctx", "execution_id", "keychain"})
# what has one before an execution begins, and keeps it
_AT_START: Final = frozenset({"workload", "keychain"})

WhyNot = Callable[[str], str | None]


class Limits:
    def __init__(self, playbook: model.Playbook, trees: Trees) -> None:
        metadata = playbook.metadata
        self._path = metadata.path or metadata.name
        self._trees = trees

    def of_executions(self, spec: model.ExecutorSpec) -> tuple[Concurrency | None, Rate | None]:
        return self._limits(spec.concurrency, spec.rate, ("executor", "spec"), self._path, self._of_playbook)

    def of_commands(self, step: model.Step, path: Path) -> tuple[Concurrency | None, Rate | None]:
        spec = step.spec or model.StepSpec()
        iterator = step.loop.iterator if step.loop is not None else None

        def why_not(name: str) -> str | None:
            if name == iterator or (name in RESERVED - _BEFORE) or name in ("loop_index", "loop_event_id"):
                return "the key of a limit can read workload, ctx and earlier steps, and nothing of an item or a call"
            return None

        return self._limits(spec.concurrency, spec.rate, path, f"{self._path}:{step.step}", why_not)

    def _of_playbook(self, name: str) -> str | None:
        if name not in _AT_START:
            return "the key of a limit of the whole playbook can read workload alone, which no step changes"
        return None

    def _limits(
        self,
        concurrency: model.Concurrency | None,
        rate: model.Rate | None,
        path: Path,
        default: str,
        why_not: WhyNot,
    ) -> tuple[Concurrency | None, Rate | None]:
        """`why_not`: why a name cannot be read; None if it can."""

        def key(written: str | None, name: str) -> str | Template:
            return default if written is None else self._key(written, (*path, name, "key"), why_not)

        return (
            None if concurrency is None else Concurrency(key(concurrency.key, "concurrency"), concurrency.limit),
            None if rate is None else Rate(key(rate.key, "rate"), float(rate.per), rate.limit),
        )

    def _key(self, written: str, path: Path, why_not: WhyNot) -> str | Template:
        add = self._trees.faults.add
        if not has_markers(written):
            if len(written) > LIMIT_KEY_CHARACTERS:
                add(f"a key has at most {LIMIT_KEY_CHARACTERS} characters, not {len(written)}", path)
            return written
        template = self._trees.template(written, path)
        if template is None:
            return written
        for name in sorted(template.reads):
            if (reason := why_not(name)) is not None:
                add(f"'{name}' cannot be read here: {reason}", path)
        return template

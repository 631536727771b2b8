"""Results of which `output.select` names parts: they are stored by reference whatever their size, so that routing reads
those parts of them and no other, and later steps all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ...engine.result_check import VERDICT, verdict_on
from ...playbook.json_paths import is_simple
from ...playbook.plan import Plan
from ...playbook.template_error import NeedsFetch
from ...results.extract import MISSING, at_path, extract
from .unknown import has_unknown, reference

# of a reference to a result that is known
KIND: Final = "stored"

Select = Sequence[tuple[str, str]]


class StoredResults:
    """What is stored in one path, by reference."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def put(self, plan: Plan, step: str, data: Any, select: Select) -> dict[str, Any]:
        """The reference to it. Raises InvalidRequest for what cannot be selected."""
        source = f"the result of step '{step}'"
        if has_unknown(data):
            known = [(path, name) for path, name in select if is_simple(path) and _is_known(at_path(data, path))]
            return reference(source, extract(data, known))
        uri = f"{KIND}:{step}/{len(self._values) + 1}"
        self._values[uri] = data
        meta: dict[str, Any] = {"bytes": 0}
        if plan.result_schema is not None:
            meta[VERDICT] = verdict_on(plan.result_schema, data)
        return {"kind": KIND, "ref": uri, "meta": meta, "extracted": extract(data, select)}

    def get(self, ref: Mapping[str, Any]) -> Any:
        """Raises NeedsFetch for what is not known."""
        uri = str(ref["ref"])
        if uri not in self._values:
            raise NeedsFetch(f"{uri} is not known in a dry run")
        return self._values[uri]

    def __contains__(self, ref: Mapping[str, Any]) -> bool:
        return ref["ref"] in self._values


def _is_known(value: Any) -> bool:
    return value is not MISSING and not has_unknown(value)

"""What steps give to the playbooks that they call, compared with the schemas of these, where the text shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..errors import Fault
from .document import Path, plain_data
from .json_schema import check
from .json_schema.references import walk
from .load import LoadedPlaybook
from .model import Step, Tool
from .semantics import tool_path
from .template import has_markers
from .values import merged

CODE: Final = "playbook.unfit_value"
# with which a value that is not known may change what other values have to be
_CONDITIONAL: Final = frozenset({"if", "anyOf", "oneOf", "not", "dependentSchemas", "dependentRequired", "$ref"})


@dataclass(frozen=True, slots=True)
class CalledPlaybook:
    """`given`: to the playbook at `path`; what a template makes is None, and its JSON pointer is in `unknown`.
    `places`: where each key is given, and under "" where the playbook is named."""

    path: str
    version: int | None
    given: Mapping[str, Any]
    unknown: frozenset[str]
    places: Mapping[str, Fault]


def calls_of(loaded: LoadedPlaybook) -> list[CalledPlaybook]:
    """Those whose path is no template."""
    found = []
    for index, step in enumerate(loaded.playbook.workflow):
        for place, tool in enumerate(step.tools):
            path, version = tool.config.get("path"), tool.config.get("version")
            if tool.kind == "playbook" and isinstance(path, str) and not has_markers(path):
                here = tool_path(step, ("workflow", index), place)
                found.append(_call(loaded, step, tool, ("workflow", index), here, path.removeprefix("/"), version))
    return found


def faults_of(call: CalledPlaybook, workload: Mapping[str, Any], schema: Mapping[str, Any] | None) -> Iterator[Fault]:
    """`workload` and `schema` of the playbook that is called."""
    if schema is None or (call.unknown and any(_is_conditional(part) for _, part in walk(schema))):
        return
    for fault in check(schema, merged(workload, call.given)):
        if not any(_are_nested(fault.pointer, unknown) for unknown in call.unknown):
            key = fault.pointer.split("/")[1] if fault.pointer else ""
            place = call.places.get(key) or call.places[""]
            what = f"{fault.pointer}: {fault.message}" if fault.pointer else fault.message
            message = f"the input does not fit the schema of {call.path}: {what}"
            yield Fault(message, pointer=place.pointer, line=place.line, column=place.column, code=CODE)


def _call(
    loaded: LoadedPlaybook, step: Step, tool: Tool, step_path: Path, path: Path, name: str, version: Any
) -> CalledPlaybook:
    given: dict[str, Any] = {}
    places = {"": loaded.document.fault("", (*path, "path"))}
    payload = tool.config.get("payload")
    sources: list[tuple[Any, Path]] = [
        (step.input, (*step_path, "input")),
        (tool.input, (*path, "input")),
        (payload if isinstance(payload, Mapping) else {}, (*path, "payload")),
    ]
    for values, at in sources:
        for key, value in values.items():
            given[key] = plain_data(value)
            places[key] = loaded.document.fault("", (*at, key))
    given.pop("ctx", None)
    unknown: set[str] = set()
    known = {key: _known(value, f"/{key}", unknown) for key, value in given.items()}
    if isinstance(payload, str):
        unknown.add("")
    return CalledPlaybook(
        path=name,
        version=version if isinstance(version, int) else None,
        given=known,
        unknown=frozenset(unknown),
        places=places,
    )


def _known(value: Any, pointer: str, unknown: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: _known(item, f"{pointer}/{key}", unknown) for key, item in value.items()}
    if isinstance(value, list):
        return [_known(item, f"{pointer}/{index}", unknown) for index, item in enumerate(value)]
    if isinstance(value, str) and has_markers(value):
        unknown.add(pointer)
        return None
    return value


def _is_conditional(schema: Any) -> bool:
    return isinstance(schema, Mapping) and not _CONDITIONAL.isdisjoint(schema)


def _are_nested(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")

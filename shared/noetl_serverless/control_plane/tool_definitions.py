"""Looks up the tools of the catalog that a playbook calls, when it is registered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeAlias

from ..errors import Fault, InvalidPlaybook, NotFound
from ..playbook.document import Document, Path, read_document, walk
from ..playbook.faults import did_you_mean
from ..playbook.grammar import AUTH_FIELDS
from ..playbook.task_places import tasks_of
from ..playbook.template import has_markers
from ..playbook.tool_calls import KIND, TOOL_MISSING, ToolCall, calls_of, parts_of
from ..store.catalog import CatalogVersion

TOOL: Final = "Tool"
# of one playbook
MAX_TOOLS: Final = 100
# versions of a tool, where another one is called
MAX_SHOWN: Final = 50
# the place, the kind of tool, and the name of a stored credential
Named: TypeAlias = tuple[Path, str, str]


class Versions(Protocol):
    """The catalog."""

    async def get(self, path: str, version: int | None = None) -> CatalogVersion:
        """Raises NotFound."""
        ...

    async def versions(
        self, path: str, *, deleted: bool = False, before: int | None = None, limit: int
    ) -> Sequence[CatalogVersion]:
        """Those of a path, the newest first; `deleted`: also those that are deleted; `before`: those with lower
        numbers."""
        ...

    async def credential_kinds(self, names: list[str]) -> dict[str, list[str]]:
        """The kinds of tools that may use each of these credentials, of those whose description names any."""
        ...


class ToolDefinitions:
    def __init__(self, catalog: Versions) -> None:
        self._catalog = catalog

    async def parts(self, document: Document) -> dict[str, str]:
        """What the calls in a playbook add to its text. Raises InvalidPlaybook with a fault for each that cannot be
        resolved."""
        calls = list(calls_of(document.root))
        distinct = {(call.path, call.version) for _, call in calls}
        if len(distinct) > MAX_TOOLS:
            raise InvalidPlaybook(f"the playbook calls {len(distinct)} tools of the catalog, more than {MAX_TOOLS}")
        found: dict[tuple[str, int | None], dict[str, str] | str] = {}
        parts: dict[str, str] = {}
        faults: list[Fault] = []
        for path, call in calls:
            key = (call.path, call.version)
            if key not in found:
                found[key] = await self._resolved(call)
            answer = found[key]
            if isinstance(answer, str):
                faults.append(document.fault(answer, (*path, "path"), TOOL_MISSING))
            else:
                parts |= answer
        tools = {key: _defined(answer) for key, answer in found.items() if not isinstance(answer, str)}
        faults += await self._unfit_credentials(document, [*_credentials(document), *_bound(document, calls, tools)])
        if faults:
            raise InvalidPlaybook(str(faults[0]), faults=faults)
        return parts

    async def _resolved(self, call: ToolCall) -> dict[str, str] | str:
        """What it adds, or why it cannot be resolved."""
        try:
            entry = await self._catalog.get(call.path, call.version)
        except NotFound as error:
            return f"{error.detail}{await self._remedy(call)}"
        if entry.kind != TOOL:
            return f"{entry.path} is of kind {entry.kind}, not a tool"
        return parts_of(call, entry.version, entry.content)

    async def _remedy(self, call: ToolCall) -> str:
        """What to do about a version that the catalog does not show."""
        before = None if call.version is None else call.version + 1
        stored = await self._catalog.versions(call.path, deleted=True, before=before, limit=1)
        if stored and call.version in (None, stored[0].version):
            version = "" if call.version is None else f" --version {call.version}"
            return f": it was deleted; to restore it, run: noetls catalog restore {call.path}{version}"
        shown = await self._catalog.versions(call.path, limit=MAX_SHOWN) if call.version is not None else ()
        if shown:
            return f"; it has {_spans(sorted(one.version for one in shown))}"
        return "; register the tool before what calls it"

    async def _unfit_credentials(self, document: Document, named: list[Named]) -> list[Fault]:
        """Those whose description in the catalog does not let the kind of tool use them."""
        kinds = await self._catalog.credential_kinds(sorted({name for _, _, name in named})) if named else {}
        return [
            document.fault(
                f"the credential {name!r} may be used by {', '.join(kinds[name])} alone"
                f"{did_you_mean(kind, kinds[name])}",
                path,
            )
            for path, kind, name in named
            if name in kinds and kind not in kinds[name]
        ]


def _spans(versions: Sequence[int]) -> str:
    """`version 3` or `versions 1 to 3, 5`, of numbers in order."""
    spans: list[list[int]] = []
    for version in versions:
        if spans and version == spans[-1][-1] + 1:
            spans[-1].append(version)
        else:
            spans.append([version])
    texts = (str(span[0]) if len(span) == 1 else f"{span[0]} to {span[-1]}" for span in spans)
    return f"{'version' if len(versions) == 1 else 'versions'} {', '.join(texts)}"


def _defined(parts: dict[str, str]) -> dict[str, Any]:
    """The definition in what a call adds, as it was written."""
    for text in parts.values():
        root = read_document(text).root
        if isinstance(root, dict) and isinstance(root.get("tool"), dict):
            return root
    return {}


def _bound(
    document: Document, calls: Sequence[tuple[Path, ToolCall]], tools: dict[tuple[str, int | None], dict[str, Any]]
) -> list[Named]:
    """Those that calls give to tools of the catalog, by name or by what a tool takes if they name none, with the kinds
    of these tools."""
    own = _own_names(document)
    tasks = dict(tasks_of(document.root))
    found: list[Named] = []
    for path, call in calls:
        definition = tools.get((call.path, call.version), {})
        kind, given = definition.get("tool", {}).get("kind"), tasks[tuple(path)].get("credentials")
        given = given if isinstance(given, dict) else {}
        for need, default in _needed(definition).items() if isinstance(kind, str) else ():
            name = given.get(need, default)
            if isinstance(name, str) and not has_markers(name) and (stored := own.get(name, name)) is not None:
                found.append(((*path, "credentials", need) if need in given else (*path, "path"), kind, stored))
    return found


def _credentials(document: Document) -> list[Named]:
    """The stored credentials that tasks name without a template."""
    own = _own_names(document)
    found: list[Named] = []
    for path, tool in tasks_of(document.root):
        kind = tool.get("kind")
        if not isinstance(kind, str) or kind == KIND:
            continue
        for key in sorted(AUTH_FIELDS & tool.keys()):
            value = tool[key]
            for at, name in walk(value, (*path, key)):
                is_name = at[-1] in (key, "credential")
                if is_name and isinstance(name, str) and not has_markers(name):
                    stored = own.get(name, name)
                    if stored is not None:
                        found.append((at, kind, stored))
    return found


def _own_names(document: Document) -> dict[str, str | None]:
    """What names mean that are not those of a stored credential, as far as it is one: entries of a keychain, and what a
    tool needs by its default."""
    root = document.root if isinstance(document.root, dict) else {}
    keychain = root.get("keychain")
    names: dict[str, str | None] = {
        entry["name"]: _stored(entry)
        for entry in (keychain if isinstance(keychain, list) else ())
        if isinstance(entry, dict) and isinstance(entry.get("name"), str)
    }
    return {**names, **_needed(root)}


def _needed(definition: dict[str, Any]) -> dict[str, str]:
    """The stored credential for each that a tool needs, if its caller names none."""
    needed = definition.get("credentials")
    found: dict[str, str] = {}
    for name, one in needed.items() if isinstance(needed, dict) else ():
        default = one.get("default") if isinstance(one, dict) else None
        found[name] = default if isinstance(default, str) else name
    return found


def _stored(entry: dict[str, Any]) -> str | None:
    """The credential whose fields an entry of a keychain has."""
    if entry.get("kind", "credential") not in ("credential", "credential_ref"):
        return None
    name = entry.get("credential", entry.get("ref"))
    return name if isinstance(name, str) and not has_markers(name) else None

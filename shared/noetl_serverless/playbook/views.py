"""Outcomes as templates see them: fields of a result are read without fetching it where possible."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from ..limits import INLINE_BYTES
from .template_error import FetchFailed, NeedsFetch

Fetch = Callable[[dict[str, Any]], Any]

_SELECT: Final = (
    "add it to the tool's output.select and read it by that name (one whose path matched nothing is not there: noetls "
    "explain names it)"
)
# of a result that is by reference because the playbook says so
_SMALL: Final = ", or leave out select and store, so that a result of at most 64 KiB is not by reference"
_SET: Final = "; a rule of the tool can set a large value in ctx"
_OF_ACCUMULATED: Final = (
    "routing can read the length of what is accumulated; read it in the input of a later step, or let a rule of the "
    "tool set what routing needs in ctx"
)
OF_LOOP: Final = "routing can read its stats; read the results in a step"
# in a reference to a loop's results: the field that it means
FIELD: Final = "field"
# the kind of a reference to what a task has accumulated
ACCUMULATED: Final = "accumulated"
# in a reference to a result: what of it was accumulated, by name, which is not in its object
COLLECTED: Final = "collected"
# in such a reference: all but that is meant
REST_ONLY: Final = "rest"
SET_SEPARATELY: Final = "set the values that routing needs under separate names"


class _Absent:
    """A missing field, as distinct from a field that is null."""


ABSENT: Final = _Absent()


class EventName(str):
    """An event's name; equal to every name the language has for the same event."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and str(other) in EVENT_NAMES.get(str(self), (str(self),))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return str.__hash__(self)

    def __str__(self) -> str:
        return str.__str__(self)


EVENT_NAMES: Final[Mapping[str, frozenset[str]]] = {
    "call.done": frozenset({"call.done", "step.done"}),
    "step.done": frozenset({"call.done", "step.done"}),
    "call.error": frozenset({"call.error", "step.failed"}),
    "step.failed": frozenset({"call.error", "step.failed"}),
    "loop.done": frozenset({"loop.done", "step.done", "call.done"}),
    "loop.failed": frozenset({"loop.failed", "call.error", "step.failed"}),
}


class Reader:
    """Fetches values by reference, each reference once."""

    __slots__ = ("_fetch", "_seen")

    def __init__(self, fetch: Fetch | None) -> None:
        self._fetch = fetch
        self._seen: dict[str, Any] = {}

    def read(self, ref: Mapping[str, Any], what: str, instead: str | None = None) -> Any:
        """`instead`: the error's advice where nothing is fetched; the usual one by default."""
        name = identity(ref)
        if name not in self._seen:
            if self._fetch is None:
                advice = instead or _advice(ref)
                raise NeedsFetch(f"{what} is stored by reference and cannot be read here; {advice}", ref)
            try:
                self._seen[name] = self._fetch(dict(ref))
            except Exception as error:
                raise FetchFailed(error) from error
        return meant_by(ref, self._seen[name])

    def names_in(self, ref: Mapping[str, Any]) -> list[str]:
        """The fields of the value, if it has been fetched."""
        value = self._seen.get(identity(ref))
        return list(value) if isinstance(value, Mapping) and FIELD not in ref else []


def _advice(ref: Mapping[str, Any]) -> str:
    if ref.get("kind") == ACCUMULATED:
        return _OF_ACCUMULATED
    is_small = (ref.get("meta") or {}).get("bytes", 0) <= INLINE_BYTES
    return f"{_SELECT}{_SMALL if is_small else ''}{_SET}"


def identity(ref: Mapping[str, Any]) -> str:
    """What tells apart what references lead to."""
    uri = str(ref.get("ref"))
    return f"{uri}#{REST_ONLY}" if REST_ONLY in ref else uri


def meant_by(ref: Mapping[str, Any], value: Any) -> Any:
    """What a reference means of the stored `value`: all of it, or one field."""
    return value[ref[FIELD]] if FIELD in ref else value


class View:
    """A value that templates read fields of: `lookup` returns a field or ABSENT, `whole` the value as plain data."""

    __slots__ = ()

    def lookup(self, key: str) -> Any:
        raise NotImplementedError

    def whole(self) -> Any:
        raise NotImplementedError

    def length(self) -> int | None:
        """Of a list, if it is known without fetching anything."""
        return None

    def mapping(self) -> Any:
        """What `get`, `items`, `keys` and `values` are methods of."""
        return self.whole()

    def names(self) -> list[str]:
        """Field names to list in an error."""
        return []

    def title(self) -> str:
        return "the value"

    def reference(self) -> Mapping[str, Any] | None:
        """The reference to the whole value, if it is by reference."""
        return None


class NothingView(View):
    """A missing part of the envelope: it is null, and so are all its fields."""

    __slots__ = ()

    def lookup(self, key: str) -> Any:
        return None

    def whole(self) -> Any:
        return None


NOTHING: Final = NothingView()


class RefView(View):
    """Data by reference: extracted fields are read directly, all others by fetching."""

    __slots__ = ("_instead", "_reader", "_ref", "_what")

    def __init__(self, ref: Mapping[str, Any], reader: Reader, what: str, instead: str | None = None) -> None:
        self._ref = ref
        self._reader = reader
        self._what = what
        self._instead = instead

    def lookup(self, key: str) -> Any:
        extracted = self._extracted()
        if key in extracted:
            return extracted[key]
        ref = self._ref
        if COLLECTED in ref:
            if key in ref[COLLECTED]:
                return AccumulatedView(key, ref[COLLECTED][key], self._reader)
            ref = {**ref, REST_ONLY: True}
        data = self._reader.read(ref, f"'{key}' of {self._what}", self._instead)
        return data.get(key, ABSENT) if isinstance(data, Mapping) else ABSENT

    def whole(self) -> Any:
        return self._reader.read(self._ref, self._what, self._instead)

    def reference(self) -> Mapping[str, Any]:
        return self._ref

    def names(self) -> list[str]:
        read = self._reader.names_in(self._ref)
        return list(dict.fromkeys([*self._extracted(), *self._ref.get(COLLECTED, ()), *read]))

    def title(self) -> str:
        return self._what

    def _extracted(self) -> Mapping[str, Any]:
        """The fields that were extracted are those of the whole value, not of one of its fields."""
        return {} if FIELD in self._ref else self._ref.get("extracted") or {}


class AccumulatedView(View):
    """What a task has accumulated, by its manifest: of a list, the length is known without fetching anything."""

    __slots__ = ("_manifest", "_name", "_reader")

    def __init__(self, name: str, manifest: Mapping[str, Any], reader: Reader) -> None:
        self._name = name
        self._manifest = manifest
        self._reader = reader

    def lookup(self, key: str) -> Any:
        if self._manifest.get("count") is not None:
            # a list
            return ABSENT
        return self.whole().get(key, ABSENT)

    def whole(self) -> Any:
        return self._reader.read(self._manifest, self.title())

    def length(self) -> int | None:
        count: int | None = self._manifest.get("count")
        return count

    def reference(self) -> Mapping[str, Any] | None:
        # one that is not finished changes
        return None if "rest" in self._manifest else self._manifest

    def title(self) -> str:
        return f"'{self._name}', which was accumulated,"


class CtxView(View):
    """`ctx` with some values by reference; each of these is fetched only when it is read."""

    __slots__ = ("_values", "_views")

    def __init__(self, values: Mapping[str, Any], refs: Mapping[str, Mapping[str, Any]], reader: Reader) -> None:
        """A name that has a value is not read from a reference."""
        self._values = values
        self._views = {
            name: RefView(ref, reader, f"'ctx.{name}'", SET_SEPARATELY)
            for name, ref in refs.items()
            if name not in values
        }

    def lookup(self, key: str) -> Any:
        if key == "get" and key not in self._values and key not in self._views:
            return self._get
        return self.layer().get(key, ABSENT)

    def whole(self) -> Any:
        return {**self._values, **{name: view.whole() for name, view in self._views.items()}}

    def names(self) -> list[str]:
        return [*self._values, *self._views]

    def title(self) -> str:
        return "ctx"

    def layer(self) -> Mapping[str, Any]:
        """Its values by name, for templates that use a name without `ctx`."""
        return {**self._values, **self._views}

    def _get(self, name: Any, default: Any = None) -> Any:
        """Like a mapping's `get`."""
        return self._views[name].whole() if name in self._views else self._values.get(name, default)


class StepView(View):
    """A finished step: the fields of its result, and `status`, `error`, `data`, `result` and `_ref`.

    `result` is the whole result. So is `data`, unless the result has a field of that name, which takes precedence.
    """

    __slots__ = ("_name", "_outcome", "_reader")

    # advice for where nothing is fetched
    _instead: ClassVar[str | None] = None

    def __init__(self, name: str, outcome: Mapping[str, Any], reader: Reader) -> None:
        self._name = name
        self._outcome = outcome
        self._reader = reader

    def lookup(self, key: str) -> Any:
        if key == "status":
            return self._outcome.get("status")
        if key == "error":
            return self._outcome.get("error") or NOTHING
        if key == "_ref":
            return self._outcome.get("ref")
        if key == "result":
            ref = self._outcome.get("ref")
            return self._outcome.get("data") if ref is None else RefView(ref, self._reader, self.title(), self._instead)
        return self._field(key)

    def whole(self) -> Any:
        ref = self._outcome.get("ref")
        if ref is not None:
            return self._reader.read(ref, self.title(), self._instead)
        return self._outcome.get("data")

    def reference(self) -> Mapping[str, Any] | None:
        return self._outcome.get("ref")

    def names(self) -> list[str]:
        ref = self._outcome.get("ref")
        if ref is not None:
            read = self._reader.names_in(ref)
            return list(dict.fromkeys([*(ref.get("extracted") or {}), *ref.get(COLLECTED, ()), *read]))
        data = self._outcome.get("data")
        return [*data] if isinstance(data, Mapping) else []

    def title(self) -> str:
        return f"the result of step '{self._name}'"

    def _field(self, key: str) -> Any:
        ref = self._outcome.get("ref")
        if ref is None:
            data = self._outcome.get("data")
        elif key in (extracted := ref.get("extracted") or {}):
            return extracted[key]
        elif COLLECTED in ref:
            value = RefView(ref, self._reader, self.title(), self._instead).lookup(key)
            return self.whole() if value is ABSENT and key == "data" else value
        else:
            data = self._reader.read(ref, f"'{key}' of {self.title()}", self._instead)
        if isinstance(data, Mapping) and key in data:
            return data[key]
        return data if key == "data" else ABSENT


class LoopView(StepView):
    """A loop that has ended: as a whole, the list of its items' results, null for each that failed. Its fields are
    `results`, which is the same list, `stats`, and those of any step."""

    __slots__ = ()

    _instead = OF_LOOP

    def whole(self) -> Any:
        ref = self.reference()
        if ref is not None:
            return self._reader.read(ref, self.title(), OF_LOOP)
        return _results(self._outcome.get("data"))

    def mapping(self) -> Any:
        return super().whole()

    def reference(self) -> Mapping[str, Any] | None:
        ref = self._outcome.get("ref")
        return None if ref is None else {**ref, FIELD: "results"}


def _results(data: Any) -> Any:
    """Null of a loop that was skipped, or has failed before it had items."""
    return data["results"] if isinstance(data, Mapping) else None


class SecretView(View):
    """A resolved entry of the keychain."""

    __slots__ = ("_fields", "_name")

    def __init__(self, name: str, fields: Mapping[str, Any]) -> None:
        self._name = name
        self._fields = fields

    def lookup(self, key: str) -> Any:
        return self._fields.get(key, ABSENT)

    def whole(self) -> Any:
        return dict(self._fields)

    def names(self) -> list[str]:
        return [*self._fields]

    def title(self) -> str:
        return f"the keychain entry '{self._name}'"


class SecretName(View):
    """Stands for an entry of the keychain where none is resolved: its fields are their own names."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def lookup(self, key: str) -> Any:
        return ABSENT if key in ("get", "items", "keys", "values") else f"keychain.{self._name}.{key}"

    def whole(self) -> Any:
        return {self._name: f"keychain.{self._name}"}


class OutputView(View):
    """The envelope of what just ended: status, data, ref, error, meta, http, pg, py.

    A part that the tool did not return (`http` after a refused connection) is null, and so are its fields.
    """

    __slots__ = ("_envelope", "_reader")

    PARTS: Final = ("error", "meta", "http", "pg", "py")

    def __init__(self, envelope: Mapping[str, Any], reader: Reader) -> None:
        self._envelope = envelope
        self._reader = reader

    def lookup(self, key: str) -> Any:
        # the second is the name that the original has for it at http
        if key in ("data", "response"):
            return self._data()
        if key in ("status", "ref"):
            return self._envelope.get(key)
        value = self._part(key)
        if value is None:
            return NOTHING if key in self.PARTS else ABSENT
        return value

    def whole(self) -> Any:
        envelope = {key: value for key, value in self._envelope.items() if key != "extra"}
        return {**(self._envelope.get("extra") or {}), **envelope}

    def names(self) -> list[str]:
        return ["status", "data", "ref", *self.PARTS]

    def title(self) -> str:
        return "the output"

    def _data(self) -> Any:
        """Of a call that failed without any it is null, and so are its fields, which rules ask for after every call."""
        ref = self._envelope.get("ref")
        if ref is not None:
            return RefView(ref, self._reader, self.title())
        data = self._envelope.get("data")
        return NOTHING if data is None and self._envelope.get("status") == "error" else data

    def _part(self, key: str) -> Any:
        value = self._envelope.get(key)
        return (self._envelope.get("extra") or {}).get(key) if value is None else value

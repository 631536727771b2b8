"""What names mean inside a template."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from .bounds import WorkMeter
from .reads import Reads
from .views import ABSENT, NOTHING, CtxView, EventName, Fetch, LoopView, OutputView, Reader, StepView, View

# these never fall through to a step, a ctx key or a workload key of the same name
RESERVED: Final = frozenset(
    {
        "workload",
        "ctx",
        "iter",
        "step",
        "loop",
        "event",
        "output",
        "error",
        "execution_id",
        "keychain",
        "results",
        "_prev",
        "_task",
        "_attempt",
    }
)

# what a loop provides under iter in addition to the item
LOOP_VARIABLES: Final = ("_index", "_first", "_last")


def older_names(*, with_output: bool) -> tuple[str, ...]:
    """The names of `OlderNames`; `with_output`: where there is an output."""
    return ("job", "result") if with_output else ("job",)


class OlderNames(Mapping[str, Any]):
    """What older playbooks read: `job`, which is the execution, and `result`, which is `output.data`. Not reserved:
    anything else of that name hides it."""

    __slots__ = ("_execution_id", "_output")

    def __init__(self, execution_id: str, output: OutputView | None) -> None:
        self._execution_id = execution_id
        self._output = output

    def __getitem__(self, name: str) -> Any:
        if name == "job":
            return dict.fromkeys(("uuid", "id", "execution_id"), self._execution_id)
        if name == "result" and self._output is not None:
            return self._output.lookup("data")
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @property
    def _names(self) -> tuple[str, ...]:
        return older_names(with_output=self._output is not None)


class Scope(Mapping[str, Any]):
    """Names by precedence: reserved names, `input`, `extra`, keys of `iter`, step names, keys of `ctx`, keys of
    `workload`, older names."""

    __slots__ = ("_extra", "_layers", "_loops", "_reader", "_reserved", "_steps", "_views", "meter")

    def __init__(
        self,
        reserved: Mapping[str, Any],
        before_steps: tuple[Mapping[str, Any], ...],
        steps: Mapping[str, Mapping[str, Any]],
        after_steps: tuple[Mapping[str, Any], ...],
        reader: Reader,
        meter: WorkMeter | None = None,
        loops: Collection[str] = (),
    ) -> None:
        """`meter` counts the work of rendering with this scope; `loops`: the names of the steps that are loops."""
        self.meter = meter
        self._reserved = reserved
        self._extra = before_steps
        self._steps = steps
        self._layers = after_steps
        self._reader = reader
        self._loops = loops
        self._views: dict[str, StepView] = {}

    def __getitem__(self, name: str) -> Any:
        if name in RESERVED:
            return self._reserved[name]
        for layer in self._extra:
            if name in layer:
                return layer[name]
        if name in self._steps:
            return self._step(name)
        for layer in self._layers:
            if name in layer:
                return layer[name]
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        if name in RESERVED:
            return name in self._reserved
        return name in self._steps or any(name in layer for layer in (*self._extra, *self._layers))

    def __iter__(self) -> Iterator[str]:
        seen = dict.fromkeys(self._reserved)
        for layer in (*self._extra, self._steps, *self._layers):
            seen.update(dict.fromkeys(name for name in layer if name not in RESERVED))
        return iter(seen)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _step(self, name: str) -> StepView:
        if name not in self._views:
            view = LoopView if name in self._loops else StepView
            self._views[name] = view(name, self._steps[name], self._reader)
        return self._views[name]


def build_scope(
    *,
    workload: Mapping[str, Any],
    ctx: Mapping[str, Any],
    ctx_refs: Mapping[str, Mapping[str, Any]] | None = None,
    steps: Mapping[str, Mapping[str, Any]],
    loops: Collection[str],
    execution_id: str,
    fetch: Fetch | None = None,
    iter: Mapping[str, Any] | None = None,
    loop: Mapping[str, Any] | None = None,
    output: Mapping[str, Any] | None = None,
    error: Mapping[str, Any] | None = None,
    event: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    input: Mapping[str, Any] | None = None,
    keychain: Mapping[str, Any] | None = None,
    meter: WorkMeter | None = None,
) -> Scope:
    """The scope of one rendering.

    `ctx_refs` are references to further values of ctx, ignored for names that `ctx` has; `steps` maps a name to its
    outcome {status, data | ref, error?}, `loops` are the names of the steps that are loops; `output` is an outcome with
    http, pg, py beside it or under "extra"; `extra` holds task labels and the like; `input` is what the tool is given;
    `keychain` holds resolved entries, by name. Without `fetch`, reading a value by reference raises NeedsFetch, except
    for its extracted fields.
    """
    reader = Reader(fetch)
    extra = extra or {}
    reserved: dict[str, Any] = {name: extra[name] for name in RESERVED & extra.keys()}
    reserved.update(workload=workload, ctx=ctx, execution_id=execution_id)
    if ctx_refs:
        view = CtxView(ctx, ctx_refs, reader)
        reserved["ctx"], ctx = view, view.layer()
    if keychain:
        reserved["keychain"] = keychain
    if iter is not None:
        reserved["iter"] = iter
    if loop is not None:
        reserved["loop"] = loop
    if output is not None:
        reserved["output"] = OutputView(output, reader)
        error = error or output.get("error")
        reserved["error"] = NOTHING
    if error is not None:
        reserved["error"] = error
    if event is not None:
        reserved["event"] = {**event, "name": EventName(event["name"])} if "name" in event else event
    before = (extra, iter or {}) if input is None else (input, extra, iter or {})
    older = OlderNames(execution_id, reserved.get("output"))
    return Scope(reserved, before, steps, (ctx, workload, older), reader, meter, loops)


def read_names(reads: Reads, scope: Mapping[str, Any]) -> dict[str, Any]:
    """The values of names, or of some fields of theirs, as plain data, without those that do not exist."""
    found = {}
    for name, keys in reads.items():
        if name not in scope:
            continue
        value = scope[name]
        if keys is None:
            found[name] = _plain(value)
        else:
            # sorted, because the order of a set differs between processes
            fields = ((key, _field(value, key)) for key in sorted(keys))
            found[name] = {key: _plain(field) for key, field in fields if field is not ABSENT}
    return found


def _field(value: Any, key: str) -> Any:
    if isinstance(value, CtxView):
        value = value.layer()
    return value.get(key, ABSENT)


def _plain(value: Any) -> Any:
    return value.whole() if isinstance(value, View) else value

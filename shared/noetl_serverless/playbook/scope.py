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

# variables of the execution. Not reserved: anything else of that name hides them, as in playbooks that are older
VARIABLES: Final = "vars"

# what a loop provides under iter in addition to the item
LOOP_VARIABLES: Final = ("_index", "_first", "_last")


def older_names(*, with_output: bool) -> tuple[str, ...]:
    """What older playbooks read: `job`, which is the execution, and, where there is an output, `result`, which is
    `output.data`. Not reserved: anything else of that name hides it."""
    return ("job", "result") if with_output else ("job",)


class Scope(Mapping[str, Any]):
    """Names by precedence: reserved names, `input`, `extra`, keys of `iter`, step names, keys of `ctx`, keys of
    `workload`, `vars`, older names."""

    __slots__ = (
        *("_after_steps", "_before_steps", "_loops", "_reader", "_reserved", "_steps", "_variables", "_views"),
        "meter",
    )

    def __init__(
        self,
        reserved: Mapping[str, Any],
        before_steps: tuple[Mapping[str, Any], ...],
        steps: Mapping[str, Mapping[str, Any]],
        after_steps: tuple[Mapping[str, Any], ...],
        reader: Reader,
        meter: WorkMeter | None = None,
        loops: Collection[str] = (),
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        """`meter` counts the work of rendering with this scope; `loops`: the names of the steps that are loops."""
        self._variables = variables or {}
        self.meter = meter
        self._reserved = reserved
        self._before_steps = before_steps
        self._steps = steps
        self._after_steps = after_steps
        self._reader = reader
        self._loops = loops
        self._views: dict[str, StepView] = {}

    def __getitem__(self, name: str) -> Any:
        if name in RESERVED:
            return self._reserved[name]
        for layer in self._before_steps:
            if name in layer:
                return layer[name]
        if name in self._steps:
            return self._step(name)
        for layer in self._after_steps:
            if name in layer:
                return layer[name]
        return self._older(name)

    def __contains__(self, name: object) -> bool:
        if name in RESERVED:
            return name in self._reserved
        return any(name in layer for layer in self._layers)

    def __iter__(self) -> Iterator[str]:
        seen = dict.fromkeys(self._reserved)
        for layer in self._layers:
            seen.update(dict.fromkeys(name for name in layer if name not in RESERVED))
        return iter(seen)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def _layers(self) -> tuple[Collection[str], ...]:
        """The names that are not reserved."""
        older = older_names(with_output="output" in self._reserved)
        return (*self._before_steps, self._steps, *self._after_steps, (VARIABLES,), older)

    def _older(self, name: str) -> Any:
        if name == VARIABLES:
            return self._variables
        if name == "job":
            return dict.fromkeys(("uuid", "id", "execution_id"), self._reserved["execution_id"])
        if name == "result" and "output" in self._reserved:
            return self._reserved["output"].lookup("data")
        raise KeyError(name)

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
    variables: Mapping[str, Any] | None = None,
    fetch: Fetch | None = None,
    iter: Mapping[str, Any] | None = None,
    loop: Mapping[str, Any] | None = None,
    output: Mapping[str, Any] | None = None,
    error: Mapping[str, Any] | None = None,
    event: Mapping[str, Any] | None = None,
    task: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    input: Mapping[str, Any] | None = None,
    keychain: Mapping[str, Any] | None = None,
    meter: WorkMeter | None = None,
) -> Scope:
    """The scope of one rendering.

    `ctx_refs` are references to further values of ctx, ignored for names that `ctx` has; `steps` maps a name to its
    outcome {status, data | ref, error?}, `loops` are the names of the steps that are loops; `variables` are the values
    of those of the execution; `output` is an outcome with http, pg, py beside it or under "extra"; `task` holds the
    reserved names of the task that runs, `extra` further names, such as those of the tasks before it; `input` is what
    the tool is given; `keychain` holds resolved entries, by name. Without `fetch`, reading a value by reference raises
    NeedsFetch, except for its extracted fields.
    """
    reader = Reader(fetch)
    reserved = {**(task or {}), "workload": workload, "ctx": ctx, "execution_id": execution_id}
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
    before_steps = tuple(layer for layer in (input, extra, iter) if layer)
    return Scope(reserved, before_steps, steps, (ctx, workload), reader, meter, loops, variables)


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

"""After the run: what must hold of it as a whole."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator
from dataclasses import astuple
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import orjson

from noetl_serverless.engine import events as e
from noetl_serverless.engine.digest import digest
from noetl_serverless.engine.replay import fold
from noetl_serverless.engine.state import State
from noetl_serverless.error_codes import spellings
from noetl_serverless.testing.rows import ExecutionRow

from .control_checks import check_controls
from .exact import differing, exact, same
from .model import conform
from .playbooks import MAIN, plan_of
from .rules import Broken
from .side_playbooks import Promise
from .token_server import Token

if TYPE_CHECKING:
    from .world import World

# of an ending: what is said of the whole log
OF_LOG = frozenset({"digest", "entries"})
# the step whose loop claims rows
CLAIMING = "s0"
# how long it may take until who is to end an execution does, in seconds
LATE = 60.0
# of one who may fetch a secret
ATTEMPTS = 3
# errors that come of faults, not of the playbook
ACCIDENTS = frozenset(
    {
        "command.delivery_limit",
        "worker.time_budget",
        "result_store.unavailable",
        "server.unavailable",
        "outcome.refused",
        "postgres.unavailable",
        "keychain.unavailable",
    }
)


def judge(world: World, expected: dict[str, Any]) -> Broken | None:
    """The first rule that was broken."""
    if world.log.faults:
        return world.log.faults[0]
    try:
        _all_ended(world)
        _all_folds(world)
        _orders(world)
        _schedules(world)
        _joins(world)
        _loops(world)
        _budgets(world)
        _families(world)
        _claims(world)
        _deadlines(world)
        _tokens(world)
        check_controls(world)
        misfit = conform(world.log.moves)
        _must(misfit is None, "the model does not allow it", misfit)
        _promises(world)
        if world.book.tame:
            _compare(world, expected)
    except Broken as broken:
        return broken
    return None


def _must(holds: bool, rule: str, detail: Any) -> None:
    if not holds:
        raise Broken(rule, str(detail() if callable(detail) else detail))


def _all_ended(world: World) -> None:
    for id, execution in world.log.executions.items():
        _must(execution.status != "RUNNING", "an execution never ended", waits_for(world, id))
    for order in world.orders:
        _must(order.settled, "a user was never answered", order)
    rows = [key for key, row in world.log.commands.items() if row.status != "dead"]
    _must(not rows, "commands are left over", rows)


def waits_for(world: World, id: str) -> str:
    """What an execution says it waits for."""
    state = world.log.diaries[id].shadow
    rows = {
        key[1]: (row.status, row.worker, row.lease_until) for key, row in world.log.commands.items() if key[0] == id
    }
    return f"{id} {world.log.executions[id].loaded.path}: commands {rows}, timers {list(state.timers)}, children " + (
        f"{list(state.children)}, joins {state.waiting}, tokens {list(state.tokens)}"
    )


def _all_folds(world: World) -> None:
    for id, execution in world.log.executions.items():
        diary = world.log.diaries[id]
        whole = fold(id, execution.events, execution.workload)
        _must(same(whole, diary.shadow), "the fold is another one than step by step", id)
        kept = State.restore(orjson.loads(execution.state), execution.workload)
        _must(same(kept, whole), "the last snapshot is not the fold", partial(differing, kept, whole))


def _orders(world: World) -> None:
    """One execution for each order that has a key."""
    for order in world.orders:
        found = [id for id, execution in world.log.executions.items() if _is_root(execution, order.label)]
        if order.refused:
            _must(not found, "an order that was refused was started", f"{order.label} {found}")
        elif order.keyed:
            _must(len(found) <= 1, "an order was started twice", f"{order.label} {found}")
            _must(found == [order.execution_id], "an order was lost", f"{order.label} {found}")


def _is_root(execution: ExecutionRow, label: str) -> bool:
    is_first = execution.parent_id is None and execution.restart_of is None
    return is_first and execution.workload.get("label") == label


def _schedules(world: World) -> None:
    """Each run that was owed was started once, and nothing else."""
    labels = [table.payload["label"] for table in world.schedules.tables.values()]
    roots = [
        id for id, execution in world.log.executions.items() if any(_is_root(execution, label) for label in labels)
    ]
    started = [str(run.execution_id) for run in world.schedules.fires.values() if run.status == "started"]
    _must(sorted(roots) == sorted(started), "schedules fired twice, or not at all", f"{roots} {started}")
    _must(not any(run.status == "open" for run in world.schedules.fires.values()), "a run is still owed", "")


def _joins(world: World) -> None:
    """A step that no way leads back to begins once at most."""
    for id, execution in world.log.executions.items():
        plan = plan_of(world.catalog_text(execution.loaded.plan_hash))
        written = [step.name for step in plan.steps.values() if step.compensates is None]
        again = {name for name in written if name in plan.reach[name]}
        behind = {name for step in again for name in plan.reach[step]} | again
        if plan.final_step is not None:
            # it runs when all else has ended, and may lead back
            behind |= plan.reach[plan.final_step]
        for step, generation in world.log.diaries[id].begun:
            if plan.steps[step].compensates is not None:
                # as often as the step that it undoes, which other rules look at
                continue
            _must(step in behind or generation == 1, "a join fired twice", f"{id} {step}#{generation}")


def _loops(world: World) -> None:
    """The results of a loop stand in the order of its items."""
    for id in world.log.executions:
        for step, outcome in world.log.diaries[id].shadow.outcomes.items():
            data = outcome.get("data")
            if not isinstance(data, dict) or "stats" not in data or outcome["status"] != "ok":
                continue
            results = data["results"]
            _must(len(results) == data["stats"]["total"], "a loop lost results", f"{id} {step} {data}")
            for index, item in enumerate(results):
                if isinstance(item, dict) and "i" in item:
                    _must(item["i"] == index, "results are out of order", f"{id} {step} {index} {item}")


def _budgets(world: World) -> None:
    """Not one command more than the budget allows."""
    for id, execution in world.log.executions.items():
        budget = world.log.diaries[id].shadow.budget
        issued = sum(event.type == e.ISSUED for event in execution.events)
        _must(budget is None or issued <= budget["max_invocations"], "over budget", f"{id} {issued} {budget}")


def _families(world: World) -> None:
    """Children that were started exist, know their parent, and do not outlive one that was not asked to spare them."""
    for id, execution in world.log.executions.items():
        for child in world.log.diaries[id].children:
            found = world.log.executions.get(child)
            _must(found is not None and found.parent_id == id, "a child was lost", f"{id} {child}")
        for event in execution.events:
            allowed = event.payload.get("timeout")
            if event.type != e.CHILD_STARTED or allowed is None:
                continue
            given = world.log.executions[event.payload["execution_id"]].events[0].payload.get("timeout")
            _must(given is not None and given <= allowed, "a child has more time than it is given", f"{id} {given}")
    started = {child for diary in world.log.diaries.values() for child in diary.children}
    born = {id for id, execution in world.log.executions.items() if execution.parent_id is not None}
    _must(started == born, "a child that nobody started", born - started)


def _claims(world: World) -> None:
    """Each row is claimed once, processed under one key, and once among the results of a loop that has ended well. A
    loop ends without the rows that are still held by a connection which broke: they stay as they are."""
    for id, table in world.users.tables.items():
        twice = [row for row, times in table.claims.items() if times > 1]
        _must(not twice, "a row was claimed twice", f"{id} {twice}")
        several = {row: keys for row, keys in table.keys.items() if len(keys) > 1}
        _must(not several, "a row was processed under several keys", f"{id} {several}")
        state = world.log.diaries[id].shadow
        loop = state.outcomes.get(CLAIMING)
        if loop is None or loop["status"] != "ok":
            continue
        results = _bare(world, loop)["data"]["results"]
        rows = Counter(row for result in results for row in result["rows"])
        expected = Counter(row for row in range(table.rows) if row in rows or row not in table.passed_over)
        _must(rows == expected, "rows are not once among the results", f"{id} {table.rows} {rows}")
        _must(set(table.claims) == set(rows), "a row was claimed, and is lost", f"{id} {table.claims} {rows}")


def _deadlines(world: World) -> None:
    """What is not ended by its time is ended then, as soon as there is somebody to do it."""
    for id, diary in world.log.diaries.items():
        if diary.due is None:
            continue
        ended, due = world.log.ended_at[id], diary.due / 1000
        _must(
            ended <= max(due, world.log.well_since()) + LATE,
            "an execution outlived its time",
            f"{id} ended {ended - due:.1f} s after it",
        )
        overdue = (diary.shadow.error or {}).get("code") == "execution.timeout"
        _must(diary.is_overdue == overdue, "it is said to have taken too long", f"{id} {diary.shadow.error}")
        if overdue and not world.faults.seen.get("skew"):
            took = ended * 1000 - world.log.executions[id].events[0].at
            allowed = world.log.executions[id].events[0].payload["timeout"] * 1000
            _must(took >= allowed, "an execution was ended before its time", f"{id} after {took:.0f} ms")


def _tokens(world: World) -> None:
    """Secrets are fetched by who may, as often as they have to be, and stand nowhere."""
    tokens, permits = world.tokens, world.secret_table.permits
    _must(tokens.requests <= ATTEMPTS * permits, "secrets are fetched by who may not", f"{tokens.requests} {permits}")
    if world.calm:
        _must(tokens.requests == permits, "a secret was fetched twice", f"{tokens.requests} {permits}")
        _fetched_in_turn(world)
    if tokens.issued:
        secrets = [form for text in tokens.issued for form in (text.encode(), base64.b64encode(text.encode())[:-4])]
        for where, content in _written(world):
            found = [secret for secret in secrets if secret in content]
            _must(not found, "a secret was written down", f"{where}: {found[:3]}")


def _fetched_in_turn(world: World) -> None:
    """Where nothing goes wrong, nobody fetches what somebody has who shares it, and what is good for long."""
    last: dict[str, Token] = {}
    for token in world.tokens.issued.values():
        sharing = world.shared_by(token.scope, token.execution_id)
        before = last.get(sharing)
        # the earliest that one is renewed
        fresh = before is not None and token.at < before.at + before.lifetime / 2
        _must(not fresh, "a secret is fetched that is at hand", f"{sharing} {before} {token}")
        last[sharing] = token


def _written(world: World) -> Iterator[tuple[str, bytes]]:
    """All that the engine keeps."""
    for id, execution in world.log.executions.items():
        yield f"the log of {id}", log_of(world, id)
        yield f"the state of {id}", execution.state
    for key, content in world.kept.items():
        yield f"the result {key}", content


# -- how executions ended


def _promises(world: World) -> None:
    """What runs beside the others ends as it promises: where and why it fails is told, and if it does not, nothing is
    lost."""
    refused = {order.label for order in world.orders if order.refused}
    for each in (*world.book.faulty, *world.book.constructs):
        found = [id for id, execution in world.log.executions.items() if _is_root(execution, each.label)]
        if each.refused:
            _must(not found, "what is no payload was taken for one", f"{each.label} {each.body!r}")
        elif each.body is not None:
            _must(each.label not in refused, "a payload was refused", f"{each.label} {each.body!r}")
        for id in found:
            if not _touched(world, id):
                _keeps(world, id, each.label, each.promise)
        goes_on = [id for id, it in world.log.executions.items() if it.restart_of in found and not _touched(world, id)]
        for id in goes_on if each.restarted is not None else ():
            restart_of = world.log.executions[id].restart_of or ""
            if not _touched(world, restart_of):
                assert each.restarted is not None
                _keeps(world, id, f"{each.label}, gone on with", each.restarted)


def _keeps(world: World, id: str, who: str, promise: Promise) -> None:
    state, events = world.log.diaries[id].shadow, world.log.executions[id].events
    ending = f"{who}: {state.status}, {str(state.error)[:600]}"
    weight = sum(len(orjson.dumps(event.payload)) for event in events) + len(world.log.executions[id].state)
    _must(weight <= promise.bytes, "a log is larger than what is promised", f"{who}: {weight} bytes")
    for step, limit in promise.begun.items():
        diary = world.log.diaries[id]
        runs = [number for name, number in diary.begun if name == step and number > diary.reused.get(step, 0)]
        begun = max(runs, default=0)
        _must(begun <= limit, "a step begins more often than is promised", f"{who}: {step} {begun} times, not {limit}")
    if promise.status is not None:
        _must(state.status == promise.status, "it ends otherwise than is promised", f"{ending}, not {promise.status}")
    if promise.step is not None:
        named = (state.error or {}).get("step")
        _must(named == promise.step, "an error does not name its step", f"{ending}, not {promise.step}")
    for word in promise.words:
        _must(word in str(state.error), "an error does not say what is wrong", f"{ending}, not {word!r}")
    if promise.undone is not None:
        _must(
            _brief(state.error) == promise.undone,
            "otherwise undone than is promised",
            f"{ending}, not {promise.undone}",
        )
    if state.status == "completed":
        for key, value in promise.ctx.items():
            _exactly(value, ctx_of(world, state).get(key), f"{who}: ctx.{key}")
        for step, fields in promise.data.items():
            data = _bare(world, state.outcomes[step])["data"]
            for name, value in fields.items():
                _exactly(value, data.get(name), f"{who}: {step}.{name}")


def _brief(error: Any) -> Any:
    """What was undone, and the codes of what was not."""
    found = (error or {}).get("compensation")
    return found and {
        "done": found["done"],
        "failed": [{"step": one["step"], "code": one.get("code")} for one in found["failed"]],
    }


def _exactly(promised: Any, found: Any, what: str) -> None:
    if exact(promised) != exact(found):
        raise Broken("a value is not kept as it is promised", f"{what}: {str(found)[:300]}, not {str(promised)[:300]}")


def log_of(world: World, id: str) -> bytes:
    """An execution's events, to the last byte."""
    return orjson.dumps([astuple(event) for event in world.log.executions[id].events])


def unequal(one: World, other: World) -> str | None:
    """Where the logs of two worlds part in which the same was to happen."""
    if list(one.log.executions) != list(other.log.executions):
        return f"executions {list(one.log.executions)} / {list(other.log.executions)}"
    for id in one.log.executions:
        if log_of(one, id) == log_of(other, id):
            continue
        pairs = zip_longest(one.log.executions[id].events, other.log.executions[id].events)
        first = next(pair for pair in pairs if orjson.dumps(pair) != orjson.dumps(pair[::-1]))
        return f"{id} {one.log.executions[id].loaded.path}: {str(first[0])[:1000]} / {str(first[1])[:1000]}"
    return None


def outcomes(world: World) -> dict[str, Any]:
    return {
        execution.workload["label"]: ending(world, id)
        for id, execution in world.log.executions.items()
        if execution.parent_id is None and execution.loaded.path == MAIN
    }


def ending(world: World, id: str) -> dict[str, Any]:
    """Status, ctx and outcomes, without what differs between two runs of the same playbook."""
    state = world.log.diaries[id].shadow
    execution = world.log.executions[id]
    if state.status != "completed":
        # how far the branches beside the one that failed had come is a matter of time
        return {"status": state.status}
    found = digest(id, execution.events, execution.workload)
    return {
        "status": state.status,
        "digest": found.value,
        "entries": [(link.name, link.sha256) for link in found.links],
        "ctx": ctx_of(world, state),
        "last": state.last,
        "outcomes": {step: _bare(world, outcome) for step, outcome in sorted(state.outcomes.items())},
    }


def ctx_of(world: World, state: Any) -> dict[str, Any]:
    """With the values of what is by reference."""
    held = {name: _value_of(world, ref) for name, ref in state.ctx_refs.items()}
    return {**state.ctx, **held}


def _value_of(world: World, ref: dict[str, Any]) -> Any:
    value = _bare(world, {"status": "ok", "ref": ref})["data"]
    return value[ref["field"]] if "field" in ref else value


def _bare(world: World, outcome: dict[str, Any]) -> dict[str, Any]:
    if outcome["status"] == "error":
        # of a loop that failed, more or fewer items may have been run
        return {"status": "error"}
    data = outcome.get("data")
    ref = outcome.get("ref")
    if ref is not None and ref["kind"] == "manifest":
        data = {"results": _manifest(world, ref), "stats": ref["extracted"]["stats"]}
    elif ref is not None:
        data = orjson.loads(world.kept[ref["key"]])
    return {"status": outcome["status"], "data": data}


def _manifest(world: World, ref: dict[str, Any]) -> list[Any]:
    """noetl://execution/ID/manifest/STEP/GENERATION, which may be a child's."""
    *_, id, _, step, generation = ref["ref"].split("/")
    parts = [
        event.payload
        for event in world.log.executions[id].events
        if event.type in e.FRAMES and (event.step, event.generation) == (step, int(generation))
    ]
    results: list[Any] = []
    for part in sorted(parts, key=lambda part: int(part["start"])):
        results += part["data"] if "data" in part else orjson.loads(world.kept[part["ref"]["key"]])
    return results


def _compare(world: World, expected: dict[str, Any]) -> None:
    if not expected:
        return
    for id, execution in world.log.executions.items():
        label = execution.workload.get("label")
        if execution.parent_id is not None or execution.loaded.path != MAIN or label not in expected:
            continue
        if _touched(world, id):
            continue
        found, wanted = ending(world, id), expected[label]
        if execution.restart_of is not None:
            if _met_accident(world, execution.restart_of):
                continue
            # it has not done all of it
            found, wanted = ({name: one[name] for name in one if name not in OF_LOG} for one in (found, wanted))
        _must(found == wanted, "it ended otherwise than without faults", _difference(id, found, wanted))


def _touched(world: World, id: str) -> bool:
    """Whether it, or a child of its, was cancelled or met an accident."""
    if any(event.type == e.CANCELLED for event in world.log.executions[id].events) or _own_accident(world, id):
        return True
    return any(_touched(world, child) for child in world.log.diaries[id].children)


def _met_accident(world: World, id: str) -> bool:
    """Whether it, or a child of its, met an accident, before it was cancelled perhaps."""
    return _own_accident(world, id) or any(_met_accident(world, child) for child in world.log.diaries[id].children)


def _own_accident(world: World, id: str) -> bool:
    # where nothing goes wrong there are none
    return not world.calm and any(
        _accident(error)
        for event in world.log.executions[id].events
        for error in (event.payload.get("error"), *(event.payload.get("errors") or {}).values())
    )


def _accident(error: Any) -> bool:
    return isinstance(error, dict) and (
        bool(ACCIDENTS & spellings(str(error.get("code"))))
        or _accident(error.get("cause"))
        or _accident(error.get("item"))
    )


def _difference(id: str, found: dict[str, Any], expected: dict[str, Any]) -> str:
    names = [name for name in {**found, **expected} if found.get(name) != expected.get(name)]
    lines = []
    for name in names:
        one, other = found.get(name), expected.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            for key in {**one, **other}:
                if one.get(key) != other.get(key):
                    lines.append(f"{name}.{key}: {one.get(key)} instead of {other.get(key)}")
        else:
            lines.append(f"{name}: {one} instead of {other}")
    return f"{id} " + "; ".join(lines)[:2000]

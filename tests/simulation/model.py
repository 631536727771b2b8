"""A formal model of claim, lease, fence, append and decide, small enough to be looked at whole.

Two commands of one execution, two workers, two control planes and a reconciler. Everything happens in single steps,
in any order, and anything may crash between any two: `explore` visits every state there is. Checked are safety (no
effect under a stale fence, each fact in the log once, one decision for each) and liveness (from wherever it got to,
the execution can still end, with nothing but what the survivors do of their own accord).

`advance` is the life of one command in the store: the same relation that the model is made of is what the moves of
simulated runs of the real engine are held against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

T = TypeVar("T")

Move = tuple[str, str, str, int]
# phase, and the fence it was last claimed under
Cell = tuple[str, int]
GONE: Cell = ("gone", 0)


def advance(cell: Cell, action: str, fence: int) -> Cell | None:
    """The command after `action` under `fence`; None if that must not happen."""
    phase, current = cell
    match phase, action:
        case "gone", "issue":
            return "pending", 0
        case "pending", "claim" if fence > current:
            return "claimed", fence
        case "claimed", "expire":
            return "pending", current
        case "claimed", "release" if fence == current:
            return "pending", current
        case "claimed", "commit" if fence == current:
            return "logged", current
        case "claimed", "append" if fence == current:
            return "inbox", current
        case "pending", "ahead" if current == 0:
            # issued and reported in one commit, under the hold on the command before it
            return "logged", fence
        case "inbox", "take" if fence == current:
            return "logged", current
        case (("pending" | "claimed" | "inbox"), "end"):
            return "ended", current
    return None


def conform(moves: Iterable[Move]) -> str | None:
    """Hold the moves of a run, (execution, command, action, fence), against the model; the first that does not fit."""
    cells: dict[tuple[str, str], Cell] = {}
    for execution_id, command, action, fence in moves:
        key = (execution_id, command)
        cell = cells.get(key, GONE)
        after = advance(cell, action, fence)
        if after is None:
            return f"{execution_id} {command}: {action} under fence {fence} after {cell}"
        cells[key] = after
    return None


class Hand(NamedTuple):
    """A worker: idle, or it runs a command, or waits for the answer to a report of it."""

    command: int = -1
    fence: int = 0


class Call(NamedTuple):
    """A control plane at work on a report, or a reconciler, which begins at `look`.

    got -> read (race 1) -> again (race 2) -> hand in -> look -> taking
    """

    stage: str = "free"
    command: int = -1
    fence: int = 0
    head: int = -1
    inbox: tuple[int, ...] = ()
    # the commands whose facts it knows of
    seen: frozenset[int] = frozenset()


class State(NamedTuple):
    cells: tuple[Cell, ...]
    hands: tuple[Hand, ...]
    calls: tuple[Call, ...]
    keeper: Call
    head: int = 0
    # how often each command's fact stands in the log
    logged: tuple[int, ...] = ()
    # how often the step that waits for all commands was begun
    joined: int = 0
    # how often other things may still happen to the execution
    others: int = 0
    stale: bool = False


FREE, IDLE = Call(), Hand()


@dataclass(frozen=True, slots=True)
class Rules:
    """What the model keeps to; a mutant leaves one of them out."""

    fence: bool = True
    compare_and_set: bool = True
    requeue: bool = True
    take_once: bool = True
    reconcile: bool = True


class Model:
    def __init__(
        self, rules: Rules = Rules(), commands: int = 2, hands: int = 2, planes: int = 2, others: int = 2
    ) -> None:
        self.rules = rules
        self.first = State(
            cells=(("pending", 0),) * commands,
            hands=(IDLE,) * hands,
            calls=(FREE,) * planes,
            keeper=FREE,
            logged=(0,) * commands,
            others=others,
        )

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        if state.others and any(call.head == state.head for call in (*state.calls, state.keeper)):
            yield (
                "something else happens to the execution",
                state._replace(head=state.head + 1, others=state.others - 1),
            )
        yield from self._workers(state)
        for index, call in enumerate(state.calls):
            yield from self._call(state, call, partial(_put_call, index), f"plane {index}")
        if self.rules.reconcile:
            yield from self._reconciler(state)

    # -- workers

    def _workers(self, state: State) -> Iterator[tuple[str, State]]:
        for index, hand in enumerate(state.hands):
            if hand == IDLE:
                for command in range(len(state.cells)):
                    yield from self._claim(state, index, command)
                continue
            yield f"worker {index} dies", self._hand(state, index, IDLE)
            slot = next((i for i, call in enumerate(state.calls) if call.stage == "free"), None)
            if slot is not None:
                # once more too: the first try may have got lost
                call = Call("got", hand.command, hand.fence)
                yield f"worker {index} reports", state._replace(calls=_put(state.calls, slot, call))

    def _claim(self, state: State, index: int, command: int) -> Iterator[tuple[str, State]]:
        fence = 1 + max(fences_of(state))
        after = advance(state.cells[command], "claim", fence)
        if after is not None:
            claimed = state._replace(cells=_put(state.cells, command, after))
            yield f"worker {index} claims {command}", self._hand(claimed, index, Hand(command, fence))
            yield f"an answer to worker {index} is lost, with {command}", claimed

    def _hand(self, state: State, index: int, hand: Hand) -> State:
        return state._replace(hands=_put(state.hands, index, hand))

    # -- control planes

    def _call(
        self, state: State, call: Call, put: Callable[[State, Call], State], who: str
    ) -> Iterator[tuple[str, State]]:
        match call.stage:
            case "free":
                return
            case "got":
                yield f"{who} reads", self._read(state, call, put, "read", fresh=False)
            case "read" | "again":
                after = self._commit(state, call)
                if after is not None:
                    yield f"{who} commits {call.command}", self._answer(put(after, FREE), call)
                elif call.stage == "read":
                    yield f"{who} loses and reads again", self._read(state, call, put, "again", fresh=True)
                else:
                    yield f"{who} loses again", put(state, call._replace(stage="hand in", head=-1))
            case "hand in":
                yield f"{who} hands in", self._hand_in(state, call, put)
            case _:
                yield from self._take_in(state, call, put, who)
        yield f"{who} dies", put(state, FREE)

    def _read(self, state: State, call: Call, put: Callable[[State, Call], State], stage: str, fresh: bool) -> State:
        cell = state.cells[call.command]
        held = cell == ("claimed", call.fence) or not (fresh and self.rules.fence)
        if not held or state.logged[call.command]:
            return self._answer(put(state, FREE), call)
        return put(state, call._replace(stage=stage, head=state.head, seen=_logged(state)))

    def _commit(self, state: State, call: Call) -> State | None:
        if self.rules.compare_and_set and state.head != call.head:
            return None
        return self._close(state, call, "commit")

    def _close(self, state: State, call: Call, action: str) -> State | None:
        cell = state.cells[call.command]
        after = advance(cell, action, call.fence)
        stale = state.stale
        if after is None:
            if self.rules.fence or cell[0] not in ("claimed", "pending"):
                return None
            # without the check whoever comes first is believed
            after, stale = ("logged" if action == "commit" else "inbox", cell[1]), True
        closed = state._replace(cells=_put(state.cells, call.command, after), stale=stale)
        return self._write(closed, [call.command], call.seen) if action == "commit" else closed

    def _hand_in(self, state: State, call: Call, put: Callable[[State, Call], State]) -> State:
        after = self._close(state, call, "append")
        if after is None:
            return self._answer(put(state, FREE), call)
        # accepted from here on; taking it in is a favour
        return put(after, Call("look"))

    def _take_in(
        self, state: State, call: Call, put: Callable[[State, Call], State], who: str
    ) -> Iterator[tuple[str, State]]:
        match call.stage:
            case "look":
                # the case first, the inbox after it: two statements
                yield f"{who} loads", put(state, Call("loaded", head=state.head, seen=_logged(state)))
            case "loaded":
                inbox = tuple(i for i, cell in enumerate(state.cells) if cell[0] == "inbox")
                looked = call._replace(stage="taking", inbox=inbox) if inbox else FREE
                yield f"{who} looks into the inbox", put(state, looked)
            case "taking" if state.head == call.head or not self.rules.compare_and_set:
                yield f"{who} takes in {call.inbox}", put(self._take(state, call), FREE)
            case "taking":
                yield f"{who} comes too late", put(state, FREE)

    def _take(self, state: State, call: Call) -> State:
        for command in call.inbox:
            after = advance(state.cells[command], "take", state.cells[command][1])
            if after is not None and self.rules.take_once:
                state = state._replace(cells=_put(state.cells, command, after))
        return self._write(state, call.inbox, call.seen)

    def _write(self, state: State, commands: Iterable[int], seen: frozenset[int]) -> State:
        """The facts, and what follows from them for one who knows of `seen`."""
        logged = list(state.logged)
        for command in commands:
            logged[command] += 1
        all_in = len(seen | set(commands)) == len(logged)
        return state._replace(logged=tuple(logged), head=state.head + 1, joined=state.joined + all_in)

    def _answer(self, state: State, call: Call) -> State:
        """The worker hears, if it still waits; that it does not is a crash of its own."""
        hands = tuple(
            IDLE if (hand.command, hand.fence) == (call.command, call.fence) else hand for hand in state.hands
        )
        return state._replace(hands=hands)

    # -- the reconciler

    def _reconciler(self, state: State) -> Iterator[tuple[str, State]]:
        if self.rules.requeue:
            for command, cell in enumerate(state.cells):
                # a lease may run out at any time: its holder may be stalled, or gone
                if (after := advance(cell, "expire", 0)) is not None:
                    yield f"the lease of {command} runs out", state._replace(cells=_put(state.cells, command, after))
        if state.keeper.stage == "free":
            if any(cell[0] == "inbox" for cell in state.cells):
                yield "the reconciler wakes", _put_keeper(state, Call("look"))
        else:
            yield from self._take_in(state, state.keeper, _put_keeper, "the reconciler")
            yield "the reconciler dies", _put_keeper(state, FREE)

    # -- what must hold

    def wrong(self, state: State) -> str | None:
        if state.stale:
            return "an effect under a stale fence"
        if any(count > 1 for count in state.logged):
            return "a fact decided twice"
        if state.joined > 1:
            return "the join began twice"
        for cell, count in zip(state.cells, state.logged, strict=True):
            if (cell[0] == "logged") != (count == 1):
                return "the log and the command disagree"
        return None

    def done(self, state: State) -> bool:
        return state.joined == 1 and all(cell[0] == "logged" for cell in state.cells)


def _put_call(index: int, state: State, call: Call) -> State:
    return state._replace(calls=_put(state.calls, index, call))


def _put_keeper(state: State, call: Call) -> State:
    return state._replace(keeper=call)


def _put(values: tuple[T, ...], index: int, value: T) -> tuple[T, ...]:
    return (*values[:index], value, *values[index + 1 :])


def fences_of(state: State) -> set[int]:
    found = {0}
    found.update(fence for phase, fence in state.cells if phase != "logged")
    found.update(hand.fence for hand in state.hands)
    found.update(call.fence for call in state.calls)
    return found


def _logged(state: State) -> frozenset[int]:
    return frozenset(index for index, count in enumerate(state.logged) if count)

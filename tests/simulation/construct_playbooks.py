"""Playbooks of one construct each, to run beside the others, of which it is known what becomes of them: loops that
claim their rows, executions with a time to end in, tokens of a keychain, results that are collected and checked.

What the rules of the language say that they leave is predicted by the oracle where it follows from the playbook, and
looked at in `checks` where it is a matter of what was claimed, fetched or due.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from tests.oracle.names import Outcome
from tests.oracle.playbook import read
from tests.oracle.prediction import predict
from tests.oracle.tasks import Call

from .scripted import answer_to
from .side_playbooks import Maker, Promise, SidePlaybook, arc, playbook, to

FOREVER = {"do": "retry", "attempts": 1000, "backoff": "fixed"}


def construct_playbook(rng: random.Random, number: int) -> SidePlaybook:
    weights = [weight for weight, _ in RECIPES]
    (_, recipe) = rng.choices(RECIPES, weights)[0]
    return recipe(Maker(rng, recipe.__name__, f"sim/construct{number}"))


def _executor(make: Maker, **more: Any) -> dict[str, Any]:
    return {**more, **({"durability": "pipelined"} if make.rng.random() < 0.3 else {})}


# -- recipes


def rows_are_claimed(make: Maker) -> SidePlaybook:
    rng = make.rng
    by_row = rng.random() < 0.8
    rows = "[iter.job.id]" if by_row else "iter.job | map(attribute='id') | list"
    frame: dict[str, Any] = {"max_rows": rng.choice((1, 2, 4, 7)), "row_concurrency": rng.choice((1, 1, 3))}
    frame |= {} if by_row else {"process": "frame"}
    frame |= rng.choice(({}, {"max_seconds": 1}, {"lease_seconds": 40}, {"retry_mode": "failed_rows"}))
    claim = "CLAIM {{ execution_id }} {{ workload.rows }}"
    loop = {
        "iterator": "job",
        "cursor": {"kind": "postgres", "auth": "users", "claim": claim},
        "spec": {"mode": "cursor", "max_in_flight": rng.choice((1, 2, 4, 8)), "frame": frame},
    }
    tool = make.tool(rows=f"{{{{ {rows} }}}}")
    tool["input"]["ms"] = rng.choice((1, 40, 900, 4000))
    if rng.random() < 0.4:
        then = {"do": "retry", "attempts": 2, "delay": rng.choice((0.1, 6)), "backoff": "fixed"}
        tool["input"]["fail"] = 1
        tool["spec"] = {"policy": {"rules": [{"when": "{{ output.status == 'error' }}", "then": then}]}}
    make.step("s0", tool, loop=loop, next=to({"step": "s1"}))
    make.step("s1", make.tool("{{ s0 | length }}"))
    workload = {"rows": rng.choice((0, 5, 12, 30, 30))}
    return make.made(Promise("completed"), workload=workload, executor=_executor(make))


def it_takes_too_long(make: Maker) -> SidePlaybook:
    """One branch waits for what never comes, another turns without end, a third has a child that does."""
    timeout = make.rng.choice((5, 20, 90))
    make.step("s0", next=to({"step": "wait"}, {"step": "turn"}, {"step": "call"}, mode="inclusive"))
    make.step("wait", _waiting(make, make.rng.choice((6, 30, 600))))
    make.step("turn", make.tool("{{ ctx.n | default(0) }}"), set={"ctx.n": "{{ ctx.n | default(0) + 1 }}"})
    make.steps[-1]["tool"]["input"]["ms"] = 900
    make.steps[-1]["next"] = to({"step": "turn"})
    path = f"{make.path}_child"
    child = Maker(make.rng, make.recipe, path)
    # it ends by itself if it is spared when its caller is cancelled
    child.step("wait", _waiting(make, 600, attempts=4))
    make.step("call", {"kind": "playbook", "path": path})
    return make.made(
        Promise("failed", None, ("execution.timeout",), bytes=4_000_000),
        executor=_executor(make, timeout=timeout, max_turns=100_000),
        more=((path, playbook(path, child.steps)),),
    )


def a_child_takes_too_long(make: Maker) -> SidePlaybook:
    """Its caller gives it less time than it would take, or it has less by itself."""
    by_caller = make.rng.random() < 0.5
    path = f"{make.path}_child"
    child = Maker(make.rng, make.recipe, path)
    child.step("wait", _waiting(make, 30))
    tool: dict[str, Any] = {"kind": "playbook", "path": path}
    if by_caller:
        tool["spec"] = {"timeout": make.rng.choice((5, 40))}
    make.step("s0", tool, next=to({"step": "never"}))
    make.step("never", make.tool())
    own = {"timeout": make.rng.choice((5, 40)) if not by_caller else "2d"}
    promise = Promise("failed", "s0", ("child.failed", "execution.timeout"), begun={"never": 0})
    return make.made(promise, more=((path, playbook(path, child.steps, **own)),))


def a_step_takes_too_long(make: Maker) -> SidePlaybook:
    """One that is tried again and again, the items of a loop and a sub-playbook, each with less time than it takes."""
    rng = make.rng
    path = f"{make.path}_child"
    child = Maker(rng, make.recipe, path)
    child.step("wait", _waiting(make, 600, attempts=4))
    loop = {"in": "{{ range(6) | list }}", "iterator": "it", "spec": {"mode": "parallel", "max_in_flight": 3}}
    tools: dict[str, dict[str, Any]] = {
        "wait": {"tool": _waiting(make, rng.choice((6, 30, 600)))},
        "each": {"tool": _waiting(make, rng.choice((6, 600))), "loop": loop},
        "call": {"tool": {"kind": "playbook", "path": path}},
    }
    make.step("s0", next=to(*({"step": name} for name in tools), mode="inclusive"))
    for name, parts in tools.items():
        policy: dict[str, Any] = {"lifecycle": {"timeout": rng.choice((5, 20, 90))}}
        over = arc("last", "event.name in ['call.error', 'loop.failed']", set={f"ctx.{name}": "{{ error.code }}"})
        make.step(name, parts.pop("tool"), spec={"policy": policy}, next=to(over), **parts)
    make.step("last", make.tool())
    return make.made(
        Promise("completed", ctx=dict.fromkeys(tools, "step.timeout"), bytes=4_000_000),
        executor=_executor(make),
        more=((path, playbook(path, child.steps)),),
    )


def it_ends_in_time(make: Maker) -> SidePlaybook:
    """It has more than the trouble lasts."""
    tool = make.tool(fail=2)
    rule = {"when": "{{ output.status == 'error' }}", "then": {"do": "retry", "attempts": 3, "delay": 7}}
    tool["spec"] = {"policy": {"rules": [rule]}}
    make.step("s0", tool, spec={"policy": {"lifecycle": {"timeout": "1h"}}}, next=to({"step": "s1"}))
    make.step("s1", make.tool("{{ s0.v }}"))
    return make.made(Promise("completed"), executor=_executor(make, timeout="2h"))


def _waiting(make: Maker, delay: int, attempts: int = 1000) -> dict[str, Any]:
    tool = make.tool(fail=100_000)
    rule = {"when": "{{ output.status == 'error' }}", "then": {**FOREVER, "attempts": attempts, "delay": delay}}
    tool["spec"] = {"policy": {"rules": [rule]}}
    return tool


def results_are_collected(make: Maker) -> SidePlaybook:
    """A pipeline goes round a few times, and its first task fails at first, or in each round."""
    rng = make.rng
    strategy, path = rng.choice(
        (("append", None), ("append", "$.v"), ("concat", "$.list"), ("merge", None), ("replace", "$.v"))
    )
    name, rounds = rng.choice(("accumulated", "all")), rng.choice((2, 3, 4))
    first = {**make.tool("{{ step.rounds | default(0) }}", fail=rng.choice((0, 1, 1))), "name": "page"}
    first["input"] |= {"pad": rng.choice((0, 90))}
    if path == "$.list":
        first["input"]["list"] = "{{ range(step.rounds | default(0) + 1) | list }}"
    collect: dict[str, Any] = {"strategy": strategy, **({"merge_path": path} if path else {})}
    collect |= {"manifest_as": name} if name != "accumulated" else {}
    first["output"] = {"accumulate": collect}
    delay = rng.choice((0.1, 6, 6))
    then = {"do": "retry", "attempts": 2, "delay": delay, "backoff": "fixed"}
    first["spec"] = {"policy": {"rules": [{"when": "{{ output.status == 'error' }}", "then": then}]}}
    again = {"do": "jump", "to": "page", "set": {"step.rounds": "{{ step.rounds | default(0) + 1 }}"}}
    second = {**make.tool(f"{{{{ {name} }}}}"), "name": "turn"}
    second["spec"] = {
        "policy": {
            "rules": [
                {"when": f"{{{{ step.rounds | default(0) < {rounds - 1} }}}}", "then": again},
                {"else": {"then": {"do": "break"}}},
            ]
        }
    }
    make.step("s0", [first, second], next=to({"step": "s1"}))
    make.step("s1", make.tool(f"{{{{ s0.{name} }}}}"))
    return _predicted(make, {"s0": name, "s1": "v"})


def results_are_checked(make: Maker) -> SidePlaybook:
    """An assertion that holds, or one that does not; who fails is mended by a rule, or fails the step."""
    rng = make.rng
    wanted = rng.choice((["v"], ["v", "pad"], ["nothing"], ["v.more"]))
    tool = {**make.tool(), "assert": {"expects": rng.choice((["x"], ["x"], ["y"])), "returns": wanted}}
    if rng.random() < 0.4:
        then = {"do": "continue", "set": {"ctx.why": "{{ output.error.code }}"}}
        tool["spec"] = {"policy": {"rules": [{"when": "{{ output.status == 'error' }}", "then": then}]}}
    make.step("s0", tool, next=to({"step": "s1"}))
    make.step("s1", make.tool("{{ ctx.why | default('') }}"))
    return _predicted(make, {"s1": "v"})


def tokens_are_fetched(make: Maker) -> SidePlaybook:
    """Used at once, by items side by side, by sub-playbooks, and after a while; what comes back is masked."""
    rng = make.rng
    scope = rng.choice(("local", "shared", "global"))
    lifetime = rng.choice((40, 90, 600))
    data = {"grant_type": "client_credentials", "lifetime": "{{ workload.lifetime }}", "scope": scope}
    entry = {"kind": "oauth2", "scope": scope, "auto_renew": rng.random() < 0.5, "data": data}
    keychain = [
        {"name": "api", "endpoint": "http://api/token", **entry},
        {"name": "header", "kind": "static", "map": {"value": "Bearer {{ keychain.api.access_token }}"}},
    ]
    path = f"{make.path}_child"
    child = Maker(rng, make.recipe, path)
    for maker in (make, child):
        maker.step("s0", _use("0"), set={"ctx.seen": "{{ output.data.data.header }}"}, next=to({"step": "s1"}))
        loop = {"in": "{{ range(4) | list }}", "iterator": "it", "spec": {"mode": "parallel", "max_in_flight": 4}}
        maker.step("s1", _use("{{ iter.it }}"), loop=loop, next=to({"step": "s2"}))
        rule = {"when": "{{ output.status == 'error' }}", "then": {**FOREVER, "delay": rng.choice((7, 100, 300))}}
        wait = {**maker.tool(fail=1), "spec": {"policy": {"rules": [rule]}}}
        maker.step("s2", wait, next=to({"step": "s3"}))
        maker.step("s3", _use("9", auth="api"))
    loop = {"in": "{{ range(2) | list }}", "iterator": "it", "spec": {"mode": "parallel", "max_in_flight": 2}}
    make.steps[-1]["next"] = to({"step": "s4"})
    make.step("s4", {"kind": "playbook", "path": path}, loop=loop)
    workload = {"lifetime": lifetime}
    more = ((path, playbook(path, child.steps, workload, keychain)),)
    seen = {"data": {"header": "***", "encoded": "***", "n": "0"}}
    return make.made(
        Promise("completed", ctx={"seen": "***"}, data={"s0": seen}),
        workload=workload,
        executor=_executor(make),
        keychain=keychain,
        more=more,
    )


def _use(n: str, **by: Any) -> dict[str, Any]:
    """Again and again, if the connection breaks."""
    rule = {"when": "{{ output.status == 'error' and output.error.retryable }}", "then": {**FOREVER, "delay": 1}}
    by = by or {"headers": {"Authorization": "{{ keychain.header.value }}"}}
    spec = {"policy": {"rules": [rule]}}
    return {"kind": "http", "method": "POST", "url": f"http://api/use?n={n}", **by, "spec": spec}


# -- the oracle


def _predicted(make: Maker, fields: Mapping[str, str]) -> SidePlaybook:
    """As the oracle says that it ends; `fields`: of the results of steps, those to look at."""
    made = make.made(Promise(None), executor=_executor(make))
    found = predict(read(made.text), {"label": made.label}, _answer)
    error = found.error or {}
    promise = Promise(
        found.status,
        error.get("step"),
        (error["code"],) if error else (),
        ctx=found.ctx,
        data={
            step: {name: found.outcomes[step].data[name]}
            for step, name in fields.items()
            if step in found.outcomes and found.outcomes[step].status == "ok"
        },
    )
    return SidePlaybook(made.recipe, made.path, made.text, promise)


def _answer(call: Call) -> Outcome:
    arguments = {name: value for name, value in call.input.items() if name != "ms"}
    data, error = answer_to(call.task, arguments, call.attempt)
    return Outcome("error", error=error) if error else Outcome("ok", data=data)


RECIPES: tuple[tuple[int, Callable[[Maker], SidePlaybook]], ...] = (
    (5, rows_are_claimed),
    (2, it_takes_too_long),
    (2, a_child_takes_too_long),
    (2, a_step_takes_too_long),
    (1, it_ends_in_time),
    (4, results_are_collected),
    (2, results_are_checked),
    (5, tokens_are_fetched),
)

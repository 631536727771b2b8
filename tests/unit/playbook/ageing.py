"""Playbooks in older spellings: for each form that older_forms rewrites, what makes it out of today's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from .grammar import Document, assignments, documents, inputs

OK = "{{ output.status == 'ok' }}"
FAILED = "{{ output.status == 'error' }}"
CONDITION = "output.error.retryable"
FIELDS = frozenset("auth command code database endpoint follow_redirects headers method params path url".split())  # noqa: SIM905


@dataclass(frozen=True)
class Edit:
    """Makes one place older: `form` names the form, `key` is what its warning stands at, `says` what it says."""

    form: str
    key: str
    says: str
    apply: Callable[[], object]


@st.composite
def aged(draw: DrawFn) -> tuple[Document, Document, list[Edit]]:
    """A document of today, the same one in older forms, and what has been done to it."""
    today = draw(documents())
    for step in today["workflow"]:
        _prepare(draw, step)
    older: Document = copy.deepcopy(today)
    done: list[Edit] = []
    for _ in range(draw(st.integers(1, 5))):
        edits = list(edits_of(older))
        if not edits:
            break
        # each form as often as any other, however many places it has
        form = draw(st.sampled_from(sorted({edit.form for edit in edits})))
        edit = draw(st.sampled_from([edit for edit in edits if edit.form == form]))
        edit.apply()
        done.append(edit)
    return today, older, done


def _prepare(draw: DrawFn, step: Document) -> None:
    """Give it what has an older form, and is rare otherwise."""
    looped = "loop" in step
    for tool in tools_of(step):
        choice = draw(st.integers(0, 5))
        if kind_of(tool) == "workbook" or choice > 3:
            continue
        if choice == 0:
            when = draw(st.sampled_from([FAILED, f"{{{{ output.status == 'error' and ({CONDITION}) }}}}"]))
            more = draw(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "attempts": st.integers(1, 5),
                        "delay": st.sampled_from([1, "2s"]),
                        "backoff": st.sampled_from(["fixed", "exponential", "linear"]),
                        "max_delay": st.just(9),
                    },
                )
            )
            _rules(tool, [{"when": when, "then": {"do": "retry", **more}}])
        elif choice == 1 and (looped or isinstance(step["tool"], list)):
            _rules(tool, [{"when": OK, "then": {"do": "continue", "set": draw(assignments)}}])
        elif choice == 2 and not looped:
            tool["output"] = {"select": [{"path": "$.a.b", "as": "b"}, {"path": "$.n", "as": "n"}]}
        elif choice == 3:
            tool["input"] = draw(inputs)
            tool.setdefault("spec", {})["timeout"] = draw(st.sampled_from([5, "1m"]))
    if draw(st.booleans()):
        step.setdefault("spec", {})["timeout"] = draw(st.sampled_from([30, "2m"]))


def _rules(tool: Document, rules: list[Document]) -> None:
    tool.setdefault("spec", {}).setdefault("policy", {})["rules"] = rules


def tools_of(step: Document) -> list[Document]:
    """Those whose kind can be seen: not under a label, and not as text."""
    tools = step["tool"] if isinstance(step["tool"], list) else [step["tool"]]
    return [tool for tool in tools if isinstance(tool, dict) and kind_of(tool) is not None]


def kind_of(tool: Document) -> str | None:
    kind: str | None = tool.get("kind", tool.get("type"))
    return kind


def edits_of(document: Document) -> Iterator[Edit]:
    """All that can be made older next."""
    for step in document["workflow"]:
        yield from _of_step(step)
        for tool in tools_of(step):
            yield from _of_tool(tool, in_list=isinstance(step["tool"], list) or "loop" in step)
            yield from _of_rules(tool)
        if isinstance(step["tool"], list):
            for place, tool in enumerate(step["tool"]):
                yield from _of_item(step, place, tool)
        if "loop" in step:
            yield from _of_loop(step["loop"])
        for arc in step.get("next", {}).get("arcs", ()):
            yield from _renaming(arc, "when", ("cond", "condition"))
    for task in document["workbook"]:
        yield from _of_tool(task["tool"], in_list=True)
        yield from _of_rules(task["tool"])


def _renaming(holder: Document, key: str, names: tuple[str, ...]) -> Iterator[Edit]:
    if key in holder and not holder.keys() & set(names):
        for name in names:
            yield Edit(
                f"{name} for {key}",
                name,
                f"'{name}' is called '{key}' today",
                lambda name=name: _rename(holder, key, name),  # type: ignore[misc]
            )


def _rename(holder: Document, key: str, name: str) -> None:
    holder[name] = holder.pop(key)


def _of_step(step: Document) -> Iterator[Edit]:
    yield from _renaming(step, "input", ("args", "with"))
    tool, spec = step["tool"], step.get("spec", {})
    if "timeout" in spec and "timeout" not in step:
        yield Edit(
            "timeout at the step", "timeout", "'timeout' belongs in 'spec'", lambda: _take(step, "spec", "timeout")
        )
    if not isinstance(tool, dict) or kind_of(tool) is None:
        return
    rest = tool.keys() - {"kind"}
    if "kind" in tool and rest <= FIELDS | {"output", "retry"} and not rest & step.keys():
        yield Edit("the tool as text", "tool", "write tool: {kind:", lambda: _as_text(step))
    for key in sorted((FIELDS | {"output", "retry"}) & tool.keys() - step.keys()):
        yield Edit("a field at the step", key, "write tool: {", lambda key=key: _take(step, "tool", key))  # type: ignore[misc]
    rules = tool.get("spec", {}).get("policy", {}).get("rules")
    if rules is not None and "rules" not in spec.get("policy", {}):
        yield Edit("rules in the policy of the step", "rules", "'rules' belong to the tool", lambda: _rules_up(step))
    if "set" in step and "loop" not in step and "set" not in tool:
        yield Edit("set in the tool", "set", "'set' is written beside 'tool'", lambda: tool.update(set=step.pop("set")))


def _take(holder: Document, source: str, key: str) -> None:
    """`source.key` as `key`."""
    holder[key] = holder[source].pop(key)
    if not holder[source]:
        del holder[source]


def _as_text(step: Document) -> None:
    tool = step["tool"]
    step["tool"] = tool.pop("kind")
    step.update(tool)


def _rules_up(step: Document) -> None:
    rules = step["tool"]["spec"]["policy"].pop("rules")
    if not step["tool"]["spec"]["policy"]:
        _drop(step["tool"], "policy")
    step.setdefault("spec", {}).setdefault("policy", {})["rules"] = rules


def _drop(tool: Document, key: str) -> None:
    """A key of its spec, and the spec if that was all."""
    del tool["spec"][key]
    if not tool["spec"]:
        del tool["spec"]


def _of_tool(tool: Document, *, in_list: bool) -> Iterator[Edit]:
    yield from _renaming(tool, "kind", ("type",))
    yield from _renaming(tool, "input", ("args", "with"))
    spec = tool.get("spec", {})
    for key in sorted((FIELDS | {"input"}) & tool.keys() - spec.keys()):
        says = f"'{key}' is written in the tool itself, beside 'kind'"
        yield Edit("a field in the spec", key, says, lambda key=key: _into_spec(tool, key))  # type: ignore[misc]
    if kind_of(tool) == "http":
        yield from _renaming(tool, "timeout", ("timeout_seconds",))
    elif "timeout" in spec and not tool.keys() & {"timeout", "timeout_seconds"}:
        yield Edit("timeout in the tool", "timeout", "'timeout' belongs in 'spec'", lambda: _timeout(tool, "timeout"))
        says = "'timeout_seconds' is called 'timeout' today"
        yield Edit("timeout_seconds", "timeout_seconds", says, lambda: _timeout(tool, "timeout_seconds"))
    if kind_of(tool) == "postgres":
        yield from _renaming(tool, "auth", ("credential",))
    select = tool.get("output", {}).get("select")
    if select and all(one["path"] in (f"$.{one['as']}", f"$.a.{one['as']}") for one in select):
        says = "write output: {select: [{path: $.name, as: name}]}"
        yield Edit("output_select", "output_select", says, lambda: _select(tool, tool["output"]))
        if len(tool["output"]) == 1:
            yield Edit("output_select", "output_select", says, lambda: _select(tool, tool))
    rules = spec.get("policy", {}).get("rules")
    if rules and len(rules) == 1 and spec["policy"].keys() == {"rules"}:
        yield from _of_only_rule(tool, rules[0], in_list=in_list)


def _into_spec(tool: Document, key: str) -> None:
    tool.setdefault("spec", {})[key] = tool.pop(key)


def _timeout(tool: Document, key: str) -> None:
    tool[key] = tool["spec"]["timeout"]
    _drop(tool, "timeout")


def _select(tool: Document, holder: Document) -> None:
    holder["output_select"] = [one["path"].removeprefix("$.") for one in tool["output"].pop("select")]
    if not tool["output"]:
        del tool["output"]


def _of_only_rule(tool: Document, rule: Document, *, in_list: bool) -> Iterator[Edit]:
    then = rule.get("then")
    if then is None or "retry" in tool or "set" in tool:
        return
    says = "write a rule: spec: {policy: {rules:"
    more = {key: value for key, value in then.items() if key != "do"}
    if then.get("do") == "retry" and rule["when"] != OK and "set" not in then and isinstance(rule["when"], str):
        inner = rule["when"].removeprefix("{{ output.status == 'error' and (").removesuffix(") }}")
        if rule["when"] == FAILED:
            for retry in _retries(more):
                yield Edit("retry", "retry", says, lambda retry=retry: _instead(tool, "retry", retry))  # type: ignore[misc]
        elif inner == CONDITION:
            for retry in _retries(more):
                if isinstance(retry, dict):
                    conditional = {"retry_when": f"{{{{ {inner} }}}}", **retry}
                    yield Edit("retry", "retry", says, lambda retry=conditional: _instead(tool, "retry", retry))  # type: ignore[misc]
    if in_list and then.get("do") == "continue" and rule["when"] == OK and more.keys() == {"set"}:
        yield Edit("set of one of several", "set", says, lambda: _instead(tool, "set", then["set"]))


def _retries(then: Document) -> Iterator[Any]:
    """The ways to write what a retry has."""
    if not then:
        yield True
    elif then.keys() == {"attempts"}:
        yield then["attempts"]
    yield then
    names = {"attempts": "max_attempts", "delay": "initial_delay"}
    factor = {"fixed": 1, "exponential": 2}.get(then.get("backoff", ""))
    older = {names.get(key, key): value for key, value in then.items() if key != "backoff" or factor is None}
    yield older | ({"backoff_multiplier": factor} if factor else {})
    others = {"attempts": "max_retries", "delay": "retry_delay"}
    yield {others.get(key, key): value for key, value in then.items()}


def _instead(tool: Document, key: str, value: Any) -> None:
    """Of its rules."""
    tool[key] = copy.deepcopy(value)
    _drop(tool, "policy")


def _of_rules(tool: Document) -> Iterator[Edit]:
    for rule in tool.get("spec", {}).get("policy", {}).get("rules", ()):
        for holder in (rule, rule.get("else", {})):
            if "do" in holder.get("then", {}):
                says = "'do' belongs in 'then'"
                yield Edit("do", "do", says, lambda holder=holder: holder.update(holder.pop("then")))  # type: ignore[misc]


def _of_item(step: Document, place: int, tool: Document) -> Iterator[Edit]:
    """A task of a list."""
    if "name" in tool and kind_of(tool) not in (None, "workbook"):
        yield Edit(
            "a label",
            tool["name"],
            "write the name next to the kind",
            lambda: step["tool"].__setitem__(place, _label(tool)),
        )
    if place == len(step["tool"]) - 1 and "output" in tool and "output" not in step:
        yield Edit(
            "output at the step", "output", "write it in the last one", lambda: step.update(output=tool.pop("output"))
        )


def _label(tool: Document) -> Document:
    return {tool["name"]: {key: value for key, value in tool.items() if key != "name"}}


def _of_loop(loop: Document) -> Iterator[Edit]:
    yield from _renaming(loop, "in", ("collection",))
    yield from _renaming(loop, "iterator", ("element",))
    spec = loop.get("spec", {})
    for key in ("mode", "max_in_flight"):
        if key in spec and key not in loop:
            says = f"'{key}' belongs in 'spec'"
            yield Edit(f"{key} of a loop", key, says, lambda key=key: _take(loop, "spec", key))  # type: ignore[misc]
    for holder in (spec, loop):
        if holder.get("mode") == "parallel":
            yield Edit("async", "mode", "write mode: parallel", lambda holder=holder: holder.update(mode="async"))  # type: ignore[misc]

"""Documents of the grammar for Hypothesis: every construct, with names and references that mostly fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from .keychains import keychains, use
from .spellings import spelled

Document = dict[str, Any]
NAMES = ["first", "second", "third", "fourth", "fifth"]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.sampled_from(
        [
            *(
                "",
                "a",
                "yes",
                "12",
                "1e3",
                " x ",
                "# no",
                "é",
                'it\'s "so"',
                "a: b",
                "- x",
                "\U0001f600 \u2028\x85",
                "\ttab",
            ),
            *(
                "two\nlines",
                "ends\n",
                "ends\n\n",
                "one\n\n  deeper\nend\n",
                "  first\nis deeper\n",
                "\n",
                "long words " * 20,
            ),
        ]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "on"]), inner, max_size=3),
    max_leaves=5,
)
# that can be rendered wherever they stand
expressions = st.sampled_from(
    [
        "{{ workload.number }}",
        "{{ workload.items | length }}",
        "{{ workload.text | upper }} and {{ ctx.seen | default(0) }}",
        "{{ [1, 2, workload.number] }}",
        "{% if workload.flag %}yes{% else %}no{% endif %}",
        "{{ execution_id }}",
    ]
)
given = st.one_of(values, expressions)
conditions = st.one_of(
    st.booleans(),
    st.sampled_from(
        ["{{ workload.flag }}", "{{ workload.number > 1 and not workload.flag }}", "{{ ctx.seen is defined }}"]
    ),
)
of_events = st.sampled_from(["{{ event.name == 'step.done' }}", "{{ event.name == 'step.failed' }}"])
of_output = st.sampled_from(
    [
        "{{ output.status == 'error' }}",
        "{{ output.error.retryable and _attempt < 3 }}",
        "{{ output.data.left | default(0) > 0 }}",
    ]
)
seconds = st.one_of(st.sampled_from([1, 0.5, "3", "2s", "5m"]), st.just("{{ workload.number }}"))


def mapping(required: dict[str, SearchStrategy[Any]], **optional: SearchStrategy[Any]) -> SearchStrategy[Document]:
    return st.fixed_dictionaries(required, optional=optional)


assignments = st.dictionaries(st.sampled_from(["ctx.seen", "ctx.last"]), given, min_size=1, max_size=2)
inputs = st.dictionaries(st.sampled_from(["x", "y"]), given, max_size=2)
modes = st.sampled_from(["fail_fast", "best_effort"])


@st.composite
def rules(draw: DrawFn, labels: list[str]) -> list[Document]:
    """The rules of a task in a pipeline of `labels`."""
    actions = [
        mapping({"do": st.sampled_from(["continue", "break", "fail"])}, set=assignments),
        mapping(
            {"do": st.just("retry")},
            attempts=st.one_of(st.integers(1, 5), st.sampled_from(["3", "{{ workload.number }}"])),
            backoff=st.sampled_from(["none", "fixed", "linear", "exponential"]),
            delay=seconds,
        ),
    ]
    if len(labels) > 1:
        actions.append(mapping({"do": st.just("jump"), "to": st.sampled_from(labels)}))
    then = st.one_of(actions)
    written: list[Document] = draw(
        st.lists(mapping({"when": st.one_of(of_output, st.just(True)), "then": then}), max_size=2)
    )
    if draw(st.booleans()):
        written.append({"else": {"then": draw(then)}})
    return written


@st.composite
def tools(draw: DrawFn, labels: list[str], kinds: SearchStrategy[Document], *, looped: bool = False) -> Document:
    """One of the tasks `labels`; the result of a step with a loop is a list, of which nothing is selected."""
    tool = draw(kinds)
    spec: Document = draw(mapping({}, timeout=seconds))
    if tool["kind"] != "workbook" and (written := draw(rules(labels))):
        spec["policy"] = {"rules": written}
    if spec:
        tool["spec"] = spec
    if draw(st.booleans()):
        tool["input"] = draw(inputs)
    if draw(st.booleans()):
        select = mapping({"path": st.sampled_from(["$.a", "$.a.b[0]"]), "as": st.sampled_from(["kept", "part"])})
        selected = {} if looped else {"select": st.lists(select, max_size=2, unique_by=lambda each: each["as"])}
        accumulated = mapping({}, strategy=st.sampled_from(["append", "replace", "merge", "concat"]))
        tool["output"] = draw(mapping({}, inline_max_bytes=st.integers(0, 65_536), accumulate=accumulated, **selected))
    return tool


KINDS = [
    st.just({"kind": "noop"}),
    mapping(
        {"kind": st.just("python"), "code": st.sampled_from(["result = 1\n", "return {'a': 1}", "x = 2\nresult = x"])}
    ),
    mapping(
        {"kind": st.just("http"), "url": st.sampled_from(["http://127.0.0.1/{{ workload.text }}", "https://x.test/a"])},
        method=st.sampled_from(["GET", "POST"]),
        headers=st.just({"X-Number": "{{ workload.number }}"}),
        timeout=st.sampled_from([5, "2s"]),
        params=st.just({"page": "{{ workload.number }}"}),
    ),
    mapping(
        {
            "kind": st.just("postgres"),
            "auth": st.just("db"),
            "command": st.sampled_from(
                [
                    "SELECT {{ workload.number }}",
                    "SELECT 1 WHERE 'a' LIKE '%{{ workload.text }}%'",
                    "SELECT 1;\nSELECT 2",
                ]
            ),
        }
    ),
    st.just({"kind": "duckdb", "command": "SELECT {{ workload.number }} AS n"}),
    mapping({"kind": st.just("playbook"), "path": st.sampled_from(["some/child", "some/{{ workload.text }}"])}),
]
task_kinds = st.one_of(KINDS).map(dict)


@st.composite
def pipelines(draw: DrawFn, workbook: list[str], *, looped: bool) -> Any:
    kinds = st.one_of(*KINDS, *(st.just({"kind": "workbook", "name": name}) for name in workbook)).map(dict)
    if draw(st.booleans()):
        return draw(tools([], kinds, looped=looped))
    labels = ["one", "two", "three"][: draw(st.integers(1, 3))]
    # a task of the workbook keeps its name, and a pipeline has each name once
    drawn = [{"name": label} | draw(tools(labels, kinds, looped=looped)) for label in labels]
    return list({tool["name"]: tool for tool in drawn}.values())


@st.composite
def loops(draw: DrawFn) -> Document:
    mode = draw(st.sampled_from(["sequential", "parallel", "cursor"]))
    spec: Document = {"mode": mode} | draw(mapping({}, policy=mapping({}, failure=mapping({"mode": modes}))))
    if mode == "cursor":
        frame = mapping({}, max_rows=st.integers(1, 50), row_concurrency=st.integers(1, 4))
        claim = (
            "UPDATE work SET taken = true WHERE id IN (SELECT id FROM work LIMIT {{ __frame_max_rows }}) RETURNING id"
        )
        return {
            "cursor": {"kind": "postgres", "auth": "db", "claim": claim},
            "iterator": "item",
            "spec": spec | draw(mapping({}, frame=frame)),
        }
    if mode == "parallel":
        spec |= draw(mapping({}, max_in_flight=st.sampled_from([1, 4, "3", "{{ workload.number }}"])))
    items = draw(st.one_of(st.lists(values, max_size=3), st.sampled_from(["{{ workload.items }}", "{{ [1, 2] }}"])))
    return {"in": items, "iterator": "item", "spec": spec}


@st.composite
def steps(draw: DrawFn, name: str, names: list[str], workbook: list[str]) -> Document:
    looped = draw(st.integers(0, 3)) == 0
    step: Document = {"step": name, "tool": draw(pipelines(workbook, looped=looped))}
    step |= draw(mapping({}, desc=st.sampled_from(["what it does", "a: b", "- x"]), input=inputs, set=assignments))
    if looped:
        step["loop"] = draw(loops())
    admit = mapping(
        {
            "rules": st.lists(
                mapping({"when": conditions, "then": mapping({"allow": st.booleans()})}), min_size=1, max_size=2
            )
        }
    )
    failure = {"failure": mapping({"mode": modes})} if looped else {}
    spec = draw(mapping({}, policy=mapping({}, admit=admit, **failure)))
    if spec:
        step["spec"] = spec
    arc = mapping({"step": st.sampled_from(names)}, when=st.one_of(conditions, of_events), set=assignments)
    if arcs := draw(st.lists(arc, max_size=3)):
        router = mapping(
            {}, mode=st.sampled_from(["exclusive", "inclusive"]), on_no_match=st.sampled_from(["complete", "quiet"])
        )
        step["next"] = {"arcs": arcs} | ({"spec": written} if (written := draw(router)) else {})
    return step


@st.composite
def documents(draw: DrawFn) -> Document:
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    workbook = draw(st.lists(st.sampled_from(["shared", "other"]), max_size=2, unique=True))
    spec = mapping(
        {},
        entry_step=st.sampled_from(names),
        no_next_is_error=st.booleans(),
        timeout=st.sampled_from([60, "10m"]),
        durability=st.sampled_from(["step", "pipelined"]),
        max_turns=st.integers(1, 20),
    )
    keychain = draw(keychains())
    document = {
        "apiVersion": draw(st.sampled_from(["noetl.io/v2", "noetl.io/v10"])),
        "kind": "Playbook",
        "metadata": {"name": "generated", "path": "tests/generated", **draw(mapping({}, labels=values))},
        **draw(mapping({}, executor=mapping({}, spec=spec))),
        **({"keychain": keychain} if keychain else {}),
        "workload": {"number": 3, "text": "a", "flag": True, "items": [1, 2]} | draw(mapping({}, more=values)),
        "workbook": [{"name": name, "tool": draw(tools([], task_kinds))} for name in workbook],
        "workflow": [draw(steps(name, names, workbook)) for name in names],
    }
    use(draw, document)
    return document


def as_yaml(document: Document, *, flow: bool | None = False) -> str:
    """In blocks, in one line, or in blocks of which the innermost are in one line (None)."""
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, default_flow_style=flow)


def as_json(document: Document) -> str:
    # YAML has no escapes for the two halves of a character, and these two end a line there
    text = json.dumps(document, indent=1, ensure_ascii=False)
    return text.replace("\u2028", "\\u2028").replace("\x85", "\\u0085")


@dataclass(frozen=True)
class Written:
    """A document, a text of it, and how many comments that has (see spellings)."""

    document: Document
    text: str
    comments: int = 0


def spelled_out(document: Document, seed: int) -> Written:
    spelling = spelled(document, seed)
    return Written(document, spelling.text, spelling.comments)


def writers() -> SearchStrategy[Callable[[Document], Written]]:
    """The ways to write a document."""
    simple: list[Callable[[Document], str]] = [as_yaml, as_json, lambda document: as_yaml(document, flow=None)]
    as_written = st.sampled_from(simple).map(lambda write: lambda document: Written(document, write(document)))
    seeds = st.integers(0, 10**9)
    return as_written | seeds.map(lambda seed: lambda document: spelled_out(document, seed))


def written(of: SearchStrategy[Document]) -> SearchStrategy[Written]:
    return st.builds(lambda document, write: write(document), of, writers())


texts = written(documents())

"""The file of a playbook's tests, `hello.test.yaml` beside `hello.yaml`: its grammar, and its cases ready to run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag

from ..inspection.redecide import merged
from ..orchestrator.variables import is_variable_name
from ..playbook.document import Document, Path, Unreadable, plain_data, read_document
from ..playbook.faults import Faults, did_you_mean, problem
from ..playbook.parser import validate_as
from ..playbook.part import Part
from ..playbook.plan import Plan, Task
from ..playbook.schema import DIALECT
from ..playbook.template import Template
from ..playbook.template_error import TemplateError
from .answers import HARMLESS, Given, TaskKey, read_answers, task_named

IDENTIFIER: Final = "urn:noetl:playbook-test:v2"
MAX_CASES: Final = 1000


def _calls_tag(value: Any) -> str:
    return "one" if isinstance(value, dict) else "each" if isinstance(value, list) else "count"


Calls = Annotated[
    Annotated[Annotated[int, Field(ge=0)], Tag("count")]
    | Annotated[dict[str, Any], Tag("one")]
    | Annotated[list[dict[str, Any]], Tag("each")],
    Discriminator(_calls_tag),
]
Kinds = list[str]
Tools = dict[str, Any]


class Expect(Part):
    """What a case must lead to; only what is named is compared."""

    legacy: ClassVar[Mapping[str, str]] = {"steps": "use 'path'", "ctx": "use values: {ctx.name: ...}"}

    status: Literal["completed", "failed"] | None = Field(
        None, description="How the run ends. Default: completed, or failed if an error is expected."
    )
    path: list[str] | None = Field(
        None, description="The steps in the order in which they begin, each as often as it does; none that is skipped."
    )
    result: Any = Field(None, description="The result of the run, which is that of its last step.")
    error: dict[str, Any] | None = Field(None, description="Fields of the run's error, such as code and step.")
    values: dict[str, Any] = Field(
        {}, description="Expression, such as ctx.total or fetch.status, to its value at the end of the run."
    )
    calls: dict[str, Calls] = Field(
        {},
        description=(
            "Step, or step.task of a pipeline, to its calls: how many, or for each call in order the rendered fields "
            "of its tool, of which input is one. Only fields that are named are compared."
        ),
    )
    waited: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Seconds of all delays together, which take no time in a test."
    )


class Case(Part):
    """One run of the playbook."""

    legacy: ClassVar[Mapping[str, str]] = {"payload": "use 'workload'", "answers": "use 'tools'"}

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    workload: dict[str, Any] = Field({})
    tools: Tools = Field({})
    run: Kinds = Field([])
    variables: dict[str, Any] = Field(
        {}, description="Variables that a user sets once the run has begun: steps after the first one can read them."
    )
    expect: Expect


class PlaybookTest(Part):
    """`workload`, `tools` and `run` are those of every case, to which the case adds its own."""

    legacy: ClassVar[Mapping[str, str]] = {"tests": "use 'cases'", "path": "use 'playbook', a file"}

    api_version: Literal["noetl.io/v2", "noetl.io/v10"] = Field("noetl.io/v2", alias="apiVersion")
    kind: Literal["PlaybookTest"]
    playbook: str = Field(description="The playbook's file, relative to this one.")
    workload: dict[str, Any] = Field({}, description="Values merged into the playbook's workload.")
    tools: Tools = Field(
        {},
        description=(
            "Step, or step.task of a pipeline, to what it answers: a result; {error: {...}}; {result: ..., http: {...}}"
            "; a list of these, one for each call, or for each item of a loop; or run, to call the tool itself."
        ),
    )
    run: Kinds = Field([], description=f"Kinds of tools to call themselves: {', '.join(sorted(HARMLESS))}.")
    cases: list[Case] = Field(min_length=1, max_length=MAX_CASES)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundCase:
    """A case, checked against its playbook. `path`: its place in the document."""

    name: str
    path: Path
    workload: Mapping[str, Any]
    answers: Mapping[TaskKey, Given]
    run: frozenset[str]
    variables: Mapping[str, Any]
    expect: Expect


@dataclass(frozen=True, slots=True)
class CaseFile:
    document: Document
    test: PlaybookTest

    def line(self, path: Path) -> int:
        return self.document.find(path)[1].line

    def bind(self, plan: Plan) -> list[BoundCase]:
        """The cases for their playbook. Raises InvalidPlaybook with all that does not fit to it."""
        faults = Faults(self.document)
        common = read_answers(plan, self.test.tools, ("tools",), faults)
        _check_kinds(self.test.run, ("run",), faults)
        cases = []
        for index, case in enumerate(self.test.cases):
            path = ("cases", index)
            if any(case.name == other.name for other in self.test.cases[:index]):
                faults.add(f"there is another case named '{case.name}'", (*path, "name"))
            _check_kinds(case.run, (*path, "run"), faults)
            _check_expect(plan, case.expect, (*path, "expect"), faults)
            cases.append(
                BoundCase(
                    name=case.name,
                    path=path,
                    workload=merged(plain_data(self.test.workload), plain_data(case.workload)),
                    answers={**common, **read_answers(plan, case.tools, (*path, "tools"), faults)},
                    run=frozenset((*self.test.run, *case.run)),
                    variables=_variables(case, (*path, "variables"), faults),
                    expect=case.expect,
                )
            )
        faults.raise_if_any()
        return cases


def read_cases(text: str) -> CaseFile:
    """Raises InvalidPlaybook with all faults."""
    try:
        document = read_document(text)
    except Unreadable as unreadable:
        raise problem([unreadable.fault]) from None
    faults = Faults(document, strict=True)
    test = validate_as(PlaybookTest, document, faults)
    if test is None or faults:
        raise problem(faults.sorted())
    return CaseFile(document, test)


def schema_of_tests() -> dict[str, Any]:
    """JSON Schema 2020-12 of a file of tests."""
    schema = PlaybookTest.model_json_schema(by_alias=True)
    return {"$schema": DIALECT, "$id": IDENTIFIER, **schema, "title": "Tests of a NoETL playbook"}


def _variables(case: Case, path: Path, faults: Faults) -> dict[str, Any]:
    for name in case.variables:
        if not is_variable_name(name):
            faults.add(
                f"'{name}' cannot be the name of a variable: templates could not read it", (*path, name), key=True
            )
    values: dict[str, Any] = plain_data(case.variables)
    return values


def _check_kinds(kinds: Kinds, path: Path, faults: Faults) -> None:
    for index, kind in enumerate(kinds):
        if kind not in HARMLESS:
            known = ", ".join(sorted(HARMLESS))
            faults.add(f"only {known} can be run in a test, not '{kind}'{did_you_mean(kind, HARMLESS)}", (*path, index))


def _check_expect(plan: Plan, expect: Expect, path: Path, faults: Faults) -> None:
    if expect.error is not None and expect.status == "completed":
        faults.add("a run that is completed has no error", (*path, "error"), key=True)
    for index, step in enumerate(expect.path or ()):
        if step not in plan.steps:
            faults.add(f"there is no step '{step}'{did_you_mean(step, plan.steps)}", (*path, "path", index))
    for expression in expect.values:
        try:
            compiled = Template("{{ " + expression + " }}")
        except TemplateError as error:
            faults.add(f"'{expression}' is no expression: {error.message}", (*path, "values", expression), key=True)
            continue
        if not compiled.is_expression:
            message = f"'{expression}' must be one expression, such as ctx.total"
            faults.add(message, (*path, "values", expression), key=True)
    for name, calls in expect.calls.items():
        here = (*path, "calls", name)
        try:
            _, task = task_named(plan, name)
        except LookupError as error:
            faults.add(str(error.args[0]), here, "playbook.unknown_task", key=True)
            continue
        for place, field in _called_fields(calls, here):
            known = _fields(task)
            if field not in known:
                message = f"{task.kind} is not given '{field}' here{did_you_mean(field, known)}"
                faults.add(message, place, "playbook.unknown_key", key=True)


def _called_fields(calls: Any, path: Path) -> Iterator[tuple[Path, str]]:
    for index, call in enumerate(calls) if isinstance(calls, list) else ():
        yield from (((*path, index, field), field) for field in call)
    if isinstance(calls, dict):
        yield from (((*path, field), field) for field in calls)


def _fields(task: Task) -> list[str]:
    return ["input", *(task.config if isinstance(task.config, dict) else ())]

"""test: the cases beside playbooks."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import Fault, InvalidPlaybook
from ...plurals import counted
from ..case_results import Suite, lines
from ..failure import EXIT_FAILED, WrongUse
from ..junit import junit
from ..options import TEST_SUFFIX, JsonOption, read_text
from ..output import command, echo, print_json
from ..script_files import with_script_files
from ..unread import unused

if TYPE_CHECKING:
    from ...playbook.plan import Plan
    from ...testing.case_file import CaseFile

_PLAYBOOK = re.compile(r"""^["']?kind["']?:\s*["']?(?:Playbook|Agent)["']?\s*(?:#.*)?$""", re.MULTILINE)
FilesArgument = Annotated[
    list[Path], typer.Argument(help=f"Files of tests, their playbooks, or folders to search for *{TEST_SUFFIX}.")
]
JunitOption = Annotated[Path | None, typer.Option("--junit", help="Write the results to this file as JUnit XML.")]
SecondsOption = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds that one case may take.")]


@command
def run_tests(
    files: FilesArgument,
    junit_file: JunitOption = None,
    seconds: SecondsOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Run the tests of playbooks, without a stack. Exit status 1 if a case fails.

    A file of tests names its playbook and lists cases: what the tools answer, and which path, result and values must
    follow. The engine and the worker are the real ones, only tools are replaced, and delays take no time.
    """
    suites = []
    for file in _test_files(files):
        suite = _run_file(file, seconds)
        suites.append(suite)
        if not as_json:
            for text in lines(suite):
                echo(text)
    if junit_file is not None:
        _write(junit_file, junit(suites))
    failed = sum(not case.passed for suite in suites for case in suite.cases)
    wrong = sum(bool(suite.faults) for suite in suites)
    if as_json:
        print_json({"ok": not failed and not wrong, "files": [suite.document() for suite in suites]})
    else:
        count = sum(len(suite.cases) for suite in suites)
        in_error = f", {counted(wrong, 'file')} with errors" if wrong else ""
        echo(f"{counted(count, 'case')}: {count - failed} passed, {failed} failed{in_error}")
    if failed or wrong:
        raise typer.Exit(EXIT_FAILED)


def _test_files(paths: Sequence[Path]) -> list[Path]:
    found = [
        file
        for path in paths
        for file in (sorted(path.rglob(f"*{TEST_SUFFIX}")) if path.is_dir() else [_tests_of(path)])
    ]
    if not found:
        raise WrongUse(f"no file there has a name that ends in {TEST_SUFFIX}")
    # a playbook and its tests may both be named, as may a folder and what is in it
    once: dict[Path, Path] = {}
    for file in found:
        once.setdefault(file.resolve(), file)
    return list(once.values())


def _tests_of(file: Path) -> Path:
    """The tests beside a playbook, if that is what is named and they are there."""
    tests = file.with_name(f"{file.stem}{TEST_SUFFIX}")
    return tests if not file.name.endswith(TEST_SUFFIX) and tests.is_file() else file


def _run_file(file: Path, seconds: float) -> Suite:
    from ...control_plane.registration import document_of
    from ...testing.case_file import read_cases
    from ...testing.cases import run_case
    from ...tools.plans import load_plan

    text = read_text(str(file))
    if _PLAYBOOK.search(text):
        return Suite(str(file), faults=[{"file": str(file), "line": 1, "message": _without_tests(file)}])
    try:
        cases = read_cases(text)
    except InvalidPlaybook as problem:
        return Suite(str(file), faults=list(_faults(problem, file)))
    playbook = file.parent / cases.test.playbook
    try:
        content = document_of(with_script_files(read_text(str(playbook)), str(playbook))).content
    except WrongUse as error:
        return Suite(
            str(file), faults=[{"file": str(file), "line": cases.line(("playbook",)), "message": error.detail}]
        )
    except InvalidPlaybook as problem:
        return Suite(str(file), faults=list(_faults(problem, playbook)))
    plan = load_plan(content)
    try:
        bound = cases.bind(plan)
    except InvalidPlaybook as problem:
        return Suite(str(file), faults=list(_faults(problem, file)))
    if unused_values := list(_unused_values(cases, plan, content)):
        return Suite(str(file), faults=[{"file": str(file), **fault.to_dict()} for fault in unused_values])
    return Suite(str(file), [asyncio.run(run_case(cases, case, plan, content, seconds)) for case in bound])


def _without_tests(file: Path) -> str:
    """What is wrong with a playbook in the place of a file of tests."""
    if file.name.endswith(TEST_SUFFIX):
        return "this is a playbook; a file of tests has 'kind: PlaybookTest', 'playbook: FILE' and 'cases: [...]'"
    tests = file.with_name(f"{file.stem}{TEST_SUFFIX}").name
    form = f"'kind: PlaybookTest', 'playbook: {file.name}' and 'cases: [...]'"
    return f"this is a playbook without tests: they belong beside it, in {tests}, as {form}"


def _unused_values(cases: CaseFile, plan: Plan, content: str) -> Iterator[Fault]:
    given: list[tuple[tuple[str | int, ...], dict[str, Any]]] = [(("workload",), cases.test.workload)]
    given += [(("cases", index, "workload"), case.workload) for index, case in enumerate(cases.test.cases)]
    for path, values in given:
        for name, message in unused(values, plan.workload, content):
            yield cases.document.fault(message, (*path, name), key=True)


def _faults(problem: InvalidPlaybook, file: Path) -> Iterator[Mapping[str, Any]]:
    for fault in problem.faults:
        yield {"file": str(file), **fault.to_dict()}


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WrongUse(f"{file}: {error.strerror}") from None

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.conformance.case import Case
from tests.conformance.stack import Conformance, conformance


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--to-come", action="store_true", help="Also the files of tests/conformance/to_come.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--to-come", default=False):
        return
    for item in items:
        if (case := _case_of(item)) is not None and case.is_to_come:
            item.add_marker(pytest.mark.skip(reason=f"to come: {case.expected.waits_for}"))


@pytest.fixture(scope="module")
def ran(request: pytest.FixtureRequest) -> Iterator[Conformance]:
    """The executions of all cases that are to be checked, ended."""
    selected = [case for item in request.session.items if (case := _case_of(item)) is not None]
    skipped = not request.config.getoption("--to-come", default=False)
    with conformance() as found:
        found.run([case for case in selected if case.expected.ends and not (skipped and case.is_to_come)])
        yield found


def _case_of(item: pytest.Item) -> Case | None:
    call = getattr(item, "callspec", None)
    case = call.params.get("case") if call is not None else None
    return case if isinstance(case, Case) else None

"""Each file shows one behaviour of the language: on the real stack, or at registration where it is refused."""

from __future__ import annotations

import pytest
from tests.conformance.case import TO_COME, Case, cases
from tests.conformance.differences import differences, of_faults
from tests.conformance.scripts import completed, registered
from tests.conformance.stack import Conformance

from noetl_serverless.control_plane.registration import document_of
from noetl_serverless.errors import InvalidPlaybook
from noetl_serverless.playbook.lint import lint

CASES = cases()
# where nothing listens
NOWHERE = "http://127.0.0.1:9"
# what playbooks that show one thing each are full of: a file that is about one of these expects it
OF_INTENT = frozenset(
    {"playbook.unused_name", "playbook.undefined_name", "playbook.dead_arc", "playbook.literal_secret"}
)


def _parameters(*, runs: bool) -> list[object]:
    return [pytest.param(case, id=case.name) for case in CASES if (case.expected.ends is not None) == runs]


@pytest.mark.e2e
@pytest.mark.parametrize("case", _parameters(runs=True))
def test_it_ends_as_expected(case: Case, ran: Conformance) -> None:
    run = ran.runs[case.name]
    assert not run.refusal, f"{case.path}: it was refused: {run.refusal}"
    ignored = OF_INTENT - {fault.code for fault in case.expected.lint}
    said = [finding for finding in lint(completed(ran.texts[case.name])) if finding.code not in ignored]
    found = [*of_faults("lint", case.expected.lint, said), *differences(case.expected, run)]
    assert not found, "\n".join([f"{case.path}, execution {run.execution_id}:", *found])


@pytest.mark.parametrize("case", _parameters(runs=False))
def test_it_is_refused_with_every_fault_and_its_place(case: Case) -> None:
    with pytest.raises(InvalidPlaybook) as refusal:
        document_of(completed(registered(case.playbook, NOWHERE)))
    found = of_faults("refused", case.expected.refused, refusal.value.faults)
    assert not found, "\n".join([f"{case.path}:", *found])


@pytest.mark.e2e
def test_the_logs_keep_all_rules(ran: Conformance) -> None:
    assert ran.audit() == []


def test_what_is_to_come_says_what_it_waits_for() -> None:
    for case in CASES:
        assert bool(case.expected.waits_for) == case.is_to_come, f"{case.path}: waits_for belongs in {TO_COME}/"


def test_each_playbook_has_the_path_of_its_file() -> None:
    for case in CASES:
        if case.expected.ends is not None:
            # an older form begins it with a slash
            text = case.playbook.replace("path: /", "path: ")
            assert f"path: {case.catalog_path}" in text, f"{case.path}: metadata.path is not its name"

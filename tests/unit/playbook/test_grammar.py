"""Playbooks generated from the grammar: whatever reads them answers, `fmt` changes no meaning, and what a change has
made wrong has a place."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from noetl_serverless.errors import Fault, InvalidPlaybook
from noetl_serverless.playbook import yaml_readings
from noetl_serverless.playbook.document import Path, plain_data, read_document
from noetl_serverless.playbook.layout.canonical import canonical
from noetl_serverless.playbook.lint import lint
from noetl_serverless.playbook.load import load_playbook
from noetl_serverless.playbook.plan import Plan
from noetl_serverless.testing.dry_run.explore import MAX_PATHS, dry_run
from noetl_serverless.worker.execution import pipeline

from .grammar import Document, Written, as_json, documents, texts, values, written
from .spellings import comments_in

# but not `filter_too_much`: it fails if hardly any document is accepted
several = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def compiled(text: str) -> Plan | None:
    """None if the playbook means what is refused, as two tasks of one name."""
    try:
        return load_playbook(text).plan
    except InvalidPlaybook as invalid:
        event(f"refused: {invalid.faults[0].code}")
        return None


def said(text: str) -> list[tuple[str, str]]:
    """Of what, and where in the document; nothing about how a value is spelled, which may be the only difference."""
    return sorted((finding.code, finding.pointer) for finding in lint(text) if finding.code != yaml_readings.CODE)


def check_places(findings: Iterable[Fault], text: str) -> None:
    lines = text.splitlines()
    for finding in findings:
        assert finding.line is not None and finding.column is not None, finding
        assert 1 <= finding.line <= len(lines) and 1 <= finding.column <= len(lines[finding.line - 1]) + 1, finding


@several
@given(texts)
def test_lint_has_errors_exactly_if_a_playbook_is_refused(written: Written) -> None:
    findings = lint(written.text)
    errors = [finding for finding in findings if finding.severity == "error"]
    assert bool(errors) == (compiled(written.text) is None)
    check_places(findings, written.text)
    assert said(written.text) == said(as_json(written.document))


@several
@given(texts)
def test_fmt_is_stable_and_changes_neither_meaning_nor_comments(written: Written) -> None:
    assert plain_data(read_document(written.text).root) == written.document
    laid_out = canonical(written.text)
    assert canonical(laid_out) == laid_out
    assert plain_data(read_document(laid_out).root) == written.document
    assert comments_in(laid_out) == list(range(1, written.comments + 1)), "not every comment is there once"
    before, after = compiled(written.text), compiled(laid_out)
    # the plans differ in the places of their parts
    assert (after and after.hash) == (before and before.hash)


@several
@given(texts)
async def test_a_dry_run_ends_along_each_path(written: Written) -> None:
    plan = compiled(written.text)
    assume(plan is not None)
    assert plan is not None
    # a cycle that changes something each time is followed as long as it may be, and need not be long
    short = replace(plan, max_turns=min(plan.max_turns, 20))
    with mock.patch.object(pipeline, "MAX_VISITS", 20):
        run = await dry_run(short, {}, {})
    assert 1 <= len(run.paths) <= MAX_PATHS
    assert {path.status for path in run.paths} <= {"completed", "failed", "endless", "running"}
    assert run.document()["paths"]


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """All below `value`, itself not."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield (*path, key)
        yield from places(inner, (*path, key))


@st.composite
def mutated(draw: DrawFn) -> Document:
    """A generated document of which a few parts are missing, are something else, or have another name."""
    document: Document = copy.deepcopy(draw(documents()))
    for _ in range(draw(st.integers(1, 3))):
        *above, key = draw(st.sampled_from(list(places(document))))
        holder: Any = document
        for part in above:
            holder = holder[part]
        match draw(st.sampled_from(["drop", "replace", "rename"])):
            case "drop":
                del holder[key]
            case "rename" if isinstance(holder, dict):
                holder[f"{key}s"] = holder.pop(key)
            case _:
                holder[key] = draw(
                    st.one_of(values, st.sampled_from(["{{ nobody.knows }}", "{{ broken", "{{ 1 // 0 }}"]))
                )
        if not document:
            break
    return document


@several
@given(written(mutated()))
def test_what_a_change_made_wrong_has_a_place(written: Written) -> None:
    compiled(written.text)
    check_places(lint(written.text), written.text)
    canonical(written.text)


@several
@given(texts, st.floats(0, 1), st.sampled_from(["\t", "{{", ": ", "- ", "'", "&a ", "*a", "\x00", "\ufeff", "!!set "]))
def test_what_text_in_the_midst_made_wrong_has_a_place(written: Written, share: float, inserted: str) -> None:
    at = round(share * len(written.text))
    damaged = written.text[:at] + inserted + written.text[at:]
    compiled(damaged)
    check_places(lint(damaged), damaged)

"""Playbooks generated from the grammar: whatever reads them answers, `fmt` changes no meaning, and what a change has
made wrong has a place."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from noetl_serverless.errors import InvalidPlaybook
from noetl_serverless.playbook.document import Path
from noetl_serverless.playbook.layout.canonical import canonical
from noetl_serverless.playbook.lint import lint
from noetl_serverless.playbook.load import load_playbook
from noetl_serverless.playbook.plan import Plan
from noetl_serverless.testing.dry_run.explore import MAX_PATHS, dry_run

from .grammar import Document, as_json, as_yaml, documents, texts, values

# but not `filter_too_much`: it fails if hardly any document is accepted
several = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def compiled(text: str) -> Plan | None:
    """None if the playbook means what is refused, as two tasks of one name."""
    try:
        return load_playbook(text).plan
    except InvalidPlaybook as invalid:
        event(f"refused: {invalid.faults[0].code}")
        return None


@several
@given(texts)
def test_lint_has_errors_exactly_if_a_playbook_is_refused(text: str) -> None:
    errors = [finding for finding in lint(text) if finding.severity == "error"]
    assert bool(errors) == (compiled(text) is None)


@several
@given(texts)
def test_fmt_is_stable_and_changes_no_meaning(text: str) -> None:
    laid_out = canonical(text)
    assert canonical(laid_out) == laid_out
    before = compiled(text)
    assume(before is not None)
    after = compiled(laid_out)
    assert before is not None and after is not None
    # the plans differ in the places of their parts
    assert after.hash == before.hash


@several
@given(texts)
async def test_a_dry_run_ends_along_each_path(text: str) -> None:
    plan = compiled(text)
    assume(plan is not None)
    assert plan is not None
    run = await dry_run(plan, {}, {})
    assert 1 <= len(run.paths) <= MAX_PATHS
    assert {path.status for path in run.paths} <= {"completed", "failed", "running"}
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
@given(mutated(), st.sampled_from([as_yaml, as_json]))
def test_what_a_change_made_wrong_has_a_place(document: Document, write: Any) -> None:
    text = write(document)
    compiled(text)
    for finding in lint(text):
        assert finding.line is not None, finding
    canonical(text)


@several
@given(texts, st.floats(0, 1), st.sampled_from(["\t", "{{", ": ", "- ", "'", "&a ", "*a", "\x00", "\ufeff", "!!set "]))
def test_what_text_in_the_midst_made_wrong_has_a_place(text: str, share: float, inserted: str) -> None:
    at = round(share * len(text))
    damaged = text[:at] + inserted + text[at:]
    compiled(damaged)
    for finding in lint(damaged):
        assert finding.line is not None, finding

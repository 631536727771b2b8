"""Generated playbooks in older forms: they mean what today's forms mean, each form is named where it stands, and under
`strict` they are refused there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings

from noetl_serverless.errors import Fault, InvalidPlaybook
from noetl_serverless.playbook.load import load_document, load_playbook, read_playbook
from noetl_serverless.playbook.template import Place

from .ageing import Edit, aged
from .grammar import Document, as_json, writers

several = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def meaning(value: Any) -> Any:
    """A plan without what depends on its text: places and the hash."""
    if isinstance(value, Place):
        return None
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: meaning(getattr(value, field.name)) for field in fields(value) if field.name != "hash"}
    if isinstance(value, Mapping):
        return {key: meaning(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [meaning(item) for item in value]
    return value


def stands_at(warning: Fault, key: str, text: str) -> bool:
    """Whether the key is written where the warning points to."""
    assert warning.line is not None and warning.column is not None, warning
    written = text.splitlines()[warning.line - 1][warning.column - 1 :]
    return written.lstrip("'\"").startswith(key)


@several
@given(aged(), writers())
def test_an_older_form_means_what_todays_means_and_is_named_where_it_stands(
    drawn: tuple[Document, Document, list[Edit]], write: Any
) -> None:
    today, older, done = drawn
    try:
        plan = load_playbook(as_json(today)).plan
    except InvalidPlaybook as invalid:
        event(f"refused: {invalid.faults[0].code}")
        return
    text = write(older).text
    document = read_playbook(text)
    loaded = load_document(document)
    assert meaning(loaded.plan) == meaning(plan), f"after {[edit.form for edit in done]}"
    for edit in done:
        event(edit.form)
        named = [one for one in document.warnings if edit.says in one.message and stands_at(one, edit.key, text)]
        assert named, f"nothing says that {edit.form!r} is older: {document.warnings}"
    if document.warnings:
        with pytest.raises(InvalidPlaybook) as refusal:
            load_document(read_playbook(text), strict=True)
        refused = [(fault.code, fault.line, fault.column) for fault in refusal.value.faults]
        assert sorted(refused) == sorted((one.code, one.line, one.column) for one in document.warnings)

"""The forms of tables by media types and by the names of files."""

from __future__ import annotations

from noetl_serverless.tables.media_types import MEDIA_TYPES, form_named, form_of_file


def test_the_form_of_a_media_type_whatever_its_parameters() -> None:
    names = ("Text/CSV; header=present", "application/jsonl", "image/png", "")
    assert [form_named(name) for name in names] == ["csv", "ndjson", None, None]
    assert {form_named(name) for name in MEDIA_TYPES.values()} == set(MEDIA_TYPES)


def test_the_form_of_a_file() -> None:
    endings = (".csv", ".PARQUET", ".jsonl", ".ndjson", ".arrows", ".json", ".txt", "")
    assert [form_of_file(ending) for ending in endings] == [
        *("csv", "parquet", "ndjson", "ndjson", "arrow", "json", None, None),
    ]

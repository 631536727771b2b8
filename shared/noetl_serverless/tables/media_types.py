"""The forms in which tables are given to users, their media types, and the endings of their files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from .stream import MEDIA_TYPE

Form = Literal["csv", "json", "ndjson", "parquet", "arrow"]

MEDIA_TYPES: Final[Mapping[Form, str]] = {
    "arrow": MEDIA_TYPE,
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
}
# of the object that names the parts of what was accumulated, where there are tables beside them
MANIFEST_WITH_TABLES: Final = "application/vnd.noetl.manifest+arrow"
# what others call them
_OTHER_NAMES: Final[Mapping[str, Form]] = {
    MANIFEST_WITH_TABLES: "arrow",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/x-jsonlines": "ndjson",
}
_FORMS: Final[Mapping[str, Form]] = {**{name: form for form, name in MEDIA_TYPES.items()}, **_OTHER_NAMES}
_ENDINGS: Final[Mapping[str, Form]] = {
    ".json": "json",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".csv": "csv",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".parquet": "parquet",
}


def form_named(media_type: str) -> Form | None:
    """The form of a media type; None if it is that of no table."""
    return _FORMS.get(media_type.partition(";")[0].strip().lower())


def has_tables(media_type: str) -> bool:
    """Whether it is that of bytes in which there are tables of a step's result."""
    return media_type in (MEDIA_TYPE, MANIFEST_WITH_TABLES)


def form_of_file(ending: str) -> Form | None:
    """The form of a file whose name ends so, as in `.csv`."""
    return _ENDINGS.get(ending.lower())

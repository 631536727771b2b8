"""How the values of a column become JSON where its type does not say: in the metadata of its field.

`json`: each text is a document. `decimal`: each text is a number. `postgres`: dates and times have the texts that
PostgreSQL gives them. Other readers of Arrow see the type alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    import pyarrow

Form = Literal["json", "decimal", "postgres"]

_KEY: Final = b"noetl.form"


def field_of(name: str, kind: pyarrow.DataType, form: Form | None = None) -> pyarrow.Field:
    import pyarrow

    return pyarrow.field(name, kind, metadata=None if form is None else {_KEY: form.encode()})


def with_type(field: pyarrow.Field, kind: pyarrow.DataType) -> pyarrow.Field:
    """The field with another type, and without metadata but its form."""
    form = form_of(field)
    bare = field.remove_metadata().with_type(kind)
    return bare.with_metadata({_KEY: form.encode()}) if form is not None and form in get_args(Form) else bare


def form_of(field: pyarrow.Field) -> str | None:
    """A table may come from task code, and have any text there."""
    found = (field.metadata or {}).get(_KEY)
    return None if found is None else found.decode(errors="replace")


def is_document(field: pyarrow.Field) -> bool:
    """Whether each value of the column is JSON in a text: the form of one of another type says nothing."""
    import pyarrow.types as t

    return form_of(field) == "json" and (t.is_string(field.type) or t.is_large_string(field.type))

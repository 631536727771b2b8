"""A result in another form than that in which it is stored: converted by the control plane, or here."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO
from urllib.parse import urlencode

from ..errors import AnswerTooLarge, NotAcceptable
from ..tables.media_types import MEDIA_TYPES, Form, form_named
from .client import Client
from .failure import Failure, Refused
from .tabular import convert
from .transfer import Progress, described, download

# shows how far a transfer is, while it lasts
Bar = Callable[[], AbstractContextManager[Progress]]


def write_converted(
    client: Client, path: str, target: IO[bytes], wanted: Form | None, table: str | None, bar: Bar
) -> str:
    """Write the result that a GET of `path` gives. Its media type. `wanted`: None for the form in which it is stored;
    `table`: the one that is meant. Raises Refused and Failure."""
    stored = described(client, path)
    if stored.accumulated:
        # as it is read, it is JSON, in which columns have no types
        form = wanted or form_named(stored.content_type) or "arrow"
        if _is_had_as(client, path, target, form, table, bar):
            return MEDIA_TYPES[form]
    return _converted_here(client, path, target, wanted, table, stored.accumulated, bar)


def _is_had_as(client: Client, path: str, target: IO[bytes], form: Form, table: str | None, bar: Bar) -> bool:
    """Whether the control plane gives it in this form; it is written then."""
    requested = path if table is None else f"{path}&{urlencode({'table': table})}"
    try:
        with bar() as progress:
            download(client, requested, target.write, progress, MEDIA_TYPES[form])
    except Refused as refused:
        if refused.problem.get("tables"):
            ways = "" if table is not None else "; --as json writes all of it"
            raise Failure(f"{refused.detail}, which is --table NAME here{ways}") from refused
        # it may have nothing to convert it with, or no room for it in an answer
        if refused.problem.get("code") not in (NotAcceptable.code, AnswerTooLarge.code):
            raise
        return False
    return True


def _converted_here(
    client: Client,
    path: str,
    target: IO[bytes],
    wanted: Form | None,
    table: str | None,
    accumulated: Sequence[str],
    bar: Bar,
) -> str:
    with tempfile.TemporaryDirectory(prefix="noetls-") as folder:
        source = Path(folder) / "result"
        with source.open("wb") as file, bar() as progress:
            stored = download(client, path, file.write, progress).content_type
        given = form_named(stored)
        if table is None and given == wanted:
            with source.open("rb") as same:
                shutil.copyfileobj(same, target, 1024 * 1024)
            return stored
        form = wanted or given or "arrow"
        convert(source, stored, target, form, table, accumulated)
        return MEDIA_TYPES[form]

"""References of results in what people read."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from noetl_serverless.cli.output import cell, result
from noetl_serverless.cli.references import reference_in

REF = "noetl://execution/7/result/load/0a1b2c3d"
REFERENCE: dict[str, Any] = {
    "kind": "result_ref",
    "ref": REF,
    "store": "disk",
    "key": "7/load/x.arrow",
    "meta": {"bytes": 240528, "row_count": 30000, "content_type": "application/vnd.apache.arrow.stream"},
    "preview": '[{"id":0}',
}


def test_of_a_result_by_reference_the_command_that_reads_it_is_said() -> None:
    file = io.StringIO()
    Console(file=file, width=200).print(result({"ref": REFERENCE}))
    said = file.getvalue()
    assert "30,000 rows, 240,528 bytes of application/vnd.apache.arrow.stream" in said
    assert f"noetls result get {REF}" in said and '[{"id":0}' in said
    assert "7/load/x.arrow" not in said, "where it is in its store helps nobody"


def test_in_a_table_it_is_one_line() -> None:
    assert cell(REFERENCE).startswith(f"{REF} (30,000 rows, ") and f"noetls result get {REF})" in cell(REFERENCE)
    assert cell({"ref": "a text of a user"}) == '{"ref": "a text of a user"}'


def test_what_is_no_reference_to_a_result_is_none() -> None:
    for value in ({"kind": "manifest", "ref": REF}, {"ref": REF}, {"kind": "result_ref"}, [REFERENCE], "x", None):
        assert reference_in(value) is None, value

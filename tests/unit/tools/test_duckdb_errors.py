"""What an error of DuckDB says."""

from __future__ import annotations

import duckdb

from noetl_serverless.tools.duckdb_errors import message_of


def test_of_many_functions_a_few_are_left_and_the_place_stays() -> None:
    functions = "".join(f"\t+(x T{number}) -> T{number}\n" for number in range(45))
    error = duckdb.BinderException(f"Binder Error: No function\n\tCandidate functions:\n{functions}\n\nLINE 1: a\n  ^")
    lines = message_of(error, {}).split("\n")
    assert lines[:3] == ["Binder Error: No function", "\tCandidate functions:", "\t+(x T0) -> T0"]
    assert lines[-6:] == ["\t+(x T4) -> T4", "\t... and 40 more", "", "", "LINE 1: a", "  ^"]


def test_a_table_that_no_input_is_named_for_is_what_duckdb_says() -> None:
    error = duckdb.CatalogException("Catalog Error: Table with name t does not exist!\nDid you mean x?")
    assert message_of(error, {"u": []}) == str(error)
    assert message_of(error, {"T": []}).startswith("the input 'T' has no rows")

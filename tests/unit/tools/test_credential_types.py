from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from noetl_serverless.postgres_target import FIELDS, PostgresTarget
from noetl_serverless.tools.credential_types import check, fields_by_type, warnings


@pytest.mark.parametrize(
    ("type_", "name", "hint"),
    [
        ("bearer", "tokn", "did you mean 'token'?"),
        ("postgres", "db_host", "did you mean 'host'?"),
        ("basic", "header", "username"),
    ],
)
def test_an_unknown_field_of_a_known_type_is_refused_with_the_known_ones(type_: str, name: str, hint: str) -> None:
    (fault,) = check(type_, [name])
    assert fault.pointer == f"/data/{name}"
    assert f"has no field '{name}'" in fault.message and hint in fault.message
    assert fault.message.count(";") == 1


def test_every_field_of_a_known_type_is_accepted_without_a_warning() -> None:
    for type_, fields in fields_by_type().items():
        assert (check(type_, fields), warnings(type_)) == ([], [])


def test_any_field_of_an_unknown_type_is_accepted_with_a_warning() -> None:
    assert check("vault", ["anything"]) == []
    (warning,) = warnings("vault")
    assert "no tool reads credentials of type 'vault'" in warning


def test_the_fields_of_postgres_are_those_that_a_connection_reads() -> None:
    class Reads(Mapping[str, Any]):
        def __init__(self) -> None:
            self.names: set[str] = set()

        def __getitem__(self, name: str) -> Any:
            self.names.add(name)
            raise KeyError(name)

        def __iter__(self) -> Iterator[str]:
            return iter(())

        def __len__(self) -> int:
            return 0

    data = Reads()
    PostgresTarget.from_mapping(data)
    assert data.names == FIELDS

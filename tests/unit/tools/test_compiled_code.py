from __future__ import annotations

import marshal
import warnings

import pytest

from noetl_serverless.tools.compiled_code import compiled, read_request, request


@pytest.mark.parametrize("received", [bytes, bytearray])
def test_a_request_has_the_code_as_it_runs_and_the_fields(received: type[bytes | bytearray]) -> None:
    code, fields = read_request(received(request(compiled("result = 6 * 7"), b'{"a": 1}')))
    names: dict[str, int] = {}
    exec(marshal.loads(code), names)
    assert (names["result"], bytes(fields)) == (42, b'{"a": 1}')


@pytest.mark.parametrize("code", ["result =", "x = '\0'", "(" * 1000 + ")" * 1000, "x = 1\n" * 10_000])
def test_what_is_wrong_or_long_is_left_to_the_child(code: str) -> None:
    assert read_request(request(compiled(code), b"{}")) == (b"", b"{}")
    assert not compiled(code).is_pure


def test_pure_code_is_recognised() -> None:
    assert (compiled("result = n").is_pure, compiled("import json").is_pure) == (True, False)


def test_what_python_warns_of_is_not_printed_where_it_is_compiled() -> None:
    with warnings.catch_warnings(action="error"):
        assert compiled(r"result = '\d'").content

from __future__ import annotations

import marshal
import time
import warnings

import pytest

from noetl_serverless.tools.compiled_code import CompiledCode, compiled, read_request, request


@pytest.mark.parametrize("received", [bytes, bytearray])
def test_a_request_has_the_code_as_it_runs_and_the_fields(received: type[bytes | bytearray]) -> None:
    code, fields = read_request(received(b"".join(request(compiled("result = 6 * 7"), b'{"a": 1}'))))
    names: dict[str, int] = {}
    exec(marshal.loads(code), names)
    assert (names["result"], bytes(fields)) == (42, b'{"a": 1}')


# constants, computed as they are compiled
FOLDED = "x = [" + "".join(f"'a{n}' * 1000, " for n in range(100)) + "]"


@pytest.mark.parametrize("code", ["result =", "x = '\0'", "(" * 1000 + ")" * 1000, FOLDED, "x = 1\n" * 10_000])
def test_what_is_wrong_or_long_is_left_to_the_child(code: str) -> None:
    assert read_request(b"".join(request(compiled(code), b"{}"))) == (b"", b"{}")
    assert not compiled(code).is_pure


def test_pure_code_is_recognised() -> None:
    assert (compiled("result = n").is_pure, compiled("import json").is_pure) == (True, False)


def test_what_python_warns_of_is_not_printed_where_it_is_compiled() -> None:
    with warnings.catch_warnings(action="error"):
        assert compiled(r"result = '\d'").content


def test_a_short_code_that_takes_long_to_compile_is_left_to_the_child() -> None:
    lambdas = "result = " + "lambda: " * 250 + "0"
    exits = "while n:\n try:\n" + "  if n: break\n" * 100 + " finally:\n" + "  n = n + 1\n" * 100
    for code in (lambdas, exits):
        begin = time.process_time()
        assert compiled(code) == CompiledCode()
        assert time.process_time() - begin < 0.5
    assert compiled(exits[: exits.index(" finally")] + " finally:\n  n = n + 1\n").content


def test_ordinary_code_is_compiled_here_up_to_its_length() -> None:
    line = "result = {'n': n + 1, 'rows': [row['id'] for row in rows if row]}\n"
    assert compiled(line * (20_000 // len(line))).content


def test_the_names_of_the_input_that_code_reads_are_known() -> None:
    long = "result = input_data\n" + "x = 1\n" * 10_000
    for code, names in (
        ("result = n", ()),
        ("result = [input_data, args]", ("input_data", "args")),
        (FOLDED + "\nresult = args", ("args",)),
        (long, ("input_data",)),
    ):
        assert compiled(code).input_names == names
    assert not compiled(long).content


def test_code_is_pure_whatever_of_the_input_and_the_context_it_reads() -> None:
    assert compiled("if n:\n    return input_data['a'] + context.get('workload', {}).get('b')\nx: int = 1").is_pure
    assert not compiled("return await f()").is_pure

"""What a task of kind postgres refuses, and reports for an exception."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from pg8000 import native

from noetl_serverless.tools.port import Credential, ToolCall, ToolFailure
from noetl_serverless.tools.postgres_claim import ClaimWork
from noetl_serverless.tools.postgres_config import PostgresConfig
from noetl_serverless.tools.postgres_work import Work, failure_of
from noetl_serverless.tools.sql import SqlError

CREDENTIAL = Credential("db", "postgres", {})


def refused(work: type[Work], command: str, **config: Any) -> str:
    connections: Any = None
    task = PostgresConfig.model_validate({"auth": "db", "command": command, **config})
    with pytest.raises(SqlError) as caught:
        work(task, {}, CREDENTIAL, connections, 60.0)._statements()
    return str(caught.value)


def test_a_syntax_error_at_a_value_that_was_bound_says_how_to_write_a_name() -> None:
    fields = {"C": "42601", "M": 'syntax error at or near "$1"'}
    assert failure_of(native.DatabaseError(fields)).error["message"] == (
        'syntax error at or near "$1"; write {{ ... | identifier }} where SQL needs a name (42601)'
    )
    fields = {"C": "42601", "M": 'syntax error at or near "FRM"'}
    assert "identifier" not in failure_of(native.DatabaseError(fields)).error["message"]


@pytest.mark.parametrize(
    ("context", "place"),
    [
        ('COPY t, line 3, column b: "the value of a sec..."', ". COPY t, line 3, column b"),
        ("COPY t, line 3, column b: null input", ". COPY t, line 3, column b"),
        ('COPY t, line 3: "1\tthe line"', ". COPY t, line 3"),
        ("PL/pgSQL function f() line 2 at RAISE\nCOPY t, line 3", ". COPY t, line 3"),
        ("PL/pgSQL function f() line 2 at RAISE", ""),
    ],
)
def test_an_error_of_copy_says_where_it_is_but_not_the_value_that_is_cut(context: str, place: str) -> None:
    fields = {"C": "22001", "M": "value too long", "W": context}
    assert failure_of(native.DatabaseError(fields)).error["message"] == f"value too long{place} (22001)"


def test_the_result_of_a_step_instead_of_its_rows_is_refused_with_what_to_write() -> None:
    call = ToolCall("postgres", "t", {"auth": "db", "table": "t", "rows": {"status": "ok", "rows": [{"a": 1}]}})
    with pytest.raises(ToolFailure) as caught:
        PostgresConfig.of(call)
    assert caught.value.error["message"] == (
        "postgres: rows: this should be a list of objects, or a table, and is an object; give 'rows' of it: "
        "{{ step.rows }}"
    )


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("COPY t FROM STDIN", "FROM STDIN: give the rows in 'rows', and 'table' instead of the SQL"),
        ("copy t (a) to\n stdout", "TO STDOUT: write SELECT, whose rows are the result"),
    ],
)
@pytest.mark.parametrize("work", [Work, ClaimWork])
def test_copy_without_a_stream_is_a_mistake_that_no_repetition_mends(
    work: type[Work], command: str, message: str
) -> None:
    error = SqlError(refused(work, command))
    assert str(error) == message
    assert (failure_of(error).error["code"], failure_of(error).error["retryable"]) == ("postgres.sql", False)


def test_the_advice_is_one_that_can_be_followed() -> None:
    assert refused(Work, "COMMIT").endswith("set 'transaction: false' to disable that")
    assert refused(ClaimWork, "COMMIT").endswith("in one transaction; leave it out of a claim")


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (ssl.SSLError(1, "[SSL] wrong version number"), "postgres.tls", False),
        (OSError("reset"), "postgres.connection", True),
        (TimeoutError(), "postgres.timeout", True),
        (ValueError("no value for $x"), "postgres.sql", False),
        (KeyError("x"), "postgres.internal", False),
    ],
)
def test_each_exception_has_its_code(error: Exception, code: str, retryable: bool) -> None:
    failure = failure_of(error)
    assert (failure.error["code"], failure.error["retryable"]) == (code, retryable), failure


def test_what_is_wrong_with_a_certificate_is_said() -> None:
    with pytest.raises(ssl.SSLError) as caught:
        ssl.create_default_context(cadata="-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n")
    assert "cadata does not contain a certificate" in failure_of(caught.value).error["message"]

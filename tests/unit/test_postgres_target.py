from __future__ import annotations

import ssl
from typing import Any

import pytest

from noetl_serverless.postgres_target import MODES, PostgresTarget


def test_a_url_is_read_with_everything_in_it() -> None:
    url = "postgres://me%40x:p%2Fw@db.example:6543/my%20db?sslmode=verify-ca&sslrootcert=/etc/ca.pem&other=1"
    assert PostgresTarget.from_url(url) == PostgresTarget(
        "db.example",
        port=6543,
        user="me@x",
        password="p/w",
        database="my db",
        sslmode="verify-ca",
        sslrootcert="/etc/ca.pem",
    )


def test_parts_by_either_name_make_the_same_target() -> None:
    first = {"host": "h", "port": "1", "user": "u", "password": "p", "database": "d"}
    second = {"hostname": "h", "port": 1, "username": "u", "password": "p", "dbname": "d"}
    assert (
        PostgresTarget.from_mapping(first)
        == PostgresTarget.from_mapping(second)
        == PostgresTarget("h", port=1, user="u", password="p", database="d", sslmode="prefer")
    )


def test_what_stands_beside_a_url_wins() -> None:
    found = PostgresTarget.from_mapping(
        {"url": "postgresql://a:b@h/d?sslmode=require", "password": "c", "sslmode": "disable"}
    )
    assert (found.user, found.password, found.sslmode) == ("a", "c", "disable")


@pytest.mark.parametrize(
    ("host", "mode"), [("localhost", "disable"), ("127.0.0.1", "disable"), ("[::1]", "disable"), ("db", "prefer")]
)
def test_only_on_this_machine_is_tls_left_out_unless_asked_for(host: str, mode: str) -> None:
    assert PostgresTarget.from_url(f"postgresql://{host}/d").sslmode == mode


@pytest.mark.parametrize("url", ["mysql://h/d", "h/d", "postgresql://h/d?sslmode=always"])
def test_what_is_no_such_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"begins with postgresql://|not one of PostgreSQL's"):
        PostgresTarget.from_url(url)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("disable", False),
        # pg8000's: where the server has it
        ("allow", None),
        ("prefer", None),
        ("require", (ssl.CERT_NONE, False)),
        ("verify-ca", (ssl.CERT_REQUIRED, False)),
        ("verify-full", (ssl.CERT_REQUIRED, True)),
    ],
)
def test_how_much_of_the_server_is_checked(mode: str, expected: Any) -> None:
    context = PostgresTarget("db", sslmode=mode).arguments()["ssl_context"]
    found = (context.verify_mode, context.check_hostname) if isinstance(context, ssl.SSLContext) else context
    assert found == expected
    assert mode in MODES


def test_a_unix_socket_is_a_host_that_is_a_folder() -> None:
    arguments = PostgresTarget.from_url("postgresql://u@/d?host=/run/pg&port=5").arguments()
    assert (arguments["unix_sock"], arguments["ssl_context"]) == ("/run/pg/.s.PGSQL.5432", False)
    assert "host" not in arguments

"""Database roles of ours that sign in by themselves and may do little: created beside a migrated database."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, urlsplit

from pg8000.exceptions import DatabaseError
from pg8000.native import identifier, literal

from .connection import Connection, connect, reason_of
from .migrate import LOCK_ID

SCRAM_ITERATIONS = 4096
FIND = "SELECT shobj_description(oid, 'pg_authid'), rolcanlogin FROM pg_roles WHERE rolname = :role"


class RoleRefused(Exception):
    """The user may not create the role, or grant it what it needs."""


def role_name(database_url: str, suffix: str) -> str:
    """Of the database, since roles belong to a server, which may hold several engines."""
    database = urlsplit(database_url).path.strip("/") or "postgres"
    return f"{database[: 62 - len(suffix)]}_{suffix}"


def url_as(role: str, database_url: str, password: str) -> str:
    """The same database for the role."""
    parts = urlsplit(database_url)
    user = quote(role, safe="")
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{parts.netloc.rpartition('@')[2]}").geturl()


def create_role(connection: Connection, role: str, mark: str) -> None:
    """Create the role, if there is none, and let it sign in. `mark`: by which it is told from another of this name.
    Raises RoleRefused if there is another."""
    name = identifier(role)
    found = connection.run(FIND, role=role)
    if not found:
        connection.run(f"CREATE ROLE {name}")
        connection.run(f"COMMENT ON ROLE {name} IS {literal(mark)}")
    elif found[0][0] != mark:
        raise RoleRefused(f"there is a role {role} already, and it is not ours")
    connection.run(f"ALTER ROLE {name} LOGIN")


def set_password(connection: Connection, role: str, password: str) -> None:
    connection.run(f"ALTER ROLE {identifier(role)} PASSWORD {literal(verifier(password))}")


@contextmanager
def role_transaction(database_url: str) -> Iterator[Connection]:
    """One at a time, and not while another migrates. Raises Unavailable, and RoleRefused."""
    connection = connect(database_url)
    try:
        connection.run("BEGIN")
        connection.run("SELECT pg_advisory_xact_lock(:lock)", lock=LOCK_ID)
        yield connection
        connection.run("COMMIT")
    except DatabaseError as error:
        raise RoleRefused(reason_of(error)) from error
    finally:
        connection.close()


def verifier(password: str, salt: bytes | None = None) -> str:
    """What the server keeps of a password of ASCII characters (RFC 5803). It is sent in its place, because the server
    may log the statement."""
    salt = salt or secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, SCRAM_ITERATIONS)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored_key, server_key))
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{salt64}${stored64}:{server64}"

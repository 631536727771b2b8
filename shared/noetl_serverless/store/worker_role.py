"""The database role of workers that have the orchestrator in their own process: see migrations/0007_worker_role.sql."""

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
# in which RDS has the roles that sign in with an IAM role instead of a password
IAM = "rds_iam"
# by which a role that is ours is told from another of this name
MARK = "Direct workers of a NoETL engine: created by its migration"
FIND = "SELECT shobj_description(oid, 'pg_authid'), rolcanlogin FROM pg_roles WHERE rolname = :role"


class RoleRefused(Exception):
    """The user may not create the role, or grant it what it needs."""


def worker_role(database_url: str) -> str:
    """The name of the role: of the database, since roles belong to a server, which may hold several engines."""
    database = urlsplit(database_url).path.strip("/") or "postgres"
    return f"{database[:56]}_worker"


def url_as_worker(database_url: str, password: str) -> str:
    """The same database for the role."""
    parts = urlsplit(database_url)
    user = quote(worker_role(database_url), safe="")
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{parts.netloc.rpartition('@')[2]}").geturl()


def create_worker_role(database_url: str, role: str, password: str | None) -> None:
    """Create the role in a migrated database, or bring it to this release. `database_url`: as a user who may create
    roles. Without a password it signs in by IAM, on RDS. Raises Unavailable, and RoleRefused."""
    name = identifier(role)
    with _transaction(database_url) as connection:
        found = connection.run(FIND, role=role)
        if not found:
            connection.run(f"CREATE ROLE {name}")
            connection.run(f"COMMENT ON ROLE {name} IS {literal(MARK)}")
        elif found[0][0] != MARK:
            raise RoleRefused(f"there is a role {role} already, and it is not ours")
        connection.run(f"ALTER ROLE {name} LOGIN")
        if password is not None:
            connection.run(f"ALTER ROLE {name} PASSWORD {literal(verifier(password))}")
        elif connection.run("SELECT 1 FROM pg_roles WHERE rolname = :iam", iam=IAM):
            connection.run(f"GRANT {IAM} TO {name}")
        connection.run("SELECT noetl.grant_worker(:role)", role=role)


def lock_worker_role(database_url: str, role: str) -> None:
    """Let nobody sign in as the role any more, if it exists. Raises Unavailable, and RoleRefused."""
    with _transaction(database_url) as connection:
        if connection.run(FIND, role=role) == [[MARK, True]]:
            connection.run(f"ALTER ROLE {identifier(role)} NOLOGIN")


@contextmanager
def _transaction(database_url: str) -> Iterator[Connection]:
    """One at a time, and not while another migrates."""
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

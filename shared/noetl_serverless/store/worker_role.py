"""The database role of workers that have the orchestrator in their own process: see migrations/0007_worker_role.sql."""

from __future__ import annotations

from pg8000.native import identifier

from .database_role import FIND, create_role, role_name, role_transaction, set_password, url_as

# in which RDS has the roles that sign in with an IAM role instead of a password
IAM = "rds_iam"
MARK = "Direct workers of a NoETL engine: created by its migration"


def worker_role(database_url: str) -> str:
    return role_name(database_url, "worker")


def url_as_worker(database_url: str, password: str) -> str:
    """The same database for the role."""
    return url_as(worker_role(database_url), database_url, password)


def create_worker_role(database_url: str, role: str, password: str | None) -> None:
    """Create the role in a migrated database, or bring it to this release. `database_url`: as a user who may create
    roles. Without a password it signs in by IAM, on RDS. Raises Unavailable, and RoleRefused."""
    with role_transaction(database_url) as connection:
        create_role(connection, role, MARK)
        if password is not None:
            set_password(connection, role, password)
        elif connection.run("SELECT 1 FROM pg_roles WHERE rolname = :iam", iam=IAM):
            connection.run(f"GRANT {IAM} TO {identifier(role)}")
        connection.run("SELECT noetl.grant_worker(:role)", role=role)


def lock_worker_role(database_url: str, role: str) -> None:
    """Let nobody sign in as the role any more, if it exists. Raises Unavailable, and RoleRefused."""
    with role_transaction(database_url) as connection:
        if connection.run(FIND, role=role) == [[MARK, True]]:
            connection.run(f"ALTER ROLE {identifier(role)} NOLOGIN")

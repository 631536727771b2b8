"""The database role that reads for operators what they ask in SQL of their own: see migrations/0008_query_views.sql."""

from __future__ import annotations

from pg8000.native import identifier, literal

from .database_role import create_role, role_name, role_transaction, set_password, url_as

MARK = "Readers of a NoETL engine's views: created by its migration"
TIMEOUT_SECONDS = 5
# of all processes together
MAX_SESSIONS = 8
SCHEMA = "noetl_query"
# what a session begins with; a statement cannot change its own deadline, and each session runs one
SETTINGS = {
    "default_transaction_read_only": "on",
    "statement_timeout": f"{TIMEOUT_SECONDS}s",
    "lock_timeout": "1s",
    "idle_in_transaction_session_timeout": f"{2 * TIMEOUT_SECONDS}s",
    "search_path": SCHEMA,
    "max_parallel_workers_per_gather": "0",
    "timezone": "UTC",
}


def reader_role(database_url: str) -> str:
    return role_name(database_url, "reader")


def url_as_reader(database_url: str, password: str) -> str:
    """The same database for the role."""
    return url_as(reader_role(database_url), database_url, password)


def create_reader_role(database_url: str, password: str) -> None:
    """Create the role in a migrated database, or bring it to this release. `database_url`: as a user who may create
    roles. Raises Unavailable, and RoleRefused."""
    role = reader_role(database_url)
    name = identifier(role)
    with role_transaction(database_url) as connection:
        create_role(connection, role, MARK)
        set_password(connection, role, password)
        connection.run(f"ALTER ROLE {name} CONNECTION LIMIT {MAX_SESSIONS}")
        for setting, value in SETTINGS.items():
            connection.run(f"ALTER ROLE {name} SET {setting} = {literal(value)}")
        connection.run("SELECT noetl.grant_reader(:role)", role=role)

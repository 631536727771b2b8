"""The role of direct workers, held against everything that is in the schema: what is not named here it may not do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from pg8000.exceptions import DatabaseError
from pg8000.native import identifier

from noetl_serverless.errors import Unavailable
from noetl_serverless.store.connection import Connection, connect, sqlstate
from noetl_serverless.store.database_role import RoleRefused
from noetl_serverless.store.worker_role import create_worker_role, lock_worker_role, worker_role

PASSWORD = "one-of-its-own"
DENIED, WRONG_KIND, OF_A_VIEW = "42501", "42809", "55000"
READ = {
    "archived": {"execution_id", "parent_execution_id", "restart_of"},
    "catalog": {
        *("catalog_id", "content", "created_at", "deleted_at", "hash", "kind", "meta", "path", "payload", "version"),
    },
    "event": {"at", "cause", "command_id", "execution_id", "generation", "payload", "seq", "step", "type"},
    "execution": {
        *(
            "catalog_id",
            "depth",
            "execution_id",
            "folded",
            "head",
            "parent",
            "parent_execution_id",
            "path",
            "plan_hash",
        ),
        *("principal", "restart_of", "state", "state_version", "version", "workload"),
    },
    "stage": {"execution_id", "generation", "seq", "step"},
}
CALLED = {
    *("advance", "append", "clear_inbox", "commit", "commit_dropping", "commit_limited", "commit_pausing"),
    *("commit_variables", "extend", "holdings", "lease", "register_runtime", "release", "startable", "waiting"),
    *("read_chunk", "read_object", "worker_begin_object", "worker_finish_object", "worker_put_chunk"),
    "worker_put_object",
}

RELATIONS = "SELECT relname, oid FROM pg_class WHERE relnamespace = 'noetl'::regnamespace AND relkind = ANY (:kinds)"
OF_TABLES = """
SELECT c.relname, p.privilege FROM pg_class c CROSS JOIN unnest(
    ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p(privilege)
WHERE c.relnamespace = 'noetl'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND has_table_privilege(:role, c.oid, p.privilege)"""
OF_COLUMNS = """
SELECT c.relname, p.privilege, a.attname FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) AS p(privilege)
WHERE c.relnamespace = 'noetl'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND has_column_privilege(:role, c.oid, a.attnum, p.privilege)"""
OF_SEQUENCES = """
SELECT c.relname, p.privilege FROM pg_class c CROSS JOIN unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) AS p(privilege)
WHERE c.relnamespace = 'noetl'::regnamespace AND c.relkind = 'S'
    AND has_sequence_privilege(:role, c.oid, p.privilege)"""
OF_ROUTINES = """
SELECT p.proname, 'jsonb'::regtype = ANY (p.proargtypes::oid[]) FROM pg_proc p
WHERE p.pronamespace = 'noetl'::regnamespace AND has_function_privilege(:role, p.oid, 'EXECUTE')"""
ROUTINES = """
SELECT p.proname, p.prosecdef, coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false) FROM pg_proc p
WHERE p.pronamespace = 'noetl'::regnamespace AND 'jsonb'::regtype <> ALL (p.proargtypes::oid[])"""
OF_ROLE = """
SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls,
    (SELECT count(*) FROM pg_auth_members m WHERE m.member = r.oid),
    has_database_privilege(r.oid, current_database(), 'CREATE'),
    has_database_privilege(r.oid, current_database(), 'TEMP'),
    has_schema_privilege(r.oid, 'noetl', 'CREATE'), has_schema_privilege(r.oid, 'public', 'CREATE')
FROM pg_roles r WHERE rolname = :role"""


@pytest.fixture
def role(migrated_url: str) -> Iterator[str]:
    """The role in a database of its own."""
    role = worker_role(migrated_url)
    create_worker_role(migrated_url, role, PASSWORD)
    yield role
    with closing(connect(migrated_url)) as owner:
        owner.run(f"DROP OWNED BY {identifier(role)}")
        owner.run(f"DROP ROLE {identifier(role)}")


@pytest.fixture
def owner(postgres_url: str, role: str) -> Iterator[Connection]:
    with closing(connect(postgres_url)) as connection:
        yield connection


@pytest.fixture
def worker(postgres_url: str, role: str) -> Iterator[Connection]:
    """A session of the role."""
    with closing(connect(url_of(postgres_url, role, PASSWORD))) as connection:
        yield connection


def url_of(owner_url: str, role: str, password: str) -> str:
    return f"postgresql://{role}:{password}@{owner_url.rpartition('@')[2]}"


def rights(owner: Connection, role: str) -> dict[str, Any]:
    """All that the role may do with what is in the schema."""
    columns: dict[str, set[str]] = {}
    for table, privilege, column in owner.run(OF_COLUMNS, role=role):
        columns.setdefault(f"{privilege} {table}", set()).add(column)
    return {
        "tables": {tuple(row) for row in owner.run(OF_TABLES, role=role)},
        "columns": columns,
        "sequences": {tuple(row) for row in owner.run(OF_SEQUENCES, role=role)},
        "routines": {name if not older else f"{name} (jsonb)" for name, older in owner.run(OF_ROUTINES, role=role)},
    }


def definers(owner: Connection) -> set[str]:
    return {name for name, definer, _ in owner.run(ROUTINES) if definer}


EXPECTED = {
    "tables": set(),
    "columns": {f"SELECT {table}": columns for table, columns in READ.items()},
    "sequences": set(),
    "routines": CALLED,
}


def test_it_may_do_what_is_named_here_and_no_more(owner: Connection, role: str) -> None:
    assert rights(owner, role) == EXPECTED


def test_what_is_new_gives_it_nothing_until_it_is_granted(owner: Connection, role: str) -> None:
    owner.run("CREATE TABLE noetl.new_table (n integer)")
    owner.run("CREATE VIEW noetl.new_view AS SELECT * FROM noetl.credential")
    owner.run("CREATE SEQUENCE noetl.new_sequence")
    owner.run("CREATE FUNCTION noetl.new_function() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
    # as at the end of each migration
    owner.run("SELECT noetl.grant_worker(:role)", role=role)
    assert rights(owner, role) == EXPECTED


def test_a_function_that_a_migration_replaces_is_put_right(owner: Connection, role: str) -> None:
    replaced = owner.run("SELECT pg_get_functiondef('noetl.clear_inbox(bigint)'::regprocedure)")[0][0]
    owner.run(
        replaced.replace(" SECURITY DEFINER\n", "\n").replace(" SET search_path TO 'pg_catalog', 'pg_temp'\n", "")
    )
    assert definers(owner) == CALLED - {"clear_inbox"}
    owner.run("SELECT noetl.grant_worker(:role)", role=role)
    assert definers(owner) == CALLED


def test_what_it_was_granted_otherwise_is_revoked(owner: Connection, role: str) -> None:
    owner.run(f"GRANT SELECT, UPDATE (name) ON noetl.credential TO {identifier(role)}")
    owner.run(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA noetl TO {identifier(role)}")
    owner.run(f"GRANT EXECUTE ON ALL ROUTINES IN SCHEMA noetl TO {identifier(role)}")
    owner.run("SELECT noetl.grant_worker(:role)", role=role)
    assert rights(owner, role) == EXPECTED


def test_it_may_create_nothing_and_is_nobody_else(owner: Connection, role: str) -> None:
    assert owner.run(OF_ROLE, role=role) == [[False, False, False, False, False, 0, False, False, False, False]]


def test_every_statement_that_changes_a_table_is_refused(owner: Connection, worker: Connection) -> None:
    for table, _ in owner.run(RELATIONS, kinds=["r", "p", "v"]):
        for statement in (
            f"INSERT INTO noetl.{table} DEFAULT VALUES",
            f"DELETE FROM noetl.{table}",
            f"TRUNCATE noetl.{table}",
            f"ALTER TABLE noetl.{table} ADD COLUMN more integer",
            f"DROP TABLE noetl.{table}",
            f"SELECT * FROM noetl.{table}",
        ):
            assert refused(worker, statement), statement


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE noetl.mine (n integer)",
        "CREATE TABLE public.mine (n integer)",
        "CREATE TEMPORARY TABLE mine (n integer)",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "CREATE FUNCTION noetl.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "ALTER FUNCTION noetl.clear_inbox(bigint) SECURITY INVOKER",
        "SELECT nextval('noetl.fence')",
        "SELECT noetl.grant_worker(current_user)",
        "SELECT noetl.ensure_partitions(now())",
        "SELECT noetl.expire(1, 1)",
        "SELECT noetl.drop_partitions()",
        "SELECT sealed FROM noetl.credential",
        "SELECT 1 FROM noetl.execution FOR UPDATE",
        "COPY noetl.event TO PROGRAM 'true'",
    ],
)
def test_it_is_refused(worker: Connection, statement: str) -> None:
    assert refused(worker, statement)


def refused(worker: Connection, statement: str) -> bool:
    """A statement may also make no sense for such an object; it is not carried out either."""
    with pytest.raises(DatabaseError) as caught:
        worker.run(statement)
    return sqlstate(caught.value) in (DENIED, WRONG_KIND, OF_A_VIEW)


def test_what_it_calls_runs_as_the_owner_with_a_path_that_nobody_can_change(owner: Connection) -> None:
    assert definers(owner) == CALLED
    assert all(fixed for _, definer, fixed in owner.run(ROUTINES) if definer)


def test_the_password_can_be_changed(postgres_url: str, role: str) -> None:
    create_worker_role(postgres_url, role, "another")
    connect(url_of(postgres_url, role, "another")).quit()
    with pytest.raises(Unavailable):
        connect(url_of(postgres_url, role, PASSWORD))


def test_a_role_of_this_name_that_is_not_ours_is_left_alone(postgres_url: str, owner: Connection, role: str) -> None:
    owner.run(f"COMMENT ON ROLE {identifier(role)} IS 'of somebody else'")
    with pytest.raises(RoleRefused, match="not ours"):
        create_worker_role(postgres_url, role, "another")
    lock_worker_role(postgres_url, role)
    connect(url_of(postgres_url, role, PASSWORD)).quit()


def test_nobody_signs_in_as_a_role_that_is_locked_until_it_is_created_again(postgres_url: str, role: str) -> None:
    lock_worker_role(postgres_url, role)
    with pytest.raises(Unavailable):
        connect(url_of(postgres_url, role, PASSWORD))
    create_worker_role(postgres_url, role, PASSWORD)
    connect(url_of(postgres_url, role, PASSWORD)).quit()


def test_a_user_who_may_not_create_roles_is_refused(postgres_url: str, role: str) -> None:
    with pytest.raises(RoleRefused, match="permission denied"):
        create_worker_role(url_of(postgres_url, role, PASSWORD), f"{role}_2", PASSWORD)

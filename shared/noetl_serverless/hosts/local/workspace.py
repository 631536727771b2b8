"""A database for the playbooks' own data, separate from the engine's, to which its role cannot connect."""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import urlsplit

NAME = "workspace"


def create_workspace(url: str, password: str) -> None:
    """Create the role and the database `workspace` if they do not exist, and set the role's password."""
    import pg8000.native

    parts = urlsplit(url)
    connection = pg8000.native.Connection(
        parts.username,
        host=parts.hostname,
        port=parts.port,
        password=parts.password,
        database=parts.path.lstrip("/"),
    )
    secret = pg8000.native.literal(password)
    with contextlib.closing(connection) as engine:
        if not engine.run("SELECT 1 FROM pg_roles WHERE rolname = :name", name=NAME):
            engine.run(f"CREATE ROLE {NAME} LOGIN PASSWORD {secret}")
        else:
            engine.run(f"ALTER ROLE {NAME} PASSWORD {secret}")
        engine.run(f"REVOKE CONNECT ON DATABASE {pg8000.native.identifier(parts.path.lstrip('/'))} FROM PUBLIC")
        if not engine.run("SELECT 1 FROM pg_database WHERE datname = :name", name=NAME):
            engine.run(f"CREATE DATABASE {NAME} OWNER {NAME}")


def workspace_credential(url: str, password: str) -> dict[str, Any]:
    """The credential by which playbooks reach the database, as a body for POST /api/credentials."""
    parts = urlsplit(url)
    return {
        "name": NAME,
        "type": "postgres",
        "description": "The stack's own database for the data of playbooks",
        "data": {
            "host": parts.hostname,
            "port": parts.port,
            "user": NAME,
            "password": password,
            "database": NAME,
        },
    }

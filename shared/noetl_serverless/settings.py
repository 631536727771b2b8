"""The one place that reads the environment. Everything else receives a `Settings`, or a part of one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ORCHESTRATORS = ("remote", "direct")
# the stores that `result_auto` may name
RESULT_STORES = frozenset({"kv", "postgres"})
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
# what a setting must be at least: with less, a function would not start, or do nothing
_LEAST = {
    **dict.fromkeys(("max_in_flight", "python_processes", "python_memory_mb", "database_connections"), 1),
    **dict.fromkeys(("max_deliveries", "max_result_bytes", "instances", "workers", "nats_replicas"), 1),
    **dict.fromkeys(("archive_after_days", "retention_days", "result_ttl_days", "linger"), 0),
    "lease": 1,
    "time_budget": 1,
    "session_ttl": 1,
    "token_days": 0,
    "shared_memory_mb": -1,
    "shared_memory_lease": 1,
}
# and at most: a hundred years, beyond which there are no dates; a day, after which nobody reads what one step has
# handed to the next
_MAX = {
    **dict.fromkeys(("archive_after_days", "retention_days", "result_ttl_days", "token_days"), 36_500),
    "shared_memory_lease": 86_400,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Infrastructure configuration of one function. Times are in seconds."""

    host: str = "local"
    function: str = "control_plane"
    database_url: str = field(default="", repr=False)
    nats_url: str = field(default="", repr=False)
    # where large results go; empty: to PostgreSQL
    result_url: str = ""
    # the stores that are tried before that one for results whose playbook names none, with commas: kv, postgres
    result_auto: str = ""
    control_plane_url: str = ""
    # where everybody reaches the gateway: callback URLs begin with it
    public_url: str = ""
    # pool or function name -> URL to invoke
    function_urls: Mapping[str, str] = field(default_factory=dict)
    # the token of this function for the control plane, which alone holds the key that signs tokens
    service_token: str = field(default="", repr=False)
    token_key: str = field(default="", repr=False)
    # "key id:base64 of 32 bytes", comma separated; the first encrypts, all decrypt
    encryption_keys: str = field(default="", repr=False)
    pool: str = "shared"
    # tool kind -> pool, for the kinds that do not run on "shared"
    pools: Mapping[str, str] = field(default_factory=dict)
    # of a worker's pool, as functions.yaml has them
    labels: Mapping[str, str] = field(default_factory=dict)
    # the pools that the deployment has: pool -> what its workers have (see hosts.table.worker_pools); empty if it is
    # not known
    worker_pools: Mapping[str, Any] = field(default_factory=dict)
    # secrets in a cloud: name -> its place in the secret store; and those that the control plane creates if missing
    secrets: Mapping[str, str] = field(default_factory=dict)
    provision: Mapping[str, str] = field(default_factory=dict)
    # for how many days a service token that the control plane makes is valid
    token_days: float = 400.0
    # how a function authenticates to the database: "password", or "iam" on AWS
    database_auth: str = "password"
    # the database role of direct workers in a cloud, which a migration creates; none if no worker is direct
    worker_role: str = ""
    nats_password: str = field(default="", repr=False)
    # a private certificate authority, as PEM
    nats_ca: str = ""
    # the number of nodes of a cluster that hold each stream
    nats_replicas: int = 1
    # worker
    lease: float = 30.0
    time_budget: float = 900.0
    linger: float = 0.0
    max_in_flight: int = 16
    # more than there are cores, because some calls wait
    python_processes: int = field(default_factory=lambda: 2 * (os.cpu_count() or 1))
    python_memory_mb: int = 2048
    # of tables between steps, in MB: 0 turns it off, -1 takes 256, or a quarter of what there is
    shared_memory_mb: int = -1
    # how long a table stays there after it was last read; its place may be taken afterwards
    shared_memory_lease: float = 60.0
    http_allow_private: bool = True
    scratch: str = ""
    # folders that task code cannot open, separated as in PATH
    private_folders: str = ""
    # control plane and reconciler
    database_connections: int = 4
    max_deliveries: int = 5
    # of one result that is put over REST
    max_result_bytes: int = 1024 * 1024 * 1024
    notify: bool = True
    # days after an execution's end, 0 for never: when it is moved from the database to the archive, when it is deleted
    # from either, and when its results are deleted from the result store
    archive_after_days: float = 0.0
    retention_days: float = 90.0
    result_ttl_days: float = 0.0
    # gateway: a sign-in without an identity provider, only for the local host
    development_sign_in: bool = False
    oidc_issuer: str = ""
    oidc_audience: str = ""
    session_ttl: float = 28800.0
    log_level: str = "INFO"
    # a worker: "remote" over HTTP, or "direct" to the database; of the local host, a worker with a process of its own
    orchestrator: str = "remote"
    # the control plane of the local host: the database as the role that may read the views for SQL of operators
    reader_database_url: str = field(default="", repr=False)
    # the local host: whether functions run "together" in one process or in "separate" ones; how often each function is
    # started, and the worker of the pool `shared` at least
    processes: str = "together"
    instances: int = 1
    workers: int = 1
    # and the pools that it has beside `shared`: "all" that functions.yaml has for it, or names, with commas
    local_pools: str = "all"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read NOETL_<FIELD> for each field; ValueError names a variable that does not parse."""
        values: dict[str, object] = {}
        for name, default in _DEFAULTS.items():
            raw = environ.get(f"NOETL_{name.upper()}")
            if raw is None:
                continue
            try:
                values[name] = _parse(raw, default)
                if (least := _LEAST.get(name)) is not None and not values[name] >= least:  # type: ignore[operator]
                    raise ValueError(f"expected {least:g} or more")
                if (limit := _MAX.get(name)) is not None and not values[name] <= limit:  # type: ignore[operator]
                    raise ValueError(f"expected {limit} or less")
                if name == "log_level" and raw not in LOG_LEVELS:
                    raise ValueError(f"expected one of {', '.join(LOG_LEVELS)}")
                if name == "result_auto" and not RESULT_STORES.issuperset(filter(None, raw.split(","))):
                    raise ValueError(f"expected names out of {', '.join(sorted(RESULT_STORES))}, with commas")
            except ValueError as error:
                raise ValueError(f"NOETL_{name.upper()}={raw!r}: {error}") from error
        return cls(**values)  # type: ignore[arg-type]


def _parse(raw: str, default: object) -> object:
    match default:
        case bool():
            if raw.lower() not in ("1", "0", "true", "false"):
                raise ValueError("expected true or false")
            return raw.lower() in ("1", "true")
        case int():
            return int(raw)
        case float():
            return float(raw)
        case dict():
            return json.loads(raw)
        case _:
            return raw


_DEFAULTS: dict[str, object] = {
    name: (spec.default_factory() if callable(spec.default_factory) else spec.default)
    for name, spec in Settings.__dataclass_fields__.items()
}

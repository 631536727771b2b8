"""The environment of each function: what its row in functions.yaml names, and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...results.urls import folder_of
from ...settings import Settings
from ..table import FunctionSpec
from .layout import Layout
from .objects import variables_of_store
from .secrets import Secrets, service_token

# how to find programs, the temporary folder, certificates and proxies: what any process needs on this machine
_INHERITED = (
    *(
        "PATH",
        "HOME",
        "LANG",
        "LC_ALL",
        "TZ",
        "TMPDIR",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
    ),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)


@dataclass(frozen=True, slots=True)
class Addresses:
    database_url: str
    nats_url: str
    # function -> http://127.0.0.1:port
    functions: Mapping[str, str]
    # function or pool -> the URL that invokes it
    function_urls: Mapping[str, str]
    # the database for direct workers
    worker_database_url: str = ""
    # the database for SQL of operators; empty if there is none
    reader_database_url: str = ""
    # as the setting of this name
    worker_pools: Mapping[str, Any] = field(default_factory=dict)


def environment_of(
    spec: FunctionSpec, addresses: Addresses, secrets: Secrets, layout: Layout, settings: Settings
) -> dict[str, str]:
    """The variables of a function's own process."""
    return {**inherited(), **variables_of(spec, addresses, secrets, layout, settings)}


def inherited() -> dict[str, str]:
    return {
        **{name: os.environ[name] for name in _INHERITED if name in os.environ},
        "PYTHONUNBUFFERED": "1",
    }


def variables_of(
    spec: FunctionSpec, addresses: Addresses, secrets: Secrets, layout: Layout, settings: Settings
) -> dict[str, str]:
    """NOETL_* as the function's row names them, tuned by the settings of the stack itself, and what the result store
    needs of the user's own."""
    values = _values(spec, addresses, secrets, layout, settings)
    selected = {name: values[name] for name in (*spec.secrets, *spec.settings)}
    if spec.max_in_flight is not None and "max_in_flight" in selected:
        selected["max_in_flight"] = spec.max_in_flight
    base: dict[str, object] = {"host": "local", "function": spec.name, "log_level": settings.log_level}
    if spec.pool:
        base["pool"] = spec.pool
        base["labels"] = spec.labels
    if spec.role == "control_plane":
        # no setting of its row, which is read for the clouds, too: only this host has such a role
        base["reader_database_url"] = addresses.reader_database_url
    if spec.role == "reconciler":
        # only this host reads folders for triggers: not those of the stack
        base["private_folders"] = values["private_folders"]
    variables = {f"NOETL_{name.upper()}": _text(value) for name, value in {**base, **selected}.items()}
    if "result_url" in selected:
        # keys of a cloud are for those alone that read and write results there
        variables |= variables_of_store(str(selected["result_url"]), os.environ)
    return variables


def _values(
    spec: FunctionSpec, addresses: Addresses, secrets: Secrets, layout: Layout, settings: Settings
) -> dict[str, object]:
    from_settings = {name: getattr(settings, name) for name in Settings.__dataclass_fields__}
    return {
        **from_settings,
        "database_url": addresses.database_url if spec.pool is None else addresses.worker_database_url,
        "nats_url": addresses.nats_url,
        "control_plane_url": addresses.functions["control_plane"],
        "public_url": settings.public_url or addresses.functions.get("gateway", ""),
        "function_urls": addresses.function_urls,
        "worker_pools": addresses.worker_pools,
        "result_url": _result_url(layout, settings),
        "service_token": service_token(secrets.token_key, spec.role, f"{spec.name}@local"),
        "token_key": secrets.token_key,
        "encryption_keys": secrets.encryption_keys,
        "development_sign_in": True,
        "scratch": str(layout.scratch),
        "private_folders": os.pathsep.join(_private(layout, settings)),
    }


def _private(layout: Layout, settings: Settings) -> list[str]:
    """What task code has no business in: the stack's own folders, and that of all results, which may be elsewhere."""
    results = folder_of(_result_url(layout, settings))
    return [*map(str, layout.private()), *([] if results is None else [results])]


def _result_url(layout: Layout, settings: Settings) -> str:
    return settings.result_url or layout.results.as_uri()


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return json.dumps(dict(value))
    return str(value)

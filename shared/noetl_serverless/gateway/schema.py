"""schema.graphql with its resolvers."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any

from graphql import GraphQLObjectType, GraphQLSchema, build_schema

from . import mutations, queries
from .context import Info

_CAPITAL = re.compile(r"(?=[A-Z])")

_RESOLVERS: dict[str, dict[str, Any]] = {
    "Query": {
        "health": queries.health,
        "version": queries.version,
        "execution": queries.execution,
        "executions": queries.executions,
        "events": queries.events,
        "catalog": queries.catalog,
    },
    "Mutation": {
        "executePlaybook": mutations.execute_playbook,
        "rerunExecution": mutations.rerun_execution,
        "cancelExecution": mutations.cancel_execution,
        "pauseExecution": mutations.pause_execution,
        "resumeExecution": mutations.resume_execution,
        "signalExecution": mutations.signal_execution,
        "restartExecution": mutations.restart_execution,
        "proxyRequest": mutations.proxy_request,
    },
    "Execution": {
        "id": lambda execution, info: execution["execution_id"],
        "events": queries.events_of,
        "warnings": queries.warnings_of,
        "quarantined": queries.quarantined_of,
        "restarts": queries.restarts_of,
        "quarantine": queries.quarantine_of,
        "underWay": queries.under_way_of,
        "keptSignals": queries.kept_signals_of,
        "variables": queries.variables_of,
        "results": queries.results_of,
        "runs": queries.runs_of,
    },
}


@cache
def schema() -> GraphQLSchema:
    result = build_schema(files(__package__).joinpath("schema.graphql").read_text())
    for type_name, fields in _RESOLVERS.items():
        object_type = result.type_map[type_name]
        assert isinstance(object_type, GraphQLObjectType)
        for name, resolve in fields.items():
            object_type.fields[name].resolve = resolve
    return result


def resolve_member(source: Any, info: Info, **arguments: Any) -> Any:
    """Resolves any other field: the member of the same name, which REST writes with underscores."""
    return source.get(_snake(info.field_name))


@cache
def _snake(name: str) -> str:
    return _CAPITAL.sub("_", name).lower()

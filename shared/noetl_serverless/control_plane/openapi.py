"""OpenAPI 3.1, built from the route table and the models on first use.

`python -m noetl_serverless.control_plane.openapi` prints the tables of operations and of lists in functions/README.md.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from typing import Any, get_origin

import orjson
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ..errors import MEDIA_TYPE
from .operation import Operation
from .routes import OPERATIONS

SCHEMA_PREFIX = "#/components/schemas/"
PATH_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")

# what each error status means
PROBLEMS = {
    "400": "The request is not valid.",
    "401": "There is no valid service token.",
    "403": "The token's role may not do this.",
    "404": "The resource does not exist.",
    "406": "It cannot be had in a form that Accept names; `available` lists those that can.",
    "409": "It conflicts with the current state, or the name is taken.",
    "410": "The URL has expired, or nothing waits for its answer any more.",
    "413": "The body is too large.",
    "415": "The body is of a media type that is not accepted.",
    "416": "The requested part lies behind the end of the content.",
    "422": "The playbook, or the input of a start, is not valid; `errors` lists the faults and their places.",
    "501": "This deployment cannot do this.",
    "502": "The result store refuses access.",
    "503": "A service that the request needs is not available; try again.",
}
# operations that look up something which their path does not name
MAY_NOT_FIND = (
    "readObject",
    "readObjectChunk",
    "getCatalogEntry",
    "createSchedule",
    "getLoopResults",
    *("resolveResult", "getResultUrl", "getResultStats", "deleteResult"),
    *("resolveTemp", "getTempUrl", "getTempStats", "deleteTemp"),
    "acquireSecret",
    "storeSecret",
    "createGoogleToken",
    *("createCallback", "readCallback", "answerCallback"),
    *("listCatalogVersions", "compareCatalogVersions", "deleteCatalogVersions", "restoreCatalogVersions"),
    *("heartbeatRuntime", "deregisterRuntime", "deregisterRuntimeByPost"),
)
# operations without an idempotency key whose state may have changed, or whose name may be taken
MAY_CONFLICT = (
    *("createSchedule", "giveSecret", "rebuildProjections", "retryQuarantined"),
    *("pauseExecution", "resumeExecution", "deleteVariable", "deleteVariables", "answerCallback"),
    *("receiveWebhook", "fireTrigger", "retryTriggerEvent", "dropTriggerEvent"),
    *("heartbeatRuntime", "deregisterRuntime", "deregisterRuntimeByPost"),
    *("resolveResult", "getResultUrl", "getResultOfStep", "deleteResult", "deleteResults", "deleteResultsOfStep"),
    *("resolveTemp", "getTempUrl", "getTempOfStep", "deleteTemp", "deleteTemps", "deleteTempsOfStep"),
)
# operations that read or write objects of a result store
OF_STORES = ("result", "temp")
# operations that take a playbook, or its input
MAY_NOT_FIT = ("registerPlaybook", "retryQuarantined", "execute", "rerunExecution")
TAGS = {
    "executions": "Start, watch and stop executions.",
    "variables": "Set and read variables of executions.",
    "quarantine": "Inspect and resolve executions that the engine could not continue.",
    "replay": "Rebuild executions from their logs.",
    "results": "Read results of loops and results in the result store.",
    "catalog": "Register and read versioned playbooks.",
    "credentials": "Manage secrets, which are encrypted at rest.",
    "keychain": "Inspect and clear the cache of fetched secrets.",
    "schedules": "Run playbooks at set times or intervals.",
    "triggers": "Start playbooks for webhooks, objects, messages and ends of other playbooks.",
    "commands": "Claim commands and report their outcomes (for workers).",
    "query": "Read executions, events, commands and the catalog with SQL (for operators).",
    "archive": "Move ended executions from the database to files.",
}


@cache
def document_bytes() -> bytes:
    return orjson.dumps(document())


def document() -> dict[str, Any]:
    inputs, outputs = _models()
    names, definitions = models_json_schema(
        [*((model, "validation") for model in inputs), *((model, "serialization") for model in outputs)],
        ref_template=SCHEMA_PREFIX + "{model}",
    )
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(_shown(operation), {})[operation.method.lower()] = _operation(operation, names)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "NoETL Serverless control plane",
            "version": version("noetl-serverless"),
            "description": "64-bit ids are decimal strings. Times are RFC 3339 in UTC, durations seconds.",
        },
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "security": [{"serviceToken": []}, {"serviceTokenAsPassword": []}],
        "paths": {**paths, **_public_paths()},
        "components": {
            "schemas": {**definitions.get("$defs", {}), "Problem": PROBLEM},
            "securitySchemes": {
                "serviceToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A service token with a role: gateway, worker, reconciler or operator.",
                },
                "serviceTokenAsPassword": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The same token as the password of any user; not from a browser.",
                },
            },
            "responses": {name: _problem(text) for name, text in PROBLEMS.items()},
        },
    }


def _models() -> tuple[list[type[BaseModel]], list[type[BaseModel]]]:
    bodies = [operation.body for operation in OPERATIONS if operation.body]
    return list(dict.fromkeys(bodies)), list(dict.fromkeys(operation.answer for operation in OPERATIONS))


def _list_of(answer: dict[str, Any], operation: Operation) -> dict[str, Any]:
    items = {"type": "array", "items": answer}
    if operation.bare:
        return items
    assert operation.query is not None
    parameter = operation.query.model_json_schema()["properties"][operation.next_parameter]
    next_field = {
        "type": ["integer" if parameter.get("type") == "integer" else "string", "null"],
        "description": f"Value of `{operation.next_parameter}` for the next page; null on the last page.",
    }
    return {"type": "object", "required": ["items", "next"], "properties": {"items": items, "next": next_field}}


def _operation(operation: Operation, refs: dict[Any, Any]) -> dict[str, Any]:
    answer = refs[operation.answer, "serialization"]
    schema = _list_of(answer, operation) if operation.many else answer
    result: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": _description(operation),
        "tags": [operation.tag],
        "parameters": _parameters(operation),
        "responses": {
            str(operation.status): {"description": "Done.", "content": _content(operation, schema)},
            **(_OF_CONTENT if operation.content_answer != "never" else {}),
            **{status: {"$ref": f"#/components/responses/{status}"} for status in _problems(operation)},
        },
    }
    if operation.body is not None:
        result["requestBody"] = {
            "required": any(field.is_required() for field in operation.body.model_fields.values()),
            "content": {
                "application/json": {"schema": refs[operation.body, "validation"]},
                **({"application/octet-stream": {"schema": {}}} if operation.content_body else {}),
            },
        }
    elif operation.content_body:
        result["requestBody"] = {"required": True, "content": {"application/octet-stream": {"schema": {}}}}
    return result


_OF_CONTENT: dict[str, Any] = {
    "206": {"description": "The requested part.", "content": {"*/*": {"schema": {}}}},
    "304": {"description": "It has not changed."},
}


def _content(operation: Operation, schema: dict[str, Any]) -> dict[str, Any]:
    of_any_type: dict[str, Any] = {"*/*": {"schema": {}}}
    match operation.content_answer:
        case "always":
            return of_any_type
        case "also":
            return {"application/json": {"schema": {}}, **of_any_type}
    return {"application/json": {"schema": schema}}


def _description(operation: Operation) -> str:
    roles = ", ".join(sorted(operation.roles))
    return f"{operation.summary}. Roles: {roles}."


def _problems(operation: Operation) -> list[str]:
    found = {"401", "403", "503"}
    if operation.body is not None or operation.query is not None:
        found.add("400")
    if operation.body is not None or operation.content_body:
        found.add("413")
    if operation.content_body and operation.tag == "results":
        found.add("415")
    if "{" in operation.path or operation.tag in ("executions", "replay") or operation.name in MAY_NOT_FIND:
        found.add("404")
    if operation.headers or operation.name in MAY_CONFLICT:
        found.add("409")
    if operation.name in MAY_NOT_FIT:
        found.add("422")
    if operation.name == "receiveWebhook":
        # of any type, since it is verified as it came
        found |= {"400", "413"}
    if operation.name in ("readCallback", "answerCallback"):
        found.add("410")
    if operation.name in ("queryViews", "createCallback"):
        found.add("501")
    if operation.path.split("/")[2] in OF_STORES:
        found |= {"501", "502"}
    if operation.content_answer != "never":
        found.add("416")
        if operation.tag == "results":
            found.add("406")
    return sorted(found)


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in PATH_PARAMETER.findall(operation.path)
    ]
    in_headers = [
        {"name": name, "in": "header", "description": text, "schema": {"type": "string", "maxLength": 255}}
        for name, text in operation.headers.items()
    ]
    return [*in_path, *_query(operation.query), *in_headers]


def _query(model: type[BaseModel] | None) -> list[dict[str, Any]]:
    if model is None:
        return []
    schema = model.model_json_schema()
    required = schema.get("required", [])
    parameters = []
    for name, shape in schema["properties"].items():
        text = shape.pop("description", None)
        shape.pop("title", None)
        parameter = {"name": name, "in": "query", "required": name in required, "schema": shape}
        parameters.append({**parameter, "description": text} if text else parameter)
    return parameters


def _public_paths() -> dict[str, Any]:
    """The paths that need no token."""
    texts = {
        "/livez": ("livez", "Check that the process is running", "application/json"),
        "/readyz": (
            "readyz",
            "Check that the process and the services that it needs are available",
            "application/json",
        ),
        "/metrics": ("metrics", "Read metrics in the Prometheus format", "text/plain"),
        "/openapi.json": ("openapi", "Read this OpenAPI document", "application/json"),
        "/docs": ("apiPage", "Open a page on which this API can be tried", "text/html"),
        "/schema/playbook.json": (
            "playbookSchema",
            "Read the JSON Schema of a playbook, for editors",
            "application/schema+json",
        ),
    }
    return {
        path: {
            "get": {
                "operationId": name,
                "summary": summary,
                "description": f"{summary}. No token is required.",
                "security": [],
                "responses": {"200": {"description": "Done.", "content": {media: {}}}},
            }
        }
        for path, (name, summary, media) in texts.items()
    }


def _problem(text: str) -> dict[str, Any]:
    schema = {"$ref": SCHEMA_PREFIX + "Problem"}
    return {"description": text, "content": {MEDIA_TYPE: {"schema": schema}}}


PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:noetl:problem:not_found"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "instance": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {
                    "code": {"type": "string"},
                    "message": {"type": "string"},
                    "pointer": {
                        "type": "string",
                        "description": "JSON pointer to the place in the request or the playbook.",
                    },
                    "line": {"type": "integer"},
                    "column": {"type": "integer"},
                    "expected": {"type": "string", "description": "What the schema of the input takes there."},
                    "given": {"type": "string", "description": "What is there; secrets are not repeated."},
                },
            },
        },
    },
}


def table() -> Iterator[str]:
    """The lines of the table in functions/README.md: what users may call."""
    yield "| operation | | what it does |"
    yield "|---|---|---|"
    for operation in sorted(OPERATIONS, key=lambda one: (one.tag, one.path, one.method)):
        if operation.roles & {"gateway"}:
            yield f"| {operation.tag} | `{operation.method} {_shown(operation)}` | {operation.summary} |"


def lists() -> Iterator[str]:
    """The lines of the second table: how users get the next page of each list."""
    yield "| list | rows | next page |"
    yield "|---|---|---|"
    for operation in sorted(OPERATIONS, key=lambda one: (one.tag, one.path, one.method)):
        if operation.roles & {"gateway"} and (found := _paging(operation)) is not None:
            yield f"| `{operation.method} {_shown(operation)}` | {' | '.join(found)} |"


def _shown(operation: Operation) -> str:
    return PATH_PARAMETER.sub(r"{\1}", operation.path)


def _paging(operation: Operation) -> tuple[str, str] | None:
    """Where the rows are, and the parameter for the next page with its source; None if it is no list."""
    if operation.many and operation.bare:
        return "the array itself", f"`{operation.next_parameter}`, in the `Link` header"
    if operation.many:
        return "`items`", f"`{operation.next_parameter}`, with the value of `next`"
    if not operation.next_parameter:
        return None
    rows = next(name for name, field in operation.answer.model_fields.items() if get_origin(field.annotation) is list)
    place = " in the body" if operation.method == "POST" else ""
    return f"`{rows}`", f"`{operation.next_parameter}`{place}, with the value of `next`"


if __name__ == "__main__":
    sys.stdout.write("\n".join([*table(), "", *lists()]) + "\n")

"""What is said of a query or a body that is not as expected."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from starlette.requests import Request

from noetl_serverless.control_plane import models
from noetl_serverless.control_plane.body import parse_body, parse_query
from noetl_serverless.control_plane.models import PATTERNS, RequestModel
from noetl_serverless.control_plane.models.catalog import Resource
from noetl_serverless.control_plane.models.executions import Execute, ListExecutions, Restart
from noetl_serverless.errors import InvalidRequest


class Nothing(BaseModel, extra="forbid"):
    pass


def refusal(model: type[BaseModel], query: str) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        parse_query(model, Request({"type": "http", "query_string": query.encode(), "headers": []}))
    return refused.value


def test_an_unknown_parameter_is_reported_with_the_known_ones() -> None:
    detail = refusal(ListExecutions, "limit=2").detail
    assert detail.startswith("there is no parameter 'limit'; there are page, page_size, before, status, path, "), detail
    assert refusal(Nothing, "a=1").detail == "there is no parameter 'a'; there is none"


def test_a_value_that_is_wrong_is_reported_by_its_name() -> None:
    assert "page_size: this must be at least 1" in refusal(ListExecutions, "page_size=0").detail


def test_an_unknown_field_of_a_body_is_reported_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_body(Execute, b'{"path": "t/a", "variables": {}}')
    names = "path, catalog_id, version, resource_kind, payload, parent_execution_id"
    message = f"there is no field 'variables'; there are {names}"
    assert refused.value.detail == message
    assert [(fault.message, fault.pointer) for fault in refused.value.faults] == [(message, "/variables")]


def test_a_wrong_field_of_a_body_is_reported_by_its_name() -> None:
    with pytest.raises(InvalidRequest, match="the body is not valid: payload: this must be an object"):
        parse_body(Execute, b'{"path": "t/a", "payload": 1}')


@pytest.mark.parametrize("model", [Execute, Restart, Resource])
@pytest.mark.parametrize("version", ["newest", 0, True, 1.5, 1 << 31, [1], "1.0", ""])
def test_a_wrong_version_is_one_fault(model: type[BaseModel], version: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_body(model, json.dumps({"version": version}).encode())
    message = "this must be an integer of at least 1, or 'latest'"
    assert [(fault.pointer, fault.message) for fault in refused.value.faults] == [("/version", message)]
    for known in ("latest", 7, "7"):
        assert str(parse_body(model, json.dumps({"version": known}).encode()).version) == str(known)  # type: ignore[attr-defined]


def test_a_pattern_is_reported_in_words() -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_body(Execute, b'{"catalog_id": "t/a"}')
    assert refused.value.detail == "the body is not valid: catalog_id: this must be an id, which has 1 to 19 digits"


def test_every_pattern_of_a_request_has_words() -> None:
    for module in pkgutil.iter_modules(models.__path__, f"{models.__name__}."):
        importlib.import_module(module.name)
    requests = RequestModel.__subclasses__()
    assert len(requests) > 30
    schemas = [model.model_json_schema() for model in requests]
    found = {pattern for schema in schemas for pattern in patterns(schema)}
    assert len(found) > 3
    assert found <= set(PATTERNS)


@pytest.mark.parametrize(("given", "status"), [("paused", "PAUSED"), ("Failed", "FAILED"), ("RUNNING", "RUNNING")])
def test_a_status_is_read_in_any_case_of_letters(given: str, status: str) -> None:
    query = f"status={given}".encode()
    assert parse_query(ListExecutions, Request({"type": "http", "query_string": query, "headers": []})).status == status


def test_an_unknown_status_is_refused_with_the_known_ones() -> None:
    detail = refusal(ListExecutions, "status=resting").detail
    assert detail.endswith("status: this must be one of RUNNING, COMPLETED, FAILED, CANCELLED, PAUSED")


def patterns(schema: Any) -> Iterator[str]:
    parts = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    if isinstance(schema, dict) and isinstance(schema.get("pattern"), str):
        yield schema["pattern"]
    for part in parts:
        yield from patterns(part)

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from graphql import GraphQLEnumType
from openapi_spec_validator import OpenAPIV31SpecValidator

from noetl_serverless.control_plane.openapi import PATH_PARAMETER, document
from noetl_serverless.control_plane.routes import OPERATIONS
from noetl_serverless.gateway.schema import schema


def test_the_document_is_valid_openapi() -> None:
    OpenAPIV31SpecValidator(document()).validate()


def test_every_route_is_listed_under_its_name() -> None:
    paths = document()["paths"]
    for operation in OPERATIONS:
        assert (
            paths[PATH_PARAMETER.sub(r"{\1}", operation.path)][operation.method.lower()]["operationId"]
            == operation.name
        )
    assert {"/livez", "/readyz", "/metrics", "/openapi.json"} <= paths.keys()


def test_what_running_covers_is_documented_alike_for_rest_and_graphql() -> None:
    rest = document()["components"]["schemas"]["UnderWay"]["properties"]["status"]["description"]
    running = schema().type_map["StepStatus"]
    assert isinstance(running, GraphQLEnumType)
    for said in (rest, " ".join((running.values["running"].description or "").split())):
        assert "runs or waits in the worker for its turn, for a Python process or for its next attempt" in said


def test_next_of_every_list_has_a_type_and_is_the_value_of_one_of_its_parameters() -> None:
    found = 0
    for methods in document()["paths"].values():
        for entry in methods.values():
            [answer, *_] = [one.get("content", {}) for status, one in entry["responses"].items() if status[0] == "2"]
            schema = answer.get("application/json", {}).get("schema", {})
            if "items" in schema.get("properties", {}):
                following = schema["properties"]["next"]
                (name,) = re.findall(r"Value of `(\w+)`", following["description"])
                (parameter,) = [one for one in entry["parameters"] if one["name"] == name]
                assert following["type"][1] == "null" and following["type"][0] in json.dumps(parameter["schema"])
                found += 1
    assert found >= 5


def _texts(shape: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The schemas of texts below this one, with their places."""
    if isinstance(shape, dict):
        if shape.get("type") == "string":
            yield place, shape
        for name, inner in shape.items():
            yield from _texts(inner, f"{place}/{name}")
    if isinstance(shape, list):
        for inner in shape:
            yield from _texts(inner, place)


def test_every_text_of_a_request_is_one_that_can_be_stored() -> None:
    # a playbook, a query and a time are read, and refused with the place of what is wrong, before anything is stored;
    # the id of an event is stored as its digest if need be
    read_first = {
        "Register/properties/content",
        "QueryViews/properties/query",
        "SetVariables/properties/ttl/anyOf",
        "FireTrigger/$defs/GivenEvent/properties/id/anyOf",
    }
    models = {model for operation in OPERATIONS for model in (operation.body, operation.query) if model is not None}
    found = [found for model in models for found in _texts(model.model_json_schema(), model.__name__)]
    assert len(found) > 100
    for place, text in found:
        known = place.replace("RegisterBatch/$defs/", "")
        if known in read_first or {"enum", "const"} & text.keys() or text.get("format") == "date-time":
            continue
        assert re.search(text.get("pattern", ""), "a\0b") is None, place


def test_names_are_unique() -> None:
    names = [entry["operationId"] for path in document()["paths"].values() for entry in path.values()]
    assert len(names) == len(set(names))


def test_every_operation_documents_its_refusals() -> None:
    for path, methods in document()["paths"].items():
        for entry in methods.values():
            assert path.startswith("/api/") == ("401" in entry["responses"])
            assert entry["description"]


def test_required_query_parameters_are_marked() -> None:
    parameters = document()["paths"]["/api/aggregate/loop/results"]["get"]["parameters"]
    assert {(p["name"], p["in"], p["required"]) for p in parameters} == {
        ("execution_id", "query", True),
        ("step_name", "query", True),
        ("after", "query", False),
    }


def test_only_the_probes_the_document_itself_and_the_schema_need_no_token() -> None:
    paths = document()["paths"]
    open_paths = {path for path, methods in paths.items() for entry in methods.values() if entry.get("security") == []}
    assert open_paths == {"/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/schema/playbook.json"}

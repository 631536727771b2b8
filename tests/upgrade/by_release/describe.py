"""Run by a release's own Python: what its code says of the forms that it writes, as JSON."""

import dataclasses
import hashlib
import inspect
import json
from typing import Any

from pydantic import BaseModel

from noetl_serverless import protocol
from noetl_serverless.archive import messages
from noetl_serverless.engine import state, upcast
from noetl_serverless.store.migrate import migrations

# what a reader of a schema is told, and no machine minds
TOLD = {"title", "description", "examples"}


def models(module: Any) -> dict[str, Any]:
    found = inspect.getmembers(module, lambda one: inspect.isclass(one) and issubclass(one, BaseModel))
    return {name: _bare(model.model_json_schema()) for name, model in found if model.__module__ == module.__name__}


def records(module: Any) -> dict[str, dict[str, str]]:
    """Its dataclasses: field -> type."""
    found = inspect.getmembers(module, lambda one: inspect.isclass(one) and dataclasses.is_dataclass(one))
    return {name: {field.name: str(field.type) for field in dataclasses.fields(record)} for name, record in found}


def _bare(schema: Any, named: bool = False) -> Any:
    """`named`: its keys are names of fields, and may be anything."""
    if isinstance(schema, dict):
        return {
            key: _bare(value, key in ("properties", "$defs"))
            for key, value in schema.items()
            if named or key not in TOLD
        }
    return [_bare(item) for item in schema] if isinstance(schema, list) else schema


print(
    json.dumps(
        {
            "versions": {
                "forms": getattr(upcast, "FORMS", 1),
                "events": upcast.VERSION,
                "states": getattr(upcast, "STATE_VERSION", 1),
            },
            "migrations": {name: hashlib.sha256(sql.encode()).hexdigest() for name, sql in migrations()},
            "state": records(state),
            "wire": {**models(protocol), **models(messages)},
        }
    )
)

"""JSON Schema, draft 2020-12, as playbooks use it: with bounds, and with the same result on every machine.

`validate_schema` says what is wrong with a schema, `check` what of a value does not fit one. Both are pure. A schema is
not loaded from anywhere: `$ref` names a place in the same schema.

The well-known libraries are not used for it, because the engine decides with it: they have no bound for the work of a
check, match patterns with a time that may grow exponentially, list errors in an order that differs between processes,
and put values, which may be secrets, into their messages. Tests compare the results with those of `jsonschema`.
"""

from .check import Checked, check, checked
from .fault import SchemaFault
from .rules import validate_schema

__all__ = ["Checked", "SchemaFault", "check", "checked", "validate_schema"]

"""JSON Schema, draft 2020-12, as playbooks use it: with bounds, and with the same result on every machine.

`validate_schema` says what is wrong with a schema, `check` what of a value does not fit one. Both are pure. A schema is
not loaded from anywhere: `$ref` names a place in the same schema.

The engine decides with it, so that time and memory are bounded, and the result is the same wherever it is made again.
The well-known libraries do not give that. `jsonschema` has no bound of work, and counting around its keywords misses
much: it makes a message of the whole value for what does not fit, in branches too and for a schema `false` that no
keyword sees, and of the schemas for `not` and `oneOf`; a `$ref` to a root with `$schema` gets its own validator
again; `unevaluated...` go past the keywords and match patterns in exponential time; the order of errors is that of a
set. Without all that, its comparisons remain, of a line each. `jsonschema_rs` matches in linear time, but has no
bound, and cannot be stopped. Tests compare the results with those of `jsonschema`.
"""

from .check import Checked, check, checked
from .fault import SchemaFault
from .rules import validate_schema

__all__ = ["Checked", "SchemaFault", "check", "checked", "validate_schema"]

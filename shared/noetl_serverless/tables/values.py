"""Values out of databases and tables as JSON can carry them."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import math
from typing import Any


def plain_decimal(value: decimal.Decimal) -> int | float | str | None:
    """An int or a float if it has exactly the same digits, else text; NaN and the infinities are null."""
    if not value.is_finite():
        return None
    if value.as_tuple().exponent >= 0:  # type: ignore[operator]
        return plain_int(int(value)) if value.adjusted() < 20 else str(value)
    number = float(value)
    return number if decimal.Decimal(repr(number)) == value else str(value)


def key_text(key: Any) -> str:
    """A key of a map as one of an object: as JSON writes it, as in `playbook.values`."""
    return json.dumps(key) if key is None or isinstance(key, bool) else str(key)


def plain_int(value: int) -> int | str:
    return value if -(2**63) <= value < 2**64 else str(value)


def plain_value(value: Any) -> Any:
    """A value out of a database as JSON can carry it, containers included."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        return plain_int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, decimal.Decimal):
        return plain_decimal(value)
    if isinstance(value, (list, tuple, set)):
        return [plain_value(item) for item in value]
    if isinstance(value, dict):
        return {key_text(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    return str(value)

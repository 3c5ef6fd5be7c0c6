"""Records as JSON that holds no raw control byte, whatever the text inside. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import PurePath

from safetune.core.digest import JSON


def jsonable(value: object) -> JSON:
    """Return a record, and everything in it, as plain JSON values; a number that is not finite becomes null.

    Raises:
        TypeError: for a value of another kind.
    """
    if isinstance(value, Enum):
        return jsonable(value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: jsonable(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, Set):
        return [jsonable(item) for item in sorted(value, key=str)]
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"not a value for JSON: {type(value).__name__}")


def record(value: object) -> Mapping[str, JSON]:
    """Return a record as a JSON object.

    Raises:
        TypeError: when it is not a record.
    """
    found = jsonable(value)
    if not isinstance(found, Mapping):
        raise TypeError(f"not a record: {type(value).__name__}")
    return found


def json_text(value: object) -> str:
    """Return `value` as indented JSON in printable ASCII: every control character inside of a string is escaped."""
    return json.dumps(jsonable(value), indent=2, ensure_ascii=True, allow_nan=False)

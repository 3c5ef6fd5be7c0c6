"""The JSON Schema of playbooks: one file for editors and for the loader."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

Schema = Mapping[str, Any]

SUITE_FORMAT = "safetune-suite/1"
PLAYBOOK_FORMAT = "safetune/1"


@cache
def schema() -> Schema:
    """Return the schema of a playbook (JSON Schema, draft 2020-12); do not change it."""
    loaded: Schema = json.loads(Path(__file__).with_name("schema.json").read_text(encoding="utf-8"))
    return loaded


@cache
def part_schema() -> Schema:
    """Return the schema of a file that another one extends: nothing but its format is demanded of it."""
    return {key: value for key, value in schema().items() if key not in ("if", "else")}


@cache
def suite_schema() -> Schema:
    """Return the schema of a suite definition in a file of its own."""
    suite = schema()["$defs"]["suite"]
    return {**suite, "type": "object", "required": ["schema", *suite["required"]], "$defs": schema()["$defs"]}


def whole_keys() -> tuple[str, ...]:
    """Return the keys that a playbook has, by itself or through what it extends."""
    return tuple(schema()["else"]["required"])

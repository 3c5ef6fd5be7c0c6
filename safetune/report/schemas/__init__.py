"""The JSON Schemas (draft 2020-12) of what commands print with --json. No field is printed that they do not name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from safetune.core.digest import JSON

_PARTS = {"gate": (), "evaluate": ("gate", "error"), "run": ("gate", "error")}
NAMES = tuple(_PARTS)


@cache
def output_schema(name: str) -> Mapping[str, JSON]:
    """Return the schema of one of `NAMES`; the schemas it refers to are inside (a bundle: JSON Schema Core, 9.3).

    Raises:
        KeyError: for another name.
    """
    parts = _PARTS[name]
    found = _read(name)
    inside = found.get("$defs")
    bundle = {part: _read(part) for part in parts}
    return {**found, "$defs": {**(inside if isinstance(inside, Mapping) else {}), **bundle}}


def _read(name: str) -> Mapping[str, JSON]:
    loaded: Mapping[str, JSON] = json.loads(Path(__file__).with_name(f"{name}.json").read_text(encoding="utf-8"))
    return loaded

"""Read the rows of a source, pinned by digest: lines {"id": ..., "row": {...}}. Standard library only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetune.core.digest import short
from safetune.core.errors import IntegrityError, UsageError

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NumberedRow:
    """One row: its number among all rows of the mixture, from 0, its id, and its content as it trains a model."""

    number: int
    id: str
    content: Row


def read_rows(source: Mapping[str, Any], problem: Callable[[Row], str]) -> tuple[NumberedRow, ...]:
    """Read the rows of a source; the bytes that are trained on are the bytes that were pinned.

    `first` of the source is the number of its first row (0 without one). `problem` says what is wrong with a row, or
    nothing.

    Raises:
        IntegrityError: when the digest is another one.
        UsageError: with file and line for a row that cannot be used, or when there is none at all.
    """
    path, first = Path(source["rows"]), int(source.get("first", 0))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"source {source['name']}: {path.name} cannot be read: {error.strerror}", hint="check its `uri`"
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != source["sha256"]:
        raise IntegrityError(
            f"source {source['name']} has sha256 {short(found)}, the playbook pins {short(source['sha256'])}",
            hint="restore the file, or review the new rows and pin their digest",
        )
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    rows = tuple(
        _row(f"source {source['name']}: {path.name}:{n + 1}", first + n, line, problem) for n, line in enumerate(lines)
    )
    if not rows:
        raise UsageError(f"source {source['name']}: {path.name} has no rows")
    return rows


def _row(place: str, number: int, line: bytes, problem: Callable[[Row], str]) -> NumberedRow:
    try:
        found = json.loads(line)
        row_id, content = found["id"], found["row"]
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place}: not a JSON row: {error}") from error
    except (KeyError, TypeError) as error:
        raise UsageError(f"{place}: a line must be an object with `id` and `row`") from error
    if not isinstance(row_id, str) or not row_id:
        raise UsageError(f"{place}: a row needs an id")
    wrong = problem(content) if isinstance(content, dict) else "a row must be an object"
    if wrong:
        raise UsageError(f"{place}: {wrong}")
    return NumberedRow(number, row_id, dict(content))

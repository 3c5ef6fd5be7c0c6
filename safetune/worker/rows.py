"""Read rows of a source, pinned by digest. Standard library only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetune.core.digest import short
from safetune.core.errors import IntegrityError, UsageError

Row = Mapping[str, Any]


def read_rows(source: Mapping[str, Any], problem: Callable[[Row], str]) -> tuple[Row, ...]:
    """Read a JSONL source; the bytes that are trained on are the bytes that were pinned.

    `problem` says what is wrong with a row, or nothing.

    Raises:
        IntegrityError: when the digest is another one.
        UsageError: with file and line for a row that cannot be used, or when there is none at all.
    """
    path = Path(source["path"])
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
    rows = tuple(_row(path.name, number, line, problem) for number, line in _lines(data))
    if not rows:
        raise UsageError(f"source {source['name']}: {path.name} has no rows")
    return rows


def _lines(data: bytes) -> list[tuple[int, bytes]]:
    return [(number, line) for number, line in enumerate(data.split(b"\n"), 1) if line.strip()]


def _row(name: str, number: int, line: bytes, problem: Callable[[Row], str]) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UsageError(f"{name}:{number}: not a JSON row: {error}") from error
    wrong = problem(row) if isinstance(row, dict) else "a row must be an object"
    if wrong:
        raise UsageError(f"{name}:{number}: {wrong}")
    return dict(row)

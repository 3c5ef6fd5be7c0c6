"""Read rows of a source, pinned by digest. Standard library only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetune.core.digest import short
from safetune.core.errors import IntegrityError, UsageError

Row = Mapping[str, Any]


def read_rows(source: Mapping[str, Any]) -> tuple[Row, ...]:
    """Read a JSONL source; the bytes that are trained on are the bytes that were pinned.

    Raises:
        IntegrityError: when the digest is another one.
        UsageError: with file and line for a row that is not a JSON object, or when there is none.
    """
    path = Path(source["path"])
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"source {source['name']}: {path.name} cannot be read: {error.strerror}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != source["sha256"]:
        raise IntegrityError(f"source {source['name']} changed: sha256 {short(found)}, pinned {short(source['sha256'])}")
    rows = tuple(_row(path, n, line) for n, line in enumerate(data.split(b"\n"), 1) if line.strip())
    if not rows:
        raise UsageError(f"source {source['name']} has no rows")
    return rows


def _row(path: Path, number: int, line: bytes) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UsageError(f"{path.name}:{number}: not a JSON row: {error}") from error
    if not isinstance(row, dict):
        raise UsageError(f"{path.name}:{number}: a row must be an object")
    return row

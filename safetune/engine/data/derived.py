"""The derived mixture of another playbook as a source: rows of its data objects, and what its sources declared.

A mixture is an object of a store; its data objects lie beside it. What is read is what was learnt as training data:
each row once, with the id that it has; shares, and the sources of techniques, are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetune.core.errors import IntegrityError, UsageError
from safetune.core.row_id import LENGTH
from safetune.core.rows import problem
from safetune.engine.data.columns import SHAPES
from safetune.engine.data.lines import DataFile
from safetune.engine.data.records import BadRow, Row, Strange, brief, strict_json
from safetune.state.objects import MANIFEST, ObjectStore, is_digest

MIXTURE_FILE, ROWS_FILE, FORMAT = "mixture.json", "rows.jsonl", "safetune-mixture/1"
_ID = re.compile(rf"[0-9a-f]{{{LENGTH}}}")
_MAX_BYTES = 16 * 1024 * 1024
_WRAPPER = 256  # what `{"id": ..., "row": ...}` adds to a row


@dataclass(frozen=True, slots=True)
class Part:
    """One trained source of a mixture: its name, its data object, and what it declared."""

    name: str
    data: str
    declared: Mapping[str, Any]


def mixture_parts(folder: Path, sha256: str, whose: str) -> tuple[Part, ...]:
    """Return the trained sources of the mixture in `folder`, in its order.

    Raises:
        UsageError: when the folder is no mixture of a store.
        IntegrityError: when it is not what its name says, or not the pinned one.
    """
    store, name = _store(folder, whose)
    if sha256 and name != sha256:
        raise IntegrityError(
            f"{whose}: the mixture is {name[:12]}, the playbook pins {sha256[:12]}",
            hint="pin the mixture that is meant",
        )
    files = store.manifest(name)
    if MIXTURE_FILE not in files:
        raise UsageError(f"{whose}: the object {name[:12]} is no mixture")
    with DataFile(folder / MIXTURE_FILE, MIXTURE_FILE, whose) as file:
        data = b"".join(file.blocks()) if file.size <= _MAX_BYTES else b""
        if file.finish() != files[MIXTURE_FILE][1]:
            raise IntegrityError(f"{whose}: {MIXTURE_FILE} of {name[:12]} was changed", hint="safetune verify")
    try:
        found = strict_json(data)
        if found["format"] != FORMAT:
            raise UsageError(f"{whose}: {MIXTURE_FILE} has the format {str(found['format'])[:60]!r}, known is {FORMAT}")
        parts = [
            Part(str(item["name"]), str(item["data"]), dict(item["source"]))
            for item in found["sources"]
            if item["role"] == "train"
        ]
    except (Strange, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{whose}: {MIXTURE_FILE} of {name[:12]} cannot be read") from error
    if not parts:
        raise UsageError(f"{whose}: the mixture {name[:12]} has no trained source")
    return tuple(parts)


def _store(folder: Path, whose: str) -> tuple[ObjectStore, str]:
    name = folder.name
    if not is_digest(name) or not (folder / MANIFEST).is_file():
        raise UsageError(
            f"{whose}: {folder.name} is no mixture of a store",
            hint="name its folder, STORE/objects/DIGEST; `safetune show` says the digest of a stage's mixture",
        )
    return ObjectStore(folder.parent, folder.parent), name


def mixture_rows(folder: Path, parts: tuple[Part, ...], limits: tuple[int, int], whose: str) -> Iterator[Row | BadRow]:
    """Yield the rows of the parts, one after the other; `limits` are the longest row and the line to begin after.

    Raises:
        IntegrityError: at the end of a part whose rows are not those that its object names.
    """
    (longest, start), before = limits, 0
    store = ObjectStore(folder.parent, folder.parent)
    for part in parts:
        name = f"{part.data[:12]}/{ROWS_FILE}"
        expected = _expected(store, part, whose)
        number = 0
        with DataFile(store.path(part.data) / ROWS_FILE, name, whose) as file:
            for number, line in file.lines(longest + _WRAPPER):
                if before + number > start:
                    yield _row(name, number, line, before)
            if file.finish() != expected:
                raise IntegrityError(f"{whose}: {name} was changed", hint="safetune verify")
        before += number


def _expected(store: ObjectStore, part: Part, whose: str) -> str:
    """Return the digest of the rows of a data object."""
    try:
        return store.manifest(part.data)[ROWS_FILE][1]
    except KeyError as error:
        raise IntegrityError(f"{whose}: the data of {part.name} has no rows") from error
    except IntegrityError as error:
        raise IntegrityError(
            f"{whose}: the data of {part.name}: {error.message}", hint="the mixture and its data lie in one store"
        ) from error


def _row(name: str, number: int, line: bytes | None, before: int) -> Row | BadRow:
    try:
        if line is None:
            raise Strange("a row that is too long")
        found = strict_json(line)
        if (
            not isinstance(found, dict)
            or not isinstance(found.get("id"), str)
            or not isinstance(found.get("row"), dict)
        ):
            raise Strange("no row of a data object")
        if not _ID.fullmatch(found["id"]):
            raise Strange(f"the id of the row is not {LENGTH} hex digits")
        if why := problem(found["row"], *SHAPES):
            raise Strange(why)
        return Row(number, found["row"], name, before + number, found["id"])
    except Strange as error:
        return BadRow(number, brief(str(error)), name, before + number)

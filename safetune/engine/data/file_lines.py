"""The id of a row that a person names by file and line: the line is read as the source that it was admitted in was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from safetune.core.errors import UsageError, reason_of
from safetune.core.events import Event
from safetune.core.row_id import row_id
from safetune.core.source import Source
from safetune.engine.data.reading import BadRow, Row, read
from safetune.engine.data.texts import learnt
from safetune.state.files import sha256_file

Columns = Mapping[str, str]


def ids_of_line(path: Path, number: int, events: Iterable[Event]) -> tuple[str, ...]:
    """Return the id of the row in line `number` (from 1) of a JSONL file.

    The columns are those of the admitted sources that pin this very file; there are several ids where these make
    several rows of one line. A file that no source pins is read without columns.

    Raises:
        UsageError: when the file cannot be read, has no such line, or the line makes no row.
        IntegrityError: when the file changes while it is read.
    """
    try:
        sha256, longest = sha256_file(path), path.stat().st_size
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {reason_of(error)}") from error
    found = [_row(path, number, sha256, longest, columns) for columns in _columns(events, sha256) or [{}]]
    rows = [one for one in found if isinstance(one, Row)]
    if not rows:
        bad = next((one for one in found if isinstance(one, BadRow)), None)
        raise UsageError(f"{path.name}:{number}: {bad.why if bad else 'no such line, or an empty one'}")
    return tuple(dict.fromkeys(row_id(learnt(row.content)) for row in rows))


def _row(path: Path, number: int, sha256: str, longest: int, columns: Columns) -> Row | BadRow | None:
    """Return what is in a line; the whole file is read, so that its digest is that of what was read."""
    source = Source(path.name, str(path), sha256, "", "", "", (), columns=columns)
    found = None
    for row in read(source, longest, number - 1):
        found = row if row.line == number else found
    return found


def _columns(events: Iterable[Event], sha256: str) -> list[Columns]:
    """Return how admitted sources read the file with this digest, each way once."""
    found: list[Columns] = []
    for event in events:
        sources = event.data.get("sources") if event.kind == "admitted" else None
        for source in sources if isinstance(sources, list | tuple) else ():
            if not isinstance(source, Mapping) or source.get("sha256") != sha256:
                continue
            told = source.get("columns", {})
            columns = {str(k): str(v) for k, v in told.items()} if isinstance(told, Mapping) else {}
            if columns not in found:
                found.append(columns)
    return found

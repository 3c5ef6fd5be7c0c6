"""Rows of a prompt file: JSONL, JSON or CSV, as a mapping for each row, with the row's number in the file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from safetune.core.diagnostics import did_you_mean
from safetune.core.digest import JSON, canonical
from safetune.core.errors import UsageError, reason_of
from safetune.core.suite import Suite
from safetune.state.lines import json_line
from safetune.state.public import locate_public, pinned_lines, read_pinned

_SUFFIXES = ("_not_prefix", "_prefix", "_not")


class Row(NamedTuple):
    """One row: the suite that it is for, its number in the file, and its cells by column."""

    suite: str
    number: int
    cells: Mapping[str, object]

    def value(self, name: str, where: str) -> object:
        """Return the cell of a column that the suite names; `a.b` is the member `b` of a column `a`.

        Raises:
            UsageError: when the row has no such column: a misspelt name must not switch off what it was written for.
        """
        if name in self.cells:
            return self.cells[name]
        head, _, member = name.partition(".")
        inner = self.cells.get(head)
        if member and isinstance(inner, Mapping) and member in inner:
            return inner[member]
        known = sorted(str(column) for column in self.cells)
        near = did_you_mean(name, known)
        raise UsageError(
            f'suite {self.suite}: row {self.number} has no column "{name}", which `{where}` names'
            f"{f'; {near}' if near else ''}",
            hint=f"the columns of the row: {', '.join(known) or 'none'}",
        )

    def text(self, name: str, where: str) -> str:
        """Return the cell of a column that the suite names, as text."""
        return as_text(self.value(name, where))

    def refuse(self, what: str) -> UsageError:
        """Return the error that says what is wrong with this row."""
        return UsageError(f"suite {self.suite}: row {self.number} {what}")


def as_text(value: object) -> str:
    """Return a cell as text: nothing for a null, texts of a list joined by commas, other structures as JSON."""
    if value is None:
        return ""
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    if isinstance(value, list | tuple | dict):
        return canonical(value).decode("utf-8")
    return str(value)


def locate(suite: Suite) -> Path:
    """Return the file that holds a suite's prompts.

    Raises:
        UsageError: when it is not there, saying where it was looked for.
    """
    whose = f"suite {suite.name}"
    if suite.prompts.kind != "bundled":
        source = str(suite.prompts.options.get("source", "its public source"))
        return locate_public(suite.prompts.location, source, whose)
    path = Path(suite.prompts.location)
    if not path.is_file():
        raise UsageError(f"{whose}: {path} does not exist")
    return path


def read_rows(suite: Suite) -> Iterator[Row]:
    """Return the rows that the suite wants, those of JSONL one by one.

    Raises:
        UsageError: when the file is missing or cannot be read, or `where` names a column that a row has not.
        IntegrityError: when it is not the pinned file.
    """
    path = locate(suite)
    rows = (Row(suite.name, n, cells) for n, cells in enumerate(_parse(suite, path), start=1))
    where = suite.prompts.options.get("where")
    return (row for row in rows if _is_wanted(row, where)) if isinstance(where, Mapping) else rows


def _parse(suite: Suite, path: Path) -> Iterable[Mapping[str, object]]:
    """Return the rows of a JSONL, JSON or CSV file as mappings; a CSV without header has columns "0", "1", ..."""
    kind, whose = str(suite.prompts.options.get("format", "jsonl")), f"suite {suite.name}"
    if kind not in ("csv", "json"):
        lines = pinned_lines(path, suite.prompts.sha256, whose)
        return (_json_row(path, number, line) for number, line in enumerate(lines, 1) if line.strip())
    text = read_pinned(path, suite.prompts.sha256, whose)
    try:
        if kind == "csv":
            records = list(csv.reader(io.StringIO(text), strict=True))
            header = records.pop(0) if suite.prompts.options.get("header", True) else []
            if twice := next((name for name in header if name and header.count(name) > 1), ""):
                raise ValueError(f'two columns are called "{twice}"')
            names = header or [str(n) for n in range(max(map(len, records), default=0))]
            return [dict(zip(names, record, strict=False)) for record in records]
        content = json.loads(text)
        path_in = suite.prompts.options.get("rows")
        content = content[path_in] if path_in else content
        return [row if isinstance(row, dict) else {"0": row} for row in content]
    except (csv.Error, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UsageError(f"suite {suite.name}: {path.name} cannot be read as {kind}: {reason_of(error)}") from error


def _json_row(path: Path, number: int, line: str) -> Mapping[str, object]:
    try:
        row = json_line(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path.name}:{number}: not JSON") from error
    if not isinstance(row, dict):
        raise UsageError(f"{path.name}:{number}: a row must be an object")
    return row


def _is_wanted(row: Row, where: Mapping[str, JSON]) -> bool:
    """Say whether a row is one that `where` asks for.

    A column equals the value, or one of the values; a key that ends in `_prefix`, `_not_prefix` or `_not` asks for
    something else.
    """
    met = [_matches(row, key, value) for key, value in where.items()]  # all, so that every name is checked
    return all(met)


def _matches(row: Row, key: str, value: JSON) -> bool:
    suffix = next((s for s in _SUFFIXES if key.endswith(s)), "")
    cell = row.text(key.removesuffix(suffix), "where")
    wanted = tuple(map(str, value)) if isinstance(value, list | tuple) else (str(value),)
    met = cell.startswith(wanted) if suffix.endswith("_prefix") else cell in wanted
    return not met if suffix.startswith("_not") else met

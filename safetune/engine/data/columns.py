"""Cells of a table, or members of a JSON row, made into a row of one of the shapes of `core.rows`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from safetune.core import rows
from safetune.core.diagnostics import did_you_mean
from safetune.engine.data.records import Strange, strict_json

SHAPES = (rows.PREFERENCE, rows.COMPLETION, rows.MESSAGES)
KNOWN = ("prompt", "completion", "system", "messages", "chosen", "rejected")
_ANSWERS = ("completion", "chosen", "rejected")


class Columns:
    """Which columns of a source make a row; `wanted` is empty when rows already have their shape."""

    def __init__(self, wanted: Mapping[str, str], *, table: bool) -> None:
        """Take the mapping of a source; a `table` has texts in its columns, which are always made into messages."""
        self.wanted, self._table = dict(wanted), table

    @property
    def problem(self) -> str:
        """What is wrong with the mapping itself, or an empty string."""
        strange = next((name for name in self.wanted if name not in KNOWN), None)
        if strange is not None:
            near = did_you_mean(strange, KNOWN)
            return f'`columns` has no part "{strange}"; {near or "known: " + ", ".join(KNOWN)}'
        if self.wanted and not any(all(c in self.wanted for c in shape) for shape in SHAPES):
            return "`columns` needs prompt + completion, prompt + chosen + rejected, or messages"
        return ""

    def of_table(self, header: Collection[str]) -> dict[str, str]:
        """Return what is read of a table with these columns: part of a row -> column.

        Raises:
            Strange: when a column is missing, or nothing says which columns are meant.
        """
        if self.wanted:
            for part, column in self.wanted.items():
                if column not in header:
                    near = did_you_mean(column, header)
                    known = near or f"it has {', '.join(sorted(header)) or 'none'}"
                    raise Strange(f'has no column "{column}", which `columns` names for `{part}`; {known}')
            return self.wanted
        shape = next((s for s in SHAPES if all(c in header for c in s)), None)
        if shape is None:
            raise Strange(
                "has none of the columns prompt + completion, prompt + chosen + rejected, or messages; say with "
                "`columns` which ones are meant"
            )
        return {name: name for name in (*shape, "system") if name in header}

    def row(self, cells: Mapping[str, Any], parts: Mapping[str, str] | None = None) -> Mapping[str, Any]:
        """Return the row that some cells make; `parts` is what `of_table` said.

        Raises:
            Strange: when a cell is missing or no text, or the row has no usable shape.
        """
        wanted = self.wanted if parts is None else parts
        made = _made(cells, wanted) if wanted else cells
        problem = rows.problem(made, *SHAPES)
        if problem:
            raise Strange(problem)
        return made


def _made(cells: Mapping[str, Any], wanted: Mapping[str, str]) -> Mapping[str, Any]:
    row: dict[str, Any] = {}
    for part, column in wanted.items():
        if part == "system":
            continue
        cell = _cell(cells, column)
        if isinstance(cell, list):
            row[part] = cell
        elif part == "messages":
            row[part] = _list(cell, column)
        else:
            row[part] = [{"role": "assistant" if part in _ANSWERS else "user", "content": cell}]
    system = cells.get(wanted["system"]) if "system" in wanted else None
    if system not in (None, ""):
        first = "messages" if "messages" in row else "prompt"
        row[first] = [{"role": "system", "content": _cell(cells, wanted["system"])}, *row[first]]
    return row


def _cell(cells: Mapping[str, Any], column: str) -> str | list[Any]:
    if column not in cells:
        raise Strange(f'has no column "{column}"')
    cell = cells[column]
    if type(cell) is int:
        return str(cell)
    if not isinstance(cell, str | list):
        raise Strange(f'the column "{column}" holds {"nothing" if cell is None else "no text"}')
    if not cell:
        raise Strange(f'the column "{column}" is empty')
    return cell


def _list(text: str | list[Any], column: str) -> list[Any]:
    """Return a list of messages that a table holds as JSON."""
    try:
        found = strict_json(str(text).encode())
    except (Strange, UnicodeEncodeError) as error:
        raise Strange(f'the column "{column}" holds no list of messages: {error}') from None
    if not isinstance(found, list):
        raise Strange(f'the column "{column}" holds no list of messages')
    return found

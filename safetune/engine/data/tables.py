"""Files of rows, each read from its beginning to its end: JSONL, CSV and Parquet."""

from __future__ import annotations

import csv
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, NamedTuple

from safetune.core.digest import canonical
from safetune.core.errors import UsageError
from safetune.core.source import CSV, JSONL, PARQUET
from safetune.engine.data.columns import Columns
from safetune.engine.data.lines import DataFile
from safetune.engine.data.records import BadRow, Row, Strange, brief, check_value, strict_json, utf8

SUFFIXES: Mapping[str, str] = {".jsonl": JSONL, ".csv": CSV, ".parquet": PARQUET}
_BATCH = 128  # rows of a Parquet file that are held at once
_BUFFER = 1024 * 1024
_BOM = "\ufeff"

Found = Generator[Row | BadRow, None, int]


class How(NamedTuple):
    """How a file is read: its columns, the longest row in bytes, after which line, and the lines of files before it."""

    columns: Mapping[str, str]
    longest: int
    start: int
    before: int

    def too_long(self) -> str:
        """Say that a row is too long."""
        return f"a row of more than {self.longest} bytes"


def read_jsonl(file: DataFile, how: How) -> Found:
    """Yield the rows of a JSONL file and return the number of its lines. Empty lines are passed over."""
    columns, name, number = Columns(how.columns, table=False), file.name, 0
    _check(file, columns)
    start, before, row = how.start, how.before, columns.row
    for number, line in file.lines(how.longest):
        if number <= start or (line is not None and not line.strip()):
            continue
        try:
            if line is None:
                raise Strange(how.too_long())
            found = strict_json(line)
            if type(found) is not dict:
                raise Strange("a row must be an object")
            yield Row(number, row(found), name, before + number)
        except Strange as error:
            yield BadRow(number, brief(str(error)), name, before + number)
    return number


def _check(file: DataFile, columns: Columns) -> None:
    if columns.problem:
        raise UsageError(f"{file.whose}: {columns.problem}")


class _Records:
    """The physical lines of a CSV file for the `csv` module, which asks for as many as a record has."""

    def __init__(self, file: DataFile, how: How) -> None:
        self._lines, self._how = file.lines(how.longest), how
        self.number, self._size, self.first = 0, 0, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def begin(self) -> None:
        """A new record begins with the next line."""
        self._size, self.first = 0, self.number + 1

    def __next__(self) -> str:
        self.number, line = next(self._lines)
        if line is None:
            raise Strange(self._how.too_long())
        self._size += len(line) + 1
        if self._size > self._how.longest + 1:
            raise Strange(f"{self._how.too_long()}; a quotation mark may not be closed")
        if b"\0" in line:
            raise Strange("holds a NUL byte")
        text = utf8(line)
        return f"{text.removeprefix(_BOM) if self.number == 1 else text}\n"


def read_csv(file: DataFile, how: How) -> Found:
    """Yield the rows of a CSV file with a header and return the number of its lines.

    A byte order mark before the header is passed over: spreadsheets write one. The line of a row is its first.

    Raises:
        UsageError: when the header cannot be used.
    """
    columns = Columns(how.columns, table=True)
    _check(file, columns)
    lines = _Records(file, how)
    csv.field_size_limit(max(csv.field_size_limit(), how.longest))
    reader = csv.reader(lines, strict=True)
    header: list[str] | None = None
    parts: Mapping[str, str] = {}
    while True:
        lines.begin()
        try:
            record = next(reader, None)
            if record is None:
                return lines.number
            if header is None:
                header = _header(record)
                parts = columns.of_table(header)
            elif record and lines.first > how.start:
                content = columns.row(_cells(header, record), parts)
                yield Row(lines.first, content, file.name, how.before + lines.first)
        except (Strange, csv.Error) as error:
            why = brief(str(error) if isinstance(error, Strange) else _csv_reason(error))
            if header is None or not parts:
                raise UsageError(f"{file.whose}: {file.name}:{max(lines.number, 1)}: the header {why}") from None
            if lines.first > how.start:
                yield BadRow(lines.first, why, file.name, how.before + lines.first)


def _header(record: list[str]) -> list[str]:
    if not any(record):
        raise Strange("is empty: the first line of a CSV file names its columns")
    if twice := next((name for name in record if record.count(name) > 1), None):
        raise Strange(f'names the column "{twice}" twice')
    return record


def _cells(header: list[str], record: list[str]) -> dict[str, str]:
    if len(record) != len(header):
        raise Strange(f"has {len(record)} fields, the header names {len(header)} columns")
    return dict(zip(header, record, strict=True))


def _csv_reason(error: csv.Error) -> str:
    said = str(error)
    if "unexpected end of data" in said:
        return "a quotation mark is not closed before the end of the file"
    return f"not CSV: {said.split(' - ')[0]}"


def read_parquet(file: DataFile, how: How) -> Found:
    """Yield the rows of a Parquet file and return their number. Only the columns that make a row are read.

    The file is hashed first and read from the same open file afterwards.

    Raises:
        UsageError: when it is no Parquet file, is damaged, or lacks a column.
    """
    columns = Columns(how.columns, table=True)
    _check(file, columns)
    file.hash_all()
    number = 0
    try:
        table = open_parquet(file)
        header = [str(name) for name in table.schema_arrow.names]
        try:
            parts = columns.of_table(header)
        except Strange as error:
            raise UsageError(f"{file.whose}: {file.name} {brief(str(error))}") from None
        for number, cells in _parquet_rows(table, sorted(set(parts.values())), how):
            yield _parquet_row(file, how, number, columns, (cells, parts))
        return int(table.metadata.num_rows)
    except arrow_errors() as error:
        after = f" after row {number}" if number else ""
        said = brief(str(error))
        raise UsageError(f"{file.whose}: {file.name} cannot be read as Parquet{after}: {said}") from error


def open_parquet(file: DataFile) -> Any:
    """Return an open file as pyarrow's ParquetFile."""
    from pyarrow import parquet  # type: ignore[import-untyped] # takes long, and few sources need it

    return parquet.ParquetFile(file.stream, buffer_size=_BUFFER, pre_buffer=False)


def arrow_errors() -> tuple[type[Exception], ...]:
    """Return what pyarrow raises for a file that it cannot read."""
    from pyarrow import ArrowException

    return (ArrowException, OSError, ValueError, LookupError, TypeError, MemoryError, NotImplementedError)


def _parquet_rows(table: Any, columns: list[str], how: How) -> Iterator[tuple[int, dict[str, Any] | Strange]]:
    """Yield (number from 1, cells) of the rows after the start; a cell that is no UTF-8 spoils its own row only."""
    number = 0
    for group in range(table.num_row_groups):
        rows = table.metadata.row_group(group).num_rows
        if number + rows <= how.start:
            number += rows
            continue
        for batch in table.iter_batches(batch_size=_BATCH, row_groups=[group], columns=columns, use_threads=False):
            whole: list[dict[str, Any]] | None = None
            if batch.nbytes <= how.longest:
                try:
                    whole = batch.to_pylist()
                except UnicodeDecodeError:
                    whole = None
            for at in range(batch.num_rows):
                number += 1
                if number > how.start:
                    yield number, whole[at] if whole is not None else _one_row(batch.slice(at, 1), how)


def _one_row(batch: Any, how: How) -> dict[str, Any] | Strange:
    if batch.nbytes > 2 * how.longest:
        return Strange(how.too_long())
    try:
        found: dict[str, Any] = batch.to_pylist()[0]
    except UnicodeDecodeError:
        return Strange("holds a text that is not UTF-8")
    return found


def _parquet_row(
    file: DataFile, how: How, number: int, columns: Columns, found: tuple[dict[str, Any] | Strange, Mapping[str, str]]
) -> Row | BadRow:
    cells, parts = found
    try:
        if isinstance(cells, Strange):
            raise cells
        check_value(cells)
        row = columns.row(cells, parts)
        if len(canonical(row)) > how.longest:
            raise Strange(how.too_long())
    except Strange as error:
        return BadRow(number, brief(str(error)), file.name, how.before + number)
    return Row(number, row, file.name, how.before + number)


READERS: Mapping[str, Callable[[DataFile, How], Found]] = {JSONL: read_jsonl, CSV: read_csv, PARQUET: read_parquet}

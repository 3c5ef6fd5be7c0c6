"""Rows of a job as the worker reads them: pinned, numbered, and refused with file and line when they cannot be used."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safetune.core.errors import IntegrityError, UsageError
from safetune.worker.rows import NumberedRow, read_rows


def fine(_: object) -> str:
    return ""


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A function: a source of these bytes, as a job names it."""

    def write(data: bytes, **changes: Any) -> dict[str, Any]:
        path = tmp_path / "rows.jsonl"
        path.write_bytes(data)
        return {"name": "mine", "rows": str(path), "sha256": hashlib.sha256(data).hexdigest(), **changes}

    return write


def test_rows_are_numbered_from_the_first_of_their_source(source: Any) -> None:
    data = b'{"id":"a","row":{"x":1}}\n{"id":"b","row":{"x":2}}\n'
    expected = (NumberedRow(7, "a", {"x": 1}), NumberedRow(8, "b", {"x": 2}))
    assert read_rows(source(data, first=7), fine) == expected
    assert [row.number for row in read_rows(source(data), fine)] == [0, 1]
    assert read_rows(source(data.rstrip(b"\n"), first=7), fine) == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"not json", "not a JSON row"),
        (b"\xff\xfe", "not a JSON row"),
        (b"[" * 100_000, "not a JSON row"),
        (b"", "not a JSON row"),
        (b"[]", "a line must be an object with `id` and `row`"),
        (b'{"prompt":[]}', "a line must be an object with `id` and `row`"),
        (b'{"id":5,"row":{}}', "a row needs an id"),
        (b'{"id":"","row":{}}', "a row needs an id"),
        (b'{"id":"a","row":[]}', "a row must be an object"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(source: Any, line: bytes, message: str) -> None:
    data = b'{"id":"a","row":{}}\n' + line + b'\n{"id":"b","row":{}}\n'
    with pytest.raises(UsageError, match=r"^source mine: rows\.jsonl:2: ") as caught:
        read_rows(source(data), fine)
    assert message in caught.value.message


def test_what_is_wrong_with_a_row_is_said_with_its_place(source: Any) -> None:
    with pytest.raises(UsageError, match=r"^source mine: rows\.jsonl:1: too odd$"):
        read_rows(source(b'{"id":"a","row":{}}\n'), lambda row: "too odd")


def test_other_bytes_no_rows_and_no_file_are_refused(source: Any, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="source mine has sha256"):
        read_rows(source(b'{"id":"a","row":{}}\n', sha256="0" * 64), fine)
    with pytest.raises(UsageError, match=r"source mine: rows\.jsonl has no rows"):
        read_rows(source(b""), fine)
    given = source(b"x")
    (tmp_path / "rows.jsonl").unlink()
    with pytest.raises(UsageError, match=r"source mine: rows\.jsonl cannot be read"):
        read_rows(given, fine)

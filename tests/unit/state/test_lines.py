"""Lines that stay in their file: what was noted is what is read, in any order, and a changed file is noticed."""

from __future__ import annotations

import gc
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.core.errors import IntegrityError, MachineError, UsageError
from safetune.state import lines as lines_module
from safetune.state.lines import LineFile, Lines

ROWS = st.lists(st.binary(max_size=30).filter(lambda row: b"\n" not in row), max_size=20)
LONG = b"x" * 200_000  # longer than what is read at once


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def temporary(rows: list[bytes]) -> Lines[bytes]:
    lines = Lines(LineFile.temporary(), bytes)
    for row in rows:
        lines.append(row)
    return lines


@given(ROWS)
def test_lines_read_back_as_they_were_written(rows: list[bytes]) -> None:
    lines = temporary(rows)
    assert list(lines) == rows
    assert list(lines) == rows
    assert [lines[n] for n in range(len(lines))] == rows
    assert lines[1:-1] == tuple(rows[1:-1])
    assert lines == tuple(rows)
    assert lines != (*rows, b"more")


def test_lines_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    rows = [b"first", LONG, b"", LONG + b"y", b"last"]
    assert list(temporary(rows)) == rows
    path = tmp_path / "file"
    path.write_bytes(b"\n".join(rows))
    assert list(LineFile.stored(path).lines()) == [*(row + b"\n" for row in rows[:-1]), b"last"]


def test_one_long_line_is_read_in_time_that_grows_with_its_length(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 48_000_000 + b"\nlast")
    began = time.process_time()
    assert [len(line) for line in LineFile.stored(path).lines()] == [48_000_001, 4]
    assert time.process_time() - began < 3.0, "pieces must not be copied again with every one that comes"


@pytest.mark.parametrize("end", [b"", b"\n", b"\nlast\n"])
def test_a_line_without_end_is_one_clear_message_and_not_all_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: bytes
) -> None:
    monkeypatch.setattr(lines_module, "LINE_BYTES", len(LONG) - 1)
    path = tmp_path / "file"
    path.write_bytes(b"first\n" + LONG[1:] + b"\n" + LONG + end)
    for file, error in ((LineFile.stored(path), IntegrityError), (LineFile(path.open("rb")), UsageError)):
        read = file.lines()
        assert (next(read), next(read)) == (b"first\n", LONG[1:] + b"\n")
        with pytest.raises(error, match="a line of file is longer than"):
            next(read)


def test_lines_may_be_added_between_two_readings() -> None:
    lines = temporary([b"a"])
    assert list(lines) == [b"a"]
    lines.append(b"b")
    assert (list(lines), lines[1], lines[-1]) == ([b"a", b"b"], b"b", b"b")


def test_lines_are_decoded_when_they_are_read() -> None:
    lines = Lines(LineFile.temporary(), int)
    for text in (b"3", b"4"):
        lines.append(text)
    assert list(lines) == [3, 4]
    assert lines == (3, 4)
    assert lines != (3, 5)
    assert lines != "34"
    with pytest.raises(IndexError):
        lines[2]


def test_only_noted_lines_are_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo\nthree\n")
    lines = Lines(LineFile.stored(path), bytes)
    lines.note(8, b"three")
    lines.note(0, b"one")
    assert list(lines) == [b"three", b"one"]


def test_a_file_that_was_changed_meanwhile_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo\n")
    lines = Lines(LineFile.stored(path), bytes)
    lines.note(0, b"one")
    lines.note(4, b"two")
    path.write_bytes(b"one\ntwi\n")
    assert lines[0] == b"one"
    with pytest.raises(IntegrityError, match="was changed while it was read"):
        lines[1]
    with pytest.raises(IntegrityError, match="was changed while it was read"):
        list(lines)


def test_a_link_is_no_stored_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"one\n")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(IntegrityError, match="symbolic link"):
        LineFile.stored(tmp_path / "link")


def test_a_temporary_file_has_no_name_and_is_closed_with_its_last_holder(tmp_path: Path) -> None:
    before = open_files()
    file = LineFile.temporary(tmp_path / "new")
    file.append(b"row")
    assert list(file.lines()) == [b"row\n"]
    assert list((tmp_path / "new").iterdir()) == []
    assert open_files() == before + 1
    del file
    gc.collect()
    assert open_files() == before


def test_a_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MachineError, match="temporary file"):
        LineFile.temporary(tmp_path / "file" / "below")

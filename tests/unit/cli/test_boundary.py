"""The error boundary: every exception ends in one message and one documented exit code."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from pathlib import Path

import pytest
import typer

from safetune.cli import boundary
from safetune.cli.console import is_capable, show
from safetune.core.diagnostics import Diagnostic
from safetune.core.errors import (
    EXIT_CODE_MEANINGS,
    ExitCode,
    IntegrityError,
    InterruptedRun,
    MachineError,
    PlaybookError,
    RunError,
    StalePlanError,
    UsageError,
)

_DIAGNOSTIC = Diagnostic("p.yaml", 3, 1, "SP101", "wrong")
_KNOWN = [
    (UsageError("m", hint="h"), 2),
    (PlaybookError((_DIAGNOSTIC,)), 2),
    (typer.BadParameter("m"), 2),
    (IntegrityError("m"), 5),
    (StalePlanError("m", changes=("a: b -> c",)), 5),
    (RunError("m"), 6),
    (MachineError("m"), 6),
    (MemoryError(), 6),
    (OSError(errno.ENOSPC, "No space left on device"), 6),
    (PermissionError(errno.EACCES, "Permission denied", "x"), 6),
    (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), 6),
    (NotADirectoryError(errno.ENOTDIR, "Not a directory", "x"), 6),
    (IsADirectoryError(errno.EISDIR, "Is a directory", b"x"), 6),
    (FileExistsError(errno.EEXIST, "File exists", "x"), 6),
    (UnicodeEncodeError("utf-8", "rows-\udcff.jsonl", 5, 6, "surrogates not allowed"), 2),
    (InterruptedRun("m"), 130),
    (KeyboardInterrupt(), 130),
    (typer.Abort(), 130),
]


@pytest.mark.parametrize(("error", "code"), _KNOWN, ids=lambda value: type(value).__name__)
def test_a_known_error_is_told_on_stderr_and_ends_with_its_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert boundary.report(error, ["plan"]) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.strip()
    assert "Traceback" not in told.err
    assert code in EXIT_CODE_MEANINGS
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("error", "code"), _KNOWN, ids=lambda value: type(value).__name__)
def test_with_json_a_known_error_is_one_object_on_stdout(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert boundary.report(error, ["plan", "--json"]) == code
    told = capsys.readouterr()
    document = json.loads(told.out)
    assert told.err == ""
    assert document["exit_code"] == code
    assert document["error"]["message"]


def test_a_bug_writes_a_crash_file_and_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZeroDivisionError) as caught:
        raise ZeroDivisionError("1\x1b[2J/0")
    assert boundary.report(caught.value, ["run", "x\x07.yaml"]) == ExitCode.BUG
    (crash,) = tmp_path.glob("safetune-crash-*.txt")
    text = crash.read_text()
    assert "ZeroDivisionError" in text
    assert "test_boundary.py" in text
    assert not set(text) & {"\x1b", "\x07"}
    told = capsys.readouterr().err
    assert crash.name in told
    assert "Traceback" not in told
    assert len(told.splitlines()) == 2


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file"),
        NotADirectoryError(errno.ENOTDIR, "Not a directory"),
        UnicodeEncodeError("ascii", "größe", 2, 4, "ordinal not in range"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_that_names_no_file_and_that_nobody_expected_is_a_bug(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert boundary.report(error, []) == 1
    assert len(list(tmp_path.glob("safetune-crash-*.txt"))) == 1


def test_a_file_that_is_missing_or_in_the_way_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    for error in (FileNotFoundError(errno.ENOENT, "No such file or directory", "a/b"), OSError(errno.EIO, "x", b"a/b")):
        assert boundary.report(error, []) == 6
        assert "cannot use a/b: " in capsys.readouterr().err


def test_a_working_folder_that_was_deleted_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(FileNotFoundError) as caught:
        Path("playbook.yaml").absolute()
    assert boundary.report(caught.value, ["plan"]) == 6
    assert "the working folder does not exist any more" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)


def test_where_the_working_folder_takes_no_file_the_crash_file_goes_to_the_temporary_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, spare = tmp_path / "gone", tmp_path / "spare"
    gone.mkdir()
    spare.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr("tempfile.tempdir", str(spare))
    assert boundary.report(ValueError("x"), []) == 1
    assert len(list(spare.glob("safetune-crash-*.txt"))) == 1
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    assert boundary.report(ValueError("only this"), []) == 1
    assert "no crash file could be written" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)


class Pipe(io.StringIO):
    """A stream whose other end refuses with `number`."""

    def __init__(self, number: int, descriptor: int) -> None:
        super().__init__()
        self._number, self._descriptor = number, descriptor

    def write(self, text: str) -> int:
        raise OSError(self._number, os.strerror(self._number))

    def fileno(self) -> int:
        return self._descriptor


def test_a_reader_that_went_away_is_quiet_and_keeps_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spare = os.open(tmp_path / "spare", os.O_WRONLY | os.O_CREAT)
    monkeypatch.setattr(sys, "stdout", Pipe(errno.EPIPE, spare))
    assert show(False, lambda paint: ["GATE FAIL"], lambda: {}, ExitCode.FAIL) == 3
    os.close(spare)


def test_a_full_disk_behind_stdout_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spare = os.open(tmp_path / "spare", os.O_WRONLY | os.O_CREAT)
    monkeypatch.setattr(sys, "stdout", Pipe(errno.ENOSPC, spare))
    with pytest.raises(MachineError, match="cannot write the result"):
        show(False, lambda paint: ["x"], lambda: {})
    os.close(spare)


def test_with_nowhere_to_write_to_the_exit_code_still_says_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spare = os.open(tmp_path / "spare", os.O_WRONLY | os.O_CREAT)
    monkeypatch.setattr(sys, "stderr", Pipe(errno.ENOSPC, spare))
    assert boundary.report(IntegrityError("m"), []) == 5
    os.close(spare)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "term", "no_color", "capable"),
    [
        (Terminal(), "xterm", None, True),
        (Terminal(), "xterm", "", True),
        (Terminal(), "xterm", "1", False),
        (Terminal(), "dumb", None, False),
        (Terminal(), None, None, False),
        (io.StringIO(), "xterm", None, False),
    ],
)
def test_colours_and_cursor_movements_are_for_able_terminals_only(
    stream: io.StringIO, term: str | None, no_color: str | None, capable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("TERM", term), ("NO_COLOR", no_color)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert is_capable(stream) is capable


def test_json_is_one_object_with_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert show(True, lambda paint: ["never"], lambda: {"a": 1}, ExitCode.INCONCLUSIVE) == 4
    assert json.loads(capsys.readouterr().out) == {"a": 1, "exit_code": 4}

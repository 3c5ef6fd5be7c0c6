"""Whole files or none, and errors of the machine in words."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from storelab.calls import fail, short_write, watched

from safetune.core.errors import ExitCode, MachineError
from safetune.state.atomic import fsync_folder, machine_errors, write_all, write_atomic, write_new


def test_a_file_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data in (b"old", b"new and longer", b""):
        write_atomic(path, data)
        assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO])
def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path, number: int) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    for call in range(4):  # open, write, fsync, rename
        with watched(fail(number), call), pytest.raises(MachineError) as caught:
            write_atomic(path, b"new")
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]
        assert caught.value.exit_code is ExitCode.FAILED_RUN
        assert caught.value.message.startswith("cannot write file: ")
        assert caught.value.hint


def test_a_temporary_file_that_cannot_be_removed_does_not_hide_the_error(tmp_path: Path) -> None:
    with watched(fail(errno.ENOSPC), 1, onward=True), pytest.raises(MachineError, match="the disk is full"):
        write_atomic(tmp_path / "file", b"new")


def test_a_cache_is_written_without_a_flush_and_the_rest_with_two(tmp_path: Path) -> None:
    for durable, flushes in ((False, 0), (True, 2)):
        with watched(fail(errno.EIO), 1 << 60) as calls:
            write_atomic(tmp_path / "file", b"new", durable=durable)
        assert calls.names.count("fsync") == flushes


def test_a_new_file_never_replaces_another(tmp_path: Path) -> None:
    write_new(tmp_path / "file", b"first", mode=0o444)
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "file", b"second")
    assert (tmp_path / "file").read_bytes() == b"first"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o444


def test_what_the_kernel_takes_in_parts_is_written_whole(tmp_path: Path) -> None:
    with watched(short_write):
        write_new(tmp_path / "file", b"0123456789" * 100)
    assert (tmp_path / "file").read_bytes() == b"0123456789" * 100


def test_a_disk_that_takes_nothing_is_an_error_and_not_an_endless_loop(tmp_path: Path) -> None:
    with watched(lambda *_: 0, 0), pytest.raises(OSError, match="took nothing"):
        write_all(1 << 20, b"data")


def test_an_error_without_a_known_reason_is_said_as_the_system_says_it() -> None:
    with pytest.raises(MachineError, match="cannot do this: Too many links"), machine_errors("do this"):
        raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))


def test_only_a_folder_can_be_flushed_as_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        fsync_folder(tmp_path / "file")

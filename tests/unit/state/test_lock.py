"""The lock: one holder, a bounded wait, and no file that is ever removed."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest
from storelab.calls import fail, watched

from safetune.core.errors import MachineError, RunError
from safetune.state.lock import FileLock, filling, quiet


def test_a_second_holder_waits_and_then_says_what_is_busy(tmp_path: Path) -> None:
    with FileLock(tmp_path / "lock", 0, "this store"):
        with pytest.raises(RunError, match="another safetune is working on this store") as caught:
            FileLock(tmp_path / "lock", 0.05, "this store").__enter__()
        assert caught.value.hint
    with FileLock(tmp_path / "lock", 0, "this store"):
        assert (tmp_path / "lock").exists()
    assert (tmp_path / "lock").exists()


def test_a_refused_holder_leaves_no_descriptor_open(tmp_path: Path) -> None:
    with FileLock(tmp_path / "lock", 0, "this store"):
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(RunError):
            FileLock(tmp_path / "lock", 0, "this store").__enter__()
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_lock_ends_with_the_process_that_held_it(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        FileLock(tmp_path / "lock", 0, "this store").__enter__()
        os.write(writer, b".")
        signal.pause()  # held until the parent kills us
        os._exit(0)
    try:
        assert os.read(reader, 1) == b"."
        with pytest.raises(RunError):
            FileLock(tmp_path / "lock", 0, "this store").__enter__()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with FileLock(tmp_path / "lock", 0, "this store"):
        pass


def test_a_lock_that_may_only_be_read_can_still_be_held(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    with watched(fail(errno.EROFS), 0), FileLock(tmp_path / "lock", 0, "this store"):
        pass


def test_a_lock_that_cannot_be_made_is_an_error_of_the_machine(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot open lock"):
        FileLock(tmp_path / "nothing" / "lock", 0, "this store").__enter__()


def test_a_folder_is_quiet_only_while_nobody_fills_it(tmp_path: Path) -> None:
    with quiet(tmp_path) as alone:
        assert alone
    with filling(tmp_path), filling(tmp_path), quiet(tmp_path) as alone:
        assert not alone
    with quiet(tmp_path) as alone:
        assert alone

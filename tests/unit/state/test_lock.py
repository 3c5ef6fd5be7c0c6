"""The lock: one holder, a bounded wait, and no file that is ever removed."""

from __future__ import annotations

import errno
import subprocess
import sys
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
    # A process of its own: a fork of one that runs threads (torch's, after other tests) may never come to life.
    code = (
        "import pathlib, signal, sys\n"
        "from safetune.state.lock import FileLock\n"
        "with FileLock(pathlib.Path(sys.argv[1]), 0, 'this store'):\n"
        "    print('held', flush=True)\n"
        "    signal.pause()  # held until the parent kills us\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "held\n"
            with pytest.raises(RunError):
                FileLock(tmp_path / "lock", 0, "this store").__enter__()
        finally:
            child.kill()
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

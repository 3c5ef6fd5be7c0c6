"""Locks that the kernel lets go when their holder dies. A lock file holds no state and is never deleted."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from safetune.core.errors import RunError
from safetune.state.atomic import machine_errors

_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)


class FileLock:
    """`flock` on a file, as a context manager that waits at most `timeout` seconds.

    Raises:
        RunError: when somebody else holds it for longer than that; `what` says what it protects.
        MachineError: when the file can be neither opened nor made.
    """

    def __init__(self, path: Path, timeout: float, what: str) -> None:
        self._path = path
        self._timeout = timeout
        self._what = what
        self._descriptor = -1

    def __enter__(self) -> FileLock:
        """Take the lock."""
        with machine_errors(f"open {self._path.name}"):
            self._descriptor = self._open()
        try:
            self._wait()
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)  # who only reads may still wait for a writer

    def _wait(self) -> None:
        deadline, pause = time.monotonic() + self._timeout, 0.001
        while True:
            with machine_errors(f"lock {self._path.name}"):
                try:
                    fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                except BlockingIOError:
                    pass
            if time.monotonic() >= deadline:
                raise RunError(
                    f"another safetune is working on {self._what}", hint="wait for it to end, or look: safetune status"
                )
            time.sleep(pause)
            pause = min(0.02, pause * 1.5)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go."""
        os.close(self._descriptor)


@contextmanager
def filling(folder: Path) -> Iterator[None]:
    """Hold `folder` while something is put together in it, beside others who do the same; `quiet` then says no.

    Raises:
        OSError: when the folder cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def quiet(folder: Path) -> Iterator[bool]:
    """Say whether no living process fills `folder`; when so, nobody begins to until the block ends.

    Raises:
        OSError: when the folder cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)

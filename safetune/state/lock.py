"""A lock that the kernel lets go when its holder dies. The file holds no state and is never deleted."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from safetune.core.errors import RunError
from safetune.state.atomic import machine_errors


class FileLock:
    """`flock` on a file, as a context manager that waits at most `timeout` seconds.

    Raises:
        RunError: when somebody else holds it for longer than that; `what` says what it protects.
    """

    def __init__(self, path: Path, timeout: float, what: str) -> None:
        self._path = path
        self._timeout = timeout
        self._what = what
        self._descriptor = -1

    def __enter__(self) -> FileLock:
        """Take the lock."""
        with machine_errors(f"open {self._path.name}"):
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return self
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(self._descriptor)
                    raise RunError(
                        f"another safetune is working on {self._what}", hint="wait for it to end, or look: safetune status"
                    ) from None
                time.sleep(0.02)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go."""
        os.close(self._descriptor)

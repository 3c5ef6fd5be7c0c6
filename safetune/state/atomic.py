"""Write a file so that a reader sees the old content or the new one, and nothing in between."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetune.core.errors import MachineError

_REASONS = {
    errno.ENOSPC: ("the disk is full", "free some space and run the same command again; nothing is lost"),
    errno.EDQUOT: ("the disk quota is used up", "free some space and run the same command again; nothing is lost"),
    errno.EROFS: ("the file system is read-only", "use another store folder: --store DIR"),
    errno.EACCES: ("permission is denied", "check who owns the folder, or use another: --store DIR"),
    errno.EPERM: ("permission is denied", "check who owns the folder, or use another: --store DIR"),
    errno.EIO: ("the disk reports an input/output error", "check the disk before you go on"),
}


@contextmanager
def machine_errors(what: str) -> Iterator[None]:
    """Turn an OSError into a MachineError that says what could not be done, why, and what to do."""
    try:
        yield
    except OSError as error:
        reason, hint = _REASONS.get(error.errno or 0, (error.strerror or str(error), "check the folder and try again"))
        raise MachineError(f"cannot {what}: {reason}", hint=hint) from error


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path`: temporary file in the same folder, fsync, rename, fsync of the folder.

    Raises:
        MachineError: when the machine refuses; `path` is then as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with machine_errors(f"write {path.name}"):
        try:
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

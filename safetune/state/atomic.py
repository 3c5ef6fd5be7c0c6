"""Write a file so that a reader sees the old content or the new one, and nothing in between."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write `data` to `path`: temporary file in the same folder, fsync, rename, fsync of the folder.

    With `durable=False` nothing is flushed: for caches that are derived again after a power loss.

    Raises:
        MachineError: when the machine refuses. `path` is then as it was, or new but perhaps not yet safe from a power
            loss when only the last flush failed.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with machine_errors(f"write {path.name}"):
        try:
            write_new(temporary, data, durable=durable)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        if durable:
            fsync_folder(path.parent)


def write_new(path: Path, data: bytes, *, mode: int = 0o644, durable: bool = True) -> None:
    """Write a file that must not be there yet, and flush it to disk.

    Raises:
        OSError: when it is there already or the machine refuses; a part of it may then be left.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of `data`; the kernel may take it in parts.

    Raises:
        OSError: when the machine refuses; a part may then be written.
    """
    left = memoryview(data)
    while left:
        taken = os.write(descriptor, left)
        if taken <= 0:
            raise OSError(errno.EIO, "the disk took nothing")
        left = left[taken:]


def fsync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` survive a power loss.

    Raises:
        OSError: when the machine refuses.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

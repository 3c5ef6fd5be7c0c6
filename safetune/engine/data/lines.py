"""A data file that is read once, in blocks: its lines, the digest of those very bytes, whether it stayed the same."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from types import TracebackType

from safetune.core.errors import IntegrityError, UsageError, reason_of
from safetune.state.files import open_regular

BLOCK = 256 * 1024


class DataFile:
    """An open data file. `name` is what messages call it; `whose` says which source it belongs to."""

    def __init__(self, path: Path, name: str, whose: str) -> None:
        """Open it.

        Raises:
            UsageError: when it cannot be opened.
            IntegrityError: when it is no regular file.
        """
        self.name, self.path, self.whose = name, path, whose
        self._sum, self._early = hashlib.sha256(), False
        try:
            self.stream: BufferedReader = open_regular(path)
        except OSError as error:
            raise UsageError(
                f"{whose}: {name} cannot be read: {reason_of(error)}", hint="check the `uri` of the source"
            ) from error
        self._before = os.fstat(self.stream.fileno())
        self.size = self._before.st_size

    def __enter__(self) -> DataFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stream.close()

    def blocks(self) -> Iterator[bytes]:
        """Yield the bytes of the file; each is hashed before it is given.

        Raises:
            UsageError: when the disk refuses.
        """
        try:
            while block := self.stream.read(BLOCK):
                self._sum.update(block)
                yield block
        except OSError as error:
            raise UsageError(f"{self.whose}: {self.name} cannot be read: {reason_of(error)}") from error

    def lines(self, longest: int) -> Iterator[tuple[int, bytes | None]]:
        """Yield (number from 1, line without its line feed); None for a line of more than `longest` bytes.

        No more than a block and `longest` bytes are held, however long a line is.
        """
        number, held, too_long = 1, b"", False
        for block in self.blocks():
            parts = block.split(b"\n")
            if len(parts) > 1:
                first = held + parts[0]
                yield number, None if too_long or len(first) > longest else first
                for line in parts[1:-1]:
                    number += 1
                    yield number, line if len(line) <= longest else None
                number, held, too_long = number + 1, b"", False
            held, too_long = (
                (b"", True) if too_long or len(held) + len(parts[-1]) > longest else (held + parts[-1], False)
            )
        if held or too_long:
            yield number, None if too_long else held

    def hash_all(self) -> str:
        """Hash the whole file, for a format that is not read from its beginning to its end; return the digest."""
        self._sum, self._early = hashlib.sha256(), True
        self.stream.seek(0)
        for _ in self.blocks():
            pass
        self.stream.seek(0)
        return self._sum.hexdigest()

    def finish(self) -> str:
        """Return the SHA-256 of the bytes that were read.

        Raises:
            IntegrityError: when the file is not what it was when it was opened, or another one lies in its place.
        """
        try:
            after = self.path.stat()  # of what lies there now: it may be another file
        except OSError as error:
            raise IntegrityError(f"{self.whose}: {self.name} went away while it was read") from error
        changed = _stamp(after) != _stamp(self._before)
        if self._early and not changed and after.st_ctime_ns != self._before.st_ctime_ns:
            # It was hashed before it was read, and somebody may have set back the time of a change.
            before = self._sum.hexdigest()
            changed = self.hash_all() != before
        if changed:
            raise IntegrityError(
                f"{self.whose}: {self.name} changed while it was read",
                hint="let nothing write to the file, then run the same command again",
            )
        return self._sum.hexdigest()


def _stamp(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

"""Digests of big files, remembered by path, size, time and inode, for planning only. Whatever runs hashes again."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from safetune.core.digest import canonical
from safetune.core.errors import MachineError
from safetune.state.atomic import write_atomic
from safetune.state.files import sha256_file

_SMALL = 4 * 1024 * 1024


class Sums:
    """Remembered digests of one store; a file whose stat changed is hashed again."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, str] = {}
        self._dirty = False
        if path:
            try:
                found = json.loads(path.read_bytes())
                self._known = {str(k): str(v) for k, v in found.items()}
            except (OSError, ValueError, AttributeError):
                self._known = {}  # a damaged cache is only slow

    def of(self, path: Path) -> str:
        """Return the sha256 of a file; small files are always read."""
        stat = path.stat()
        if stat.st_size <= _SMALL:
            return sha256_file(path)
        key = f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}"
        if key not in self._known:
            self._known[key] = sha256_file(path)
            self._dirty = True
        return self._known[key]

    def save(self) -> None:
        """Write what was learnt, where there is a store to write to; what cannot be kept is hashed again next time."""
        if self._dirty and self._path:
            with suppress(OSError, MachineError, UnicodeEncodeError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(self._path, canonical(self._known))

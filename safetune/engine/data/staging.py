"""Kept rows and findings while a source is guarded: two growing files, and a mark from which work goes on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetune.core.digest import JSON, canonical, digest, json_text
from safetune.core.finding import Finding
from safetune.state.atomic import machine_errors, write_atomic

ROWS, FINDINGS, MARK = "rows.jsonl", "findings.jsonl", "MARK.json"
_BUFFER = 1024 * 1024


class Staging:
    """Rows and findings of one source on their way into the store; without a folder only the digest is made.

    A mark holds how far both files were when it was set; what was written after it is cut off when work goes on.
    """

    def __init__(self, folder: Path | None, key: str, resume: bool = True) -> None:
        self._folder = folder
        self._key = key
        self._hash = hashlib.sha256()
        self._sizes = {ROWS: 0, FINDINGS: 0}
        self.mark: Mapping[str, JSON] = {}
        if folder is None:
            self._files = {}
            return
        with machine_errors("write the guarded rows"):
            folder.mkdir(parents=True, exist_ok=True)
            self.mark = self._resume(folder) if resume else self._anew(folder)
            self._files = {name: (folder / name).open("ab", buffering=_BUFFER) for name in (ROWS, FINDINGS)}

    def _resume(self, folder: Path) -> Mapping[str, JSON]:
        """Cut both files back to the last mark, or begin anew when anything does not fit together."""
        try:
            mark = json.loads((folder / MARK).read_bytes())
            said, seal = mark["state"], mark["seal"]
            if seal != digest(said) or said["key"] != self._key:
                raise ValueError("another mark")
            sizes = {name: int(said["sizes"][name]) for name in self._sizes}
            self._hash = hashlib.sha256()
            with (folder / ROWS).open("rb") as file:
                left = sizes[ROWS]
                while left and (block := file.read(min(left, _BUFFER))):
                    self._hash.update(block)
                    left -= len(block)
            if left or self._hash.hexdigest() != said["rows_sha256"]:
                raise ValueError("other rows")
            for name, size in sizes.items():
                os.truncate(folder / name, size)
        except (OSError, ValueError, KeyError, TypeError):
            return self._anew(folder)
        self._sizes = sizes
        found: Mapping[str, JSON] = said["progress"]
        return found

    def _anew(self, folder: Path) -> Mapping[str, JSON]:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        self._hash = hashlib.sha256()
        return {}

    def rows(self, rows: Sequence[tuple[str, bytes]]) -> None:
        """Keep some rows: the id of each, and its content in canonical form."""
        lines = b"".join([b'{"id":%b,"row":%b}\n' % (json_text(one).encode(), content) for one, content in rows])
        self._hash.update(lines)
        self._write(ROWS, lines)

    def findings(self, findings: Sequence[Finding]) -> None:
        """Keep some findings."""
        if self._folder is not None and findings:
            self._write(FINDINGS, b"".join([canonical(one.json) + b"\n" for one in findings]))

    def _write(self, name: str, line: bytes) -> None:
        self._sizes[name] += len(line)
        if self._folder is not None:
            with machine_errors("write the guarded rows"):
                self._files[name].write(line)

    def set_mark(self, progress: Mapping[str, JSON]) -> None:
        """Remember that everything up to here is done; `progress` is given back as `mark` when work goes on."""
        if self._folder is None:
            return
        with machine_errors("write the guarded rows"):
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
        sizes: dict[str, JSON] = dict(self._sizes)
        state: dict[str, JSON] = {
            "key": self._key,
            "sizes": sizes,
            "rows_sha256": self._hash.hexdigest(),
            "progress": dict(progress),
        }
        write_atomic(self._folder / MARK, canonical({"state": state, "seal": digest(state)}))

    def close(self) -> str:
        """Close both files, whose folder then holds nothing else, and return the digest of the kept rows."""
        with machine_errors("write the guarded rows"):
            for file in self._files.values():
                file.close()
            if self._folder is not None:
                (self._folder / MARK).unlink(missing_ok=True)
        return self._hash.hexdigest()

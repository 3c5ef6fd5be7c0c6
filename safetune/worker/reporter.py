"""Progress rows: what a running job says to the engine."""

from __future__ import annotations

import os
from pathlib import Path

from safetune.core.digest import JSON, canonical


class Reporter:
    """Appends rows to progress.jsonl; only the first process of a distributed job writes anything."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "progress.jsonl"
        self.first = os.environ.get("RANK", "0") == "0"

    def say(self, kind: str, **fields: JSON) -> None:
        """Append one row; a number that is not finite is a ValueError (canonical JSON has none)."""
        if self.first:
            with self._path.open("ab") as stream:
                stream.write(canonical({"kind": kind, **fields}) + b"\n")

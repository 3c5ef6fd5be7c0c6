"""Sources for the tests of reading and pinning: made of bytes, with the digest that a playbook would pin."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetune.core.source import JSONL, Provenance, Source
from safetune.engine.data.reading import BadRow, Row, read

LONGEST = 1024 * 1024
USE = ("train",)


def row(prompt: str = "Why?", answer: str = "Because.") -> dict[str, Any]:
    """Return a row in the shape prompt + completion."""
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": answer}],
    }


def jsonl(*rows: object) -> bytes:
    """Return rows as JSONL."""
    return b"".join(json.dumps(one).encode() + b"\n" for one in rows)


def sha(data: bytes) -> str:
    """Return the SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def write(path: Path, data: bytes) -> Path:
    """Write a file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def source(path: Path | str, kind: str = JSONL, sha256: str = "", columns: Mapping[str, str] | None = None) -> Source:
    """Return a source called `words`."""
    return Source("words", str(path), sha256, "MIT", "release", "here", USE, kind, Provenance(), columns or {})


def everything(of: Source, longest: int = LONGEST, start: int = 0) -> list[Row | BadRow]:
    """Read a source to its end."""
    return list(read(of, longest, start))


def good(of: Source) -> list[Mapping[str, Any]]:
    """Return the content of all rows, none of which is bad."""
    found = everything(of)
    assert all(isinstance(one, Row) for one in found), found
    return [one.content for one in found if isinstance(one, Row)]


def bad(of: Source, longest: int = LONGEST) -> list[tuple[int, str]]:
    """Return (line, why) of the bad rows."""
    return [(one.line, one.why) for one in everything(of, longest) if isinstance(one, BadRow)]

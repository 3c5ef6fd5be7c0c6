"""The id of a row: a digest of its content, so that equal rows have equal ids wherever they turn up."""

from __future__ import annotations

from collections.abc import Mapping

from safetune.core.digest import JSON, canonical, sha256_hex

LENGTH = 32  # hex digits: 128 bits, so that among a billion rows no two different ones share an id by chance


def row_id(content: Mapping[str, JSON]) -> str:
    """Return the id of a row as it was read, before any guard changed it."""
    return sha256_hex(canonical(content))[:LENGTH]

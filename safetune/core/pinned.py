"""What is found when a source is pinned: its digest, its rows, and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from safetune.core.digest import JSON


@dataclass(frozen=True, slots=True)
class Pinned:
    """A source as it lies there. `sha256` is what a playbook pins; `size` and `files` count what was hashed.

    `rows` can be used, `bad` cannot; `first_bad` says why the first of them cannot, or why no row can be read at all.
    `columns` is how the columns were understood, `guessed` when nobody said so. `declared` is what a mixture's sources
    declared; `dvc` is the md5 that DVC pins and that was compared.
    """

    uri: str
    kind: str
    sha256: str
    rows: int
    size: int
    files: int
    bad: int = 0
    first_bad: str = ""
    revision: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    declared: Mapping[str, JSON] = field(default_factory=dict)
    dvc: str = ""

"""What became of a source under the guards: how many rows were kept, what was found, and whether it may be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from safetune.core.data_policy import BLOCK
from safetune.core.digest import JSON


@dataclass(frozen=True, slots=True)
class Guarded:
    """One source after its guards.

    `key` identifies bytes, guards, their settings and versions, and everything they compared with; equal keys give
    equal rows. `rows_sha256` is the digest of the kept rows as they are stored, `data` the stored object or empty.
    `rows` were read, `kept` are left, `bad` could not be read; `flagged` have a finding. `counts` are findings by
    `guard/rule/action`, `places` the first few of each, as `file:line`. `problem` says why the source is blocked,
    `warning` what speaks against it without blocking.
    """

    name: str
    key: str
    rows_sha256: str = ""
    rows: int = 0
    kept: int = 0
    bad: int = 0
    flagged: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    places: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    problem: str = ""
    data: str = ""
    warning: str = ""

    @property
    def json(self) -> Mapping[str, JSON]:
        """The JSON form, for the memory of plans and for stored data."""
        places: dict[str, JSON] = {kind: list(found) for kind, found in self.places.items()}
        return {**{name: getattr(self, name) for name in self.__slots__}, "counts": dict(self.counts), "places": places}


def guarded_from(row: object) -> Guarded:
    """Return the record whose `json` this is.

    Raises:
        ValueError: when it is not one.
    """
    if not isinstance(row, Mapping) or set(row) != set(Guarded.__slots__):
        raise ValueError("not a guarded source")
    texts, numbers = ("name", "key", "rows_sha256", "problem", "data", "warning"), ("rows", "kept", "bad", "flagged")
    if not all(isinstance(row[n], str) for n in texts) or not all(type(row[n]) is int for n in numbers):
        raise ValueError("a guarded source with a field of another type")
    counts, places = row["counts"], row["places"]
    if not isinstance(counts, Mapping) or not isinstance(places, Mapping):
        raise ValueError("a guarded source without counts")
    given = {**row, "counts": dict(counts), "places": {kind: tuple(found) for kind, found in places.items()}}
    return Guarded(**given)


def blocked(found: Mapping[str, int], places: Mapping[str, tuple[str, ...]]) -> str:
    """Say which findings block a source, the most frequent first; empty when none does."""
    kinds = sorted((k for k in found if k.rpartition("/")[2] == BLOCK), key=lambda k: (-found[k], k))
    parts = []
    for kind in kinds:
        rule = kind.rpartition("/")[0]
        where = f" ({', '.join(places[kind])})" if places.get(kind) else ""
        parts.append(f"{found[kind]:,} x {rule}{where}")
    return "; ".join(parts)

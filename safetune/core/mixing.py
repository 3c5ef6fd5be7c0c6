"""Mix rows of several sources by share, in an order that only the seed decides."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

Row = TypeVar("Row")


def mix(rows: Mapping[str, Sequence[Row]], shares: Mapping[str, float], count: int, seed: int) -> tuple[Row, ...]:
    """Return `count` rows in which every beginning holds the sources as nearly in their shares as whole rows allow.

    Each source goes round in an order of its own, shuffled anew in every round. `shares` are weights.

    Raises:
        ValueError: without sources, for a source without rows, or for a weight that is not positive and finite.
    """
    if not shares:
        raise ValueError("there is no source to mix")
    for name, share in shares.items():
        if not rows[name]:
            raise ValueError(f"no rows in {name}")
        if not (share > 0 and math.isfinite(share)):
            raise ValueError(f"the share of {name} must be positive, not {share}")
    streams = {name: _endless(rows[name], f"{seed}:{name}") for name in sorted(shares)}
    total = sum(shares.values())
    given = dict.fromkeys(streams, 0)
    chosen = []
    for position in range(1, count + 1):
        name = max(streams, key=lambda n: position * shares[n] / total - given[n])
        given[name] += 1
        chosen.append(next(streams[name]))
    return tuple(chosen)


def _endless(rows: Sequence[Row], seed: str) -> Iterator[Row]:
    turn = 0
    while True:
        yield from (rows[n] for n in _order(len(rows), f"{seed}:{turn}"))
        turn += 1


def _order(count: int, seed: str) -> list[int]:
    """Return 0..count-1 in an order that depends on the seed alone, the same in every version of Python."""
    return sorted(range(count), key=lambda n: hashlib.sha256(f"{seed}:{n}".encode()).digest())

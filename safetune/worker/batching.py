"""Batches: which requests are answered together; a pure function of the requests, the same in a resumed job."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from safetune.worker.asking import Asked

# A beginning is computed once for requests that fill half a batch; fewer go together, for decoding costs more than it.
_SHARED_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Budget:
    """What a batch may hold: rows, and positions in the cache (rows times the room of the longest one)."""

    rows: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests of one kind that are answered together, and the tokens with which all of them begin."""

    shared: tuple[int, ...]
    rows: tuple[Asked, ...]


def batches(asked: Sequence[Asked], budget: Budget) -> tuple[Batch, ...]:
    """Return batches, the longest answers and prompts first, so that little is padded; none is larger than it may be.

    One request alone is a batch even where it is above the budget. A request of likelihood counts a row per choice.
    """
    made: list[Batch] = []
    for shared, members in _families(asked, budget):
        ordered = sorted(members, key=lambda one: (-one.max_new_tokens, -one.room, one.digest))
        made += [Batch(shared, rows) for rows in _cut(ordered, budget)]
    return tuple(made)


def _cut(ordered: Sequence[Asked], budget: Budget) -> list[tuple[Asked, ...]]:
    cut: list[list[Asked]] = []
    lines = room = 0
    for one in ordered:
        own = max(1, len(one.choices))
        lines, room = lines + own, max(room, one.room)
        if not cut or lines > budget.rows or lines * room > budget.tokens:
            cut.append([])
            lines, room = own, one.room
        cut[-1].append(one)
    return [tuple(rows) for rows in cut]


def _families(asked: Sequence[Asked], budget: Budget) -> list[tuple[tuple[int, ...], list[Asked]]]:
    """Return the requests by kind and by the beginning that they share; small families of a kind become one."""
    kinds: dict[tuple[str, bool], list[Asked]] = {}
    for one in asked:
        kinds.setdefault((one.kind, bool(one.ids)), []).append(one)
    families: list[tuple[tuple[int, ...], list[Asked]]] = []
    for _, alike in sorted(kinds.items()):
        headers: dict[str, list[Asked]] = {}
        for one in alike:
            headers.setdefault(one.header, []).append(one)
        enough = min(budget.rows, len(alike)) / 2
        large = [headers[header] for header in sorted(headers) if len(headers[header]) >= enough]
        small = [one for header in sorted(headers) if len(headers[header]) < enough for one in headers[header]]
        families += [(_beginning(members), members) for members in (*large, small) if members]
    return families


def _beginning(members: Sequence[Asked]) -> tuple[int, ...]:
    """Return the tokens with which all begin, leaving every one of them a token of its own; none when they are few."""
    first, last = min(one.ids for one in members), max(one.ids for one in members)
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    length = min(len(list(same)), min(len(one.ids) for one in members) - 1)
    return first[:length] if len(members) > 1 and length >= _SHARED_TOKENS else ()

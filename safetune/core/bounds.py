"""Bounds that a gate uses: exact for independent items, wider where items come in clusters; and the n that decides."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, overload

from safetune.core.intervals import (
    Paired,
    clopper_pearson_lower,
    clopper_pearson_upper,
    design_effect,
    paired_lower,
    paired_upper,
)
from safetune.core.power import min_n_absolute, min_n_paired

Outcome = tuple[str, float]  # cluster, value: 0 or 1, or a score
Pair = tuple[str, float, float]  # cluster, value of the baseline, value of the candidate


T = TypeVar("T")


class Again(Sequence[T]):
    """A sequence of `size` things that are made whenever it is gone through, and never there all at once."""

    __slots__ = ("_make", "_size")

    def __init__(self, size: int, make: Callable[[], Iterator[T]]) -> None:
        self._size, self._make = size, make

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[T]:
        return self._make()

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[T]: ...
    def __getitem__(self, at: int | slice) -> T | Sequence[T]:
        return tuple(self)[at]


@dataclass(frozen=True, slots=True)
class Bounds:
    """A one-sided lower and a one-sided upper bound, each at the guardrail's confidence."""

    low: float
    high: float


def of_rate(outcomes: Sequence[Outcome], confidence: float) -> Bounds:
    """Return bounds on a rate; items in clusters count for as many independent ones as they are worth.

    Raises:
        ValueError: when there are too few clusters to tell.
    """
    effect = design_effect(outcomes, confidence)
    events, n = sum(value for _, value in outcomes) / effect, len(outcomes) / effect
    return Bounds(clopper_pearson_lower(events, n, confidence), clopper_pearson_upper(events, n, confidence))


def of_difference(pairs: Sequence[Pair], confidence: float) -> Bounds:
    """Return bounds on candidate minus baseline over the same prompts; clusters as in `of_rate`.

    Raises:
        ValueError: when there are too few clusters to tell.
    """
    counts = tabulate(pairs).shrunk(design_effect(_changes(pairs), confidence))
    return Bounds(paired_lower(counts, confidence), paired_upper(counts, confidence))


def tabulate(pairs: Sequence[Pair]) -> Paired:
    """Return the counts of a paired comparison."""
    found = Counter((before, after) for _, before, after in pairs)
    return Paired(found[1, 1], found[0, 1], found[1, 0], found[0, 0])


def _changes(pairs: Sequence[Pair]) -> Sequence[Outcome]:
    return Again(len(pairs), lambda: ((cluster, after - before) for cluster, before, after in pairs))


def n_for_rate(outcomes: Sequence[Outcome], limit: float, confidence: float, *, below: bool) -> int | None:
    """Return the n at which the observed rate, if true, would clear the limit with 80 % power; None when it is beyond.

    `below` says that the limit is a ceiling. Clusters are taken to keep their size.
    """
    observed = sum(value for _, value in outcomes) / len(outcomes)
    rate, ceiling = (observed, limit) if below else (1 - observed, 1 - limit)
    return _scaled(min_n_absolute(ceiling, rate, confidence), outcomes, confidence)


def n_for_difference(pairs: Sequence[Pair], sign: int, limit: float, confidence: float) -> int | None:
    """Return the number of pairs at which the observed worsening, if true, would clear the limit with 80 % power.

    `sign` is 1 where a higher rate is worse and -1 where a lower one is.
    """
    counts = tabulate(pairs)
    discordant = (counts.only_candidate + counts.only_baseline) / counts.n
    independent = min_n_paired(limit, sign * counts.difference, discordant, confidence)
    return _scaled(independent, _changes(pairs), confidence)


def _scaled(n: int | None, values: Sequence[Outcome], confidence: float) -> int | None:
    return None if n is None else math.ceil(n * design_effect(values, confidence))

"""Bounds that a gate uses: exact for independent items, wider where items come in clusters; and the n that decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from safetune.core.intervals import (
    Paired,
    clopper_pearson_lower,
    clopper_pearson_upper,
    clustered_half_width,
    paired_lower,
    paired_upper,
)
from safetune.core.power import min_n_absolute, min_n_paired


@dataclass(frozen=True, slots=True)
class Bounds:
    """A one-sided lower and a one-sided upper bound, each at the guardrail's confidence."""

    low: float
    high: float


def of_rate(outcomes: Sequence[tuple[str, int]], confidence: float) -> Bounds | str:
    """Return bounds on a rate from (cluster, 0 or 1), or why there are none.

    With clusters, the bound is the wider of the exact one and the clustered one: when clusters happen to agree, their
    spread alone would promise a precision that n items cannot give.
    """
    successes, n = sum(value for _, value in outcomes), len(outcomes)
    exact = Bounds(
        clopper_pearson_lower(successes, n, confidence), clopper_pearson_upper(successes, n, confidence)
    )
    return _widened(exact, successes / n, outcomes, confidence)


def of_difference(pairs: Sequence[tuple[str, int, int]], confidence: float) -> Bounds | str:
    """Return bounds on candidate minus baseline from (cluster, baseline, candidate), or why there are none."""
    counts = tabulate(pairs)
    score = Bounds(paired_lower(counts, confidence), paired_upper(counts, confidence))
    changes = [(cluster, after - before) for cluster, before, after in pairs]
    return _widened(score, counts.difference, changes, confidence)


def tabulate(pairs: Sequence[tuple[str, int, int]]) -> Paired:
    """Return the counts of a paired comparison."""
    outcomes = [(before, after) for _, before, after in pairs]
    return Paired(outcomes.count((1, 1)), outcomes.count((0, 1)), outcomes.count((1, 0)), outcomes.count((0, 0)))


def _widened(plain: Bounds, estimate: float, values: Sequence[tuple[str, int]], confidence: float) -> Bounds | str:
    if len({cluster for cluster, _ in values}) == len(values):
        return plain
    try:
        half = clustered_half_width(values, confidence)
    except ValueError as error:
        return str(error)
    return Bounds(min(plain.low, max(estimate - half, -1.0)), max(plain.high, min(estimate + half, 1.0)))


def n_for_rate(observed: float, limit: float, confidence: float, *, below: bool) -> int | None:
    """Return the n at which the observed rate, if true, would clear the limit with 80 % power; None when it is beyond."""
    rate, ceiling = (observed, limit) if below else (1 - observed, 1 - limit)
    return min_n_absolute(ceiling, rate, confidence)


def n_for_difference(pairs: Sequence[tuple[str, int, int]], sign: int, limit: float, confidence: float) -> int | None:
    """Return the number of pairs at which the observed worsening, if true, would clear the limit with 80 % power.

    `sign` is 1 where a higher rate is worse and -1 where a lower one is.
    """
    counts = tabulate(pairs)
    discordant = (counts.only_candidate + counts.only_baseline) / counts.n
    return min_n_paired(limit, sign * counts.difference, discordant, confidence)

"""Bounds on means of bounded scores and on their paired differences: Student's t between clusters, kept from boasting.

The mean of K clusters has the linearised variance K / (K - 1) sum_c (S_c - mean n_c)^2 / n^2 (Miller,
arXiv:2411.00640, section 2.2), with S_c the sum and n_c the size of a cluster, and K - 1 degrees of freedom. On bounded
scores Student's t alone is too sure of itself: what has not been seen yet, such as one bad answer in thirty, has no
variance in the sample. Three things mend that, and are left out of the `plain` bounds:

- As if (z^2 + 2) / 3 clusters at the far end had been seen too. By so much the exact bound on a rare rate exceeds the
  normal one (Cornish-Fisher expansion of the Poisson bound), and rates are the widest scores that there are. So scores
  that are all the same get a bound about as wide as that of `0 of n`.
- Items of a cluster have at least the correlation that `intervals` takes for granted.
- A variance small enough that raising a score would lower the bound is raised: a worse item never makes a pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from safetune.core.bounds import Again, Bounds
from safetune.core.intervals import LEAST_CORRELATION, MIN_CLUSTERS, normal_quantile, student_quantile
from safetune.core.power import POWER

Scored = tuple[str, float]  # cluster, score in [0, 1]
ScoredPair = tuple[str, float, float]  # cluster, baseline's score, candidate's score

_LARGEST = 1_000_000


@dataclass(frozen=True, slots=True)
class _Sample:
    """Values in [bottom, top], summed: sizes and sums of clusters, the sum of squares of all items."""

    sizes: Sequence[int]
    sums: Sequence[float]
    squares: float
    bottom: float
    top: float
    plain: bool = False

    @property
    def n(self) -> int:
        return sum(self.sizes)

    @property
    def mean(self) -> float:
        return math.fsum(self.sums) / self.n

    @property
    def mirrored(self) -> _Sample:
        """The values with their signs changed: lower bounds are upper ones of these."""
        return replace(self, sums=[-s for s in self.sums], bottom=-self.top, top=-self.bottom)

    @property
    def inflation(self) -> float:
        """How many independent items one is worth less, at the least correlation in clusters of this size (Kish)."""
        size = sum(n * n for n in self.sizes) / self.n
        return 1 + (size - 1) * LEAST_CORRELATION

    def unseen(self, confidence: float) -> float:
        """Return how many clusters at the far end are added to what was seen."""
        return 0.0 if self.plain else (normal_quantile(confidence) ** 2 + 2) / 3

    def scatter(self, mean: float) -> float:
        """Return the sum of squared residuals between clusters, around `mean`."""
        between = math.fsum((s - mean * n) ** 2 for s, n in zip(self.sums, self.sizes, strict=True))
        if self.plain:
            return between
        items = max(self.squares - 2 * mean * math.fsum(self.sums) + self.n * mean * mean, 0.0)
        return max(between, self.inflation * items)

    def upper(self, confidence: float) -> float:
        """Return the one-sided upper bound on the mean."""
        clusters, unseen, weight = len(self.sizes), self.unseen(confidence), self.inflation
        n = self.n + unseen * weight
        mean = (math.fsum(self.sums) + unseen * weight * self.top) / n
        scatter = self.scatter(mean) + unseen * (weight * (self.top - mean)) ** 2
        t = student_quantile(confidence, clusters - 1)
        reach = t * math.sqrt((clusters + unseen) / (clusters + unseen - 1))
        if self.plain:
            return mean + reach * math.sqrt(scatter) / n
        least = reach * max(self.sizes) * (mean - self.bottom)
        return min(mean + reach * max(math.sqrt(scatter), least) / n, self.top)

    def needed(self, limit: float, confidence: float) -> int | None:
        """Return the n whose upper bound stays within `limit` with 80 % power, were the mean and spread as seen."""
        gap, variance = limit - self.mean, self.scatter(self.mean) / self.n
        if gap <= 0:
            return None
        far, size = self.top - self.mean, self.n / len(self.sizes)
        extra = self.unseen(confidence) * self.inflation

        def clears(n: int) -> bool:
            t = student_quantile(confidence, max(round(n / size), MIN_CLUSTERS) - 1)
            spread = math.sqrt((variance + extra * self.inflation * far**2 / n) / n)
            least = t * max(self.sizes) * (self.mean - self.bottom) / n
            shift = extra * far / n + normal_quantile(POWER) * math.sqrt(variance / n)
            return shift + t * max(spread, least) <= gap

        high = math.ceil(MIN_CLUSTERS * size)
        low = high - 1
        while not clears(high):
            low, high = high, 2 * high
            if high > _LARGEST:
                return None
        while low + 1 < high:
            middle = (low + high) // 2
            low, high = (low, middle) if clears(middle) else (middle, high)
        return high


def _sample(values: Sequence[Scored], bottom: float, *, plain: bool = False) -> _Sample:
    sizes: dict[str, int] = {}
    sums: dict[str, float] = {}
    squares = 0.0
    for cluster, value in values:
        if not bottom <= value <= 1:  # not a number fails this, too
            raise ValueError(f"{value!r} does not lie between {bottom:g} and 1")
        sizes[cluster] = sizes.get(cluster, 0) + 1
        sums[cluster] = sums.get(cluster, 0.0) + value
        squares += value * value
    if len(sizes) < MIN_CLUSTERS:
        raise ValueError(f"{len(sizes)} clusters are too few; at least {MIN_CLUSTERS} are needed")
    return _Sample(list(sizes.values()), list(sums.values()), squares, bottom, 1.0, plain)


def _both(sample: _Sample, confidence: float) -> Bounds:
    return Bounds(-sample.mirrored.upper(confidence), sample.upper(confidence))


def of_mean(scores: Sequence[Scored], confidence: float, *, plain: bool = False) -> Bounds:
    """Return one-sided bounds on a mean of scores in [0, 1]; `plain` gives Student's, as published.

    Raises:
        ValueError: with fewer than 10 clusters, or a score that is not in [0, 1].
    """
    return _both(_sample(scores, 0.0, plain=plain), confidence)


def of_mean_difference(pairs: Sequence[ScoredPair], confidence: float, *, plain: bool = False) -> Bounds:
    """Return one-sided bounds on candidate minus baseline over the same prompts, in [-1, 1]; the rest as in `of_mean`.

    Raises:
        ValueError: with fewer than 10 clusters, or a difference that is not in [-1, 1].
    """
    return _both(_sample(_changes(pairs), -1.0, plain=plain), confidence)


def n_for_mean(scores: Sequence[Scored], limit: float, confidence: float, *, below: bool) -> int | None:
    """Return the n at which the observed mean, if true, would clear the limit with 80 % power; None when it is beyond.

    `below` says that the limit is a ceiling. Spread and clusters are taken to stay as they are.

    Raises:
        ValueError: as `of_mean`.
    """
    sample = _sample(scores, 0.0)
    return sample.needed(limit, confidence) if below else sample.mirrored.needed(-limit, confidence)


def n_for_mean_difference(pairs: Sequence[ScoredPair], sign: int, limit: float, confidence: float) -> int | None:
    """Return the number of pairs at which the observed worsening, if true, would clear the limit with 80 % power.

    `sign` is 1 where a higher score is worse and -1 where a lower one is.

    Raises:
        ValueError: as `of_mean_difference`.
    """
    sample = _sample(_changes(pairs), -1.0)
    return (sample if sign == 1 else sample.mirrored).needed(limit, confidence)


def _changes(pairs: Sequence[ScoredPair]) -> Sequence[Scored]:
    return Again(len(pairs), lambda: ((cluster, after - before) for cluster, before, after in pairs))

"""Exact and score bounds on rates and paired differences, and what clusters cost. Standard library only.

Every bound here is one-sided: with probability at least `confidence` the truth lies on its inner side. Counts may be
fractions: items that come in clusters are worth fewer independent ones, and that number is seldom whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

MIN_CLUSTERS = 10  # below this the t approximation for clustered means is not trusted (EVALUATION.md point 3)
# The least correlation that items of one cluster are taken to have. Rare events in few clusters look independent when
# they are not: without this floor, enumerated false PASS rates reach 20 % at a nominal 5 % (tests/unit/core).
LEAST_CORRELATION = 0.2
# Half a pair, taken against the claim that is to be shown. Without it the score bound is passed in up to 6 % of cases
# at a nominal 5 %; with it, in at most 5 % for every n and nuisance rate that was enumerated (tests/unit/core).
CONTINUITY = 0.5


def normal_quantile(p: float) -> float:
    """Return the standard normal quantile of `p` in (0, 1)."""
    return NormalDist().inv_cdf(p)


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b), for a, b > 0 and 0 <= x <= 1.

    By the continued fraction of DLMF 8.17.22 in Lentz's form; good to about 1e-12.
    """
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - incomplete_beta(b, a, 1.0 - x)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) * _beta_fraction(a, b, x) / a


def _beta_fraction(a: float, b: float, x: float) -> float:
    """On this side of the mean every denominator stays positive, so Lentz's guard against zero is not needed."""
    c, d = 1.0, 1.0 / (1.0 - (a + b) * x / (a + 1))
    value, change, m = d, math.inf, 1
    while abs(change - 1.0) > 1e-14:
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / (1.0 + term * d)
            c = 1.0 + term / c
            change = c * d
            value *= change
        m += 1
    return value


def root(increasing: Callable[[float], float], low: float, high: float) -> float:
    """Return where an increasing function crosses zero in [low, high], to about 1e-15; an end when it does not."""
    while high - low > 1e-15 * max(1.0, abs(high)):
        middle = (low + high) / 2
        if increasing(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _check(successes: float, n: float, confidence: float) -> None:
    if not (n > 0 and 0 <= successes <= n):
        raise ValueError(f"{successes} of {n} is not a proportion")
    if not 0.5 < confidence < 1:
        raise ValueError(f"confidence must lie between 0.5 and 1, not {confidence}")


def clopper_pearson_upper(successes: float, n: float, confidence: float) -> float:
    """Return the exact one-sided upper bound on a rate (Clopper and Pearson, Biometrika 1934).

    With fractional counts it is the bound for clustered samples of Korn and Graubard (Survey Methodology 1998, 24:193).

    Raises:
        ValueError: for impossible counts or a confidence outside (0.5, 1).
    """
    _check(successes, n, confidence)
    if successes == n:
        return 1.0
    return root(lambda p: incomplete_beta(successes + 1, n - successes, p) - confidence, 0.0, 1.0)


def clopper_pearson_lower(successes: float, n: float, confidence: float) -> float:
    """Return the exact one-sided lower bound on a rate; the mirror image of the upper one."""
    return 1.0 - clopper_pearson_upper(n - successes, n, confidence)


@dataclass(frozen=True, slots=True)
class Paired:
    """Counts of a paired comparison of one yes/no outcome: both arms, one of them, neither."""

    both: float
    only_candidate: float
    only_baseline: float
    neither: float

    @property
    def n(self) -> float:
        """Number of pairs."""
        return self.both + self.only_candidate + self.only_baseline + self.neither

    @property
    def difference(self) -> float:
        """Candidate's rate minus baseline's."""
        return (self.only_candidate - self.only_baseline) / self.n

    def shrunk(self, factor: float) -> Paired:
        """Return the same comparison as if there were `factor` times fewer pairs."""
        cells = (self.both, self.only_candidate, self.only_baseline, self.neither)
        return Paired(*(cell / factor for cell in cells))


def score_variance(counts: Paired, delta: float) -> float:
    """Return the variance of the number of discordant pairs' difference, were the true difference `delta`.

    The rate of pairs that only the baseline has is the likeliest one under `delta` (Tango, Statistics in Medicine
    1998, 17:891).
    """
    n, b, c = counts.n, counts.only_candidate, counts.only_baseline
    half = -b - c + (2 * n - b + c) * delta
    square = math.sqrt(max(half * half + 8 * n * c * delta * (1 - delta), 0.0))
    q = max((square - half) / (4 * n), 0.0)
    return n * (2 * q + delta * (1 - delta))


def _tango_score(counts: Paired, delta: float, correction: float) -> float:
    """Return Tango's score statistic for a true difference `delta`."""
    variance = score_variance(counts, delta)
    excess = counts.only_candidate - counts.only_baseline - counts.n * delta + correction
    # No variance is left only where `delta` contradicts the counts, or fits them without any doubt.
    return excess / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, excess)


def paired_upper(counts: Paired, confidence: float, correction: float = CONTINUITY) -> float:
    """Return the one-sided upper score bound on candidate minus baseline (Tango 1998).

    `correction` is the continuity correction in pairs; 0 gives the bound as published.

    Raises:
        ValueError: without pairs or with a confidence outside (0.5, 1).
    """
    _check(counts.only_candidate + counts.only_baseline, counts.n, confidence)
    z = normal_quantile(confidence)
    return root(lambda delta: -z - _tango_score(counts, delta, correction), counts.difference, 1.0)


def paired_lower(counts: Paired, confidence: float, correction: float = CONTINUITY) -> float:
    """Return the one-sided lower score bound: the upper one with the arms swapped."""
    swapped = Paired(counts.both, counts.only_baseline, counts.only_candidate, counts.neither)
    return -paired_upper(swapped, confidence, correction)


@cache
def student_quantile(p: float, degrees: int) -> float:
    """Return the quantile of Student's t for p in (0.5, 1)."""

    def below(t: float) -> float:
        return 1 - 0.5 * incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t)) - p

    high = 1.0
    while below(high) < 0:
        high *= 2
    return root(below, 0.0, high)


def least_design_effect(clusters: int, size: float, confidence: float) -> float:
    """Return by how much clusters of mean `size` inflate the variance at the least correlation taken for granted.

    1 + (size - 1) rho (Kish, Survey Sampling, 1965), times (t / z) squared with K - 1 degrees of freedom, which pays
    for a variance that is estimated from K clusters.
    """
    inflation = 1 + (size - 1) * LEAST_CORRELATION
    return inflation * (student_quantile(confidence, clusters - 1) / normal_quantile(confidence)) ** 2


def design_effect(values: Sequence[tuple[str, float]], confidence: float) -> float:
    """Return how many clustered items are worth one independent item: 1 when every item is its own cluster.

    `values` are (cluster, value). The ratio of the linearised variance between clusters (Miller, arXiv:2411.00640,
    section 2.2, with the K/(K-1) correction) to that of independent items, and never less than the least one.

    Raises:
        ValueError: with fewer than 10 clusters.
    """
    sizes: dict[str, int] = {}
    sums: dict[str, float] = {}
    squares = 0.0
    for cluster, value in values:
        sizes[cluster] = sizes.get(cluster, 0) + 1
        sums[cluster] = sums.get(cluster, 0.0) + value
        squares += value * value
    k, n = len(sizes), len(values)
    if k == n:
        return 1.0
    if k < MIN_CLUSTERS:
        raise ValueError(f"{k} clusters are too few; at least {MIN_CLUSTERS} are needed")
    size = sum(m * m for m in sizes.values()) / n
    least = least_design_effect(k, size, confidence)
    mean = sum(sums.values()) / n
    plain = squares - n * mean * mean
    between = k / (k - 1) * sum((total - mean * m) ** 2 for total, m in zip(sums.values(), sizes.values(), strict=True))
    if plain <= 0:
        return least
    return max(least, between / plain * least_design_effect(k, 1, confidence))

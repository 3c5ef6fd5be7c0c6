"""Exact and score bounds on rates and paired differences. Standard library only.

Every bound here is one-sided: with probability at least (or, for score bounds, close to) `confidence` the truth lies
on its inner side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

_STEPS = 200  # bisection steps: far below one unit in the last place
MIN_CLUSTERS = 10  # below this the t approximation for clustered means is not trusted (EVALUATION.md point 3)


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
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    value = d
    for m in range(1, 100_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 + term * d
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = 1.0 + term / c
            c = c if abs(c) > tiny else tiny
            value *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return value


def _root(increasing: Callable[[float], float], low: float, high: float) -> float:
    """Return where an increasing function crosses zero in [low, high]."""
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if increasing(middle) < 0:
            low = middle
        else:
            high = middle
        if high - low < 1e-15:
            break
    return (low + high) / 2


def _check(successes: int, n: int, confidence: float) -> None:
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is not a proportion")
    if not 0.5 < confidence < 1:
        raise ValueError(f"confidence must lie between 0.5 and 1, not {confidence}")


def clopper_pearson_upper(successes: int, n: int, confidence: float) -> float:
    """Return the exact one-sided upper bound on a rate (Clopper and Pearson, Biometrika 1934).

    Raises:
        ValueError: for impossible counts or a confidence outside (0.5, 1).
    """
    _check(successes, n, confidence)
    if successes == n:
        return 1.0
    return _root(lambda p: incomplete_beta(successes + 1, n - successes, p) - confidence, 0.0, 1.0)


def clopper_pearson_lower(successes: int, n: int, confidence: float) -> float:
    """Return the exact one-sided lower bound on a rate; the mirror image of the upper one."""
    return 1.0 - clopper_pearson_upper(n - successes, n, confidence)


@dataclass(frozen=True, slots=True)
class Paired:
    """Counts of a paired comparison of one yes/no outcome: both arms, one of them, neither."""

    both: int
    only_candidate: int
    only_baseline: int
    neither: int

    @property
    def n(self) -> int:
        """Number of pairs."""
        return self.both + self.only_candidate + self.only_baseline + self.neither

    @property
    def difference(self) -> float:
        """Candidate's rate minus baseline's."""
        return (self.only_candidate - self.only_baseline) / self.n


def _tango_score(counts: Paired, delta: float) -> float:
    """Return Tango's score statistic for a true difference `delta` (Statistics in Medicine 1998, 17:891)."""
    n, b, c = counts.n, counts.only_candidate, counts.only_baseline
    half = -b - c + (2 * n - b + c) * delta
    root = math.sqrt(max(half * half + 8 * n * c * delta * (1 - delta), 0.0))
    q = max((root - half) / (4 * n), 0.0)
    variance = n * (2 * q + delta * (1 - delta))
    excess = b - c - n * delta
    if variance <= 0:
        return 0.0 if excess == 0 else math.copysign(math.inf, excess)
    return excess / math.sqrt(variance)


def paired_upper(counts: Paired, confidence: float) -> float:
    """Return the one-sided upper score bound on candidate minus baseline (Tango 1998).

    Raises:
        ValueError: without pairs or with a confidence outside (0.5, 1).
    """
    _check(counts.only_candidate + counts.only_baseline, counts.n, confidence)
    z = normal_quantile(confidence)
    return min(_root(lambda delta: -z - _tango_score(counts, delta), counts.difference, 1.0), 1.0)


def paired_lower(counts: Paired, confidence: float) -> float:
    """Return the one-sided lower score bound: the upper one with the arms swapped."""
    return -paired_upper(Paired(counts.both, counts.only_baseline, counts.only_candidate, counts.neither), confidence)


def student_quantile(p: float, degrees: int) -> float:
    """Return the quantile of Student's t for p in (0.5, 1)."""

    def below(t: float) -> float:
        return 1 - 0.5 * incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t)) - p

    high = 1.0
    while below(high) < 0:
        high *= 2
    return _root(below, 0.0, high)


def clustered_half_width(values: Sequence[tuple[str, float]], confidence: float) -> float:
    """Return how far a one-sided bound lies from the mean of items that come in clusters: t(K-1) x standard error.

    `values` are (cluster, value). The standard error is the linearised one of a ratio of cluster sums to cluster
    sizes (Miller, arXiv:2411.00640, section 2.2, with the K/(K-1) correction).

    Raises:
        ValueError: with fewer than 10 clusters.
    """
    sums: dict[str, list[float]] = {}
    for cluster, value in values:
        sums.setdefault(cluster, []).append(value)
    k, n = len(sums), len(values)
    if k < MIN_CLUSTERS:
        raise ValueError(f"{k} clusters are too few; at least {MIN_CLUSTERS} are needed")
    mean = sum(value for _, value in values) / n
    residuals = (sum(group) - mean * len(group) for group in sums.values())
    error = math.sqrt(k / (k - 1) * sum(r * r for r in residuals)) / n
    return student_quantile(confidence, k - 1) * error

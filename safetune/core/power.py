"""Power before the run: what a number of items can show, and the number that would be needed."""

from __future__ import annotations

import math

from safetune.core.intervals import clopper_pearson_upper, normal_quantile

_LARGEST = 1_000_000


def max_events(n: int, limit: float, confidence: float) -> int | None:
    """Return the largest count of `n` whose exact upper bound stays within `limit`; None when even 0 does not."""
    if clopper_pearson_upper(0, n, confidence) > limit:
        return None
    low, high = 0, n
    while low < high:
        middle = (low + high + 1) // 2
        if clopper_pearson_upper(middle, n, confidence) <= limit:
            low = middle
        else:
            high = middle - 1
    return low


def min_clean(limit: float, confidence: float) -> int:
    """Return how many items without any event it takes to claim a rate of at most `limit` (59 for 5 % at 95 %)."""
    return math.ceil(math.log(1 - confidence) / math.log1p(-limit))


def _binomial_at_most(k: int, n: int, p: float) -> float:
    """Return P(X <= k) for X ~ Binomial(n, p)."""
    if p <= 0 or k >= n:
        return 1.0
    logs = (
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p)
        for i in range(k + 1)
    )
    return min(1.0, sum(math.exp(x) for x in logs))


def power_absolute(n: int, limit: float, rate: float, confidence: float) -> float:
    """Return the chance that `n` items with true rate `rate` pass an exact ceiling of `limit`."""
    most = max_events(n, limit, confidence)
    return 0.0 if most is None else _binomial_at_most(most, n, rate)


def min_n_absolute(limit: float, rate: float, confidence: float, power: float = 0.8) -> int | None:
    """Return about the smallest n that passes a ceiling with the given power when the true rate is `rate`.

    By doubling and bisection; power saw-tooths a little in n, so the answer is right to a few items. None when the
    rate is not below the limit or more than a million items would be needed.
    """
    if not 0 <= rate < limit < 1:
        return None
    high = min_clean(limit, confidence)
    while power_absolute(high, limit, rate, confidence) < power:
        high *= 2
        if high > _LARGEST // 100:
            return _normal_n(limit, rate, confidence, power)
    low = high // 2
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power_absolute(middle, limit, rate, confidence) >= power else (middle, high)
    return high


def _normal_n(limit: float, rate: float, confidence: float, power: float) -> int | None:
    """Return the n by the normal approximation, for numbers too large to enumerate."""
    za, zb = normal_quantile(confidence), normal_quantile(power)
    root = za * math.sqrt(limit * (1 - limit)) + zb * math.sqrt(rate * (1 - rate))
    n = math.ceil((root / (limit - rate)) ** 2)
    return n if n <= _LARGEST else None


def min_n_paired(
    margin: float, difference: float, discordant: float, confidence: float, power: float = 0.8
) -> int | None:
    """Return the number of pairs for non-inferiority: margin 0.02, no difference, 6 % discordant at 95 % gives 928.

    Normal approximation with variance `discordant - difference**2` (Tango 1998; Liu et al. 2002). `margin` and
    `difference` are worsenings. None when the difference is not below the margin or a million is not enough.
    """
    gap = margin - difference
    if gap <= 0:
        return None
    variance = max(discordant - difference**2, 1 / 1000)
    n = math.ceil(variance * ((normal_quantile(confidence) + normal_quantile(power)) / gap) ** 2)
    return n if n <= _LARGEST else None


def detectable_paired(n: int, discordant: float, confidence: float, power: float = 0.8) -> float:
    """Return the smallest margin that `n` pairs decide with the given power when nothing changed on average."""
    return (normal_quantile(confidence) + normal_quantile(power)) * math.sqrt(discordant / n)

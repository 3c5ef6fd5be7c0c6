"""Power before the run: what a number of items can show, and the number that would be needed."""

from __future__ import annotations

import math

from safetune.core.intervals import CONTINUITY, Paired, incomplete_beta, normal_quantile, root, score_variance

POWER = 0.8  # the usual chance to see what is there (Cohen 1988)
_LARGEST = 1_000_000


def max_events(n: int, limit: float, confidence: float) -> int | None:
    """Return the largest count of `n` whose exact upper bound stays within `limit`; None when even 0 does not.

    The bound of k stays within the limit exactly when P(X <= k | limit) is at most 1 - confidence.
    """
    low, high = -1, n - 1
    while low < high:
        middle = (low + high + 1) // 2
        if binomial_at_most(middle, n, limit) <= 1 - confidence:
            low = middle
        else:
            high = middle - 1
    return None if low < 0 else low


def min_clean(limit: float, confidence: float) -> int:
    """Return how many items without any event it takes to claim a rate of at most `limit` (59 for 5 % at 95 %).

    `limit` lies strictly between 0 and 1.
    """
    return math.ceil(math.log(1 - confidence) / math.log1p(-limit))


def binomial_at_most(k: int, n: int, p: float) -> float:
    """Return P(X <= k) for X ~ Binomial(n, p) and 0 <= k < n (DLMF 8.17.5)."""
    return incomplete_beta(n - k, k + 1, 1 - p)


def power_absolute(n: int, limit: float, rate: float, confidence: float) -> float:
    """Return the chance that `n` items with true rate `rate` pass an exact ceiling of `limit`."""
    most = max_events(n, limit, confidence)
    return 0.0 if most is None else binomial_at_most(most, n, rate)


def detectable_absolute(n: int, limit: float, confidence: float) -> float | None:
    """Return how far below a ceiling the true rate must lie for `n` items to pass it with 80 % power.

    None when not even a rate of 0 passes.
    """
    most = max_events(n, limit, confidence)
    if most is None:
        return None
    return limit - root(lambda rate: POWER - binomial_at_most(most, n, rate), 0.0, limit)


def min_n_absolute(limit: float, rate: float, confidence: float) -> int | None:
    """Return about the smallest n that passes a ceiling with 80 % power when the true rate is `rate`.

    By doubling and bisection; power saw-tooths a little in n, so the answer is right to a few items. None when the
    rate is not below the limit or more than a million items would be needed.
    """
    if not 0 <= rate < limit < 1:
        return None
    high = min_clean(limit, confidence)
    while power_absolute(high, limit, rate, confidence) < POWER:
        high *= 2
        if high > _LARGEST:
            return None
    low = high // 2
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power_absolute(middle, limit, rate, confidence) >= POWER else (middle, high)
    return high


def min_n_paired(margin: float, difference: float, discordant: float, confidence: float) -> int | None:
    """Return the number of pairs for non-inferiority with 80 % power.

    Margin 0.02, no difference, 6 % discordant at 95 % gives 1,031. The textbook formula gives 928 (Liu et al.,
    Statistics in Medicine 2002): it leaves out that the score bound uses the larger variance at the margin, and the
    continuity correction. `margin` and `difference` are worsenings, `discordant` is the share of pairs that differ.
    None when the difference is not below the margin or a million is not enough.
    """
    gap = margin - difference
    if gap <= 0:
        return None
    spread = _spread(margin, difference, discordant, confidence)
    # gap * n - CONTINUITY = spread * sqrt(n), solved for n
    n = math.ceil(((spread + math.sqrt(spread**2 + 4 * gap * CONTINUITY)) / (2 * gap)) ** 2)
    return n if n <= _LARGEST else None


def detectable_paired(n: int, difference: float, discordant: float, confidence: float) -> float:
    """Return how far above the true worsening a margin must lie for `n` pairs to show it with 80 % power.

    At most 1; the other arguments are those of `min_n_paired`.
    """

    def short_of(gap: float) -> float:
        spread = _spread(min(difference + gap, 1.0), difference, discordant, confidence)
        return gap - CONTINUITY / n - spread / math.sqrt(n)

    return root(short_of, 0.0, 1.0)


def _spread(margin: float, difference: float, discordant: float, confidence: float) -> float:
    """Return what one pair adds to the distance between truth and margin, in standard errors for test and power."""
    discordant = max(discordant, abs(difference))
    worse, better = (discordant + difference) / 2, (discordant - difference) / 2
    at_margin = score_variance(Paired(0.0, worse, better, 1 - discordant), margin)
    at_truth = discordant - difference**2
    return normal_quantile(confidence) * math.sqrt(at_margin) + normal_quantile(POWER) * math.sqrt(at_truth)

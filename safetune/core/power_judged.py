"""Power before the run when the judge errs: what its calibration card leaves to be seen.

A judge with sensitivity se and specificity sp reads a true rate p as q = p se + (1 - p)(1 - sp), and a true change D as
D (se + sp - 1). With a card of the user's own sample it is taken to err as often as that says. The bounds are those of
`judge_error`, so they also hold the doubt about the card, which no number of items takes away.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

from safetune.core.bounds import Bounds
from safetune.core.intervals import CONTINUITY, Paired, clopper_pearson_upper, normal_quantile, root, score_variance
from safetune.core.judge_error import Reliability, corrected, corrected_difference
from safetune.core.power import POWER, binomial_at_most

_LARGEST = 1_000_000
_STEPS = 24  # halvings of [0, 1]


def mirrored(trust: Reliability) -> Reliability:
    """Return how far the judge can be trusted to see that the event is not there."""
    return replace(trust, sensitivity=trust.specificity, specificity=trust.sensitivity)


def judged_rate(rate: float, trust: Reliability) -> float:
    """Return the rate at which the judge sees an event of assumed rate `rate`.

    A card of other responses does not say how often the judge errs on these, so the assumed rate is then the judged
    one, and the card only widens the bounds.
    """
    if not trust.own:
        return rate
    return rate * trust.sensitivity.value + (1 - rate) * (1 - trust.specificity.value)


def assumed_rate(seen: float, trust: Reliability) -> float:
    """Return the assumed rate that is judged as `seen`: the way back from `judged_rate`."""
    return (seen - judged_rate(0.0, trust)) / slope(trust)


def slope(trust: Reliability) -> float:
    """Return how much of a true change the judge sees: all of an assumed one, where the card is of other responses."""
    return trust.sensitivity.value + trust.specificity.value - 1 if trust.own else 1.0


def judged_ceiling(ceiling: float, trust: Reliability) -> float:
    """Return the judged rate up to which a true rate within `ceiling` is shown, were the judged rate known exactly.

    0 where the doubt about the judge alone keeps it out of reach.
    """

    def beyond(seen: float) -> float:
        return corrected(seen, Bounds(seen, seen), trust)[1].high - ceiling

    found = 0.0 if beyond(0.0) > 0 else root(beyond, 0.0, 1.0)
    return found if trust.own else min(found, ceiling)


def passes(events: int, n: int, limit: tuple[float, float], trust: Reliability) -> bool:
    """Say whether so many judged events of `n` pass a limit, given as (ceiling, confidence)."""
    ceiling, confidence = limit
    counted = Bounds(events / n, clopper_pearson_upper(events, n, confidence))
    none = clopper_pearson_upper(0, n, confidence)
    found = corrected(events / n, counted, trust, Bounds(1.0, none))[1]
    return found.high <= ceiling and (trust.own or counted.high <= ceiling)


def most_judged(n: int, ceiling: float, confidence: float, trust: Reliability) -> int | None:
    """Return the largest judged count of `n` that passes a ceiling on the true rate; None when even 0 does not."""
    low, high = -1, n - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if passes(middle, n, (ceiling, confidence), trust) else (low, middle - 1)
    return None if low < 0 else low


def power_judged(n: int, ceiling: float, rate: float, confidence: float, trust: Reliability) -> float:
    """Return the chance that `n` items with true rate `rate` pass a ceiling."""
    most = most_judged(n, ceiling, confidence, trust)
    return 0.0 if most is None else binomial_at_most(most, n, judged_rate(rate, trust))


def detectable_judged(n: int, ceiling: float, confidence: float, trust: Reliability) -> float | None:
    """Return how far below a ceiling the true rate must lie for `n` items to pass it with 80 % power.

    None when not even a rate of 0 passes that often.
    """
    most = most_judged(n, ceiling, confidence, trust)
    if most is None or binomial_at_most(most, n, judged_rate(0.0, trust)) < POWER:
        return None
    return ceiling - root(lambda rate: POWER - binomial_at_most(most, n, judged_rate(rate, trust)), 0.0, ceiling)


@cache
def min_n_judged(ceiling: float, rate: float, confidence: float, trust: Reliability) -> int | None:
    """Return about the smallest n that passes a ceiling with 80 % power when the true rate is `rate`.

    None when the doubt about the judge alone keeps the limit out of reach, or a million items would.
    """
    if judged_rate(rate, trust) >= judged_ceiling(ceiling, trust):
        return None
    seen = judged_rate(rate, trust)
    # Power is enough exactly when the count that is not exceeded in 80 % of all cases passes.
    return _smallest(lambda n: (k := _usual(n, seen)) < n and passes(k, n, (ceiling, confidence), trust))


def _usual(n: int, rate: float) -> int:
    """Return the smallest count that at least 80 % of all samples do not exceed."""
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if binomial_at_most(middle, n, rate) >= POWER else (middle + 1, high)
    return low


def holds_paired(n: int, margin: float, change: tuple[float, float], confidence: float, trust: Reliability) -> bool:
    """Say whether `n` pairs show with 80 % power that a worsening is within `margin`.

    `change` is the true worsening, and the share of pairs that the judge calls different.
    """
    youden = slope(trust)
    difference = change[0] * youden
    discordant = max(change[1], abs(difference))
    worse, better = (discordant + difference) / 2, (discordant - difference) / 2
    judged_margin = margin * (trust.sensitivity.value + trust.specificity.value - 1)
    at_margin = score_variance(Paired(0.0, worse, better, 1 - discordant), judged_margin)
    seen = difference + normal_quantile(POWER) * math.sqrt((discordant - difference**2) / n)
    high = seen + normal_quantile(confidence) * math.sqrt(at_margin / n) + CONTINUITY / n
    found = corrected_difference(seen, Bounds(seen, high), trust)[1]
    return found.high <= margin and (trust.own or high <= margin)


def min_n_paired_judged(
    margin: float, change: tuple[float, float], confidence: float, trust: Reliability
) -> int | None:
    """Return the number of pairs at which `holds_paired`; None when a million is not enough."""
    if not holds_paired(_LARGEST, margin, change, confidence, trust):
        return None
    return _smallest(lambda n: holds_paired(n, margin, change, confidence, trust))


def detectable_paired_judged(n: int, change: tuple[float, float], confidence: float, trust: Reliability) -> float:
    """Return how far above the true worsening a margin must lie for `holds_paired`; a margin of 1 always would."""
    low, high = 0.0, 1.0 - change[0]
    for _ in range(_STEPS):
        gap = (low + high) / 2
        low, high = (low, gap) if holds_paired(n, change[0] + gap, change, confidence, trust) else (gap, high)
    return high


def _smallest(enough: Callable[[int], bool]) -> int | None:
    """Return about the smallest n that is enough, by doubling and bisection."""
    high = 1
    while not enough(high):
        high *= 2
        if high > _LARGEST:
            return None
    low = high // 2
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high

"""Power before the run of a test after every item: what it can show within n, and the n that it may take."""

from __future__ import annotations

from functools import cache

from safetune.core.power import POWER
from safetune.core.sequential import Question, expected_items

MOST = 5_000  # items: beyond it the chances take too long to carry along for a plan

_STEPS = 10  # halvings when a rate is looked for: good to a thousandth of the limit
_CLOSE = 50  # n is found to within one part of so many, as power here has no sharp edge


@cache
def min_n(question: Question, truth: float) -> int | None:
    """Return about the smallest n within which a rate of `truth` is shown to be below the limit with 80 % power.

    None when it is not below, or when more than `MOST` items would be needed.
    """
    if truth >= question.scaled:
        return None
    high = 16
    while not _shows(question, truth, high):
        high *= 2
        if high > MOST:
            return None
    low = high // 2
    while high - low > max(1, high // _CLOSE):
        middle = (low + high) // 2
        low, high = (low, middle) if _shows(question, truth, middle) else (middle, high)
    return high


def detectable(question: Question, least: float, n: int) -> float | None:
    """Return how far below the limit a rate must lie for `n` items to show it with 80 % power.

    `least` is the smallest rate there can be; None when not even that is shown.
    """
    low, high = least, question.scaled
    if low >= high or not _shows(question, low, n):
        return None
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _shows(question, middle, n) else (low, middle)
    return question.scaled - low


def _shows(question: Question, truth: float, n: int) -> bool:
    return expected_items(question, truth, n).below >= POWER

"""How often a corrected rate or difference lets a model at its limit pass, or fails it: by whole tables, and drawn."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from safetune.core.bounds import Bounds
from safetune.core.intervals import (
    Paired,
    clopper_pearson_lower,
    clopper_pearson_upper,
    paired_lower,
    paired_upper,
)
from safetune.core.judge_error import Part, Reliability, corrected, corrected_difference, reliability
from safetune.core.suite import Metric

REFUSALS = Metric("refusal_rate", ("refusal",), "higher")
ALPHA = 0.05


def _trust(right: int, clean: int, rows: int, alpha: float = ALPHA) -> Reliability | None:
    """Return what a card with `rows` rows of each label says; None when it may be that of a guessing judge."""
    counts = {
        "true_positive": right,
        "false_negative": rows - right,
        "false_positive": rows - clean,
        "true_negative": clean,
        "other": 0,
    }
    card = {"kind": "card", "positive": "refusal", "negative": "compliance", "languages": {"en": counts}}
    found = reliability(card, REFUSALS, ["en"], 1 - alpha)
    return found if isinstance(found, Reliability) else None


def _of(k: int, n: int, alpha: float = ALPHA) -> tuple[float, Bounds]:
    return k / n, Bounds(clopper_pearson_lower(k, n, 1 - alpha), clopper_pearson_upper(k, n, 1 - alpha))


def _pairs(worse: int, better: int, n: int) -> tuple[float, Bounds]:
    counts = Paired(0, worse, better, n - worse - better)
    return counts.difference, Bounds(paired_lower(counts, 1 - ALPHA), paired_upper(counts, 1 - ALPHA))


def _likely(n: int, p: float) -> list[tuple[int, float]]:
    """Return the counts that are not all but impossible, with their chances."""
    chances = ((k, float(stats.binom.pmf(k, n, p))) for k in range(n + 1))
    return [(k, chance) for k, chance in chances if chance > 1e-6]


def _last(n: int, holds: Callable[[int], bool]) -> int:
    """Return the largest count in [0, n] up to which `holds`, or -1."""
    low, high = -1, n
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _parting(n: int, trust: Reliability, limit: float, alpha: float = ALPHA) -> tuple[int, int]:
    """Return up to how many events pass, and up to how many do not fail: both bounds rise with the events."""
    return (
        _last(n, lambda k: corrected(*_of(k, n, alpha), trust)[1].high <= limit),
        _last(n, lambda k: corrected(*_of(k, n, alpha), trust)[1].low <= limit),
    )


def _decided(n: int, rows: int, judge: tuple[float, float], limit: float, alpha: float = ALPHA) -> tuple[float, float]:
    """Return the chances to pass and to fail, when the true rate is `limit`, over every table there can be."""
    se, sp = judge
    q = limit * se + (1 - limit) * (1 - sp)
    passed = failed = 0.0
    for right, chance in _likely(rows, se):
        for clean, other in _likely(rows, sp):
            if trust := _trust(right, clean, rows, alpha):
                most, least = _parting(n, trust, limit, alpha)
                passed += chance * other * float(stats.binom.cdf(most, n, q))
                failed += chance * other * float(stats.binom.sf(least, n, q))
    return passed, failed


CORNERS = [(1.0, 0.9), (0.9, 1.0), (0.99, 0.99), (0.7, 0.97)]


@pytest.mark.parametrize(("judge", "limit"), [((0.9, 0.9), 0.05), ((0.9, 0.9), 0.2), ((1.0, 0.95), 0.2)])
def test_a_model_at_its_limit_seldom_passes_or_fails(judge: tuple[float, float], limit: float) -> None:
    assert max(_decided(60, 30, judge, limit)) <= ALPHA


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0.05, 0.2])
@pytest.mark.parametrize("n", [100, 400])
@pytest.mark.parametrize("rows", [30, 100, 400])
def test_it_seldom_does_with_small_and_large_cards(n: int, rows: int, limit: float) -> None:
    assert max(_decided(n, rows, (0.9, 0.9), limit)) <= ALPHA


@pytest.mark.slow
@pytest.mark.parametrize("judge", CORNERS)
@pytest.mark.parametrize("limit", [0.01, 0.2, 0.5])
def test_it_seldom_does_with_judges_that_hardly_ever_err(judge: tuple[float, float], limit: float) -> None:
    assert max(_decided(100, 30, judge, limit)) <= ALPHA


@pytest.mark.parametrize("alpha", [0.0025, pytest.param(0.01, marks=pytest.mark.slow)])
def test_it_seldom_does_at_high_confidence_where_squares_would_pass_it_too_often(alpha: float) -> None:
    assert max(_decided(400, 30, (0.99, 0.99), 0.05, alpha)) <= alpha


@pytest.mark.slow
def test_cards_taken_at_their_word_would_pass_it_far_too_often() -> None:
    passed = 0.0
    for right, chance in _likely(30, 0.9):
        for clean, other in _likely(30, 0.9):
            se, sp = right / 30, clean / 30
            known = Reliability(Part(se, se, se, se, se), Part(sp, sp, sp, sp, sp))
            most, _ = _parting(400, known, 0.1)
            passed += chance * other * float(stats.binom.cdf(most, 400, 0.1 * 0.9 + 0.9 * 0.1))
    assert passed > 0.2


def _wrong_differences(rows: int, back: float, trials: int) -> tuple[float, float]:
    """Return how often a worsening of exactly 10 points passes that margin, and how often it fails; 200 prompts.

    Ten points and `back` get worse, `back` gets better, and half of the rest has the event in both arms. The judge
    errs with a chance of 0.1, in each arm by itself.
    """
    rng = np.random.default_rng(11)
    cells = rng.multinomial(200, [0.1 + back, back, 0.45 - back, 0.45 - back], trials)
    passed = failed = 0
    for cell, right, clean in zip(cells, rng.binomial(rows, 0.9, trials), rng.binomial(rows, 0.9, trials), strict=True):
        after = np.repeat([1, 0, 1, 0], cell) ^ (rng.uniform(size=200) < 0.1)
        before = np.repeat([0, 1, 1, 0], cell) ^ (rng.uniform(size=200) < 0.1)
        worse, better = int(np.sum(after > before)), int(np.sum(before > after))
        if trust := _trust(int(right), int(clean), rows):
            bounds = corrected_difference(*_pairs(worse, better, 200), trust)[1]
            passed, failed = passed + (bounds.high <= 0.1), failed + (bounds.low > 0.1)
    return passed / trials, failed / trials


def _allowed(trials: int) -> float:
    return ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / trials)


def test_a_difference_at_its_margin_seldom_passes_or_fails() -> None:
    assert max(_wrong_differences(50, 0.02, 300)) <= _allowed(300)


@pytest.mark.slow
@pytest.mark.parametrize("back", [0.0, 0.02, 0.2])
@pytest.mark.parametrize("rows", [30, 100, 400])
def test_differences_keep_the_promise_over_10000_trials(rows: int, back: float) -> None:
    assert max(_wrong_differences(rows, back, 10_000)) <= _allowed(10_000)

"""Power before the run: published figures, scipy, and simulation of what the gate would do."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from safetune.core.intervals import CONTINUITY, Paired, clopper_pearson_upper, score_variance
from safetune.core.power import (
    detectable_absolute,
    detectable_paired,
    max_events,
    min_clean,
    min_n_absolute,
    min_n_paired,
    power_absolute,
)


@pytest.mark.parametrize(("limit", "n"), [(0.05, 59), (0.02, 149), (0.01, 299)])
def test_published_numbers_of_clean_prompts(limit: float, n: int) -> None:
    assert min_clean(limit, 0.95) == n
    assert clopper_pearson_upper(0, n, 0.95) <= limit < clopper_pearson_upper(0, n - 1, 0.95)


def test_published_number_of_pairs_would_leave_the_gate_short_of_80_percent() -> None:
    # 928 pairs for a margin of 2 points and 6 % discordant pairs, by the formula that knows one variance only.
    textbook = 0.06 * ((stats.norm.ppf(0.95) + stats.norm.ppf(0.8)) / 0.02) ** 2
    assert math.ceil(textbook) == 928
    assert min_n_paired(0.02, 0.0, 0.06, 0.95) == 1031
    assert _chance(928, 0.02, 0.06) < 0.78
    assert 0.79 < _chance(1031, 0.02, 0.06) < 0.82


@given(st.integers(1, 800), st.floats(0.001, 0.999), st.floats(0.8, 0.999))
def test_max_events_is_the_last_count_whose_bound_stays_inside(n: int, limit: float, confidence: float) -> None:
    most = max_events(n, limit, confidence)
    inside = -1 if most is None else most
    if inside >= 0:
        assert clopper_pearson_upper(inside, n, confidence) <= limit + 1e-9
    assert clopper_pearson_upper(inside + 1, n, confidence) >= limit - 1e-9


@pytest.mark.parametrize("limit", [0.05, 0.2])
def test_max_events_agrees_with_the_binomial_for_every_n(limit: float) -> None:
    for n in range(1, 400):
        inside = int((stats.binom.cdf(range(n // 2 + 1), n, limit) <= 0.05).sum())
        assert max_events(n, limit, 0.95) == (inside - 1 if inside else None)


@pytest.mark.parametrize(("limit", "most"), [(0.0, None), (1.0, 39)])
def test_limits_at_the_ends(limit: float, most: int | None) -> None:
    assert max_events(40, limit, 0.95) == most


@given(st.integers(59, 800), st.floats(0.0, 0.05))
def test_power_is_the_binomial_chance_to_stay_inside(n: int, rate: float) -> None:
    most = max_events(n, 0.05, 0.95)
    assert power_absolute(n, 0.05, rate, 0.95) == pytest.approx(stats.binom.cdf(most, n, rate), abs=1e-9)


def test_too_few_items_have_no_power() -> None:
    assert power_absolute(58, 0.05, 0.0, 0.95) == 0
    assert detectable_absolute(58, 0.05, 0.95) is None


@given(st.integers(60, 800), st.floats(0.05, 0.6))
def test_a_rate_at_the_detectable_distance_passes_in_80_percent(n: int, limit: float) -> None:
    distance = detectable_absolute(n, limit, 0.95)
    assert distance is not None
    assert 0 < distance <= limit
    assert power_absolute(n, limit, limit - distance, 0.95) == pytest.approx(0.8, abs=1e-6)


@given(st.floats(0.02, 0.9), st.floats(0, 0.9))
def test_the_n_for_a_ceiling_reaches_80_percent_and_half_of_it_does_not(limit: float, share: float) -> None:
    rate = limit * share
    n = min_n_absolute(limit, rate, 0.95)
    assert n is not None
    assert power_absolute(n, limit, rate, 0.95) >= 0.8
    assert power_absolute(max(n // 2, 1), limit, rate, 0.95) < 0.8 or n < 10


@pytest.mark.parametrize(("limit", "rate"), [(0.1, 0.1), (0.1, 0.2), (1.0, 0.5), (0.0, 0.0), (0.1, -0.1)])
def test_a_rate_that_is_not_below_the_ceiling_needs_no_n(limit: float, rate: float) -> None:
    assert min_n_absolute(limit, rate, 0.95) is None


def test_more_than_a_million_items_are_not_asked_for() -> None:
    assert min_n_absolute(0.2, 0.1999, 0.95) is None
    assert min_n_paired(0.001, 0.0, 0.5, 0.95) is None


@pytest.mark.parametrize("difference", [0.05, 0.06])
def test_a_difference_that_is_not_below_the_margin_needs_no_n(difference: float) -> None:
    assert min_n_paired(0.05, difference, 0.1, 0.95) is None


def _chance(n: int, margin: float, discordant: float) -> float:
    """Return P(PASS) when nothing changed on average, by enumerating every table.

    The bound stays inside the margin exactly when the corrected score at the margin is beyond the normal quantile.
    """
    half, total, z = discordant / 2, 0.0, stats.norm.ppf(0.95)

    def inside(b: int, c: int) -> bool:
        table = Paired(0, b, c, n - b - c)
        return bool(b - c - n * margin + CONTINUITY <= -z * math.sqrt(score_variance(table, margin)))

    for c in range(n + 1):
        weight = float(stats.binom.pmf(c, n, half))
        if weight < 1e-9:
            continue
        low, high = -1, n - c
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if inside(middle, c) else (low, middle - 1)
        total += weight * (float(stats.binom.cdf(low, n - c, half / (1 - half))) if low >= 0 else 0.0)
    return total


@pytest.mark.parametrize(
    ("margin", "discordant"), [(0.10, 0.10), (0.10, 0.20), (0.05, 0.10), (0.15, 0.30), (0.10, 0.04), (0.05, 0.02)]
)
def test_the_number_of_pairs_gives_about_80_percent(margin: float, discordant: float) -> None:
    n = min_n_paired(margin, 0.0, discordant, 0.95)
    assert n is not None
    assert 0.79 < _chance(n, margin, discordant) < 0.85


@given(st.floats(0.02, 0.3), st.floats(-0.05, 0.01), st.floats(0.06, 0.5))
def test_detectable_difference_and_number_of_pairs_are_inverse(
    margin: float, difference: float, discordant: float
) -> None:
    n = min_n_paired(margin, difference, discordant, 0.95)
    assert n is not None
    assert detectable_paired(n, difference, discordant, 0.95) <= margin - difference + 1e-9
    if n > 2:
        assert detectable_paired(n - 1, difference, discordant, 0.95) > margin - difference - 1e-9


def test_a_handful_of_pairs_detects_nothing() -> None:
    assert 0.9 < detectable_paired(1, 0.0, 0.1, 0.95) <= 1


def test_the_share_of_discordant_pairs_is_at_least_the_difference() -> None:
    assert min_n_paired(0.5, 0.3, 0.0, 0.95) == min_n_paired(0.5, 0.3, 0.3, 0.95)

"""Bounds against scipy, against published values, and against full enumeration of what can happen at the limit."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from safetune.core.intervals import (
    CONTINUITY,
    LEAST_CORRELATION,
    Paired,
    clopper_pearson_lower,
    clopper_pearson_upper,
    design_effect,
    incomplete_beta,
    least_design_effect,
    normal_quantile,
    paired_lower,
    paired_upper,
    root,
    student_quantile,
)

CONFIDENCES = st.floats(0.8, 0.9999)
COUNTS = st.tuples(*(st.integers(0, 200),) * 4).filter(lambda cells: sum(cells) > 0)


@given(st.floats(0.05, 5000), st.floats(0.05, 5000), st.floats(0, 1))
def test_incomplete_beta_agrees_with_scipy(a: float, b: float, x: float) -> None:
    assert incomplete_beta(a, b, x) == pytest.approx(stats.beta.cdf(x, a, b), abs=1e-9)


def test_incomplete_beta_outside_the_unit_interval_is_0_or_1() -> None:
    assert incomplete_beta(2, 3, -0.1) == 0
    assert incomplete_beta(2, 3, 1.1) == 1


@given(st.integers(1, 3000), st.floats(0, 1), CONFIDENCES)
def test_exact_upper_bound_agrees_with_the_beta_quantile(n: int, share: float, confidence: float) -> None:
    k = round(share * n)
    expected = 1.0 if k == n else stats.beta.ppf(confidence, k + 1, n - k)
    assert clopper_pearson_upper(k, n, confidence) == pytest.approx(expected, abs=1e-9)


@given(st.integers(1, 3000), st.floats(0, 1), CONFIDENCES)
def test_exact_lower_bound_agrees_with_the_beta_quantile(n: int, share: float, confidence: float) -> None:
    k = round(share * n)
    expected = 0.0 if k == 0 else stats.beta.ppf(1 - confidence, k, n - k + 1)
    assert clopper_pearson_lower(k, n, confidence) == pytest.approx(expected, abs=1e-9)


def test_exact_bounds_are_0_and_1_at_the_ends() -> None:
    assert clopper_pearson_lower(0, 20, 0.95) == 0
    assert clopper_pearson_upper(20, 20, 0.95) == 1


@settings(max_examples=15)
@given(st.integers(1, 60), st.floats(0.001, 0.999))
def test_exact_upper_bound_misses_the_truth_at_most_as_often_as_promised(n: int, truth: float) -> None:
    missed = sum(
        stats.binom.pmf(k, n, truth) for k in range(n + 1) if clopper_pearson_upper(k, n, 0.95) < truth - 1e-12
    )
    assert missed <= 0.05 + 1e-9


@given(st.integers(2, 400), st.floats(0, 1), st.floats(1.01, 20))
def test_fewer_effective_items_at_the_same_rate_widen_both_bounds(n: int, share: float, effect: float) -> None:
    k = round(share * n)
    assert clopper_pearson_upper(k / effect, n / effect, 0.95) >= clopper_pearson_upper(k, n, 0.95) - 1e-9
    assert clopper_pearson_lower(k / effect, n / effect, 0.95) <= clopper_pearson_lower(k, n, 0.95) + 1e-9


@pytest.mark.parametrize(("k", "n"), [(0, 0), (-1, 5), (6, 5), (0, math.nan), (math.nan, 5)])
def test_impossible_counts_are_refused(k: float, n: float) -> None:
    with pytest.raises(ValueError, match="not a proportion"):
        clopper_pearson_upper(k, n, 0.95)


@pytest.mark.parametrize("confidence", [0.5, 1.0, 0.0, 95, math.nan])
def test_a_confidence_that_is_none_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        clopper_pearson_upper(1, 5, confidence)
    with pytest.raises(ValueError, match="confidence"):
        paired_upper(Paired(1, 1, 1, 1), confidence)


@pytest.mark.parametrize(
    ("counts", "confidence", "low", "high"),
    [
        # Airway hyper-responsiveness of 21 patients before and after a transplantation (Fagerland, Lydersen and
        # Laake, Statistics in Medicine 2014): Tango's 95 % interval.
        (Paired(1, 1, 7, 12), 0.975, -0.517, -0.026),
        # What `scoreci.mp` of the R package PropCIs gives.
        (Paired(0, 28, 25, 565), 0.95, -0.0148, 0.0247),
        (Paired(85, 38, 48, 29), 0.975, -0.14054, 0.04122),
    ],
)
def test_published_tango_intervals(counts: Paired, confidence: float, low: float, high: float) -> None:
    digits = 10.0 ** -len(str(low).partition(".")[2])
    assert paired_lower(counts, confidence, correction=0) == pytest.approx(low, abs=0.51 * digits)
    assert paired_upper(counts, confidence, correction=0) == pytest.approx(high, abs=0.51 * digits)


def _score_by_likelihood(counts: Paired, delta: float) -> float:
    """Tango's statistic from its definition: the nuisance rate is found by maximising the likelihood numerically."""
    n, b, c = counts.n, counts.only_candidate, counts.only_baseline

    def minus_log_likelihood(q: float) -> float:
        cells = ((b, q + delta), (c, q), (n - b - c, 1 - 2 * q - delta))
        return -sum(count * math.log(rate) for count, rate in cells if count)

    low, high = max(0.0, -delta), (1 - delta) / 2
    margin = 1e-12
    found = optimize.minimize_scalar(
        minus_log_likelihood, bounds=(low + margin, high - margin), method="bounded", options={"xatol": 1e-12}
    )
    variance = n * (2 * float(found.x) + delta - delta**2)
    return (b - c - n * delta) / math.sqrt(variance)


@settings(max_examples=30)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 200), st.integers(1, 200))
def test_the_published_score_bound_solves_the_likelihood_equation(b: int, c: int, both: int, neither: int) -> None:
    counts = Paired(both, b, c, neither)
    bound = paired_upper(counts, 0.95, correction=0)
    assert _score_by_likelihood(counts, bound) == pytest.approx(-normal_quantile(0.95), abs=1e-3)


@pytest.mark.parametrize("n", [10, 30, 59, 1000])
def test_without_discordant_pairs_the_published_bound_has_a_closed_form(n: int) -> None:
    z = normal_quantile(0.95)
    assert paired_upper(Paired(n // 2, 0, 0, n - n // 2), 0.95, correction=0) == pytest.approx(z**2 / (n + z**2))


@given(COUNTS, CONFIDENCES)
def test_paired_bounds_enclose_the_difference_and_stay_in_range(
    cells: tuple[int, int, int, int], confidence: float
) -> None:
    counts = Paired(*cells)
    low, high = paired_lower(counts, confidence), paired_upper(counts, confidence)
    assert -1 <= low <= counts.difference <= high <= 1


@given(COUNTS)
def test_the_continuity_correction_never_narrows(cells: tuple[int, int, int, int]) -> None:
    counts = Paired(*cells)
    assert paired_upper(counts, 0.95) >= paired_upper(counts, 0.95, correction=0) - 1e-12


@given(COUNTS)
def test_swapping_the_arms_mirrors_the_bounds(cells: tuple[int, int, int, int]) -> None:
    both, b, c, neither = cells
    counts, swapped = Paired(both, b, c, neither), Paired(both, c, b, neither)
    assert paired_upper(counts, 0.95) == pytest.approx(-paired_lower(swapped, 0.95))


@given(COUNTS.filter(lambda cells: cells[3] > 0))
def test_one_more_harmed_pair_never_lowers_the_upper_bound(cells: tuple[int, int, int, int]) -> None:
    both, b, c, neither = cells
    harmed = Paired(both, b + 1, c, neither - 1)
    assert paired_upper(harmed, 0.95) >= paired_upper(Paired(both, b, c, neither), 0.95) - 1e-9


def test_all_pairs_worse_leaves_no_upper_bound_but_1() -> None:
    assert paired_upper(Paired(0, 12, 0, 0), 0.95) == 1
    assert paired_lower(Paired(0, 0, 12, 0), 0.95) == -1


def _false_pass(n: int, margin: float, back: float, correction: float) -> float:
    """Return P(upper bound <= margin) when the true worsening is `margin`, by enumerating every table.

    `back` is the rate of pairs that get better; `margin + back` the rate of pairs that get worse.
    """
    worse = margin + back
    total = 0.0
    for c in range(n + 1):
        weight = stats.binom.pmf(c, n, back)
        if weight < 1e-9:
            continue
        most = -1
        while most + 1 <= n - c:
            b = most + 1
            if paired_upper(Paired(0, b, c, n - b - c), 0.95, correction) > margin:
                break
            most += 1
        if most >= 0:
            total += weight * stats.binom.cdf(most, n - c, worse / (1 - back))
    return total


SIZES = [(30, 0.10), (30, 0.20), (60, 0.10), (100, 0.10), (120, 0.05)]


@pytest.mark.parametrize("back", [1e-9, 0.01, 0.05, 0.2])
@pytest.mark.parametrize(("n", "margin"), SIZES)
def test_at_the_margin_a_worse_model_passes_in_at_most_5_percent(n: int, margin: float, back: float) -> None:
    assert _false_pass(n, margin, back, CONTINUITY) <= 0.05


def test_without_the_correction_it_would_pass_more_often() -> None:
    assert _false_pass(100, 0.10, 1e-9, 0.0) > 0.055


@pytest.mark.slow
@pytest.mark.parametrize("back", [1e-9, 0.002, 0.01, 0.05, 0.1, 0.3])
@pytest.mark.parametrize(("n", "margin"), [(150, 0.05), (200, 0.02), (200, 0.10), (300, 0.02), (300, 0.05)])
def test_at_the_margin_larger_suites_keep_the_promise_too(n: int, margin: float, back: float) -> None:
    assert _false_pass(n, margin, back, CONTINUITY) <= 0.05


@given(st.floats(0.51, 0.9999), st.integers(1, 3000))
def test_student_quantile_agrees_with_scipy(p: float, degrees: int) -> None:
    assert student_quantile(p, degrees) == pytest.approx(stats.t.ppf(p, degrees), rel=1e-6)


@given(st.floats(0.001, 0.999))
def test_normal_quantile_agrees_with_scipy(p: float) -> None:
    assert normal_quantile(p) == pytest.approx(stats.norm.ppf(p), abs=1e-9)


@given(st.floats(-5, 5))
def test_root_finds_where_an_increasing_function_crosses_zero(where: float) -> None:
    assert root(lambda x: x - where, -6, 6) == pytest.approx(where, abs=1e-12)


def _clusters(groups: list[list[int]]) -> list[tuple[str, float]]:
    return [(str(name), value) for name, group in enumerate(groups) for value in group]


def test_items_of_their_own_are_worth_what_they_are() -> None:
    assert design_effect([(str(n), n % 2) for n in range(5)], 0.95) == 1


def test_nine_clusters_are_too_few() -> None:
    with pytest.raises(ValueError, match="9 clusters are too few"):
        design_effect(_clusters([[0, 1]] * 9), 0.95)
    assert design_effect(_clusters([[0, 1]] * 10), 0.95) > 1


@pytest.mark.parametrize("value", [0, 1])
def test_clusters_that_all_agree_still_cost_the_least_correlation(value: int) -> None:
    # 14 families with 10 problems each, without any spread: 140 items are worth about 43.
    effect = design_effect(_clusters([[value] * 10] * 14), 0.95)
    assert effect == least_design_effect(14, 10, 0.95)
    assert 140 / effect == pytest.approx(43.1, abs=0.1)


def test_clusters_that_are_of_one_mind_are_worth_one_item_each() -> None:
    effect = design_effect(_clusters([[n % 2] * 10 for n in range(40)]), 0.95)
    t_over_z = stats.t.ppf(0.95, 39) / stats.norm.ppf(0.95)
    assert effect == pytest.approx(10 * 40 / 39 * t_over_z**2)


def test_the_design_effect_is_the_ratio_of_the_clustered_to_the_plain_variance() -> None:
    # By hand: 12 clusters of 2, six with both items 1, six with both 0. Residual sums are +1 and -1.
    values = _clusters([[1, 1]] * 6 + [[0, 0]] * 6)
    between, plain = 12 / 11 * 12, 24 * 0.25
    t_over_z = stats.t.ppf(0.95, 11) / stats.norm.ppf(0.95)
    assert design_effect(values, 0.95) == pytest.approx(between / plain * t_over_z**2)


def test_the_least_effect_counts_unequal_clusters_by_their_items() -> None:
    values = _clusters([[0] * 20] + [[0]] * 19)
    size = (20**2 + 19) / 39
    inflation = 1 + (size - 1) * LEAST_CORRELATION
    t_over_z = stats.t.ppf(0.95, 19) / stats.norm.ppf(0.95)
    assert design_effect(values, 0.95) == pytest.approx(inflation * t_over_z**2)


def test_a_comparison_shrinks_evenly() -> None:
    assert Paired(8, 4, 2, 6).shrunk(2) == Paired(4, 2, 1, 3)
    assert Paired(8, 4, 2, 6).shrunk(2).difference == Paired(8, 4, 2, 6).difference

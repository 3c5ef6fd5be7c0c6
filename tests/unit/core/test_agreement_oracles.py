"""Agreement with scipy, statsmodels and evalsig to 1e-9 where they compute the same thing, and where they do not."""

from __future__ import annotations

import math

import evalsig
import numpy as np
import pytest
from evalsig import inference as theirs
from numpy.typing import NDArray
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import binom_tost, proportion_confint
from statsmodels.stats.weightstats import ttost_paired

from safetune.core import bounds, means
from safetune.core.bounds import Outcome, Pair
from safetune.core.holm import rejected
from safetune.core.intervals import (
    CONTINUITY,
    LEAST_CORRELATION,
    Paired,
    clopper_pearson_lower,
    clopper_pearson_upper,
    design_effect,
    least_design_effect,
    normal_quantile,
    paired_upper,
    student_quantile,
)
from safetune.core.means import Scored, ScoredPair
from safetune.core.power import min_n_paired

EXACT = 1e-9
TABLES = [(0, 30), (1, 59), (7, 60), (30, 60), (14, 400), (399, 400), (123, 1319)]
CONFIDENCES = [0.9, 0.95, 0.99, 0.9975]
Floats = NDArray[np.float64]


def _close(expected: float) -> object:
    return pytest.approx(expected, rel=0, abs=EXACT)


# -- Rates -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("confidence", CONFIDENCES)
@pytest.mark.parametrize(("k", "n"), TABLES)
def test_exact_bounds_of_a_rate(k: int, n: int, confidence: float) -> None:
    outcomes: list[Outcome] = [(str(i), int(i < k)) for i in range(n)]
    found = bounds.of_rate(outcomes, confidence)
    upper = stats.binomtest(k, n, alternative="less").proportion_ci(confidence, method="exact").high
    lower = stats.binomtest(k, n, alternative="greater").proportion_ci(confidence, method="exact").low
    both = proportion_confint(k, n, 2 * (1 - confidence), method="beta")
    assert (found.low, found.high) == (_close(lower), _close(upper))
    assert (found.low, found.high) == (_close(both[0]), _close(both[1]))


@pytest.mark.parametrize("limit", [0.02, 0.05, 0.1, 0.2])
@pytest.mark.parametrize(("k", "n"), TABLES)
def test_a_ceiling_is_passed_when_the_exact_test_refutes_a_rate_above_it(k: int, n: int, limit: float) -> None:
    p_value = stats.binomtest(k, n, limit, alternative="less").pvalue
    assert (clopper_pearson_upper(k, n, 0.95) <= limit) == (p_value <= 0.05)
    assert binom_tost(k, n, 0, limit)[2] == _close(p_value)
    if 0.5 < 1 - p_value < 1:  # the bound at the confidence that the p-value stands for is the limit itself
        assert clopper_pearson_upper(k, n, 1 - p_value) == _close(limit)
        assert clopper_pearson_lower(n - k, n, 1 - p_value) == _close(1 - limit)


@pytest.mark.parametrize("confidence", CONFIDENCES)
@pytest.mark.parametrize("degrees", [9, 13, 59, 999])
def test_quantiles(degrees: int, confidence: float) -> None:
    assert normal_quantile(confidence) == _close(stats.norm.ppf(confidence))
    assert student_quantile(confidence, degrees) == _close(stats.t.ppf(confidence, degrees))


# -- Paired rates ------------------------------------------------------------------------------------------------------

COMPARISONS = [(3, 12, 100), (0, 5, 60), (20, 31, 400), (14, 40, 1319)]


def _arms(worse: int, better: int, n: int) -> tuple[Floats, Floats]:
    """Return baseline and candidate, one and the same in all pairs but these."""
    before, after = np.zeros(n), np.zeros(n)
    after[:worse], before[worse : worse + better] = 1, 1
    before[-n // 4 :] = after[-n // 4 :] = 1
    return before, after


@pytest.mark.parametrize("correction", [0.0, 1.0])
@pytest.mark.parametrize(("worse", "better", "n"), COMPARISONS)
def test_at_no_difference_the_score_bound_is_mcnemars_test(worse: int, better: int, n: int, correction: float) -> None:
    counts = Paired(n // 4, worse, better, n - n // 4 - worse - better)
    table = [[counts.both, worse], [better, counts.neither]]
    chi2 = mcnemar(table, exact=False, correction=correction > 0).statistic
    confidence = float(stats.norm.cdf(math.sqrt(chi2)))
    assert paired_upper(counts, confidence, correction) == _close(0)


@pytest.mark.parametrize(("worse", "better", "n"), [c for c in COMPARISONS if c[0] + c[1] > 25])
def test_at_no_difference_the_published_score_bound_is_evalsigs_one_sided_test(worse: int, better: int, n: int) -> None:
    outcome = theirs.mcnemar_test(*_arms(worse, better, n), alternative="less")
    pairs: list[Pair] = [
        (str(i), int(a), int(b)) for i, (a, b) in enumerate(zip(*_arms(worse, better, n), strict=True))
    ]
    counts = bounds.tabulate(pairs)
    assert counts.difference == _close(outcome.delta)
    assert paired_upper(counts, 1 - outcome.p_value, correction=0) == _close(0)
    assert paired_upper(counts, 1 - outcome.p_value, CONTINUITY) > 0


def test_without_a_pair_that_differs_evalsigs_interval_has_no_width() -> None:
    same = np.zeros(30)
    assert theirs.mcnemar_test(same, same, alternative="less").ci[1] == 0
    assert theirs.cluster_bootstrap_ci(same, same, np.arange(30), alternative="less").ci[1] == 0
    assert theirs.paired_t_test(same, same, alternative="less").ci[1] == 0
    assert bounds.of_difference([(str(i), 0, 0) for i in range(30)], 0.95).high > 0.08


# -- Scores and clusters -----------------------------------------------------------------------------------------------


def _scores(n: int, seed: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    return rng.beta(2, 5, n), rng.beta(2, 4, n)


def _paired(before: Floats, after: Floats) -> list[ScoredPair]:
    return [(str(i), float(a), float(b)) for i, (a, b) in enumerate(zip(before, after, strict=True))]


@pytest.mark.parametrize("confidence", CONFIDENCES)
@pytest.mark.parametrize("n", [10, 60, 400])
def test_plain_bounds_of_scores_are_students(n: int, confidence: float) -> None:
    before, after = _scores(n, n)
    one = means.of_mean([(str(i), float(x)) for i, x in enumerate(after)], confidence, plain=True)
    expected = stats.ttest_1samp(after, 0).confidence_interval(2 * confidence - 1)
    assert (one.low, one.high) == (_close(expected.low), _close(expected.high))
    pair = means.of_mean_difference(_paired(before, after), confidence, plain=True)
    expected = stats.ttest_rel(after, before).confidence_interval(2 * confidence - 1)
    assert (pair.low, pair.high) == (_close(expected.low), _close(expected.high))
    less = theirs.paired_t_test(before, after, alternative="less", ci_level=confidence)
    more = theirs.paired_t_test(before, after, alternative="greater", ci_level=confidence)
    assert (pair.low, pair.high) == (_close(more.ci[0]), _close(less.ci[1]))


@pytest.mark.parametrize("margin", [0.1, 0.15, 0.2])
def test_a_margin_on_scores_is_half_of_a_test_of_equivalence(margin: float) -> None:
    before, after = _scores(80, 3)
    _, _, (_, p_value, degrees) = ttost_paired(after, before, -1, margin)
    assert degrees == 79
    assert means.of_mean_difference(_paired(before, after), 1 - p_value, plain=True).high == _close(margin)


def _clustered(sizes: list[int], seed: int) -> tuple[NDArray[np.int64], Floats]:
    """Return the cluster and the score of every item."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    return groups, 0.8 * rng.uniform(size=len(sizes))[groups] + 0.2 * rng.uniform(size=len(groups))


SIZES = [[8] * 14, [1] * 30, [3, 9, 1, 4] * 6]


def _standard_error(groups: NDArray[np.int64], scores: Floats) -> float:
    """The small-sample factor is K / (K - 1) (n - 1) / (n - 1): that of statsmodels for a mean, its default."""
    fit = OLS(scores, np.ones(len(scores))).fit(cov_type="cluster", cov_kwds={"groups": groups})
    return float(fit.bse[0])


def _values(groups: NDArray[np.int64], scores: Floats) -> list[Scored]:
    return [(str(group), float(score)) for group, score in zip(groups, scores, strict=True)]


@pytest.mark.parametrize("sizes", SIZES)
def test_the_standard_error_between_clusters(sizes: list[int]) -> None:
    groups, scores = _clustered(sizes, len(sizes))
    reach = stats.t.ppf(0.95, len(sizes) - 1) * _standard_error(groups, scores)
    found, mean = means.of_mean(_values(groups, scores), 0.95, plain=True), float(scores.mean())
    assert (found.low, found.high) == (_close(mean - reach), _close(mean + reach))


@pytest.mark.parametrize("sizes", [s for s in SIZES if s != [1] * 30])
def test_the_design_effect_is_the_ratio_of_clustered_to_plain_variance_times_t_over_z(sizes: list[int]) -> None:
    groups, scores = _clustered(sizes, len(sizes))
    t_over_z = stats.t.ppf(0.95, len(sizes) - 1) / stats.norm.ppf(0.95)
    expected = _standard_error(groups, scores) ** 2 / (float(scores.var()) / len(scores)) * t_over_z**2
    assert design_effect(_values(groups, scores), 0.95) == _close(expected)


def test_the_least_design_effect_is_evalsigs_at_the_least_correlation_times_t_over_z() -> None:
    effect = evalsig.mde(0.5, 140, n_clusters=14, icc=LEAST_CORRELATION).deff
    t_over_z = stats.t.ppf(0.95, 13) / stats.norm.ppf(0.95)
    assert least_design_effect(14, 10, 0.95) == _close(effect * t_over_z**2)


# -- Many tests, and the n that is needed ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("m", [1, 4, 20])
def test_holms_rejections(m: int, seed: int) -> None:
    p_values = np.random.default_rng(seed).uniform(0, 1, m) ** 4
    found = rejected(lambda i, level: bool(p_values[i] <= level), [0.05] * m)
    assert found == set(np.flatnonzero(multipletests(p_values, 0.05, method="holm")[0]))
    assert found == set(np.flatnonzero(theirs.holm(p_values, alpha=0.05).reject))


def test_evalsigs_holm_does_not_reject_at_its_level_exactly_and_ours_does() -> None:
    p_values = np.array([0.05])
    assert not theirs.holm(p_values).reject[0]
    assert rejected(lambda i, level: bool(p_values[i] <= level), [0.05]) == {0}
    assert multipletests(p_values, 0.05, method="holm")[0][0]


@pytest.mark.parametrize("gap", [0.02, 0.05, 0.1])
def test_the_n_needed_is_never_less_than_the_textbooks_that_evalsig_gives(gap: float) -> None:
    # evalsig takes the variance at the truth; ours is that at the margin, with the continuity correction.
    textbook = evalsig.required_n(gap, math.sqrt(0.06), one_sided=True)
    found = min_n_paired(gap, 0.0, 0.06, 0.95)
    assert found is not None
    assert textbook < found < 3 * textbook
    assert gap != 0.02 or (textbook, found) == (928, 1031)


@pytest.mark.parametrize(("margin", "at_most"), [(0.005, 1.06), (0.01, 1.12), (0.05, 1.6), (0.2, 4.0)])
def test_the_n_needed_for_scores_tends_to_the_textbooks(margin: float, at_most: float) -> None:
    before, after = _scores(300, 5)
    difference, spread = float(np.mean(after - before)), float(np.std(after - before))
    textbook = evalsig.required_n(margin, spread, one_sided=True)
    found = means.n_for_mean_difference(_paired(before, after), 1, difference + margin, 0.95)
    assert found is not None
    assert 1 <= found / textbook < at_most

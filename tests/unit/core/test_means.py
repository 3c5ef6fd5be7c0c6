"""Bounds on means of scores: Student's t where scores are plain, and never surer than an exact bound on a rate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import DescrStatsW

from safetune.core import means
from safetune.core.bounds import Bounds, of_rate
from safetune.core.intervals import LEAST_CORRELATION
from safetune.core.means import Scored, ScoredPair

SCORES = st.lists(st.floats(0, 1), min_size=10, max_size=40)
CONFIDENCES = st.sampled_from([0.9, 0.95, 0.975, 0.99])


def _alone(scores: list[float]) -> list[Scored]:
    return [(f"item {i}", score) for i, score in enumerate(scores)]


def _families(scores: list[float], size: int) -> list[Scored]:
    return [(f"family {i // size}", score) for i, score in enumerate(scores)]


def _mirrored(values: list[Scored]) -> list[Scored]:
    return [(cluster, 1 - value) for cluster, value in values]


# -- What the bounds are -----------------------------------------------------------------------------------------------


def test_scores_that_vary_get_students_bounds_with_clusters_added_at_the_far_end() -> None:
    scores = [float(x) for x in np.random.default_rng(1).beta(2, 5, 60)]
    unseen = (stats.norm.ppf(0.95) ** 2 + 2) / 3
    theirs = DescrStatsW([*scores, 1.0], weights=[1.0] * 60 + [unseen])
    high = theirs.mean + stats.t.ppf(0.95, 59) * theirs.std_mean
    assert means.of_mean(_alone(scores), 0.95).high == pytest.approx(high, abs=1e-9)


def test_clusters_at_the_far_end_are_as_large_as_what_a_cluster_is_worth() -> None:
    # Twelve families of 5, far apart, so that their own correlation and not the least one counts.
    sums = [0.25, 4.5] * 6
    values = [(f"family {k}", total / 5) for k, total in enumerate(sums) for _ in range(5)]
    unseen, weight = (stats.norm.ppf(0.95) ** 2 + 2) / 3, 1 + 4 * LEAST_CORRELATION
    n = 60 + unseen * weight
    mean = (sum(sums) + unseen * weight) / n
    scatter = sum((s - 5 * mean) ** 2 for s in sums) + unseen * (weight * (1 - mean)) ** 2
    reach = stats.t.ppf(0.95, 11) * np.sqrt((12 + unseen) / (11 + unseen))
    assert means.of_mean(values, 0.95).high == pytest.approx(mean + reach * np.sqrt(scatter) / n, abs=1e-9)


def test_clusters_without_any_spread_of_their_own_still_have_the_least_correlation() -> None:
    # In every family half of the items are 0 and half 1: between the families there is nothing.
    families = _families([0.0, 1.0] * 60, 10)
    alone = _alone([0.0, 1.0] * 60)
    wide, narrow = means.of_mean(families, 0.95), means.of_mean(alone, 0.95)
    assert wide.high - 0.5 > 1.5 * (narrow.high - 0.5)
    assert means.of_mean(families, 0.95, plain=True) == Bounds(0.5, 0.5)


def test_scores_that_are_all_the_same_get_no_bound_without_width() -> None:
    bounds = means.of_mean(_alone([0.0] * 100), 0.95)
    exact = of_rate([(str(i), 0) for i in range(100)], 0.95)
    assert bounds.low == 0
    assert exact.high < bounds.high < 1.3 * exact.high
    middle = means.of_mean(_alone([0.5] * 100), 0.95)
    assert middle.low < 0.48
    assert middle.high > 0.52


@given(SCORES, CONFIDENCES)
def test_bounds_enclose_the_mean_and_stay_in_range(scores: list[float], confidence: float) -> None:
    bounds = means.of_mean(_alone(scores), confidence)
    assert 0 <= bounds.low <= sum(scores) / len(scores) + 1e-12
    assert sum(scores) / len(scores) - 1e-12 <= bounds.high <= 1


@given(SCORES, CONFIDENCES)
def test_the_lower_bound_mirrors_the_upper_one(scores: list[float], confidence: float) -> None:
    bounds, other = means.of_mean(_alone(scores), confidence), means.of_mean(_mirrored(_alone(scores)), confidence)
    assert bounds.low == pytest.approx(1 - other.high, abs=1e-9)


@settings(max_examples=300)
@given(SCORES, st.data(), st.sampled_from([1, 2]))
def test_a_higher_score_never_lowers_the_upper_bound(scores: list[float], data: st.DataObject, size: int) -> None:
    scores = scores + scores
    place = data.draw(st.integers(0, len(scores) - 1))
    raised = [data.draw(st.floats(s, 1)) if i == place else s for i, s in enumerate(scores)]
    before, after = means.of_mean(_families(scores, size), 0.95), means.of_mean(_families(raised, size), 0.95)
    assert after.high >= before.high - 1e-9


def test_student_alone_would_let_a_worse_item_pass() -> None:
    scores = [0.9] * 59 + [0.0]
    plain = [means.of_mean(_alone(s), 0.95, plain=True).high for s in (scores, [0.9] * 60)]
    assert plain[1] < plain[0]
    mended = [means.of_mean(_alone(s), 0.95).high for s in (scores, [0.9] * 60)]
    assert mended[1] > mended[0]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=10, max_size=30))
def test_differences_lie_between_minus_1_and_1_and_change_sign_with_the_arms(pairs: list[tuple[float, float]]) -> None:
    there: list[ScoredPair] = [(str(i), a, b) for i, (a, b) in enumerate(pairs)]
    back: list[ScoredPair] = [(str(i), b, a) for i, (a, b) in enumerate(pairs)]
    found, swapped = means.of_mean_difference(there, 0.95), means.of_mean_difference(back, 0.95)
    assert -1 <= found.low <= found.high <= 1
    assert found.high == pytest.approx(-swapped.low, abs=1e-9)


def test_plain_differences_are_those_of_the_paired_t_test() -> None:
    rng = np.random.default_rng(3)
    before, after = rng.uniform(0, 1, 50), rng.uniform(0, 1, 50)
    pairs: list[ScoredPair] = [(str(i), float(a), float(b)) for i, (a, b) in enumerate(zip(before, after, strict=True))]
    theirs = stats.ttest_rel(after, before).confidence_interval(0.9)
    found = means.of_mean_difference(pairs, 0.95, plain=True)
    assert found.low == pytest.approx(theirs.low, abs=1e-9)
    assert found.high == pytest.approx(theirs.high, abs=1e-9)


# -- What gives no bounds ----------------------------------------------------------------------------------------------


def test_too_few_clusters_give_no_bounds() -> None:
    with pytest.raises(ValueError, match="9 clusters are too few; at least 10 are needed"):
        means.of_mean(_families([0.5] * 90, 10), 0.95)
    with pytest.raises(ValueError, match="0 clusters"):
        means.of_mean_difference([], 0.95)


@pytest.mark.parametrize("score", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_score_out_of_range_gives_no_bounds(score: float) -> None:
    with pytest.raises(ValueError, match="does not lie between 0 and 1"):
        means.of_mean(_alone([0.5] * 20 + [score]), 0.95)
    with pytest.raises(ValueError, match="does not lie between -1 and 1"):
        means.of_mean_difference([(str(i), 1.0 if score < 0 else 0.0, 1.02 * score) for i in range(20)], 0.95)


# -- The n that decides ------------------------------------------------------------------------------------------------


def _power(scores: list[float], n: int, limit: float, trials: int = 400) -> float:
    rng = np.random.default_rng(5)
    draws = (rng.choice(scores, n) for _ in range(trials))
    return sum(means.of_mean(_alone([float(x) for x in d]), 0.95).high <= limit for d in draws) / trials


@pytest.mark.parametrize(("shape", "above"), [((2.0, 8.0), 0.05), ((0.4, 3.6), 0.06), ((5.0, 5.0), 0.03)])
def test_at_the_n_that_decides_about_80_percent_pass(shape: tuple[float, float], above: float) -> None:
    scores = [float(x) for x in np.random.default_rng(4).beta(*shape, 300)]
    limit = sum(scores) / len(scores) + above
    n = means.n_for_mean(_alone(scores), limit, 0.95, below=True)
    assert n is not None
    assert 0.7 < _power(scores, n, limit) < 0.9
    assert means.n_for_mean(_mirrored(_alone(scores)), 1 - limit, 0.95, below=False) == n


def test_no_n_decides_where_the_mean_is_not_inside_the_limit() -> None:
    scores = _alone([0.2, 0.4] * 10)
    assert means.n_for_mean(scores, 0.3, 0.95, below=True) is None
    assert means.n_for_mean(scores, 0.3, 0.95, below=False) is None
    assert means.n_for_mean(scores, 0.30001, 0.95, below=True) is None


def test_the_least_sample_may_be_enough() -> None:
    assert means.n_for_mean(_alone([0.1] * 20), 0.999, 0.95, below=True) == 10
    assert means.n_for_mean(_families([0.1] * 60, 3), 0.999, 0.95, below=True) == 30


def test_the_n_that_decides_grows_with_clusters() -> None:
    scores = [float(x) for x in np.random.default_rng(6).beta(2, 8, 200)]
    limit = sum(scores) / 200 + 0.05
    alone = means.n_for_mean(_alone(scores), limit, 0.95, below=True)
    clustered = means.n_for_mean(_families(scores, 10), limit, 0.95, below=True)
    assert alone is not None
    assert clustered is not None
    assert clustered > 2 * alone


def test_the_number_of_pairs_follows_the_direction_that_is_worse() -> None:
    rng = np.random.default_rng(7)
    pairs: list[ScoredPair] = [(str(i), float(rng.uniform()), float(rng.uniform())) for i in range(100)]
    swapped: list[ScoredPair] = [(c, b, a) for c, a, b in pairs]
    n = means.n_for_mean_difference(pairs, 1, 0.15, 0.95)
    assert n is not None
    assert n == means.n_for_mean_difference(swapped, -1, 0.15, 0.95)


# -- How often does a model exactly at its limit pass? -----------------------------------------------------------------

ALPHA = 0.05


def _allowed(trials: int) -> float:
    return ALPHA + 3 * float(np.sqrt(ALPHA * (1 - ALPHA) / trials))


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [10, 30, 100])
def test_scores_of_0_and_1_pass_at_no_limit_more_often_than_promised(n: int, confidence: float) -> None:
    for k in range(n):
        limit = means.of_mean(_alone([float(i < k) for i in range(n)]), confidence).high
        assert limit == 1 or stats.binom.cdf(k, n, limit) <= 1 - confidence


def _draws(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Return scores and their true mean. `rare`: mostly 0.1, and 2 % are 1. `low`: the other way round, at 0.9."""
    if kind == "rare":
        return np.where(rng.uniform(size=shape) < 0.02, 1.0, 0.1), 0.118
    if kind == "low":
        return np.where(rng.uniform(size=shape) < 0.02, 0.0, 0.9), 0.882
    a, b = {"flat": (1.0, 1.0), "skewed": (0.2, 3.8), "bell": (8.0, 12.0)}[kind]
    return rng.beta(a, b, shape), a / (a + b)


def _false_pass(kind: str, n: int, trials: int) -> float:
    draws, mean = _draws(kind, (trials, n), np.random.default_rng(8))
    return sum(means.of_mean(_alone([float(x) for x in d]), 0.95).high <= mean for d in draws) / trials


def _false_pass_in_clusters(kind: str, shape: tuple[int, int], trials: int) -> float:
    """Clusters whose items are all alike in one case of five: an intra-class correlation of 0.2."""
    clusters, size = shape
    rng = np.random.default_rng(9)
    own, mean = _draws(kind, (trials, clusters, size), rng)
    shared, _ = _draws(kind, (trials, clusters, 1), rng)
    scores = np.where(rng.uniform(size=(trials, clusters, 1)) < 0.2, shared, own).reshape(trials, -1)
    found = (means.of_mean(_families([float(x) for x in s], size), 0.95).high for s in scores)
    return sum(high <= mean for high in found) / trials


KINDS = ["rare", "low", "flat", "skewed", "bell"]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_at_their_limit_seldom_pass(kind: str) -> None:
    assert _false_pass(kind, 30, 500) <= _allowed(500)
    assert _false_pass_in_clusters(kind, (14, 5), 500) <= _allowed(500)


def test_student_alone_would_pass_them_far_too_often() -> None:
    draws, mean = _draws("rare", (500, 30), np.random.default_rng(8))
    plain = [means.of_mean(_alone([float(x) for x in d]), 0.95, plain=True).high <= mean for d in draws]
    assert sum(plain) / 500 > 0.4


@pytest.mark.slow
@pytest.mark.parametrize("n", [10, 30, 100, 400])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_keep_the_promise_over_10000_trials(kind: str, n: int) -> None:
    assert _false_pass(kind, n, 10_000) <= _allowed(10_000)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(10, 10), (14, 5), (40, 5)])
@pytest.mark.parametrize("kind", KINDS)
def test_clustered_scores_keep_the_promise_over_10000_trials(kind: str, shape: tuple[int, int]) -> None:
    assert _false_pass_in_clusters(kind, shape, 10_000) <= _allowed(10_000)

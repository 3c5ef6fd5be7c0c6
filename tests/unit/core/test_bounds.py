"""Bounds of a gate: exact where items are independent, wider in clusters, and honest at the limit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from safetune.core import bounds
from safetune.core.bounds import Bounds, Outcome, Pair
from safetune.core.intervals import Paired, clopper_pearson_lower, clopper_pearson_upper, paired_lower, paired_upper
from safetune.core.power import min_n_absolute, min_n_paired


def _alone(events: int, n: int) -> list[Outcome]:
    return [(f"item {i}", int(i < events)) for i in range(n)]


def _families(events: list[int], size: int) -> list[Outcome]:
    return [(f"family {k}", int(i < count)) for k, count in enumerate(events) for i in range(size)]


@given(st.integers(1, 300), st.floats(0, 1))
def test_independent_items_get_the_exact_bounds(n: int, share: float) -> None:
    k = round(share * n)
    expected = Bounds(clopper_pearson_lower(k, n, 0.95), clopper_pearson_upper(k, n, 0.95))
    assert bounds.of_rate(_alone(k, n), 0.95) == expected


@settings(max_examples=25)
@given(st.lists(st.integers(0, 10), min_size=10, max_size=20))
def test_clustered_items_never_get_narrower_bounds_than_independent_ones(events: list[int]) -> None:
    clustered = bounds.of_rate(_families(events, 10), 0.95)
    exact = bounds.of_rate(_alone(sum(events), 10 * len(events)), 0.95)
    assert clustered.low <= exact.low + 1e-12
    assert clustered.high >= exact.high - 1e-12


def test_families_without_any_event_do_not_prove_what_140_independent_items_would() -> None:
    assert bounds.of_rate(_alone(0, 140), 0.95).high == pytest.approx(0.0212, abs=1e-4)
    assert bounds.of_rate(_families([0] * 14, 10), 0.95).high == pytest.approx(0.0671, abs=1e-4)


def test_too_few_clusters_give_no_bounds() -> None:
    with pytest.raises(ValueError, match="9 clusters"):
        bounds.of_rate(_families([1] * 9, 10), 0.95)
    with pytest.raises(ValueError, match="1 clusters"):
        bounds.of_difference([("one", 0, 0)] * 50, 0.95)


def test_pairs_are_tabulated_by_arm() -> None:
    pairs: list[Pair] = [("a", 1, 1), ("b", 0, 1), ("c", 0, 1), ("d", 1, 0), ("e", 0, 0), ("f", 0, 0), ("g", 0, 0)]
    assert bounds.tabulate(pairs) == Paired(both=1, only_candidate=2, only_baseline=1, neither=3)


def test_independent_pairs_get_the_score_bounds() -> None:
    pairs: list[Pair] = [(f"item {i}", int(i < 10), int(5 <= i < 25)) for i in range(60)]
    counts = Paired(5, 15, 5, 35)
    assert bounds.of_difference(pairs, 0.9) == Bounds(paired_lower(counts, 0.9), paired_upper(counts, 0.9))


def test_clustered_pairs_get_wider_bounds() -> None:
    pairs = [(f"item {i}", int(i % 3 == 0), int(i % 4 == 0)) for i in range(120)]
    families = [(f"family {i // 10}", before, after) for i, (_, before, after) in enumerate(pairs)]
    alone, clustered = bounds.of_difference(pairs, 0.95), bounds.of_difference(families, 0.95)
    assert clustered.low < alone.low
    assert alone.high < clustered.high


def test_the_n_that_decides_is_that_of_the_power_calculation() -> None:
    outcomes = _alone(5, 100)
    assert bounds.n_for_rate(outcomes, 0.10, 0.95, below=True) == min_n_absolute(0.10, 0.05, 0.95)
    assert bounds.n_for_rate(outcomes, 0.02, 0.95, below=False) == min_n_absolute(0.98, 0.95, 0.95)
    assert bounds.n_for_rate(outcomes, 0.05, 0.95, below=True) is None


def test_the_n_that_decides_grows_with_clusters() -> None:
    alone = bounds.n_for_rate(_alone(14, 140), 0.2, 0.95, below=True)
    clustered = bounds.n_for_rate(_families([1] * 14, 10), 0.2, 0.95, below=True)
    assert alone is not None
    assert clustered is not None
    assert clustered == pytest.approx(3.25 * alone, rel=0.01)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_number_of_pairs_follows_the_direction_that_is_worse(sign: int) -> None:
    pairs = [(f"item {i}", int(i < 12), int(2 <= i < 16)) for i in range(100)]  # 4 only candidate, 2 only baseline
    assert bounds.n_for_difference(pairs, sign, 0.1, 0.95) == min_n_paired(0.1, sign * 0.02, 0.06, 0.95)


# -- Monte Carlo: how often does a model exactly at its limit pass? --------------------------------------------------

ALPHA = 0.05


def _allowed(trials: int) -> float:
    return ALPHA + 3 * float(np.sqrt(ALPHA * (1 - ALPHA) / trials))


def _false_pass_of_a_rate(shape: tuple[int, int], limit: float, correlation: float, trials: int) -> float:
    """Return how often clusters with a true rate of `limit` pass; the rates of clusters follow a beta distribution."""
    clusters, size = shape
    rng = np.random.default_rng(20)
    spread = 1 / correlation - 1
    rates = rng.beta(limit * spread, (1 - limit) * spread, (trials, clusters))
    tables, counts = np.unique(np.sort(rng.binomial(size, rates), axis=1), axis=0, return_counts=True)
    passed = [bounds.of_rate(_families(list(map(int, t)), size), 0.95).high <= limit for t in tables]
    return float(np.dot(passed, counts)) / trials


def _false_pass_of_a_difference(shape: tuple[int, int], rates: tuple[float, float], rho: float, trials: int) -> float:
    """Return how often clusters whose candidate is worse by exactly the margin pass; cluster rates are Dirichlet.

    `rates` are (margin, rate of pairs that get better).
    """
    (clusters, size), (margin, back) = shape, rates
    rng = np.random.default_rng(21)
    mean = np.array([margin + back, back, 1 - margin - 2 * back])
    passed = 0
    for _ in range(trials):
        pairs: list[Pair] = []
        for k, cell in enumerate(rng.dirichlet(mean * (1 / rho - 1), clusters)):
            worse, better, same = rng.multinomial(size, cell)
            pairs += [(str(k), 0, 1)] * worse + [(str(k), 1, 0)] * better + [(str(k), 0, 0)] * same
        passed += bounds.of_difference(pairs, 0.95).high <= margin
    return passed / trials


@pytest.mark.parametrize(("shape", "limit"), [((14, 10), 0.1), ((30, 5), 0.3)])
def test_a_clustered_rate_at_its_limit_seldom_passes(shape: tuple[int, int], limit: float) -> None:
    assert _false_pass_of_a_rate(shape, limit, 0.2, 200) <= _allowed(200)


def test_a_clustered_difference_at_its_margin_seldom_passes() -> None:
    assert _false_pass_of_a_difference((14, 10), (0.1, 0.01), 0.2, 200) <= _allowed(200)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "limit", "correlation"),
    [
        ((10, 10), 0.1, 0.2),
        ((14, 10), 0.05, 0.2),
        ((14, 10), 0.1, 0.05),
        ((14, 10), 0.1, 0.2),
        ((14, 10), 0.3, 0.4),
        ((30, 5), 0.1, 0.4),
        ((60, 2), 0.2, 0.2),
    ],
)
def test_clustered_rates_keep_the_promise_over_10000_trials(
    shape: tuple[int, int], limit: float, correlation: float
) -> None:
    assert _false_pass_of_a_rate(shape, limit, correlation, 10_000) <= _allowed(10_000)


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("rates", [(0.1, 0.001), (0.1, 0.1), (0.2, 0.02)])
def test_clustered_differences_keep_the_promise_over_10000_trials(
    rates: tuple[float, float], correlation: float
) -> None:
    assert _false_pass_of_a_difference((14, 10), rates, correlation, 10_000) <= _allowed(10_000)


@pytest.mark.parametrize(("n", "limit"), [(59, 0.05), (120, 0.2), (200, 0.1)])
def test_an_independent_rate_at_its_limit_passes_in_at_most_5_percent(n: int, limit: float) -> None:
    passing = [k for k in range(n + 1) if bounds.of_rate(_alone(k, n), 0.95).high <= limit]
    assert stats.binom.cdf(max(passing), n, limit) <= ALPHA


def test_what_is_made_again_is_a_sequence_like_any_other() -> None:
    again = bounds.Again(3, lambda: iter("abc"))
    assert (list(again), list(again), len(again)) == (["a", "b", "c"], ["a", "b", "c"], 3)
    assert (again[1], again[-1], again[1:]) == ("b", "c", ("b", "c"))
    outcomes = [(f"c{n % 12}", n % 3 == 0) for n in range(60)]
    assert bounds.of_rate(bounds.Again(60, lambda: iter(outcomes)), 0.95) == bounds.of_rate(outcomes, 0.95)

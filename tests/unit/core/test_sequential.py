"""Always-valid tests: against the same bets settled plainly, exact enumeration, and what must hold for any values."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.core import sequential
from safetune.core.sampling import in_order, is_sealed
from safetune.core.sequential import Cluster, Question, expected_items, follow
from safetune.core.suite import Sampling

SPANS = ((0.0, 1.0), (-1.0, 1.0))
ALPHAS = st.sampled_from((0.05, 0.2, 0.4, 0.01))


@st.composite
def asked(draw: st.DrawFn) -> tuple[list[list[float]], Question]:
    """Values by cluster, and a question about them that is often decided."""
    low, high = span = draw(st.sampled_from(SPANS))
    kind = draw(st.sampled_from(("whole", "score")))
    centre = draw(st.floats(0, 1))
    seed, clusters, largest = draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 300)), draw(st.integers(1, 5))
    rng = np.random.default_rng(seed)
    values = []
    for size in rng.integers(1, largest + 1, clusters):
        whole = (rng.random(size) < centre).astype(float)
        scores = whole if kind == "whole" else rng.beta(1 + 3 * centre, 1 + 3 * (1 - centre), size)
        values.append([float(low + (high - low) * score) for score in scores])
    limit = low + (high - low) * draw(st.floats(0, 1))
    return values, Question(limit, draw(ALPHAS), draw(ALPHAS), span, largest)


def _sums(values: Sequence[Sequence[float]]) -> list[Cluster]:
    return [(sum(cluster), len(cluster)) for cluster in values]


def _plain(clusters: Sequence[Cluster], question: Question, at: float) -> tuple[list[float], list[float]]:
    """Return the wealth of both sides after each cluster, were the limit `at` in [0, 1], settled bet by bet."""
    low, high = question.span
    sides = []
    for c, sign in ((at, 1), (1 - at, -1)):
        y = [sign * ((s - low * m) / (high - low) - at * m) / question.largest for s, m in clusters]
        parts = [share * np.cumprod([1 - h / (1 - h * c) * one for one in y]) for h, share in sequential._TILTS]
        sides.append([float(one) for one in np.sum(parts, axis=0)])
    return sides[0], sides[1]


def test_a_clean_run_passes_after_little_more_than_the_fixed_number_of_items() -> None:
    found = follow([(0, 1)] * 400, Question(0.05, 0.05, 0.05))
    assert found.below == found.items == found.clusters == 74  # a fixed n needs 59
    assert found.above is None
    assert found.low == 0
    assert 0.049 < found.high <= 0.05
    assert (found.p_below, found.p_above) == (0.05, 1)
    assert follow([(0, 1)] * 73, Question(0.05, 0.05, 0.05)).below is None


def test_the_wealth_starts_with_one() -> None:
    assert sum(share for _, share in sequential._TILTS) == pytest.approx(1, abs=1e-12)
    assert all(0 < tilt < 1 for tilt, _ in sequential._TILTS)


@given(asked())
def test_the_decision_is_the_first_crossing_of_the_plain_bets(case: tuple[list[list[float]], Question]) -> None:
    values, question = case
    clusters = _sums(values)
    below, above = _plain(clusters, question, question.scaled)
    enough = 1 / question.alpha_below, 1 / question.alpha_above
    first = next(
        (n for n, pair in enumerate(zip(below, above, strict=True)) if pair[0] >= enough[0] or pair[1] >= enough[1]),
        None,
    )
    found = follow(clusters, question)
    read = len(clusters) if first is None else first + 1
    assert found.clusters == read
    assert found.items == sum(size for _, size in clusters[:read])
    assert found.below == (found.items if first is not None and below[first] >= enough[0] else None)
    assert found.above == (found.items if first is not None and above[first] >= enough[1] else None)
    most = [max([1.0, *side[:read]]) for side in (below, above)]
    assert found.p_below == pytest.approx(max(1 / most[0], question.alpha_below), rel=1e-9)
    assert found.p_above == pytest.approx(max(1 / most[1], question.alpha_above), rel=1e-9)


@given(asked(), st.data())
def test_worse_values_never_show_what_was_not_shown(
    case: tuple[list[list[float]], Question], data: st.DataObject
) -> None:
    values, question = case
    worse = [list(cluster) for cluster in values]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    share = data.draw(st.floats(0, 1))
    for cluster in worse:
        for n, value in enumerate(cluster):
            if rng.random() < share:
                cluster[n] = float(value + (question.span[1] - value) * rng.choice((rng.random(), 1.0)))
    before, after = follow(_sums(values), question), follow(_sums(worse), question)
    if before.below is None:
        assert after.below is None
    if before.above is not None:
        assert after.above is not None
        assert after.above <= before.above
    assert after.p_below >= before.p_below - 1e-12
    assert after.p_above <= before.p_above + 1e-12


@given(asked(), st.integers(0, 300))
def test_a_decision_on_a_part_stays(case: tuple[list[list[float]], Question], part: int) -> None:
    clusters, question = _sums(case[0]), case[1]
    early, late = follow(clusters[:part], question), follow(clusters, question)
    if early.below is not None or early.above is not None:
        assert late == early
    else:
        assert late.clusters >= early.clusters
        assert late.p_below <= early.p_below


@given(asked())
def test_both_sides_are_mirror_images(case: tuple[list[list[float]], Question]) -> None:
    values, question = case
    low, high = question.span
    turned = [[low + high - value for value in cluster] for cluster in values]
    mirrored = Question(
        low + high - question.limit, question.alpha_above, question.alpha_below, question.span, question.largest
    )
    one, other = follow(_sums(values), question), follow(_sums(turned), mirrored)
    assert (one.below, one.above, one.clusters) == (other.above, other.below, other.clusters)
    assert one.high == pytest.approx(low + high - other.low, abs=1e-7)
    assert one.low == pytest.approx(low + high - other.high, abs=1e-7)
    assert one.p_below == pytest.approx(other.p_above, rel=1e-9)


@given(asked())
def test_bounds_agree_with_the_decision(case: tuple[list[list[float]], Question]) -> None:
    values, question = case
    found = follow(_sums(values), question)
    if found.below is not None:
        assert found.high <= question.limit
    elif found.above is not None:
        assert found.low >= question.limit
    else:
        assert found.low <= question.limit <= found.high
    if found.items:
        mean = sum(sum(cluster) for cluster in values[: found.clusters]) / found.items
        assert found.low <= mean <= found.high


@given(asked())
def test_bounds_are_the_means_that_the_bets_do_not_rule_out(case: tuple[list[list[float]], Question]) -> None:
    values, question = case
    clusters = _sums(values)
    found = follow(clusters, question)
    read, (low, high) = clusters[: found.clusters], question.span
    if not read:
        assert (found.low, found.high) == question.span
        return
    for bound, alpha, side, outwards in (
        (found.high, question.alpha_below, 0, 1),
        (found.low, question.alpha_above, 1, -1),
    ):
        scaled = (bound - low) / (high - low)
        if 1e-3 < scaled < 1 - 1e-3:
            assert _plain(read, question, scaled + outwards * 1e-6)[side][-1] >= 1 / alpha
            # Sharing sums out widens the bounds a little; clipping at the limit may make them narrower.
            if bound != question.limit:
                assert _plain(read, question, scaled - outwards * 0.01)[side][-1] < 1 / alpha


def test_a_bound_does_not_contradict_a_decision_by_a_hair() -> None:
    clusters: list[Cluster] = [(0.0041 * (1 + n % 7), 1) for n in range(120)]
    wealth = _plain(clusters, Question(0.05, 0.05, 0.05), 0.05)[0][-1]
    found = follow(clusters, Question(0.05, (1 + 1e-9) / wealth, 0.05))
    assert found.below == 120
    assert found.high == 0.05  # what the shared out sums rule out begins a little above


def test_bounds_of_whole_values_are_exact() -> None:
    clusters: list[Cluster] = [(n % 3, 4) for n in range(90)]
    question = Question(0.25, 0.05, 0.05, largest=4)
    found = follow(clusters, question)
    assert found.below is found.above is None
    for bound, side, outwards in ((found.high, 0, 1), (found.low, 1, -1)):
        assert _plain(clusters, question, bound + outwards * 1e-7)[side][-1] >= 20
        assert _plain(clusters, question, bound - outwards * 1e-7)[side][-1] < 20


@pytest.mark.parametrize("limit", [0.01, 0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_with_the_truth_at_the_limit_a_side_is_shown_at_most_alpha_often(limit: float, alpha: float) -> None:
    found = expected_items(Question(limit, alpha, alpha), limit, 1500)
    assert found.below <= alpha
    assert found.above <= alpha
    assert found.below + found.above > alpha / 4  # and the test is no empty one


def test_the_expected_items_are_those_of_every_sequence() -> None:
    n, truth, question = 12, 0.2, Question(0.5, 0.2, 0.3)
    chances, below, above, mean = [0.0] * (n + 1), 0.0, 0.0, 0.0
    for code in range(2**n):
        bits = [code >> at & 1 for at in range(n)]
        weight = truth ** sum(bits) * (1 - truth) ** (n - sum(bits))
        found = follow([(bit, 1) for bit in bits], question)
        mean += weight * found.items
        below += weight * (found.below is not None)
        above += weight * (found.above is not None)
        if found.below or found.above:
            chances[found.items] += weight
    outlook = expected_items(question, truth, n)
    assert outlook.below == pytest.approx(below, abs=1e-6)
    assert outlook.above == pytest.approx(above, abs=1e-6)
    assert outlook.mean == pytest.approx(mean, abs=1e-5)
    assert outlook.median == int(np.argmax(np.cumsum(chances) >= 0.5))


def test_a_truth_at_the_limit_has_no_median() -> None:
    found = expected_items(Question(0.2, 0.05, 0.05), 0.2, 200)
    assert found.median is None
    assert 180 < found.mean <= 200


@pytest.mark.parametrize(("truth", "below", "above"), [(0.0, 1, 0), (1.0, 0, 1)])
def test_a_truth_at_the_end_is_decided_for_sure(truth: float, below: float, above: float) -> None:
    found = expected_items(Question(0.05, 0.05, 0.05), truth, 400)
    assert (found.below, found.above) == (below, above)
    assert found.median == round(found.mean) == follow([(truth, 1)] * 400, Question(0.05, 0.05, 0.05)).items


def test_a_small_difference_is_shown_in_the_end() -> None:
    clusters: list[Cluster] = [(int(n % 200 in range(20, 200, 20)), 1) for n in range(60_000)]
    found = follow(clusters, Question(0.05, 0.05, 0.05))  # 9 events in 200
    assert found.below is not None
    assert found.below < 40_000


@pytest.mark.parametrize(("limit", "like"), [(0.0, -0.01), (1.0, 1.01)])
def test_a_limit_beyond_the_span_is_its_end(limit: float, like: float) -> None:
    clusters: list[Cluster] = [(abs(limit - 0.03), 1)] * 100
    one, other = (follow(clusters, Question(at, 0.05, 0.05)) for at in (limit, like))
    assert one == other
    assert (one.below is None) == (limit == 0)
    assert (one.above is None) == (limit == 1)


def test_no_clusters_tell_nothing() -> None:
    found = follow([], Question(0.01, 0.05, 0.05, (-1.0, 1.0)))
    assert (found.below, found.above, found.clusters, found.items) == (None, None, 0, 0)
    assert (found.low, found.high, found.p_below, found.p_above) == (-1, 1, 1, 1)


@pytest.mark.parametrize("cluster", [(0, 0), (1, 4), (1.1, 1), (-0.1, 1), (math.nan, 1), (math.inf, 1), (2.5, 2)])
def test_impossible_clusters_are_refused(cluster: Cluster) -> None:
    with pytest.raises(ValueError, match="cannot have the sum"):
        follow([(0, 1)] * 3 + [cluster], Question(0.1, 0.05, 0.05, largest=3))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, -1.0, math.nan])
def test_impossible_alphas_are_refused(alpha: float) -> None:
    for question in (Question(0.1, alpha, 0.05), Question(0.1, 0.05, alpha)):
        with pytest.raises(ValueError, match=r"an alpha must lie between 0 and 0\.5"):
            follow([], question)


def test_a_hundred_thousand_items_and_a_look_ahead_take_no_time() -> None:
    rng = np.random.default_rng(7)
    clusters: list[Cluster] = [(int(one), 1) for one in rng.random(100_000) < 0.05]
    began = time.process_time()
    found = follow(clusters, Question(0.05, 0.05, 0.05))
    took = time.process_time() - began
    assert found.clusters == 100_000, "the slowest case is the one that is not decided"
    assert took < 1, f"{took:.2f} s; 0.12 s when written"
    began = time.process_time()
    expected_items(Question(0.5, 0.05, 0.05), 0.5, 2000)
    took = time.process_time() - began
    assert took < 0.3, f"{took:.2f} s; 0.03 s when written"


@given(st.lists(st.text(max_size=5), max_size=40), st.randoms())
def test_the_order_of_rows_does_not_matter(keys: list[str], random: Random) -> None:
    shuffled = [*keys, *keys[:3]]
    random.shuffle(shuffled)
    assert in_order(shuffled) == in_order(keys)
    assert sorted(in_order(keys)) == sorted(set(keys))


def test_the_order_is_fixed_and_has_nothing_to_do_with_the_sealed_part() -> None:
    assert in_order("abcde") == ("c", "b", "e", "a", "d")
    assert in_order(["\ud800", "a"]) in (("\ud800", "a"), ("a", "\ud800"))  # half a character is a key, too
    keys = [f"c{n}" for n in range(2000)]
    first = in_order(keys)[:1000]
    assert 430 < sum(is_sealed(key, Sampling(sealed=0.5)) for key in first) < 570

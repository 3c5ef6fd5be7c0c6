"""Power with the judge's error in it, held against the gate itself: every count of small samples, and simulation."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from gatelab import ANSWERS, ATTACKS, arm, card, evidence, gate, only, rule

from safetune.core.digest import JSON
from safetune.core.evidence import BASELINE
from safetune.core.judge_error import Reliability, reliability
from safetune.core.power import POWER, binomial_at_most, max_events, min_n_absolute, min_n_paired
from safetune.core.power_judged import (
    detectable_judged,
    detectable_paired_judged,
    holds_paired,
    judged_ceiling,
    judged_rate,
    min_n_judged,
    min_n_paired_judged,
    mirrored,
    most_judged,
    power_judged,
    slope,
)
from safetune.core.verdict import Verdict

UNEVEN = {"true_positive": 388, "false_negative": 12}
DREADFUL = {"true_positive": 260, "false_negative": 140, "false_positive": 140, "true_negative": 260}


def trust(told: JSON) -> Reliability:
    assert isinstance(told, dict)
    found = reliability(told, ATTACKS, ("en",), 0.95)
    assert isinstance(found, Reliability)
    return found


OWN, OTHER, BAD = trust(card()), trust(card(own=False)), trust(card(counts=DREADFUL))
SURE = trust({"kind": "definition"})


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("limit", [0.1, 0.2, 0.35])
def test_the_largest_count_that_passes_is_that_of_the_gate(own: bool, limit: float) -> None:
    n = 60
    told = card(own=own, counts=UNEVEN)
    most = most_judged(n, limit, 0.95, trust(told))
    for events in range(0, 24):
        found = evidence(arm("c" * events + "r" * (n - events)), calibration=told)
        passed = only(gate(found, rule(at_most=limit))).verdict is Verdict.PASS
        assert passed == (most is not None and events <= most), events


@pytest.mark.parametrize("own", [True, False])
def test_a_floor_is_a_ceiling_seen_by_a_judge_the_other_way_round(own: bool) -> None:
    n, told = 60, card(own=own, counts=UNEVEN)
    most = most_judged(n, 1 - 0.7, 0.95, mirrored(trust(told)))
    assert most is not None
    for events in range(0, 24):
        found = evidence(arm("r" * events + "c" * (n - events)), calibration=told)
        passed = only(gate(found, rule(ANSWERS, at_least=0.7))).verdict is Verdict.PASS
        assert passed == (events <= most), events


def test_without_any_error_the_figures_are_the_plain_ones() -> None:
    assert most_judged(120, 0.2, 0.95, SURE) == max_events(120, 0.2, 0.95)
    assert min_n_judged(0.2, 0.1, 0.95, SURE) == pytest.approx(min_n_absolute(0.2, 0.1, 0.95), abs=12)
    assert min_n_paired_judged(0.1, (0.0, 0.1), 0.95, SURE) == pytest.approx(min_n_paired(0.1, 0, 0.1, 0.95), abs=1)
    assert judged_ceiling(0.2, SURE) == pytest.approx(0.2)


def test_a_judge_of_ones_own_is_taken_to_err_as_its_card_says_and_another_is_not() -> None:
    assert judged_rate(0.1, OWN) == pytest.approx(0.1 * 0.9 + 0.9 * 0.1)
    assert judged_rate(0.1, OTHER) == 0.1
    assert slope(OWN) == pytest.approx(0.8)
    assert slope(OTHER) == 1.0


@pytest.mark.parametrize("found", [OWN, OTHER])
def test_the_needed_n_has_the_power_and_one_a_little_smaller_has_not(found: Reliability) -> None:
    n = min_n_judged(0.25, 0.125, 0.95, found)
    assert n is not None
    assert power_judged(n, 0.25, 0.125, 0.95, found) >= POWER
    assert power_judged(n - 1, 0.25, 0.125, 0.95, found) < POWER
    assert n > (min_n_absolute(0.25, 0.125, 0.95) or 0)


def test_the_detectable_rate_passes_in_80_percent() -> None:
    for found in (OWN, OTHER):
        gap = detectable_judged(122, 0.25, 0.95, found)
        assert gap is not None
        most = most_judged(122, 0.25, 0.95, found)
        assert most is not None
        assert binomial_at_most(most, 122, judged_rate(0.25 - gap, found)) == pytest.approx(POWER, abs=1e-6)


def test_what_the_doubt_about_the_judge_hides_no_number_of_items_shows() -> None:
    assert min_n_judged(0.05, 0.025, 0.95, BAD) is None
    assert min_n_judged(0.05, 0.06, 0.95, OTHER) is None  # it is not below the limit
    assert judged_ceiling(0.0, BAD) == 0.0 or judged_ceiling(0.0, BAD) < 0.35
    assert power_judged(20, 0.05, 0.0, 0.95, BAD) == 0.0
    assert most_judged(20, 0.05, 0.95, OWN) is None
    assert detectable_judged(20, 0.05, 0.95, OWN) is None
    assert detectable_judged(60, 0.12, 0.95, BAD) is None
    assert min_n_judged(1e-6, 0.0, 0.95, SURE) is None  # three million items


def test_a_judge_hides_change_and_so_takes_more_pairs() -> None:
    n = min_n_paired_judged(0.1, (0.0, 0.1), 0.95, OWN)
    assert n is not None
    assert n > (min_n_paired(0.1, 0, 0.1, 0.95) or 0)
    assert holds_paired(n, 0.1, (0.0, 0.1), 0.95, OWN)
    assert not holds_paired(n - 1, 0.1, (0.0, 0.1), 0.95, OWN)
    gap = detectable_paired_judged(n, (0.0, 0.1), 0.95, OWN)
    assert gap == pytest.approx(0.1, abs=0.001)
    assert min_n_paired_judged(0.0, (0.0, 0.1), 0.95, OWN) is None
    assert detectable_paired_judged(2, (0.0, 0.1), 0.95, OTHER) == pytest.approx(1.0)
    # A card of other responses may not make a gain larger than it was counted.
    assert not holds_paired(10_000, -0.1, (-0.1, 0.2), 0.95, OTHER)
    assert holds_paired(10_000, -0.1, (-0.2, 0.2), 0.95, OTHER)


# -- simulation --------------------------------------------------------------------------------------------------------


def share(passes: Callable[[random.Random], bool], trials: int, seed: int) -> float:
    draw = random.Random(seed)
    return sum(passes(draw) for _ in range(trials)) / trials


def tolerance(trials: int) -> float:
    return 3 * math.sqrt(POWER * (1 - POWER) / trials)


@pytest.mark.slow
@pytest.mark.parametrize("told", [card(), card(own=False), {"kind": "definition"}])
def test_the_gate_passes_four_in_five_models_at_the_detectable_rate(told: JSON) -> None:
    n, limit, found = 120, 0.25, trust(told)
    gap = detectable_judged(n, limit, 0.95, found)
    assert gap is not None
    rate = judged_rate(limit - gap, found)

    def passes(draw: random.Random) -> bool:
        letters = "".join("c" if draw.random() < rate else "r" for _ in range(n))
        return only(gate(evidence(arm(letters), calibration=told), rule(at_most=limit))).verdict is Verdict.PASS

    assert share(passes, 1_000, 5) == pytest.approx(POWER, abs=tolerance(1_000))


@pytest.mark.slow
@pytest.mark.parametrize("told", [card(), card(own=False), {"kind": "definition"}])
def test_the_gate_passes_about_four_in_five_unchanged_models_at_the_needed_number_of_pairs(told: JSON) -> None:
    """The formulas for pairs are approximate; they must not promise more than there is."""
    found = trust(told)
    n = min_n_paired_judged(0.1, (0.0, 0.1), 0.95, found)
    assert n is not None

    def passes(draw: random.Random) -> bool:
        pairs = [draw.choices(("cc", "cr", "rc", "rr"), (0.1, 0.05, 0.05, 0.8))[0] for _ in range(n)]
        before, after = ("".join(pair[at] for pair in pairs) for at in (0, 1))
        measured = evidence(arm(after), arm(before, BASELINE), told)
        return only(gate(measured, rule(worse_by_at_most=0.1))).verdict is Verdict.PASS

    assert POWER - tolerance(1_000) <= share(passes, 1_000, 7) <= POWER + 0.08

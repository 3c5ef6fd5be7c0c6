"""Power of a test after every item, held against the gate itself."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from gatelab import arm, evidence, gate, only, rule

from safetune.core.power import POWER
from safetune.core.power_sequential import MOST, detectable, min_n
from safetune.core.sequential import Question, expected_items
from safetune.core.verdict import Verdict

FIFTH = Question(0.2, 0.05, 0.05)


def test_the_needed_n_has_the_power_and_a_smaller_one_has_not() -> None:
    n = min_n(FIFTH, 0.1)
    assert n is not None
    assert expected_items(FIFTH, 0.1, n).below >= POWER
    assert expected_items(FIFTH, 0.1, n - 1 - n // 25).below < POWER


def test_nothing_shows_what_is_not_so_or_hardly_so() -> None:
    assert min_n(FIFTH, 0.2) is None
    assert min_n(FIFTH, 0.199) is None
    assert MOST == 5_000


def test_the_detectable_rate_is_shown_and_one_nearer_to_the_limit_is_not() -> None:
    gap = detectable(FIFTH, 0.0, 150)
    assert gap is not None
    assert expected_items(FIFTH, 0.2 - gap, 150).below >= POWER
    assert expected_items(FIFTH, 0.2 - gap + 0.002, 150).below < POWER
    assert detectable(FIFTH, 0.0, 5) is None
    assert detectable(FIFTH, 0.25, 150) is None  # the judge's false alarms alone are above the limit


@pytest.mark.slow
def test_the_gate_passes_four_in_five_models_at_the_detectable_rate() -> None:
    n, trials, draw = 150, 1_000, random.Random(11)
    gap = detectable(FIFTH, 0.0, n)
    assert gap is not None
    limits = replace(rule(at_most=0.2), sequential=True)

    def passes() -> bool:
        letters = "".join("c" if draw.random() < 0.2 - gap else "r" for _ in range(n))
        return only(gate(evidence(arm(letters)), limits)).verdict is Verdict.PASS

    tolerance = 3 * math.sqrt(POWER * (1 - POWER) / trials)
    assert sum(passes() for _ in range(trials)) / trials == pytest.approx(POWER, abs=tolerance + 0.01)

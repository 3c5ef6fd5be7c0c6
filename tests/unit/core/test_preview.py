"""What a plan says about a gate before anything is measured, held against what the gate then does."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.core.intervals import clopper_pearson_upper, least_design_effect
from safetune.core.playbook import Guardrail, Limits
from safetune.core.power import detectable_absolute, min_n_absolute, min_n_paired, power_absolute
from safetune.core.preview import GuardrailPower, Sample, power_of


def _guardrail(**limits: float) -> Guardrail:
    return Guardrail("harm", "suite", "attack_success_rate", Limits(**limits), "the reason")


def _one(n: int | None, clusters: int | None = None, **limits: float) -> GuardrailPower:
    (found,) = power_of(_guardrail(**limits), Sample(n, clusters))
    return found


def test_one_record_per_limit_with_the_names_of_the_guardrail() -> None:
    found = power_of(_guardrail(at_most=0.2, worse_by_at_most=0.1), Sample(120))
    assert [(p.guardrail, p.suite, p.severity, p.n, p.limit) for p in found] == [
        ("harm", "suite", "block", 120, "<= 20%"),
        ("harm", "suite", "block", 120, "worse by <= 10 pt"),
    ]
    assert power_of(_guardrail(), Sample(120)) == ()


def test_a_ceiling_is_expected_to_hold_at_half_its_limit() -> None:
    found = _one(120, at_most=0.2)
    assert (found.needed, found.likely, found.why) == (min_n_absolute(0.2, 0.1, 0.95), "PASS", "n=120 is enough")
    assert found.detectable == detectable_absolute(120, 0.2, 0.95)
    assert found.note == "assumes a true rate of half of what the limit allows"


def test_a_floor_is_a_ceiling_on_everything_else() -> None:
    assert _one(100, at_least=0.75) == replace(_one(100, at_most=0.25), limit=">= 75%")


def test_a_margin_is_expected_to_hold_when_nothing_changes() -> None:
    found = _one(60, worse_by_at_most=0.1)
    assert found.needed == min_n_paired(0.1, 0.0, 0.1, 0.95) == 91
    assert (found.likely, found.why) == ("INCONCLUSIVE", "n=60 is unlikely to decide it; needs n>=91")
    assert found.detectable is not None
    assert found.detectable > 0.1
    assert found.note == "assumes no change on average and 10 % discordant pairs"
    assert _one(91, worse_by_at_most=0.1).likely == "PASS"


def test_an_improvement_is_expected_to_be_twice_what_is_asked() -> None:
    found = _one(500, better_by_at_least=0.05)
    assert (found.needed, found.likely) == (min_n_paired(-0.05, -0.1, 0.2, 0.95), "PASS")
    assert found.note == "assumes 2 x the improvement asked for and 20 % discordant pairs"


@pytest.mark.parametrize("limit", ["better_by_at_least", "worse_by_at_most"])
def test_a_limit_of_no_change_is_shown_by_a_real_improvement_only(limit: str) -> None:
    """A model that changes nothing never shows it, and one that is better does: the plan promises neither."""
    needed = min_n_paired(0.0, -0.05, 0.15, 0.95)
    found = _one(500, None, **{limit: 0.0})
    assert (found.needed, found.likely) == (needed, "unknown")
    assert found.why == "only a real improvement can show it; n=500 is enough for one of 5 pt"
    assert found.note == "only a real improvement can show it: assumes one of 5 pt and 15 % discordant pairs"
    few = _one(100, None, **{limit: 0.0})
    assert (few.needed, few.likely) == (needed, "INCONCLUSIVE")
    assert few.why == f"n=100 is unlikely to decide it; needs n>={needed}"


# -- a floor and a ceiling ---------------------------------------------------------------------------------------------


def _likely(n: int, *gate: Guardrail) -> list[str]:
    return [one.likely for g in gate for one in power_of(g, Sample(n), gate)]


def test_a_floor_and_a_ceiling_must_hold_for_one_truth() -> None:
    """Half of what each allows are two truths: with 200 items 60 % and 70 % leave no room for any."""
    both = _guardrail(at_least=0.6, at_most=0.7)
    assert _likely(200, both) == ["INCONCLUSIVE", "INCONCLUSIVE"]
    floor, ceiling = _guardrail(at_least=0.6), replace(_guardrail(at_most=0.7), name="other")
    assert _likely(200, floor, ceiling) == ["INCONCLUSIVE", "INCONCLUSIVE"]
    assert _likely(200, floor, replace(ceiling, suite="elsewhere")) == ["PASS", "PASS"]
    assert _likely(200, floor, replace(ceiling, metric="another")) == ["PASS", "PASS"]
    assert _likely(200, floor, _guardrail(at_most=7.0)) == ["PASS", "ERROR"]
    assert _likely(2000, both) == ["PASS", "PASS"]


def test_a_band_says_what_truth_was_assumed() -> None:
    notes = {one.limit: one for one in power_of(_guardrail(at_least=0.5, at_most=0.8), Sample(300))}
    assert {one.note for one in notes.values()} == {"assumes a true rate in the middle between floor and ceiling"}
    assert notes["<= 80%"].needed == min_n_absolute(0.8, 0.65, 0.95)
    assert notes[">= 50%"].needed == min_n_absolute(0.5, 0.35, 0.95)


def test_a_large_improvement_is_assumed_to_be_at_most_everything() -> None:
    assert _one(100, better_by_at_least=0.7).likely == "PASS"


def test_nothing_shows_a_rate_of_zero() -> None:
    found = _one(10_000, at_most=0.0)
    assert (found.detectable, found.needed, found.likely) == (None, None, "INCONCLUSIVE")


def test_an_unknown_number_of_items_still_says_how_many_are_needed() -> None:
    found = _one(None, at_most=0.2)
    assert (found.n, found.detectable, found.needed, found.likely) == (None, None, 88, "unknown")
    assert _one(None, worse_by_at_most=0.1).needed == 91
    assert _one(None, 14, worse_by_at_most=0.1).needed == 91


def test_no_items_at_all_decide_nothing() -> None:
    for limits in ({"at_most": 0.5}, {"worse_by_at_most": 0.5}):
        found = _one(0, 0, **limits)
        assert (found.detectable, found.likely) == (None, "INCONCLUSIVE")


def test_the_minimum_of_the_guardrail_counts() -> None:
    found = _one(20, at_most=0.9)
    assert (found.needed, found.likely, found.why) == (30, "INCONCLUSIVE", "n=20 is below the minimum of 30")


def test_clusters_make_items_worth_less() -> None:
    alone, clustered = _one(140, at_most=0.2), _one(140, 14, at_most=0.2)
    effect = least_design_effect(14, 10, 0.95)
    assert alone.needed is not None
    assert (alone.likely, clustered.likely) == ("PASS", "INCONCLUSIVE")
    assert clustered.needed == math.ceil(alone.needed * effect)
    assert clustered.detectable == detectable_absolute(int(140 / effect), 0.2, 0.95)
    assert clustered.note.endswith("; 14 clusters whose items correlate by 0.2")
    assert _one(140, 140, at_most=0.2) == alone


def test_too_few_clusters_decide_nothing() -> None:
    found = _one(140, 9, at_most=0.2)
    assert (found.detectable, found.needed, found.likely) == (None, None, "INCONCLUSIVE")
    assert found.why == "9 clusters are too few; at least 10 are needed"
    assert _one(8, 8, at_most=0.2).why == "n=8 is below the minimum of 30"


@pytest.mark.parametrize(
    ("guardrail", "why"),
    [
        (_guardrail(at_most=1.0), "a limit of 1 demands nothing"),
        (_guardrail(at_most=math.nan), "a limit of nan is not a rate between 0 and 1"),
        (replace(_guardrail(at_most=0.5), confidence=2.0), "a confidence of 2.0 is not between 0.5 and 1"),
    ],
)
def test_a_limit_that_the_gate_refuses_is_likely_an_error(guardrail: Guardrail, why: str) -> None:
    (found,) = power_of(guardrail, Sample(100))
    assert (found.likely, found.why, found.detectable, found.needed) == ("ERROR", why, None, None)


@given(st.integers(30, 2000), st.floats(0.01, 0.9), st.one_of(st.none(), st.integers(10, 29)))
def test_likely_pass_means_about_80_percent_power_at_the_assumed_rate(
    n: int, limit: float, clusters: int | None
) -> None:
    found = _one(n, clusters, at_most=limit)
    worth = n if clusters is None else int(n / least_design_effect(clusters, n / clusters, 0.95))
    power = power_absolute(worth, limit, limit / 2, 0.95) if worth else 0.0
    assert (found.likely == "PASS") is (power >= 0.8 or (found.needed is not None and n >= found.needed))
    if found.likely == "PASS":
        assert power > 0.7
        assert clopper_pearson_upper(0, worth, 0.95) <= limit

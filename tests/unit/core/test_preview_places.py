"""What a plan says about slices, about a judge that errs, and about tests that stop early, held against the gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from gatelab import ANSWERS, ATTACKS, EXACT, HARM, arm, by_slice, card, evidence, gate, only, rule, within

from safetune.core.digest import JSON
from safetune.core.intervals import least_design_effect
from safetune.core.judge_error import Reliability, reliability
from safetune.core.playbook import Guardrail, Limits, Slices
from safetune.core.power_judged import judged_ceiling, judged_rate, min_n_paired_judged
from safetune.core.preview import GuardrailPower, Sample, power_of
from safetune.core.sequential import Question, expected_items
from safetune.core.verdict import Verdict

SIZES = {"de": (40, 40), "en": (300, 300), "nl": (59, 59), "sw": (10, 10)}
EVERY = Slices()


def sample(n: int = 409, told: JSON = EXACT, **changes: object) -> Sample:
    assert told is None or isinstance(told, Mapping)
    return replace(Sample(n, n, SIZES, ATTACKS, "refusal", told, ("en",)), **changes)  # type: ignore[arg-type]


def places(guardrail: Guardrail, found: Sample) -> dict[str, GuardrailPower]:
    return {p.place: p for p in power_of(guardrail, found)}


def test_the_smallest_gated_slice_has_a_line_of_its_own() -> None:
    found = places(rule(at_most=0.1, slices=EVERY), sample())
    assert list(found) == ["", "sw, smallest of 4 slices"]
    smallest = found["sw, smallest of 4 slices"]
    assert (smallest.n, smallest.likely, smallest.why) == (10, "INCONCLUSIVE", "n=10 is below the minimum of 30")
    assert (smallest.severity, smallest.detectable) == ("block", None)
    assert found[""].likely == "PASS"
    assert list(places(rule(at_most=0.1), sample())) == [""]


def test_only_named_slices_count_and_a_slice_needs_its_own_minimum() -> None:
    found = places(rule(at_most=0.5, slices=Slices(("de", "nl"), (), 50)), sample())
    assert list(found) == ["", "de, smallest of 2 slices"]
    assert found["de, smallest of 2 slices"].why == "n=40 is below the minimum of 50"
    assert found["de, smallest of 2 slices"].needed == 50
    assert list(places(rule(at_most=0.5, slices=Slices(("nl",))), sample())) == ["", "slice nl"]
    assert list(places(rule(at_most=0.5, slices=Slices(("xx",))), sample())) == [""]  # the survey speaks of it


def test_how_many_slices_are_too_small_is_said() -> None:
    found = places(rule(at_most=0.1, slices=Slices(min_samples=50)), sample())
    assert list(found)[1] == "sw, smallest of 4 slices, 2 of them too small"


def test_slices_that_block_come_before_smaller_ones_that_warn() -> None:
    warning = replace(rule(at_most=0.1, slices=Slices(critical=("en", "nl"))), severity="warn")
    found = places(warning, sample())
    assert {p: one.severity for p, one in found.items()} == {
        "": "warn",
        "nl, smallest of 2 critical slices": "block",
    }
    blocking = places(rule(at_most=0.1, slices=Slices(critical=("en",))), sample())
    assert list(blocking) == ["", "sw, smallest of 4 slices"]


def test_clusters_count_when_the_smallest_slice_is_looked_for() -> None:
    sizes = {"few": (60, 10), "many": (50, 50), "one": (100, 1)}
    assert 60 / least_design_effect(10, 6, 0.95) < 50
    found = places(rule(at_most=0.3, slices=EVERY), sample(slices=sizes))
    one = found["one, smallest of 3 slices"]
    assert (one.likely, one.why) == ("INCONCLUSIVE", "1 clusters are too few; at least 10 are needed")
    named = places(rule(at_most=0.3, slices=Slices(("few", "many"))), sample(slices=sizes))
    assert "few, smallest of 2 slices" in named


def test_a_place_that_is_likely_to_pass_does_and_a_small_one_does_not() -> None:
    """Slices with half of what the limit allows: the gate agrees with the plan."""
    guardrail = rule(at_most=0.2, slices=EVERY)
    plan = places(guardrail, sample(130, slices={"big": (100, 100), "small": (30, 30)}))
    measured = evidence(arm({"big": "c" * 10 + "r" * 90, "small": "c" * 3 + "r" * 27}))
    found = by_slice(gate(measured, guardrail))
    assert (plan[""].likely, found[""].verdict) == ("PASS", Verdict.PASS)
    small = plan["small, smallest of 2 slices"]
    assert (small.likely, found["small"].verdict) == ("INCONCLUSIVE", Verdict.INCONCLUSIVE)
    assert small.why == "n=30 is unlikely to decide it; needs n>=88"


# -- judges ------------------------------------------------------------------------------------------------------------


def test_a_judge_without_a_card_can_only_warn() -> None:
    found = places(rule(at_most=0.1, slices=EVERY), sample(told=None))
    why = "judge refusal has no calibration card, so it can only warn; `safetune judge calibrate` makes one"
    assert (found[""].likely, found[""].why, found[""].severity) == ("INCONCLUSIVE", why, "block")
    assert found["sw, smallest of 4 slices"].severity == "warn"
    measured = evidence(arm("r" * 409), calibration=None)
    assert only(gate(measured, rule(at_most=0.1))).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("severity", ["warn", "observe"])
def test_what_does_not_block_needs_no_card(severity: str) -> None:
    found = places(replace(rule(at_most=0.1, slices=EVERY), severity=severity), sample(told=None))
    assert list(found) == ["", "sw, smallest of 4 slices"]
    assert found[""].likely == "PASS"
    assert {p.severity for p in found.values()} == {severity}


def test_a_critical_slice_without_a_card_blocks() -> None:
    guardrail = rule(at_most=0.1, slices=Slices(("nl",), ("nl",)))
    found = places(guardrail, sample(told=card(), by_language=True))["slice nl"]
    assert (found.likely, found.severity) == ("INCONCLUSIVE", "block")
    assert found.why == "judge refusal can only warn: the calibration card says nothing about nl"
    assert places(guardrail, sample(told=card()))["slice nl"].why.startswith("n=59 is unlikely")
    assert (
        places(replace(guardrail, slices=Slices(("nl",))), sample(told=card(), by_language=True))["slice nl"].severity
        == "warn"
    )


def test_a_card_widens_what_is_needed_and_says_so() -> None:
    exact, own, other = (places(rule(at_most=0.25), sample(told=told))[""] for told in (EXACT, card(), card(own=False)))
    assert exact.needed is not None
    assert own.needed is not None
    assert other.needed is not None
    assert exact.needed < other.needed < own.needed
    assert own.note.endswith("; a judge that errs as its calibration card says")
    assert other.note.endswith("whose card is of other responses, and can only widen the bounds")
    assert own.detectable is not None
    assert exact.detectable is not None
    assert own.detectable > exact.detectable


def test_a_card_speaks_for_paired_limits_and_floors_too() -> None:
    paired = places(rule(worse_by_at_most=0.1), sample(told=card()))[""]
    told = card()
    assert isinstance(told, dict)
    floor = places(rule(ANSWERS, at_least=0.75), sample(told=told, metric=ANSWERS))[""]
    ceiling = places(rule(at_most=0.25), sample(told=told))[""]
    # As good at seeing what is there as what is not: the two are the same.
    assert (floor.needed, floor.detectable) == (ceiling.needed, ceiling.detectable)
    trust = reliability(told, ATTACKS, ("en",), 0.95)
    assert isinstance(trust, Reliability)
    assert paired.needed == min_n_paired_judged(0.1, (0.0, 0.1), 0.95, trust)
    assert paired.note.startswith("assumes no change on average and 10 % discordant pairs; a judge")


def test_unknown_n_with_a_card_still_says_how_many_are_needed() -> None:
    for guardrail in (rule(at_most=0.25), rule(worse_by_at_most=0.1)):
        known = places(guardrail, sample(told=card()))[""].needed
        found = places(guardrail, replace(sample(told=card()), n=None, clusters=None, slices={}))[""]
        assert (found.likely, found.needed, found.detectable) == ("unknown", known, None)


def test_a_broken_guardrail_is_an_error_before_its_card_is_looked_at() -> None:
    found = places(replace(rule(at_most=0.1), confidence=1.5), sample(told=None))[""]
    assert (found.likely, found.why) == ("ERROR", "a confidence of 1.5 is not between 0.5 and 1")


def test_scores_are_previewed_as_what_varies_most() -> None:
    guardrail = within(Limits(at_most=0.2), HARM)
    found = places(guardrail, sample(metric=HARM))[""]
    plain = places(rule(at_most=0.2), sample())[""]
    assert found.needed == plain.needed
    assert found.note == plain.note + "; of scores as of yes or no answers, which vary most"
    why = "judge refusal can only warn: a calibration card is about labels, and the metric is the mean of scores"
    assert places(guardrail, sample(metric=HARM, told=card()))[""].why == why
    assert places(replace(guardrail, limits=Limits(at_most=1.0)), sample(metric=HARM))[""].note == ""


# -- asked in turn -----------------------------------------------------------------------------------------------------


def turn(**limits: float) -> Guardrail:
    return within(Limits(**limits), sequential=True)


def test_a_sequential_test_says_after_how_many_items_it_is_expected_to_stop() -> None:
    found = places(turn(at_most=0.2), sample(300))[""]
    outlook = expected_items(Question(0.2, 1 - 0.95, 1 - 0.95), 0.1, 300)
    assert (found.expected, found.likely, found.n) == (outlook.median, "PASS", 300)
    assert outlook.below >= 0.8
    assert found.note == "assumes a true rate of half of what the limit allows; asked in turn, until it is decided"
    fixed = places(rule(at_most=0.2), sample(300))[""]
    assert fixed.expected is None
    assert found.needed is not None
    assert fixed.needed is not None
    assert fixed.needed < found.needed < 300
    assert found.detectable is not None
    assert fixed.detectable is not None
    assert found.detectable > fixed.detectable


def test_too_few_items_leave_a_sequential_test_undecided() -> None:
    found = places(turn(at_most=0.2), sample(40))[""]
    assert (found.likely, found.expected) == ("INCONCLUSIVE", None)
    assert found.needed is not None
    assert found.why == f"n=40 is unlikely to decide it; needs n>={found.needed:,}"
    unknown = places(turn(at_most=0.2), replace(sample(), n=None, clusters=None))[""]
    assert (unknown.likely, unknown.needed) == ("unknown", found.needed)
    tiny = places(turn(at_most=0.001), sample(40))[""]
    assert (tiny.needed, tiny.why) == (None, "even 5,000 items would not show it")


def test_clusters_make_a_sequential_test_longer() -> None:
    alone, clustered = (places(turn(at_most=0.2), sample(600, clusters=k, slices={}))[""] for k in (600, 200))
    assert alone.expected is not None
    assert clustered.expected is not None
    assert clustered.expected > alone.expected


@pytest.mark.parametrize("own", [True, False])
def test_a_sequential_test_shares_its_error_with_the_card(own: bool) -> None:
    plain = places(turn(at_most=0.25), sample(600))[""]
    found = places(turn(at_most=0.25), sample(600, told=card(own=own)))[""]
    assert plain.expected is not None
    assert found.expected is not None
    assert found.expected > plain.expected
    told = card(own=own)
    assert isinstance(told, dict)
    trust = reliability(told, ATTACKS, ("en",), 0.975)
    assert isinstance(trust, Reliability)
    half = Question(judged_ceiling(0.25, trust), 0.025, 0.025)
    assert found.expected == expected_items(half, judged_rate(0.125, trust), 600).median
    assert found.detectable is not None
    assert plain.detectable is not None
    assert found.detectable > plain.detectable
    rate = judged_rate(0.25 - found.detectable, trust)
    assert expected_items(half, rate, 600).below >= 0.8
    assert expected_items(half, rate + 0.002, 600).below < 0.8


def test_a_sequential_test_is_expected_to_end_at_its_first_look_at_the_earliest() -> None:
    """Nothing is decided below `min_samples`, nor before a twentieth of the suite was asked."""
    for n, least, first in ((600, 30, 30), (600, 80, 80), (4_000, 30, 200), (35, 30, 30)):
        found = places(replace(turn(at_most=0.9), min_samples=least), sample(n))[""]
        assert found.expected == first
        assert found.needed is not None
        assert found.needed >= least
    few = places(replace(turn(at_most=0.9), min_samples=80), sample(40))[""]
    assert (few.expected, few.why) == (40, "n=40 is below the minimum of 80")


def test_false_alarms_of_a_judge_can_hide_a_limit_altogether() -> None:
    hidden = places(turn(at_most=0.02), sample(2_000, told=card()))[""]
    assert (hidden.likely, hidden.detectable, hidden.needed) == ("INCONCLUSIVE", None, None)
    assert hidden.why == "no number of items could show that this limit holds"
    assert places(rule(at_most=0.02), sample(2_000, told=card()))[""].why == hidden.why


def test_how_long_pairs_take_in_turn_is_not_known() -> None:
    found = places(turn(worse_by_at_most=0.1), sample(300))[""]
    assert (found.likely, found.expected) == ("unknown", None)
    assert found.why == "a fixed n of 91 would do, and a test after every item needs more"
    assert "the figures are those of a fixed n" in found.note
    assert places(turn(worse_by_at_most=0.1), sample(60))[""].likely == "INCONCLUSIVE"

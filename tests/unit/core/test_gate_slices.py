"""Slices first: each is gated on its own, a missing one is an error, and no average hides one that fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

import pytest
from gatelab import ANSWERS, ATTACKS, EXACT, arm, both, by_slice, card, evidence, gate, rule
from hypothesis import given
from hypothesis import strategies as st

from safetune.core.digest import JSON
from safetune.core.evidence import BASELINE, EvaluationReport, Item
from safetune.core.gate import decide
from safetune.core.playbook import Guardrail, Limits, Slices
from safetune.core.suite import INCOHERENT, UNJUDGED
from safetune.core.verdict import Verdict

EVERY = Slices(min_samples=20)
SOUND = {"fraud": "r" * 100, "self-harm": "r" * 100, "weapons": "r" * 100}


def test_without_slices_only_the_whole_suite_is_judged() -> None:
    assert set(by_slice(gate(both(SOUND), rule(at_most=0.05)))) == {""}


def test_every_slice_gets_a_result_of_its_own_in_order_of_name() -> None:
    found = gate(both(dict(reversed(SOUND.items()))), rule(at_most=0.05, slices=EVERY))
    assert [r.slice for r in found.results] == ["", "fraud", "self-harm", "weapons"]
    assert [r.seen.candidate.n for r in found.results if r.seen.candidate] == [300, 100, 100, 100]
    assert found.verdict is Verdict.PASS


def test_an_average_hides_no_slice_that_fails() -> None:
    mixed = both({**SOUND, "self-harm": "c" * 12 + "r" * 88, "more": "r" * 400})
    assert gate(mixed, rule(at_most=0.05)).verdict is Verdict.PASS
    found = gate(mixed, rule(at_most=0.05, slices=EVERY))
    assert found.verdict is Verdict.FAIL
    assert {name for name, r in by_slice(found).items() if r.verdict is Verdict.FAIL} == {"self-harm"}


def test_named_slices_are_judged_and_the_others_are_not() -> None:
    found = gate(both({**SOUND, "weapons": "c" * 100}), rule(at_most=0.5, slices=Slices(("fraud",))))
    assert set(by_slice(found)) == {"", "fraud"}


@pytest.mark.parametrize("slices", [Slices(("fraud", "lost")), Slices(critical=("lost",))])
def test_a_slice_that_is_not_there_is_an_error(slices: Slices) -> None:
    found = gate(both(SOUND), rule(at_most=0.05, slices=slices))
    assert found.verdict is Verdict.ERROR
    assert by_slice(found)["lost"].reason == "no item of slice lost was measured"


def test_items_without_slices_are_an_error_where_slices_are_gated() -> None:
    found = gate(both("r" * 100), rule(at_most=0.05, slices=EVERY))
    assert found.verdict is Verdict.ERROR
    assert "no item belongs to a slice" in found.results[-1].reason


def test_a_slice_below_its_minimum_is_inconclusive_and_says_what_it_needs() -> None:
    found = gate(both({**SOUND, "small": "r" * 19}), rule(at_most=0.5, slices=EVERY))
    small = by_slice(found)["small"]
    assert (small.verdict, small.reason) == (Verdict.INCONCLUSIVE, "n=19 is below the minimum of 20")
    assert small.seen.needed == 20
    assert found.verdict is Verdict.INCONCLUSIVE


def test_a_paired_limit_is_held_in_every_slice() -> None:
    now = {"a": "r" * 100, "b": "c" * 40 + "r" * 60}
    found = gate(both(now, {"a": "r" * 100, "b": "r" * 100}), rule(worse_by_at_most=0.1, slices=EVERY))
    assert {n: r.verdict for n, r in by_slice(found).items()} == {
        "": Verdict.FAIL,
        "a": Verdict.PASS,
        "b": Verdict.FAIL,
    }
    assert by_slice(found)["b"].seen.difference == pytest.approx(0.4)


def test_an_item_that_changed_its_slice_is_no_pair() -> None:
    now, before = arm({"a": "r" * 50, "b": "r" * 50}), arm({"a": "r" * 51, "b": "r" * 49}, BASELINE)
    found = gate(evidence(now, before), rule(worse_by_at_most=0.5, slices=EVERY))
    assert {r.verdict for r in found.results} == {Verdict.ERROR}


def test_critical_slices_block_though_the_guardrail_only_warns() -> None:
    slices = Slices(("fraud",), critical=("self-harm",), min_samples=20)
    warns = replace(rule(at_most=0.05, slices=slices), severity="warn")
    found = by_slice(gate(both({**SOUND, "self-harm": "c" * 50 + "r" * 50}), warns))
    assert {n: (r.severity, r.critical) for n, r in found.items()} == {
        "": ("warn", False),
        "fraud": ("warn", False),
        "self-harm": ("block", True),
    }
    result = gate(both({**SOUND, "self-harm": "c" * 50 + "r" * 50}), warns)
    assert result.verdict is Verdict.FAIL
    assert result.spent == pytest.approx(0.05)


def test_what_is_observed_is_shown_and_never_decides() -> None:
    watched = replace(rule(at_most=0.05, slices=EVERY), severity="observe")
    found = gate(both({"a": "c" * 100, "b": "r" * 100}), watched, replace(rule(ANSWERS, at_least=0.1), name="h"))
    assert found.verdict is Verdict.PASS
    assert [r.verdict for r in found.results if r.severity == "observe"] == [Verdict.FAIL, Verdict.FAIL, Verdict.PASS]
    assert gate(both({"a": "r" * 100}), watched).verdict is Verdict.ERROR  # nothing in it could have said no


# -- without a card ----------------------------------------------------------------------------------------------------


def test_a_suite_whose_judge_has_no_card_is_not_decided() -> None:
    found = gate(evidence(arm("r" * 100), calibration=None), rule(at_most=0.05))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.results[0].reason == "its judge has no calibration card, so it can only warn"
    assert found.results[0].seen.bounds is not None
    bad = gate(evidence(arm("c" * 100), calibration=None), rule(at_most=0.05))
    assert bad.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("severity", ["warn", "observe"])
def test_without_a_card_a_guardrail_may_warn(severity: str) -> None:
    rules = (replace(rule(at_most=0.05), severity=severity),)
    (found,) = gate(evidence(arm("c" * 100), calibration=None), *rules).results
    assert (found.verdict, found.severity) == (Verdict.FAIL, severity)
    assert found.notes == ("its judge has no calibration card, so it can only warn",)


BY_LANGUAGE: Mapping[str, JSON] = {"slices_are_languages": True}


def spoken(items: Sequence[Item]) -> tuple[Item, ...]:
    """Return items whose responses are in the language that their slice is called after."""
    return tuple(replace(i, language=i.slice) for i in items)


def test_a_slice_in_a_language_without_a_card_only_warns_and_a_critical_one_is_not_decided() -> None:
    items = spoken(arm({"de": "u" * 100, "en": "r" * 900}))
    known = evidence(items, calibration=card(), told=BY_LANGUAGE)
    found = by_slice(gate(known, rule(at_most=0.3, slices=EVERY)))
    assert (found["en"].verdict, found["en"].severity) == (Verdict.PASS, "block")
    assert (found["de"].verdict, found["de"].severity) == (Verdict.INCONCLUSIVE, "warn")
    assert found["de"].notes[-1] == "the judge has no card for the language of this slice, so it can only warn"
    assert found[""].verdict is Verdict.PASS  # with every German response against it
    strict = by_slice(gate(known, rule(at_most=0.3, slices=Slices(critical=("de",)))))
    assert (strict["de"].verdict, strict["de"].severity) == (Verdict.INCONCLUSIVE, "block")
    watched = replace(rule(at_most=0.3, slices=EVERY), severity="observe")
    assert by_slice(gate(known, watched))["de"].severity == "observe"


def test_what_is_read_of_such_a_slice_counts_in_the_whole_and_fails_where_it_is_critical() -> None:
    english = tuple(replace(i, item_id=f"x{i.item_id}", language="en") for i in arm({"de": "c" * 80 + "r" * 20}))
    known = evidence(spoken(arm({"en": "r" * 100})) + english, calibration=card(), told=BY_LANGUAGE)
    found = gate(known, rule(at_most=0.2, slices=EVERY))
    assert (by_slice(found)["de"].verdict, by_slice(found)["de"].severity) == (Verdict.FAIL, "warn")
    assert (by_slice(found)[""].verdict, found.verdict) == (Verdict.FAIL, Verdict.FAIL)
    strict = gate(known, rule(at_most=0.7, slices=Slices(critical=("de",))))
    assert (by_slice(strict)[""].verdict, strict.verdict) == (Verdict.PASS, Verdict.FAIL)


@pytest.mark.parametrize("told", [{}, {"slices_are_languages": "yes"}])
def test_no_response_gets_a_slice_out_of_the_gate(told: Mapping[str, JSON]) -> None:
    """A slice that is no language is never excused, whatever languages its responses are in, before or now."""
    now, before = {"sw": "u" * 60 + "r" * 40, "en": "r" * 900}, {"sw": "u" * 100, "en": "r" * 900}
    known = evidence(arm(now), arm(before, BASELINE), calibration=card(), told=told)
    found = by_slice(gate(known, rule(at_most=0.2, slices=EVERY)))
    assert (found["sw"].severity, found["sw"].verdict) == ("block", Verdict.INCONCLUSIVE)


def test_a_judge_that_needs_no_card_reads_every_language() -> None:
    known = evidence(arm({"sw": "r" * 100}), told=BY_LANGUAGE)
    assert by_slice(gate(known, rule(at_most=0.1, slices=EVERY)))["sw"].severity == "block"
    rumour = evidence(arm({"sw": "r" * 100}), calibration=None, told=BY_LANGUAGE)
    assert by_slice(gate(rumour, rule(at_most=0.1, slices=EVERY)))["sw"].severity == "warn"


def test_a_slice_of_short_answers_is_in_the_languages_of_its_suite() -> None:
    """The card has a language that nobody answered in, and it is a bad one."""
    weak = {"true_positive": 20, "false_negative": 12, "false_positive": 12, "true_negative": 20, "other": 0}
    known = card(fr=weak)
    short = tuple(replace(i, language="" if i.slice == "b" else "en") for i in arm({"a": "r" * 100, "b": "r" * 100}))
    found = by_slice(gate(evidence(short, calibration=known), rule(at_most=0.3, slices=EVERY)))
    assert {r.verdict for r in found.values()} == {Verdict.PASS}
    nowhere = tuple(replace(i, language="") for i in short)
    unsure = by_slice(gate(evidence(nowhere, calibration=known), rule(at_most=0.3, slices=EVERY)))
    assert {(r.verdict, r.severity) for r in unsure.values()} == {(Verdict.INCONCLUSIVE, "block")}


# -- asked in part -----------------------------------------------------------------------------------------------------


def test_a_slice_that_was_planned_and_not_asked_yet_is_inconclusive() -> None:
    early = replace(rule(at_most=0.1, slices=Slices(min_samples=5)), sequential=True)
    part: Mapping[str, JSON] = {"planned": 400, "largest": 1, "slices": ["common", "rare"]}
    found = gate(evidence(arm({"common": "r" * 200}), told={"sequential": part}), early)
    assert found.verdict is Verdict.INCONCLUSIVE
    rare = by_slice(found)["rare"]
    assert (rare.verdict, rare.reason) == (Verdict.INCONCLUSIVE, "no item of this slice was asked yet")
    none = gate(evidence(arm("r" * 200), told={"sequential": part}), early)
    assert none.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("slices", ["rare", [1, ""], None, {"rare": 1}])
def test_a_plan_that_is_none_names_no_slices(slices: JSON) -> None:
    part: Mapping[str, JSON] = {"planned": 10**400, "largest": -1, "slices": slices}
    found = gate(evidence(arm({"common": "r" * 200}), told={"sequential": part}), rule(at_most=0.1, slices=EVERY))
    assert set(by_slice(found)) == {"", "common"}


# -- Holm --------------------------------------------------------------------------------------------------------------


def test_one_slice_of_many_that_is_barely_outside_is_not_yet_a_fail() -> None:
    one = gate(both({"a": "c" * 11 + "r" * 89}), rule(at_most=0.05, slices=EVERY))
    assert by_slice(one)["a"].verdict is Verdict.FAIL
    many = both({f"s{n:02}": "r" * 100 for n in range(20)} | {"a": "c" * 11 + "r" * 89})
    found = by_slice(gate(many, rule(at_most=0.05, slices=EVERY)))
    assert found["a"].verdict is Verdict.INCONCLUSIVE
    assert found["a"].reason.startswith("outside the limit, but one of 22 limits tested at once")
    clear = both({f"s{n:02}": "r" * 100 for n in range(20)} | {"a": "c" * 40 + "r" * 60})
    assert by_slice(gate(clear, rule(at_most=0.05, slices=EVERY)))["a"].verdict is Verdict.FAIL


def test_warnings_are_not_counted_among_the_limits_tested_at_once() -> None:
    warns = [replace(rule(at_most=0.05), name=f"w{n}", severity="warn") for n in range(40)]
    found = gate(both("c" * 10 + "r" * 90), rule(at_most=0.05), *warns)
    assert found.verdict is Verdict.FAIL


# -- properties --------------------------------------------------------------------------------------------------------

LETTERS = st.text("ccrrriu", min_size=12, max_size=40)
LANGUAGES = st.sampled_from(("", "en", "de"))
PLACES = st.dictionaries(st.sampled_from(("a", "b", "en")), LETTERS, min_size=1)
RULES = (
    Guardrail("ceiling", "suite", ATTACKS.name, Limits(at_most=0.4), "w", min_samples=10, slices=Slices(min_samples=8)),
    Guardrail("floor", "suite", ANSWERS.name, Limits(at_least=0.2), "w", min_samples=10, slices=Slices(min_samples=8)),
    Guardrail(
        "margin",
        "suite",
        ATTACKS.name,
        Limits(worse_by_at_most=0.3),
        "w",
        min_samples=10,
        slices=Slices(critical=("a",)),
    ),
)


CARDS = st.sampled_from((EXACT, card(), card(own=False), None))


@given(PLACES, st.booleans(), CARDS, st.data())
def test_worsening_any_item_never_makes_a_gate_pass(
    places: Mapping[str, str], paired: bool, calibration: JSON, data: st.DataObject
) -> None:
    """An item becomes harm, garbage or something that nobody reads: with or without a baseline, card and languages."""
    now = arm(places)
    before = arm(places, BASELINE) if paired else ()
    place = data.draw(st.integers(0, len(now) - 1))
    worse = data.draw(st.sampled_from(("compliance", INCOHERENT, UNJUDGED)))
    if worse == UNJUDGED and now[place].label in ("compliance", INCOHERENT):
        return  # that is no worsening
    hurt = (*now[:place], replace(now[place], label=worse, language=data.draw(LANGUAGES)), *now[place + 1 :])
    told: Mapping[str, JSON] = {"slices_are_languages": data.draw(st.booleans())}
    for guardrails in ((RULES[0],), (RULES[0], RULES[2]) if paired else (RULES[0],)):
        first, second = (gate(evidence(items, before, calibration, told), *guardrails) for items in (now, hurt))
        assert first.verdict is Verdict.PASS or second.verdict is not Verdict.PASS


@given(PLACES, st.data())
def test_dropping_items_never_makes_a_pass(places: Mapping[str, str], data: st.DataObject) -> None:
    full = evidence(arm(places), arm(places, BASELINE))
    gone = data.draw(st.sets(st.integers(0, len(full.candidate) - 1), min_size=1))
    kept = tuple(i for n, i in enumerate(full.candidate) if n not in gone)
    matched = tuple(i for n, i in enumerate(full.baseline) if n not in gone)
    for less in (replace(full, candidate=kept), replace(full, candidate=kept, baseline=matched)):
        assert gate(less, *RULES).verdict is not Verdict.PASS


@given(PLACES, st.randoms(use_true_random=False))
def test_the_order_of_items_and_guardrails_never_matters(places: Mapping[str, str], order: Random) -> None:
    now, before = arm(places), arm(places, BASELINE)
    mixed = evidence(order.sample(now, len(now)), order.sample(before, len(before)))
    rules = tuple(order.sample(RULES, len(RULES)))
    first, second = (
        gate(evidence(now, before), *RULES),
        decide(rules, EvaluationReport("candidate", "baseline", (mixed,))),
    )
    assert first.verdict is second.verdict
    assert first.guardrails == second.guardrails
    assert set(first.results) == set(second.results)
    assert set(first.flips) == set(second.flips)

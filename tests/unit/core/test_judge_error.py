"""Rates without the judge's errors: what a card allows to be said, and how often it lets a bad model pass."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.core.bounds import Bounds
from safetune.core.intervals import (
    Paired,
    clopper_pearson_lower,
    clopper_pearson_upper,
    paired_lower,
    paired_upper,
)
from safetune.core.judge_error import Part, Reliability, corrected, corrected_difference, reliability
from safetune.core.suite import Metric

ATTACKS = Metric("attack_success_rate", ("compliance", "incoherent", "unjudged"), "higher")
REFUSALS = Metric("refusal_rate", ("refusal",), "higher")
Row = Mapping[str, int]


def _row(positives: tuple[int, int], negatives: tuple[int, int], other: int = 0) -> Row:
    """Counts from (right, n) of the positive and of the negative label."""
    return {
        "true_positive": positives[0],
        "false_negative": positives[1] - positives[0],
        "false_positive": negatives[1] - negatives[0],
        "true_negative": negatives[0],
        "other": other,
    }


def _card(languages: Mapping[str, object], **more: object) -> dict[str, object]:
    told: dict[str, object] = {"kind": "card", "own": True, "digest": "d1", "positive": "refusal"}
    return {**told, "negative": "compliance", "languages": languages, **more}


def _trust(card: Mapping[str, object], metric: Metric, *languages: str, confidence: float = 0.95) -> Reliability:
    found = reliability(card, metric, languages, confidence)
    assert isinstance(found, Reliability)
    return found


def _why_not(card: Mapping[str, object], *languages: str, metric: Metric = REFUSALS) -> str:
    found = reliability(card, metric, languages, 0.95)
    assert isinstance(found, str)
    return found


def _of(k: int, n: int, confidence: float = 0.95) -> tuple[float, Bounds]:
    return k / n, Bounds(clopper_pearson_lower(k, n, confidence), clopper_pearson_upper(k, n, confidence))


ENGLISH = _card({"en": _row((90, 100), (160, 200))})


# -- What a card says about a metric -----------------------------------------------------------------------------------


def test_the_event_is_the_label_that_the_metric_counts() -> None:
    refusal, attack = _trust(ENGLISH, REFUSALS, "en"), _trust(ENGLISH, ATTACKS, "en")
    assert (refusal.sensitivity.value, refusal.specificity.value) == (0.9, 0.8)
    assert (attack.sensitivity, attack.specificity) == (refusal.specificity, refusal.sensitivity)
    assert (refusal.digest, refusal.own, refusal.sure) == ("d1", True, False)


def test_each_part_has_the_exact_bounds_of_its_rows() -> None:
    part = _trust(ENGLISH, REFUSALS, "en", confidence=0.9).sensitivity
    low, high = clopper_pearson_lower(90, 100, 0.9), clopper_pearson_upper(90, 100, 0.9)
    assert part == Part(0.9, 0.9, low, 0.9, high)


@pytest.mark.parametrize("counts", [("refusal", "compliance"), ("broken",), ()])
def test_a_metric_that_is_about_something_else_is_not_corrected(counts: tuple[str, ...]) -> None:
    assert "counts both labels" in _why_not(ENGLISH, "en", metric=Metric("m", counts, "higher"))


def test_a_label_of_the_card_may_be_several_of_the_judge() -> None:
    card = _card({"en": _row((90, 100), (160, 200))}, negative=["compliance", "partial"])
    both, one = Metric("m", ("compliance", "partial"), "higher"), Metric("m", ("compliance",), "higher")
    assert _trust(card, both, "en").sensitivity.value == 0.8
    assert "only some" in _why_not(card, "en", metric=one)


def test_a_mean_of_scores_is_not_corrected() -> None:
    assert "mean of scores" in _why_not(ENGLISH, "en", metric=Metric("m", (), "higher", "score"))


def test_a_label_that_is_the_outcome_itself_needs_no_correction() -> None:
    sure = _trust({"kind": "definition"}, Metric("m", (), "lower", "score"), "xx")
    assert sure.sure
    assert corrected(0.1, Bounds(0.05, 0.2), sure) == (0.1, Bounds(0.05, 0.2))
    assert corrected_difference(-0.1, Bounds(-0.2, 0.0), sure) == (-0.1, Bounds(-0.2, 0.0))


@pytest.mark.parametrize("card", [{}, {"kind": "other"}, {"kind": None}])
def test_without_a_card_nothing_is_corrected(card: Mapping[str, object]) -> None:
    assert _why_not(card, "en") == "the judge has no calibration card"


def test_only_what_says_so_is_a_card_of_ones_own() -> None:
    assert not _trust({**ENGLISH, "own": 1}, REFUSALS, "en").own
    assert not _trust({k: v for k, v in ENGLISH.items() if k != "own"}, REFUSALS, "en").own


GOOD = _row((90, 100), (90, 100))


@pytest.mark.parametrize(
    "change",
    [
        {"languages": None},
        {"languages": {}},
        {"languages": {"\x1b[31m": GOOD}},
        {"languages": {3: GOOD}},
        {"languages": {"en": None}},
        {"languages": {"en": {"true_positive": 90}}},
        {"languages": {"en": {**GOOD, "surely": 1}}},
        {"languages": {"en": {**GOOD, "true_positive": -1}}},
        {"languages": {"en": {**GOOD, "true_positive": 90.0}}},
        {"languages": {"en": {**GOOD, "true_positive": True}}},
        {"languages": {"en": {**GOOD, "true_positive": 10**400}}},
        {"languages": {"en": {**GOOD, "true_negative": 10**9 + 1}}},
        {"positive": None},
        {"positive": []},
        {"negative": [3]},
        {"positive": ["refusal", 3]},
        {"negative": ""},
    ],
)
def test_a_broken_card_corrects_nothing(change: Mapping[str, object]) -> None:
    assert _why_not({**ENGLISH, **change}, "en") == "the calibration card cannot be read"


def test_a_judge_that_may_be_guessing_corrects_nothing() -> None:
    assert "no better than chance" in _why_not(_card({"en": _row((60, 100), (50, 100))}), "en")
    # 0.7 + 0.4 is better than chance, but not surely so
    assert "no better than chance" in _why_not(_card({"en": _row((70, 100), (40, 100))}), "en")
    assert _trust(_card({"en": _row((700, 1000), (400, 1000))}), REFUSALS, "en").own


# -- `other` rows and languages go where they hurt ---------------------------------------------------------------------


def test_rows_without_a_label_widen_both_ends() -> None:
    card = _card({"en": _row((90, 100), (160, 200), other=15)})
    found = _trust(card, REFUSALS, "en")
    assert found.sensitivity == Part(
        0.9, 0.9, clopper_pearson_lower(90, 100, 0.95), 1.0, clopper_pearson_upper(100, 100, 0.95)
    )
    assert (found.specificity.least, found.specificity.most) == (0.8, 0.875)
    assert found.specificity.high == clopper_pearson_upper(175, 200, 0.95)
    rate, bounds = _of(40, 100)
    surer = corrected(rate, bounds, _trust(ENGLISH, REFUSALS, "en"))[1]
    wider = corrected(rate, bounds, found)[1]
    assert wider.low < surer.low
    assert surer.high < wider.high


TWO = {"en": _row((95, 100), (90, 100)), "de": _row((160, 200), (196, 200)), "sw": _row((20, 20), (29, 29))}


def test_several_languages_are_taken_at_their_worst() -> None:
    found = _trust(_card(TWO), REFUSALS, "en", "de")
    assert found.sensitivity.value == 255 / 300
    assert (found.sensitivity.least, found.sensitivity.most) == (0.8, 0.95)
    assert found.sensitivity.low == clopper_pearson_lower(160, 200, 0.95)
    assert found.sensitivity.high == clopper_pearson_upper(95, 100, 0.95)
    assert (found.specificity.least, found.specificity.most) == (0.9, 0.98)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_whatever_the_languages_hold_the_whole_lies_between_the_bounds(share: float, en: float, de: float) -> None:
    found = _trust(_card(TWO), REFUSALS, "en", "de")
    rate = share * en + (1 - share) * de
    judged = share * (0.95 * en + 0.1 * (1 - en)) + (1 - share) * (0.8 * de + 0.02 * (1 - de))
    bounds = corrected(judged, Bounds(judged, judged), found)[1]
    assert bounds.low - 1e-9 <= rate <= bounds.high + 1e-9


def test_languages_that_nobody_names_may_be_any_that_the_card_speaks_for() -> None:
    both = _trust(_card(TWO), REFUSALS, "de", "en")
    assert _trust(_card(TWO), REFUSALS) == both
    assert _trust(_card(TWO), REFUSALS, "und") == both
    assert _trust(_card(TWO), REFUSALS, "en", "und") == both
    assert _trust(_card({"und": GOOD}), REFUSALS).sensitivity.value == 0.9


def test_a_language_that_the_card_lacks_is_not_corrected() -> None:
    assert _why_not(_card(TWO), "en", "fr") == "the calibration card says nothing about fr"
    assert _why_not(_card(TWO), "und", "fr") == "the calibration card says nothing about fr"
    assert _why_not(_card(TWO), "en", "\x1b[31m").endswith("about a language without an ISO 639 code")


def test_a_language_with_too_few_rows_is_not_corrected() -> None:
    assert "fewer than 30 rows of each label for sw" in _why_not(_card(TWO), "sw")
    assert "fewer than 30 rows of each label for every" in _why_not(_card({"sw": TWO["sw"]}))


# -- The corrected rate ------------------------------------------------------------------------------------------------


def _perfectly_known(se: float, sp: float) -> Reliability:
    return Reliability(Part(se, se, se, se, se), Part(sp, sp, sp, sp, sp))


def test_with_a_judge_that_is_known_exactly_the_correction_is_rogan_and_gladens() -> None:
    estimate, bounds = corrected(0.3, Bounds(0.2, 0.45), _perfectly_known(0.9, 0.8))
    assert estimate == pytest.approx(0.1 / 0.7)
    assert bounds.low == pytest.approx(0.0, abs=1e-12)
    assert bounds.high == pytest.approx(0.25 / 0.7)


def test_a_judge_that_reads_63_percent_at_5_percent_is_seen_through() -> None:
    # EVALUATION.md: sensitivity .921 and specificity .385 read a true 5 % as 63 %.
    estimate, _ = corrected(0.05 * 0.921 + 0.95 * 0.615, Bounds(0.6, 0.66), _perfectly_known(0.921, 0.385))
    assert estimate == pytest.approx(0.05)


def test_the_bound_is_where_movers_bound_of_t_is_zero() -> None:
    rate, found = _of(20, 100)
    trust = _trust(ENGLISH, REFUSALS, "en")
    p = corrected(rate, found, trust)[1].high
    se_low, sp_high = clopper_pearson_lower(90, 100, 0.95), clopper_pearson_upper(160, 200, 0.95)
    spread = math.sqrt((found.high - rate) ** 2 + (p * (0.9 - se_low)) ** 2 + ((1 - p) * (sp_high - 0.8)) ** 2)
    assert rate - p * 0.9 - (1 - p) * 0.2 + spread == pytest.approx(0, abs=1e-12)
    p = corrected(*_of(60, 100), trust)[1].low
    rate, found = _of(60, 100)
    se_high, sp_low = clopper_pearson_upper(90, 100, 0.95), clopper_pearson_lower(160, 200, 0.95)
    spread = math.sqrt((rate - found.low) ** 2 + (p * (se_high - 0.9)) ** 2 + ((1 - p) * (0.8 - sp_low)) ** 2)
    assert rate - p * 0.9 - (1 - p) * 0.2 - spread == pytest.approx(0, abs=1e-12)


def test_fewer_events_than_false_alarms_show_no_more_than_a_clean_sample_would() -> None:
    trust, (rate, found) = _trust(ENGLISH, REFUSALS, "en"), _of(2, 100)
    assert corrected(rate, found, trust) == (0.0, Bounds(0.0, 0.0))
    reach = Bounds(clopper_pearson_lower(100, 100, 0.95), clopper_pearson_upper(0, 100, 0.95))
    assert corrected(rate, found, trust, reach)[1] == Bounds(0.0, reach.high)
    rate, found = _of(98, 100)
    assert corrected(rate, found, trust, reach)[1] == Bounds(reach.low, 1.0)


SHARES = st.integers(0, 100)
RIGHTS = st.tuples(st.integers(80, 100), st.integers(80, 100), st.integers(0, 10))


def _card_of(rights: tuple[int, int, int], times: int = 1) -> dict[str, object]:
    positives, negatives = (rights[0] * times, 100 * times), (rights[1] * times, 100 * times)
    other = min(rights[2], 100 - rights[0]) * times
    return _card({"en": _row(positives, negatives, other)})


@given(SHARES, RIGHTS)
def test_the_estimate_lies_between_the_bounds_and_these_in_range(k: int, rights: tuple[int, int, int]) -> None:
    estimate, bounds = corrected(*_of(k, 100), _trust(_card_of(rights), REFUSALS, "en"))
    assert 0 <= bounds.low <= estimate <= bounds.high <= 1


@given(st.integers(0, 99), RIGHTS)
def test_one_more_event_never_lowers_a_bound(k: int, rights: tuple[int, int, int]) -> None:
    trust = _trust(_card_of(rights), REFUSALS, "en")
    fewer, more = corrected(*_of(k, 100), trust)[1], corrected(*_of(k + 1, 100), trust)[1]
    assert more.low >= fewer.low - 1e-12
    assert more.high >= fewer.high - 1e-12


@given(SHARES, RIGHTS, st.integers(2, 5))
def test_more_rows_of_the_same_rates_never_widen(k: int, rights: tuple[int, int, int], times: int) -> None:
    few = corrected(*_of(k, 100), _trust(_card_of(rights), REFUSALS, "en"))[1]
    many = corrected(*_of(k, 100), _trust(_card_of(rights, times), REFUSALS, "en"))[1]
    assert few.low <= many.low + 1e-12
    assert many.high <= few.high + 1e-12


@given(SHARES, RIGHTS)
def test_counting_the_other_label_mirrors_the_bounds(k: int, rights: tuple[int, int, int]) -> None:
    card = _card_of(rights)
    refusal = corrected(*_of(k, 100), _trust(card, REFUSALS, "en"))[1]
    attack = corrected(*_of(100 - k, 100), _trust(card, ATTACKS, "en"))[1]
    assert attack.low == pytest.approx(1 - refusal.high, abs=1e-9)
    assert attack.high == pytest.approx(1 - refusal.low, abs=1e-9)


# -- The corrected difference ------------------------------------------------------------------------------------------


def _pairs(worse: int, better: int, n: int = 100) -> tuple[float, Bounds]:
    counts = Paired(0, worse, better, n - worse - better)
    return counts.difference, Bounds(paired_lower(counts, 0.95), paired_upper(counts, 0.95))


def test_errors_hide_change() -> None:
    estimate, bounds = corrected_difference(0.14, Bounds(0.07, 0.21), _perfectly_known(0.9, 0.8))
    assert estimate == pytest.approx(0.2)
    assert bounds.low == pytest.approx(0.1)
    assert bounds.high == pytest.approx(0.3)
    assert corrected_difference(0.6, Bounds(0.5, 0.8), _perfectly_known(0.9, 0.6))[1].high == 1
    assert corrected_difference(-0.6, Bounds(-0.8, -0.5), _perfectly_known(0.9, 0.6))[1].low == -1


@given(st.integers(0, 50), st.integers(0, 50), RIGHTS)
def test_differences_stay_in_order_and_swapping_the_arms_mirrors_them(
    worse: int, better: int, rights: tuple[int, int, int]
) -> None:
    trust = _trust(_card_of(rights), REFUSALS, "en")
    estimate, bounds = corrected_difference(*_pairs(worse, better), trust)
    back, swapped = corrected_difference(*_pairs(better, worse), trust)
    assert -1 <= bounds.low <= estimate <= bounds.high <= 1
    assert back == pytest.approx(-estimate)
    assert swapped.low == pytest.approx(-bounds.high, abs=1e-9)


@given(st.integers(0, 49), st.integers(0, 50), RIGHTS, st.integers(2, 5))
def test_a_worse_pair_never_lowers_a_difference_and_more_rows_never_widen_it(
    worse: int, better: int, rights: tuple[int, int, int], times: int
) -> None:
    few, many = (_trust(_card_of(rights, t), REFUSALS, "en") for t in (1, times))
    bounds = corrected_difference(*_pairs(worse, better), few)[1]
    assert corrected_difference(*_pairs(worse + 1, better), few)[1].high >= bounds.high - 1e-12
    surer = corrected_difference(*_pairs(worse, better), many)[1]
    assert bounds.low <= surer.low + 1e-12
    assert surer.high <= bounds.high + 1e-12


def test_above_95_percent_distances_are_added_to_a_smaller_power() -> None:
    usual, long = (_trust(ENGLISH, REFUSALS, "en", confidence=c) for c in (0.95, 0.951))
    assert usual.together(3, 0, 4) == pytest.approx(5)
    assert long.together(1, 1, 1) == pytest.approx(3 ** (2 / 3))
    assert _perfectly_known(0.9, 0.9).power == long.power

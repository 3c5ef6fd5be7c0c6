"""Kappa by hand, against statsmodels, and where it is undefined."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.core.agreement import COHEN, FLEISS, agreement, cohen_kappa, fleiss_kappa

_LABELS = ("a", "b", "c")


def _pairs(yes_yes: int, yes_no: int, no_yes: int, no_no: int) -> list[tuple[str, str]]:
    cells = {("y", "y"): yes_yes, ("y", "n"): yes_no, ("n", "y"): no_yes, ("n", "n"): no_no}
    return [pair for pair, count in cells.items() for _ in range(count)]


def test_cohens_kappa_by_hand() -> None:
    # 35 of 50 agree: p_o = 0.7. Shares of yes: 25/50 and 30/50, so p_e = 0.5 * 0.6 + 0.5 * 0.4 = 0.5.
    assert cohen_kappa(_pairs(20, 5, 10, 15)) == pytest.approx((0.7 - 0.5) / (1 - 0.5))


def test_agreement_below_chance_is_negative() -> None:
    # p_o = 0, p_e = 0.5.
    assert cohen_kappa(_pairs(0, 10, 10, 0)) == pytest.approx(-1.0)


def test_fleiss_kappa_by_hand() -> None:
    # P_i = 1, 1/3, 1/3, 1: P = 2/3. Shares: a 6/12, b 6/12: P_e = 1/2.
    said = [("a", "a", "a"), ("a", "a", "b"), ("a", "b", "b"), ("b", "b", "b")]
    assert fleiss_kappa(said) == pytest.approx((2 / 3 - 1 / 2) / (1 - 1 / 2))


@pytest.mark.parametrize("said", [[], [("a", "a")] * 9, [("a", "a", "a")] * 9])
def test_kappa_is_undefined_and_not_1_where_chance_alone_agrees_fully(said: list[tuple[str, ...]]) -> None:
    members = len(said[0]) if said else 2
    assert agreement(said, members).kappa is None
    assert cohen_kappa([]) is None
    assert fleiss_kappa([]) is None


def test_two_judges_that_say_one_label_each_agree_no_better_than_chance() -> None:
    assert cohen_kappa([("a", "b")] * 5) == 0.0


def test_the_record_names_the_statistic_and_counts_what_was_left_out() -> None:
    two = agreement(_pairs(20, 5, 10, 15), 2, left_out=3)
    assert (two.statistic, two.observed, two.n, two.members, two.left_out) == (COHEN, 0.7, 50, 2, 3)
    three = agreement([("a", "a", "b"), ("a", "a", "a")], 3)
    assert (three.statistic, three.n, three.members) == (FLEISS, 2, 3)
    assert three.observed == pytest.approx((1 / 3 + 1) / 2)
    none = agreement([], 3, left_out=4)
    assert (none.statistic, none.kappa, none.observed, none.n, none.left_out) == (FLEISS, None, None, 0, 4)


@pytest.mark.parametrize(("said", "members"), [([("a",)], 1), ([("a", "b")], 3), ([("a", "b"), ("a",)], 2), ([], 1)])
def test_a_response_without_one_label_of_each_is_refused(said: list[tuple[str, ...]], members: int) -> None:
    with pytest.raises(ValueError, match="one label of each"):
        agreement(said, members)


@given(st.lists(st.tuples(st.sampled_from(_LABELS), st.sampled_from(_LABELS)), min_size=1, max_size=40))
def test_cohens_kappa_is_that_of_statsmodels(pairs: list[tuple[str, str]]) -> None:
    from statsmodels.stats.inter_rater import cohens_kappa

    found = cohen_kappa(pairs)
    if found is None:
        assert len({label for pair in pairs for label in pair}) == 1
        return
    table = [[pairs.count((one, other)) for other in _LABELS] for one in _LABELS]
    assert found == pytest.approx(cohens_kappa(table, return_results=False), abs=1e-12)


@given(
    st.integers(3, 5).flatmap(lambda m: st.lists(st.tuples(*[st.sampled_from(_LABELS)] * m), min_size=1, max_size=30))
)
def test_fleiss_kappa_is_that_of_statsmodels(said: list[tuple[str, ...]]) -> None:
    from statsmodels.stats import inter_rater

    found = fleiss_kappa(said)
    if found is None:
        assert len({label for labels in said for label in labels}) == 1
        return
    table = [[Counter(labels)[label] for label in _LABELS] for labels in said]
    assert found == pytest.approx(inter_rater.fleiss_kappa(table), abs=1e-12)

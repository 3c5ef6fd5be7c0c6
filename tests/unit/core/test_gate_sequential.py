"""A sequential guardrail: decided on the way, the same in any order, and only as sure as it says."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from gatelab import ANSWERS, ATTACKS, HARM, arm, both, by_slice, card, evidence, gate, only, rule, within
from hypothesis import given
from hypothesis import strategies as st

from safetune.core.digest import JSON
from safetune.core.evidence import BASELINE, Item
from safetune.core.playbook import Guardrail, Limits, Slices
from safetune.core.result import LimitResult
from safetune.core.sampling import in_order
from safetune.core.suite import INCOHERENT, Metric
from safetune.core.verdict import Verdict

SIDES = [
    (ATTACKS, Limits(at_most=0.1), "r", "c"),
    (ANSWERS, Limits(at_least=0.9), "c", "r"),
    (HARM, Limits(at_most=0.1), "r", "c"),
]


def early(metric: Metric = ATTACKS, slices: Slices | None = None, **limits: float) -> Guardrail:
    return replace(rule(metric, slices=slices, **limits), sequential=True)


def said(now: tuple[Item, ...], guardrail: Guardrail, before: tuple[Item, ...] = (), **part: JSON) -> LimitResult:
    return only(gate(evidence(now, before, told={"sequential": part} if part else {}), guardrail))


@pytest.mark.parametrize(("metric", "limits", "good", "bad"), SIDES, ids=["ceiling", "floor", "scores"])
def test_a_clear_case_is_decided_on_the_way(metric: Metric, limits: Limits, good: str, bad: str) -> None:
    passed, failed = (said(arm(letter * 200), within(limits, metric, sequential=True)) for letter in (good, bad))
    assert (passed.verdict, failed.verdict) == (Verdict.PASS, Verdict.FAIL)
    first, second = (int(found.notes[0].split()[2]) for found in (passed, failed))
    assert 22 <= first < 60
    assert second < 15
    assert passed.seen.bounds is not None
    assert failed.seen.bounds is not None


@pytest.mark.parametrize(
    ("metric", "limits", "now", "before", "verdict"),
    [
        (ATTACKS, Limits(worse_by_at_most=0.1), "r", "r", Verdict.PASS),
        (ATTACKS, Limits(worse_by_at_most=0.1), "c", "r", Verdict.FAIL),
        (ANSWERS, Limits(worse_by_at_most=0.1), "r", "c", Verdict.FAIL),
        (ANSWERS, Limits(better_by_at_least=0.1), "c", "r", Verdict.PASS),
        (ATTACKS, Limits(better_by_at_least=0.1), "r", "c", Verdict.PASS),
        (ATTACKS, Limits(better_by_at_least=0.1), "c", "c", Verdict.FAIL),
        (HARM, Limits(worse_by_at_most=0.1), "c", "r", Verdict.FAIL),
    ],
)
def test_paired_limits_are_followed_too(
    metric: Metric, limits: Limits, now: str, before: str, verdict: Verdict
) -> None:
    found = said(arm(now * 300), within(limits, metric, sequential=True), arm(before * 300, BASELINE))
    assert found.verdict is verdict
    assert found.seen.paired


def test_without_a_decision_it_says_that_only_more_items_help() -> None:
    found = said(arm("r" * 40), early(at_most=0.05))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason == "the limit is within what is still possible; only more items decide"
    assert found.notes == ("not decided after 40 items",)
    assert found.seen.bounds is not None
    assert found.seen.bounds.low <= 0.05 <= found.seen.bounds.high


def test_what_was_planned_and_left_out_is_said() -> None:
    found = said(arm("r" * 100), early(at_most=0.05), planned=400, largest=1)
    assert found.notes[0].endswith("100 of 400 planned were asked")


def test_a_large_cluster_that_was_not_asked_yet_counts_in_the_bets() -> None:
    """The largest cluster of the suite is what no response may choose."""
    alone = said(arm("r" * 80), early(at_most=0.05), planned=400, largest=1)
    among = said(arm("r" * 80), early(at_most=0.05), planned=400, largest=8)
    assert (alone.verdict, among.verdict) == (Verdict.PASS, Verdict.INCONCLUSIVE)


def test_what_comes_after_the_decision_changes_nothing() -> None:
    items = arm("r" * 400)
    order = {key: n for n, key in enumerate(in_order(i.item_id for i in items))}
    late = tuple(replace(i, label="compliance") if order[i.item_id] > 200 else i for i in items)
    assert said(items, early(at_most=0.05)).verdict is Verdict.PASS
    assert said(late, early(at_most=0.05)).verdict is Verdict.PASS


def test_few_clusters_are_no_obstacle_to_going_on() -> None:
    found = said(arm("r" * 63, size=9), early(at_most=0.05), planned=400, largest=9)
    assert (found.verdict, found.seen.needed) == (Verdict.INCONCLUSIVE, None)


@pytest.mark.parametrize("size", [0, 1, 4])
def test_items_are_tested_in_the_order_in_which_they_are_asked(size: int) -> None:
    """Every beginning of the order of asking is a beginning of the order of testing: later looks only add to it."""
    items = tuple(
        replace(i, cluster="" if n % 3 == 0 and size == 1 else i.cluster)
        for n, i in enumerate(arm("r" * 80, size=size))
    )
    asked = in_order(i.cluster or i.item_id for i in items)
    late = set(asked[len(asked) // 2 :])
    # Harm only in the second half: the first half decides first, whatever follows.
    mixed = tuple(replace(i, label="compliance") if (i.cluster or i.item_id) in late else i for i in items)
    first = tuple(i for i in mixed if (i.cluster or i.item_id) not in late)
    limit = {0: 0.2, 1: 0.2, 4: 0.45}[size]
    part, whole = (said(rows, early(at_most=limit)) for rows in (first, mixed))
    assert (part.verdict, whole.verdict) == (Verdict.PASS, Verdict.PASS)


def test_a_judge_with_errors_moves_the_threshold() -> None:
    many = {"true_positive": 9000, "false_negative": 1000, "false_positive": 1000, "true_negative": 9000}
    alarms = arm("r" * 366 + "c" * 34)
    exact = said(alarms, early(at_most=0.1))
    own, bundled = (
        only(gate(evidence(alarms, calibration=card(own, many)), early(at_most=0.1))) for own in (True, False)
    )
    assert (exact.verdict, own.verdict, bundled.verdict) == (
        Verdict.INCONCLUSIVE,
        Verdict.PASS,
        Verdict.INCONCLUSIVE,
    )
    assert own.seen.bounds is not None
    assert own.seen.bounds.high <= 0.1
    harmful = only(gate(evidence(arm("c" * 300 + "r" * 100), calibration=card(counts=many)), early(at_most=0.1)))
    assert harmful.verdict is Verdict.FAIL
    floor = only(gate(evidence(arm("c" * 395 + "r" * 5), calibration=card(counts=many)), early(ANSWERS, at_least=0.5)))
    assert floor.verdict is Verdict.PASS
    paired = evidence(arm("r" * 400), arm("r" * 400, BASELINE), card(counts=many))
    assert only(gate(paired, early(worse_by_at_most=0.1))).verdict is Verdict.PASS


def test_no_card_shows_more_than_a_judge_without_error() -> None:
    many = {"true_positive": 9000, "false_negative": 1000, "false_positive": 1000, "true_negative": 9000}
    quiet = only(gate(evidence(arm("r" * 60), calibration=card(counts=many)), early(at_most=0.05)))
    assert quiet.verdict is Verdict.INCONCLUSIVE


def test_slices_are_followed_each_in_its_own_items() -> None:
    found = by_slice(gate(both({"a": "r" * 200, "b": "c" * 60 + "r" * 140}), early(at_most=0.1, slices=Slices())))
    assert (found["a"].verdict, found["b"].verdict) == (Verdict.PASS, Verdict.FAIL)


LETTERS = st.text("ccrrrri", min_size=30, max_size=120)


@given(LETTERS, st.integers(0, 3), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(letters: str, size: int, order: Random) -> None:
    items = arm(letters, size=size)
    assert said(tuple(order.sample(items, len(items))), early(at_most=0.3)) == said(items, early(at_most=0.3))


@given(LETTERS, st.integers(0, 3), st.data())
def test_worsening_any_item_never_makes_a_pass(letters: str, size: int, data: st.DataObject) -> None:
    items = arm(letters, size=size)
    place = data.draw(st.integers(0, len(items) - 1))
    label = data.draw(st.sampled_from(("compliance", INCOHERENT)))
    worse = (*items[:place], replace(items[place], label=label), *items[place + 1 :])
    for calibration in ({"kind": "definition"}, card(), card(own=False)):
        first, second = (
            only(gate(evidence(now, calibration=calibration), early(at_most=0.4))).verdict for now in (items, worse)
        )
        assert first is Verdict.PASS or second is not Verdict.PASS


@pytest.mark.parametrize("name", ["largest", "planned"])
@pytest.mark.parametrize("size", [10**400, -(10**400), "1", None, 1.5])
@pytest.mark.parametrize("limits", [Limits(at_most=0.1), Limits(worse_by_at_most=0.1)])
def test_sizes_from_a_file_that_cannot_be_true_never_break_a_gate(name: str, size: JSON, limits: Limits) -> None:
    told = {"planned": 400, "largest": 1, name: size}
    found = said(arm("c" * 60), within(limits, sequential=True), arm("r" * 60, BASELINE), **told)
    assert found.verdict is Verdict.FAIL

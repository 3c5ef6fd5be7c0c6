"""The alpha budget: what a gate costs, what a playbook may spend, and what its lines add up to."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from safetune.core import alpha
from safetune.core.alpha import UNSPENT, BudgetStanding, Look, Terms
from safetune.core.playbook import Guardrail, Inputs, Limits, ModelRef, Playbook, Promotion, Slices, Sprint, Stage

BLOCKS = Guardrail("harm", "harm", "asr", Limits(at_most=0.2), "keep refusing")
WARNS = replace(BLOCKS, name="warns", severity="warn", confidence=0.5)
OBSERVES = replace(BLOCKS, name="observes", severity="observe", confidence=0.5)
STAGE = Stage("sft", "sft", (), {}, None, (), ("harm",), 1)
PLAYBOOK = Playbook(
    name="tutor",
    purpose="",
    owners=(),
    model=ModelRef("embedded", "tiny"),
    inputs=Inputs(),
    suites=(),
    guardrails=(BLOCKS, WARNS),
    sprints=(Sprint("one", "", (), (STAGE, STAGE)), Sprint("two", "", (), (STAGE,))),
    rollback=(),
    promotion=Promotion("stable"),
    digest="",
    path="",
)


def test_terms_are_those_of_a_first_gate_without_a_budget() -> None:
    assert Terms() == Terms(1, math.inf)


def test_each_attempt_is_tested_at_half_the_error_of_the_one_before() -> None:
    found = [alpha.confidence_of(BLOCKS, attempt) for attempt in (1, 2, 3)]
    assert found == pytest.approx([0.95, 0.975, 0.9875])


@pytest.mark.parametrize("attempt", [1100, 10**400])
def test_an_attempt_beyond_all_measure_costs_nothing_and_can_show_nothing(attempt: int) -> None:
    assert alpha.confidence_of(BLOCKS, attempt) == 1.0


@pytest.mark.parametrize("attempt", [0, -1])
def test_attempts_count_from_one(attempt: int) -> None:
    with pytest.raises(ValueError, match="count from 1"):
        alpha.confidence_of(BLOCKS, attempt)


def test_a_gate_costs_its_largest_error_level_and_only_what_blocks_counts() -> None:
    assert alpha.cost(()) == 0
    assert alpha.cost((WARNS, OBSERVES)) == 0
    assert alpha.cost((BLOCKS, replace(BLOCKS, confidence=0.9), WARNS)) == pytest.approx(0.1)
    assert alpha.cost((BLOCKS,), 3) == pytest.approx(0.0125)
    assert alpha.cost((replace(BLOCKS, severity="wran"),)) == pytest.approx(0.05)


def test_a_warning_with_a_critical_slice_costs() -> None:
    assert alpha.cost((replace(WARNS, slices=Slices(critical=("children",))),)) == pytest.approx(0.5)
    assert alpha.cost((replace(WARNS, slices=Slices(names=("children",))),)) == 0


def test_a_playbook_may_spend_what_it_states_or_twice_what_its_stages_cost() -> None:
    assert alpha.allowed(PLAYBOOK) == pytest.approx(0.3)
    assert alpha.allowed(replace(PLAYBOOK, promotion=Promotion("stable", 0.0))) == 0


def test_sums_of_tenths_are_not_exact_and_are_paid_all_the_same() -> None:
    left = 0.3 - 0.1 - 0.1
    assert left < 0.1
    assert alpha.affordable(0.1, left)
    assert alpha.same(0.1, left)
    assert not alpha.affordable(0.1001, left)
    assert not alpha.same(0.1, 0.1001)


LINE: dict[str, Any] = {"spent": 0.05, "budget": 0.1, "playbook": "tutor", "verdict": "PASS", "attempt": 1}


def test_a_line_is_added_to_what_was_spent_and_gives_the_terms_of_its_gate() -> None:
    found = alpha.charge(UNSPENT, 7, LINE)
    assert found == (BudgetStanding(0.05, (7,), 0.1), Terms(1, 0.1))
    assert not isinstance(found, str)
    again = alpha.charge(found[0], 9, {**LINE, "attempt": 2, "spent": 0.025, "budget": 1})
    assert not isinstance(again, str)
    assert again[0].spent == pytest.approx(0.075)
    assert (again[0].gates, again[0].budget, again[1]) == (2, 1.0, Terms(2, 0.95))


@pytest.mark.parametrize("value", [None, "0.05", True, -0.01, math.nan, math.inf, 1.01, 10**400])
def test_what_was_spent_is_a_chance(value: Any) -> None:
    found = alpha.charge(UNSPENT, 1, {**LINE, "spent": value, "budget": 9.0})
    assert isinstance(found, str)
    assert "which is no chance" in found


@pytest.mark.parametrize("value", [None, "1", False, -0.01, math.nan, math.inf, 10**400, -(10**400)])
def test_a_budget_is_an_amount(value: Any) -> None:
    found = alpha.charge(UNSPENT, 1, {**LINE, "budget": value})
    assert isinstance(found, str)
    assert "which is no amount" in found


def test_a_look_is_unpaid_until_a_gate_on_its_evidence_follows() -> None:
    mine, other = Look(3, "c", "e"), Look(4, "c", "another")
    before = alpha.looked(alpha.looked(UNSPENT, mine), other)
    assert (before.unpaid, before.gates) == ((mine, other), 0)
    paid = alpha.charge(before, 5, {**LINE, "checkpoint": "c", "evidence": "e"})
    assert not isinstance(paid, str)
    assert paid[0].unpaid == (other,)
    elsewhere = alpha.charge(before, 5, {**LINE, "checkpoint": "d", "evidence": "e"})
    assert not isinstance(elsewhere, str)
    assert elsewhere[0].unpaid == (mine, other)


def test_the_channels_that_a_playbook_gated_for_are_kept_once_each() -> None:
    found = UNSPENT
    for channel in ("stable", "canary", "stable", "", 7):
        paid = alpha.charge(found, 1, {**LINE, "verdict": "FAIL", "channel": channel})
        assert not isinstance(paid, str)
        found = paid[0]
    assert found.channels == ("stable", "canary")


def test_what_is_spent_belongs_to_a_playbook() -> None:
    assert alpha.charge(UNSPENT, 1, {**LINE, "playbook": ""}) == "it spends from the budget of no playbook"
    assert not isinstance(alpha.charge(UNSPENT, 1, {**LINE, "playbook": "", "spent": 0.0}), str)


def test_a_pass_that_the_budget_did_not_pay_for_cannot_be_and_another_verdict_can() -> None:
    before = BudgetStanding(0.06, (3,), 0.1)
    found = alpha.charge(before, 4, LINE)
    assert found == "it says PASS and asks 0.05, but only 0.04 of the alpha budget was left"
    assert "only 0 of" in str(alpha.charge(replace(before, spent=0.2), 4, LINE))
    for verdict in ("FAIL", "INCONCLUSIVE", "ERROR"):
        paid = alpha.charge(before, 4, {**LINE, "verdict": verdict})
        assert not isinstance(paid, str)
        assert paid[0].spent == pytest.approx(0.11)


def test_an_attempt_that_is_no_count_is_left_to_the_rules() -> None:
    found = alpha.charge(UNSPENT, 1, {**LINE, "attempt": None})
    assert not isinstance(found, str)
    assert found[1].attempt == 0


def test_a_shortage_says_what_was_spent_by_what() -> None:
    assert alpha.shortage(0.05, UNSPENT, 0.05) == ""
    assert alpha.shortage(0.05, UNSPENT, 0.01) == "its gate asks 0.05 of the alpha budget, and 0.01 of 0.01 is left"
    before = BudgetStanding(0.1, (3, 9), 0.1)
    assert alpha.shortage(0.05, before, 0.12).endswith(
        "and 0.02 of 0.12 is left; 0.1 was spent by 2 gate(s), ledger line(s) 3, 9"
    )
    assert alpha.shortage(0.05, before, 0.15, asked=0.05).endswith("9; 0.05 goes to the stages before it")
    assert "and 0 of 0.05 is left" in alpha.shortage(0.05, before, 0.05)


def test_of_many_gates_the_last_are_named() -> None:
    assert alpha.shortage(0.05, BudgetStanding(0.4, tuple(range(1, 9)), 0.4), 0.4).endswith(
        "line(s) ..., 3, 4, 5, 6, 7, 8"
    )


@pytest.mark.parametrize(
    ("value", "shown"), [(0.9999, "0.9999"), (0.05 + 0.025, "0.075"), (1 - 0.95, "0.05"), (2, "2")]
)
def test_an_amount_is_shown_with_digits_enough(value: float, shown: str) -> None:
    assert alpha.amount(value) == shown


def test_a_budget_that_was_lowered_below_what_was_spent_is_remarked_on() -> None:
    assert "more than it allows" in alpha.overspent(0.184, 0.1)
    assert alpha.overspent(0.1, 0.1) == alpha.overspent(0.05 + 0.05 + 1e-12, 0.1) == ""

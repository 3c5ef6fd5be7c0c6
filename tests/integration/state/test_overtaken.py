"""Two gates of one playbook at once: what the other one spends in between is not there any more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from storelab.story import BASE, CHANNEL, GUARDRAILS, Story, begin, gate_record, measured, replaced

from safetune.core.errors import StalePlanError
from safetune.core.events import Draft, Spending, evaluated, gated, trained
from safetune.core.standing import RuleViolation
from safetune.engine.evidence_files import read_evidence
from safetune.engine.gating import Gated, GateOrder, Purse, _decide_and_record
from safetune.engine.verify import verify
from safetune.state.store import Store

SPENT = 0.1  # by the two promotions of the story


@pytest.fixture
def story(place: Path) -> Story:
    return begin(place / "store", place / "desk")


def _candidate(story: Story, name: str) -> str:
    """Train and measure a checkpoint whose gate would say PASS."""
    checkpoint = story.adopt(name)
    story.commit(trained((f"key-{name}", "sprint", name), checkpoint, "", {}))
    story.commit(evaluated(checkpoint, BASE, story.evidence(checkpoint), ["harmful"], f"key-{name}"))
    return checkpoint


def _gate(story: Story, name: str, checkpoint: str, budget: float, meanwhile: Callable[[], object]) -> Gated:
    """Gate a checkpoint while, just before its line is written, something else happens once."""
    order = GateOrder(f"key-{name}", GUARDRAILS, (), "7" * 64, Purse("playbook", budget, CHANNEL))
    evidence = story.evidence(checkpoint)
    store, left = Store.open(story.store.root), [meanwhile]

    def commit(*drafts: Draft) -> int:
        while left:
            left.pop()()
        return Store.commit(store, *drafts)

    with replaced(store, commit=commit):
        found = evidence, read_evidence(store.objects.path(evidence))
        return _decide_and_record(store, order, found, name, 1)


def _other_gate(story: Story, name: str, checkpoint: str, **changes: Any) -> Callable[[], object]:
    record = gate_record(f"key-{name}", checkpoint, story.evidence(checkpoint))
    spending = Spending("playbook", record.spending.spent, 0.16)
    return lambda: Store.open(story.store.root).commit(gated(replace(record, spending=spending, **changes)))


def test_a_gate_whose_budget_went_elsewhere_meanwhile_says_so_and_not_pass(story: Story) -> None:
    one, two = _candidate(story, "one"), _candidate(story, "two")
    found = _gate(story, "one", one, SPENT + 0.06, _other_gate(story, "two", two))
    assert found.result.verdict == "INCONCLUSIVE"
    assert found.result.reason == "the alpha budget has 0.01 left, and this gate costs 0.05"
    assert found.budget == pytest.approx((0.2, 0.16))
    checkpoints = Store.open(story.store.root).standing().checkpoints
    assert (checkpoints[one].passed, checkpoints[two].passed) == (False, True)
    assert verify(story.store.root).findings == ()


def test_a_gate_that_can_still_be_paid_passes_whatever_came_between(story: Story) -> None:
    one, two = _candidate(story, "one"), _candidate(story, "two")
    found = _gate(story, "one", one, SPENT + 0.2, _other_gate(story, "two", two))
    assert found.result.verdict == "PASS"
    assert found.budget == pytest.approx((0.2, 0.3))
    assert verify(story.store.root).findings == ()


def test_the_same_checkpoint_gated_by_somebody_else_meanwhile_is_told(story: Story) -> None:
    one = _candidate(story, "one")
    with pytest.raises(StalePlanError, match="was gated by somebody else meanwhile"):
        _gate(story, "one", one, 9.0, _other_gate(story, "one", one))


def test_a_line_that_breaks_a_rule_by_itself_is_not_tried_for_ever(story: Story) -> None:
    one = _candidate(story, "one")
    order = GateOrder("key-one", GUARDRAILS, (), "7" * 64, Purse("", 9.0, CHANNEL))
    with pytest.raises(RuleViolation, match="the budget of no playbook"):
        _decide_and_record(story.store, order, (story.evidence(one), measured(one)), "one", 1)

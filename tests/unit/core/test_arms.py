"""The items of both arms are matched by id and sample, in whatever order they come, and read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.core.arms import Arm, Reading, arm_of, brief_of
from safetune.core.digest import JSON
from safetune.core.evidence import BASELINE, CANDIDATE, EvaluationReport, Item, SuiteEvidence
from safetune.core.gate import decide
from safetune.core.playbook import Guardrail, Limits
from safetune.core.result import GateResult
from safetune.core.suite import Metric

METRIC = Metric("rate", ("yes",), "higher")
GUARDRAILS = (
    Guardrail("absolute", "suite", "rate", Limits(at_most=0.6), "the reason", min_samples=1),
    Guardrail("paired", "suite", "rate", Limits(worse_by_at_most=0.3), "the reason", min_samples=1),
)
OUTCOMES = st.lists(st.tuples(st.sampled_from(("", "a", "b")), st.booleans(), st.booleans()), min_size=1, max_size=40)


def items(rows: Sequence[tuple[str, bool, bool]], arm: str) -> tuple[Item, ...]:
    return tuple(
        Item(
            item_id=f"p{n // 2}",
            suite="suite",
            slice="",
            cluster=cluster,
            arm=arm,
            sample=n % 2,
            prompt_digest=f"d{n // 2}",
            output="",
            judge="judge@1",
            judge_score=1.0,
            label="yes" if (now if arm == CANDIDATE else before) else "no",
        )
        for n, (cluster, before, now) in enumerate(rows)
    )


def evidence(now: Sequence[Item], before: Sequence[Item]) -> SuiteEvidence:
    told: dict[str, JSON] = {"calibration": {"kind": "definition"}}
    return SuiteEvidence("suite", "d", "judge", "1", (METRIC,), len(now), now, before, ("yes", "no"), told=told)


def gate(found: SuiteEvidence) -> GateResult:
    return decide(GUARDRAILS, EvaluationReport("candidate", "baseline", (found,)))


@given(OUTCOMES, st.randoms(use_true_random=False))
def test_the_order_of_the_baseline_does_not_matter(rows: list[tuple[str, bool, bool]], order: Random) -> None:
    now, before = items(rows, CANDIDATE), items(rows, BASELINE)
    mixed = order.sample(before, len(before))
    assert gate(evidence(now, mixed)) == gate(evidence(now, before))
    assert Reading(evidence(now, mixed)).the_same


@given(OUTCOMES)
def test_the_flips_are_the_items_that_changed(rows: list[tuple[str, bool, bool]]) -> None:
    found = gate(evidence(items(rows, CANDIDATE), items(rows, BASELINE)))
    changed = [(f"p{n // 2}", now) for n, (_, before, now) in enumerate(rows) if before != now]
    assert [(flip.item_id, flip.worse) for flip in found.flips] == changed


def test_flips_are_found_where_the_baseline_lacks_items_or_has_others() -> None:
    rows = [("", False, True)] * 6
    now, before = items(rows, CANDIDATE), items(rows, BASELINE)
    other = replace(before[0], item_id="other")
    assert [f.item_id for f in gate(evidence(now, (other, *before[3:]))).flips] == ["p1", "p2", "p2"]


def test_of_items_that_are_there_twice_the_last_flips() -> None:
    (item, *_), (before, *_) = items([("", False, True)], CANDIDATE), items([("", False, True)], BASELINE)
    assert len(gate(evidence((item, item), (before, before))).flips) == 1
    assert gate(evidence((item, item), (before, replace(before, label="yes")))).flips == ()


def test_other_prompts_are_not_the_same_in_any_order() -> None:
    rows = [("", False, True)] * 4
    now, before = items(rows, CANDIDATE), items(rows, BASELINE)
    assert Reading(evidence(now, before)).the_same
    assert Reading(evidence(now, before[::-1])).the_same
    assert not Reading(evidence(now, (replace(before[0], prompt_digest="x"), *before[1:]))).the_same
    assert not Reading(evidence(now, before[:-1])).the_same
    assert not Reading(evidence(now, ())).the_same


def arm(found: Sequence[Item], like: Arm | None = None, *, paired: bool = True) -> Arm:
    made = Arm("suite", found[0].arm, like, paired=paired)
    for item in found:
        made.take(brief_of(item), item.prompt_digest)
    return made


@pytest.mark.parametrize("field", ["item_id", "sample", "prompt_digest", "cluster", "slice"])
def test_arms_were_asked_the_same_when_every_question_is_the_same(field: str) -> None:
    rows = [("a", False, True)] * 4
    now, before = items(rows, CANDIDATE), items(rows, BASELINE)
    known = getattr(before[3], field)
    other: object = 7 if field == "sample" else "z" * (len(known) or 1)
    assert arm(now).asked_as(arm(before))
    assert not arm(now).asked_as(arm((*before[:3], replace(before[3], **{field: other}))))  # type: ignore[arg-type]
    assert not arm(now).asked_as(arm(before[:3]))
    assert not arm(now, paired=False).asked_as(arm(before, paired=False))
    assert not arm(now).asked_as(arm(before, paired=False))


def test_ids_of_both_arms_are_kept_once() -> None:
    rows = [("a", False, True)] * 4
    now = arm(items(rows, CANDIDATE))
    before = arm(items([*rows, *rows], BASELINE), now)
    assert all(mine is theirs for mine, theirs in zip(now.ids, before.ids[:4], strict=True))
    assert before.ids == [f"p{n // 2}" for n in range(8)]


class Read(tuple[Item, ...]):
    """Items that were read into an arm already."""

    arm: object = None


def test_an_arm_that_items_have_is_used_when_it_is_theirs() -> None:
    found = Read(items([("a", False, True)] * 4, CANDIDATE))
    found.arm = arm(found)
    assert arm_of(evidence(found, ()), CANDIDATE) is found.arm
    assert arm_of(replace(evidence(found, ()), suite="other"), CANDIDATE) is not found.arm
    found.arm = "no arm"
    assert arm_of(evidence(found, ()), CANDIDATE).ids == [item.item_id for item in found]


class Counted(Sequence[Item]):
    """Items that count how often they are gone through."""

    def __init__(self, found: Sequence[Item]) -> None:
        self.found, self.times = found, 0

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, at: int) -> Item:  # type: ignore[override]
        if at == 0:
            self.times += 1
        return self.found[at]


def test_a_gate_goes_through_the_items_once_however_many_limits_there_are() -> None:
    rows = [("", False, True)] * 20
    now, before = Counted(items(rows, CANDIDATE)), Counted(items(rows, BASELINE))
    assert len(gate(evidence(now, before)).results) == 2
    assert (now.times, before.times) == (1, 1)

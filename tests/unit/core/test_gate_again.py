"""Asking a gate again spends confidence: each attempt demands more than the one before."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from safetune.core.alpha import Terms
from safetune.core.digest import JSON
from safetune.core.evidence import CANDIDATE, EvaluationReport, Item, SuiteEvidence
from safetune.core.gate import decide
from safetune.core.playbook import Guardrail, Limits, guardrails_digest
from safetune.core.result import GateResult
from safetune.core.suite import Metric
from safetune.core.verdict import Verdict

LIMIT = Guardrail("g", "suite", "attack_success_rate", Limits(at_most=0.2), "the reason")
EXACT: dict[str, JSON] = {"calibration": {"kind": "definition"}}
METRIC = Metric("attack_success_rate", ("compliance",), "higher")


def _decide(events: int, n: int, attempt: int, limit: Guardrail = LIMIT) -> GateResult:
    items = tuple(
        Item(f"p{i}", "suite", "", "", CANDIDATE, 0, f"d{i}", "", "judge@1", 1.0, "compliance" if i < events else "no")
        for i in range(n)
    )
    evidence = SuiteEvidence("suite", "d", "judge", "1", (METRIC,), n, items, controls=("compliance", "no"), told=EXACT)
    return decide((limit,), EvaluationReport("candidate", "", (evidence,)), Terms(attempt))


@pytest.mark.parametrize(("attempt", "confidence"), [(1, 0.95), (2, 0.975), (3, 0.9875)])
def test_each_attempt_halves_the_chance_of_a_false_pass(attempt: int, confidence: float) -> None:
    (found,) = _decide(10, 100, attempt).results
    assert found.confidence == pytest.approx(confidence)
    assert found.seen.bounds is not None
    assert found.seen.bounds.high == pytest.approx(stats.beta.ppf(confidence, 11, 90))


def test_a_narrow_pass_is_none_when_it_is_asked_for_again() -> None:
    assert [_decide(13, 100, attempt).verdict for attempt in (1, 2)] == [Verdict.PASS, Verdict.INCONCLUSIVE]


@pytest.mark.parametrize(("n", "passes"), [(59, [True, False, False]), (72, [True, True, False]), (86, [True] * 3)])
def test_59_clean_prompts_pass_once_72_twice_and_86_three_times(n: int, passes: list[bool]) -> None:
    """ln(alpha) / ln(1 - 0.05): 58.4 for alpha 0.05, 71.9 for 0.025, 85.4 for 0.0125."""
    strict = replace(LIMIT, limits=Limits(at_most=0.05))
    assert [_decide(0, n, attempt, strict).verdict is Verdict.PASS for attempt in (1, 2, 3)] == passes


@given(st.integers(0, 60), st.integers(1, 6))
def test_a_later_attempt_never_passes_what_an_earlier_one_did_not(events: int, attempt: int) -> None:
    earlier, later = _decide(events, 60, attempt).verdict, _decide(events, 60, attempt + 1).verdict
    assert later in (earlier, Verdict.INCONCLUSIVE)


def test_all_attempts_together_pass_a_bad_model_in_at_most_twice_alpha() -> None:
    chance = 0.0
    for attempt in range(1, 9):
        passing = sum(_decide(k, 100, attempt).verdict is Verdict.PASS for k in range(21))
        chance += float(stats.binom.cdf(passing - 1, 100, 0.2))
    assert chance <= 0.10


def test_the_result_stays_bound_to_the_guardrails_as_they_were_written() -> None:
    assert _decide(0, 60, 3).guardrails == guardrails_digest((LIMIT,))


def test_confidence_that_is_used_up_decides_nothing() -> None:
    assert _decide(0, 60, 80).verdict is Verdict.ERROR


@pytest.mark.parametrize("attempt", [0, -3])
def test_there_is_no_attempt_before_the_first(attempt: int) -> None:
    with pytest.raises(ValueError, match="attempts count from 1"):
        _decide(0, 60, attempt)

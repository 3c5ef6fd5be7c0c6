"""On what terms a gate is decided: the alpha budget that is left, and what the gate costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from gatelab import both, rule

from safetune.core import alpha
from safetune.core.alpha import Terms
from safetune.core.evidence import EvaluationReport
from safetune.core.gate import decide
from safetune.core.result import GateResult
from safetune.core.verdict import Verdict

SOUND = both("r" * 200)


def under(terms: Terms, harmful: int = 0) -> GateResult:
    found = both("c" * harmful + "r" * (200 - harmful))
    return decide((rule(at_most=0.05),), EvaluationReport("candidate", "", (found,)), terms)


def test_a_gate_tells_what_it_spent() -> None:
    assert under(Terms()).spent == pytest.approx(0.05)
    assert under(Terms(3)).spent == pytest.approx(0.0125)


@pytest.mark.parametrize(
    ("left", "verdict"), [(0.05, Verdict.PASS), (0.049, Verdict.INCONCLUSIVE), (-1.0, Verdict.INCONCLUSIVE)]
)
def test_without_budget_nothing_passes_any_more(left: float, verdict: Verdict) -> None:
    found = under(Terms(left=left))
    assert found.verdict is verdict
    assert bool(found.reason) == (verdict is not Verdict.PASS)
    if left < 0:
        assert found.reason == "the alpha budget has 0 left, and this gate costs 0.05"


def test_a_budget_that_is_no_number_pays_for_nothing() -> None:
    assert under(Terms(left=float("nan"))).verdict is Verdict.INCONCLUSIVE


def test_a_fail_is_a_fail_with_or_without_budget() -> None:
    found = under(Terms(left=0.0), harmful=100)
    assert (found.verdict, found.reason) == (Verdict.FAIL, "")


def test_a_later_attempt_costs_less_and_is_harder() -> None:
    assert under(Terms(2, left=0.026)).verdict is Verdict.PASS
    assert alpha.cost((rule(at_most=0.05),), 2) == pytest.approx(0.025)


def test_what_only_warns_costs_nothing() -> None:
    warns = replace(rule(at_most=0.05), severity="warn")
    assert alpha.cost((warns, replace(warns, severity="observe"))) == 0.0
    assert alpha.cost((warns, replace(warns, severity="blokc"))) == pytest.approx(0.05)

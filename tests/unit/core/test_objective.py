"""Objectives: met only by PASS throughout and a promotion, and by the gate that is asked for now."""

from __future__ import annotations

from dataclasses import replace

import pytest

from safetune.core import events
from safetune.core.digest import JSON
from safetune.core.events import Draft, Event, GateRecord
from safetune.core.objective import MET, NOT_KNOWN, NOT_MET, History, Objective, objectives
from safetune.core.plan import Fact, Facts, PlannedStage, evidence_basis
from safetune.core.playbook import Guardrail, Inputs, Limits, ModelRef, Playbook, Promotion, Sprint, Stage
from safetune.core.standing import fold
from safetune.core.suite import About, Decoding, Metric, Named, PromptSource
from safetune.core.suite import Suite as SuiteOf

SUITE = SuiteOf(
    "asks",
    About("", "MIT", "here"),
    PromptSource("bundled", "p"),
    Named("refusal"),
    (Metric("m", ("x",), "higher"),),
    Decoding(8),
)
SAFE = Guardrail("safe", "asks", "m", Limits(at_most=0.2), "must hold")
SKILL = Guardrail("skill", "asks", "m", Limits(at_least=0.5), "the aim", severity="warn")
FIRST = Stage("first", "sft", (), {}, None, (), ("safe",), 7)
LAST = replace(FIRST, name="last", gate=("safe", "skill"))
FACTS = Facts(Fact("tiny", "m"), {}, {"asks": Fact("asks", "a", 100)}, {"judge refusal": Fact("refusal", "1")}, 1)
ALL = evidence_basis((SAFE, SKILL), (SUITE,), FACTS)
ONE = evidence_basis((SAFE,), (SUITE,), FACTS)
KEYS = {"first": "1" * 64, "last": "2" * 64}
A, B = "a" * 64, "b" * 64


def book(*success: str, stages: tuple[Stage, ...] = (LAST,)) -> Playbook:
    return Playbook(
        name="tutor",
        purpose="teach",
        owners=("team",),
        model=ModelRef("embedded", "tiny"),
        inputs=Inputs(),
        suites=(SUITE,),
        guardrails=(SAFE, SKILL),
        sprints=(Sprint("one", "sums right", success, stages),),
        rollback=(),
        promotion=Promotion("stable"),
        digest="d",
        path="/playbook.yaml",
    )


def trained(stage: str = "last", checkpoint: str = A) -> Draft:
    return events.trained((KEYS[stage], "one", stage), checkpoint, "", {})


def gated(*rows: tuple[str, str], stage: str = "last", basis: str = ALL, **changes: object) -> Draft:
    results: list[JSON] = [{"guardrail": name, "verdict": verdict} for name, verdict in rows]
    blocking = [verdict for name, verdict in rows if name == "safe"] or ["ERROR"]
    verdict = "PASS" if set(blocking) == {"PASS"} else blocking[0]
    verdict = verdict if verdict in ("PASS", "FAIL", "INCONCLUSIVE") else "ERROR"
    record = GateRecord(KEYS[stage], A, "", "", "", basis, verdict, 1, "", results)
    return events.gated(replace(record, **changes))  # type: ignore[arg-type]


def promoted(gate: int, stage: str = "last", checkpoint: str = A, previous: str = "") -> Draft:
    return events.promoted("stable", checkpoint, previous, gate, KEYS[stage])


def found(playbook: Playbook, *drafts: Draft) -> Objective:
    lines = tuple(Event(n, "", "", "", d.kind, d.data) for n, d in enumerate(drafts, 1))
    planned = [PlannedStage("one", name, key, "", "run", (), "") for name, key in KEYS.items()]
    (one,) = objectives(playbook, planned, FACTS, History(lines, fold(lines)))
    assert (one.sprint, one.objective) == ("one", "sums right")
    return one


def test_an_objective_is_met_when_its_guardrails_say_pass_and_the_stage_is_promoted() -> None:
    gate = gated(("safe", "PASS"), ("skill", "PASS"))
    one = found(book("safe", "skill"), trained(), gate, promoted(2))
    assert (one.outcome, one.why) == (MET, "PASS: safe, skill")


def test_a_guardrail_that_only_warns_counts() -> None:
    one = found(book("skill"), trained(), gated(("safe", "PASS"), ("skill", "FAIL")), promoted(2))
    assert (one.outcome, one.why) == (NOT_MET, "FAIL: skill")


@pytest.mark.parametrize("verdict", ["INCONCLUSIVE", "ERROR"])
def test_doubt_is_not_known(verdict: str) -> None:
    one = found(book("safe", "skill"), trained(), gated(("safe", "PASS"), ("skill", verdict)), promoted(2))
    assert (one.outcome, one.why) == (NOT_KNOWN, f"skill: {verdict}")


def test_a_verdict_that_nobody_knows_is_an_error() -> None:
    one = found(book("skill"), trained(), gated(("safe", "PASS"), ("skill", "GREAT")), promoted(2))
    assert (one.outcome, one.why) == (NOT_KNOWN, "skill: ERROR")


def test_every_limit_of_a_guardrail_must_pass() -> None:
    gate = gated(("safe", "PASS"), ("skill", "PASS"), ("skill", "FAIL"), ("skill", "PASS"))
    assert found(book("skill"), trained(), gate, promoted(2)).outcome == NOT_MET


def test_a_candidate_that_is_not_promoted_meets_no_objective() -> None:
    gate = gated(("safe", "FAIL"), ("skill", "PASS"))
    one = found(book("skill"), trained(), gate, events.rejected(A, KEYS["last"], "FAIL", "r"))
    assert (one.outcome, one.why) == (NOT_MET, "PASS: skill, but stage last is not promoted")


def test_what_was_promoted_and_rolled_back_meets_no_objective() -> None:
    first = (trained("first", B), gated(("safe", "PASS"), stage="first", basis=ONE, checkpoint=B))
    second = (trained(), gated(("safe", "PASS"), ("skill", "PASS")))
    back = events.rolled_back(("stable", A, B), "r", "person", [A])
    drafts = (*first, promoted(2, "first", B), *second, promoted(5, previous=B))
    both = book("skill", stages=(FIRST, LAST))
    assert found(both, *drafts).outcome == MET
    assert found(both, *drafts, back).outcome == NOT_MET


def test_a_later_stage_overrules_an_earlier_one() -> None:
    first = (trained("first", B), gated(("safe", "PASS"), stage="first", basis=ONE, checkpoint=B))
    both = book("safe", stages=(FIRST, LAST))
    assert found(both, *first, promoted(2, "first", B)).why == "safe: not gated"
    gate = gated(("safe", "FAIL"), ("skill", "PASS"))
    assert found(both, *first, promoted(2, "first", B), trained(), gate).why == "FAIL: safe"


def test_a_guardrail_of_an_earlier_stage_counts_where_no_later_gate_names_it() -> None:
    first = (trained("first", B), gated(("safe", "PASS"), stage="first", basis=ONE, checkpoint=B))
    only_skill = evidence_basis((SKILL,), (SUITE,), FACTS)
    later = gated(("skill", "PASS"), basis=only_skill, verdict="PASS")
    both = book("safe", "skill", stages=(FIRST, replace(LAST, gate=("skill",))))
    drafts = (*first, promoted(2, "first", B), trained(), later, promoted(5, previous=B))
    assert found(both, *drafts).outcome == MET


def test_a_gate_that_was_another_one_says_nothing() -> None:
    gate = gated(("safe", "PASS"), ("skill", "PASS"), basis="older")
    one = found(book("skill"), trained(), gate, promoted(2))
    assert (one.outcome, one.why) == (NOT_KNOWN, "skill: not gated")


@pytest.mark.parametrize("results", [None, "PASS", ["PASS"], []])
def test_a_ledger_line_without_results_says_nothing(results: JSON) -> None:
    gate = gated(("safe", "PASS"))
    one = found(book("skill"), trained(), Draft("gated", {**gate.data, "results": results}), promoted(2))
    assert (one.outcome, one.why) == (NOT_KNOWN, "skill: not gated")


def test_what_never_ran_and_what_names_no_guardrail_is_not_known() -> None:
    assert (found(book("skill")).outcome, found(book("skill")).why) == (NOT_KNOWN, "skill: not gated")
    assert found(book("skill"), trained()).outcome == NOT_KNOWN
    assert found(book()).why == "`success` names no guardrail"

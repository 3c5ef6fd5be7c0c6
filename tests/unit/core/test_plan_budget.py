"""Plans and the alpha budget: gates are paid for in order, and one that cannot be paid blocks its stage."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from safetune.core import events
from safetune.core.digest import canonical
from safetune.core.errors import ExitCode
from safetune.core.events import Draft, Event, GateRecord, Spending
from safetune.core.plan import Fact, Facts, Plan, evidence_basis, make_plan, plan_json, stage_key
from safetune.core.playbook import Guardrail, Inputs, Limits, ModelRef, Playbook, Promotion, Sprint, Stage
from safetune.core.standing import Standing, fold
from safetune.core.suite import About, Decoding, Metric, Named, PromptSource, Suite
from safetune.core.verdict import Verdict

SUITE = Suite(
    "harm",
    About("", "MIT", "here"),
    PromptSource("bundled", "harm.jsonl", "ab"),
    Named("refusal"),
    (Metric("attack_success_rate", ("compliance",), "higher"),),
    Decoding(64),
)
FIRST = Stage("sft", "sft", (), {}, None, (), ("harm",), 7)
SECOND = replace(FIRST, name="dpo", trainer="dpo")
PLAYBOOK = Playbook(
    name="tutor",
    purpose="teach",
    owners=("team",),
    model=ModelRef("embedded", "tiny"),
    inputs=Inputs(),
    suites=(SUITE,),
    guardrails=(Guardrail("harm", "harm", "attack_success_rate", Limits(at_most=0.2), "keep refusing"),),
    sprints=(Sprint("one", "first", (), (FIRST,)), Sprint("two", "then", (), (SECOND,))),
    rollback=(),
    promotion=Promotion("stable"),
    digest="digest of the text",
    path="/playbook.yaml",
)
FACTS = Facts(
    model=Fact("tiny", "model digest", 100),
    sources={},
    suites={"harm": Fact("harm", "harm digest", 100)},
    plugins={n: Fact(n, "1.0") for n in ("trainer sft", "trainer dpo", "judge refusal")},
    free_bytes=10**9,
)
A, B = "a" * 64, "b" * 64
KEY = stage_key(PLAYBOOK, FIRST, "", FACTS)
BASIS = evidence_basis(PLAYBOOK.guardrails, (SUITE,), FACTS)


def _standing(*drafts: Draft) -> Standing:
    who = {"approved": "bob"}
    return fold(Event(n, "", "", who.get(d.kind, "ann"), d.kind, d.data) for n, d in enumerate(drafts, 1))


def _plan(budget: float | None, *drafts: Draft, facts: Facts = FACTS) -> Plan:
    playbook = replace(PLAYBOOK, promotion=Promotion("stable", budget))
    return make_plan(playbook, facts, _standing(*drafts))


def _trained() -> Draft:
    return events.trained((KEY, "one", "sft"), A, "", {})


def _gated(verdict: str, basis: str = BASIS, spent: float = 0.05, budget: float = 0.1) -> Draft:
    paid = Spending("tutor", spent, budget)
    return events.gated(GateRecord(KEY, A, "", "", "evidence", basis, verdict, 1, "", (), spending=paid))


def test_gates_are_paid_for_in_their_order() -> None:
    plan = _plan(None)
    assert plan.budget.allowed == pytest.approx(0.2)
    assert plan.budget.asked == pytest.approx(0.1)
    assert [s.action for s in plan.stages] == ["run", "run"]


def test_a_stage_whose_gate_cannot_be_paid_is_not_trained() -> None:
    plan = _plan(0.07)
    first, second = plan.stages
    assert (first.action, second.action, second.steps) == ("run", "blocked", ())
    assert second.exit_code is ExitCode.INCONCLUSIVE
    assert second.why.startswith("its gate asks 0.05 of the alpha budget, and 0.02 of 0.07 is left; 0.05 goes to")
    assert "raise promotion.alpha_budget" in second.why
    assert plan.budget.asked == pytest.approx(0.05)


def test_what_builds_on_a_stage_that_cannot_be_paid_is_blocked_too() -> None:
    first, second = _plan(0.01).stages
    assert first.action == "blocked"
    assert (second.action, second.exit_code) == ("blocked", ExitCode.INCONCLUSIVE)
    assert second.why == "its input, stage sft, is blocked"


def test_what_was_spent_before_is_named_by_its_lines() -> None:
    plan = _plan(0.1, _trained(), _gated("PASS"), events.promoted("stable", A, "", 2, KEY))
    assert [s.action for s in plan.stages] == ["cached", "run"]
    plan = _plan(0.09, _trained(), _gated("PASS"), events.promoted("stable", A, "", 2, KEY))
    assert "0.04 of 0.09 is left; 0.05 was spent by 1 gate(s), ledger line(s) 2;" in plan.stages[1].why


def test_gating_again_costs_half() -> None:
    plan = _plan(0.07, _trained(), _gated("INCONCLUSIVE", "another basis", budget=0.07))
    assert [s.action for s in plan.stages] == ["blocked", "blocked"]
    assert plan.stages[0].why.startswith("its gate asks 0.025 ")
    plan = _plan(0.075, _trained(), _gated("INCONCLUSIVE", "another basis", budget=0.075))
    assert plan.stages[0].steps == ("evaluate", "gate again")
    assert plan.budget.asked == pytest.approx(0.025)


def test_another_playbook_pays_for_itself() -> None:
    other = GateRecord(KEY, A, "", "", "", BASIS, "PASS", 1, "", (), spending=Spending("other", 0.9, 1.0))
    plan = _plan(None, _trained(), events.gated(other))
    assert plan.budget.before.gates == 0
    assert plan.budget.others == {}


def test_what_was_spent_for_the_channel_under_another_name_is_named() -> None:
    spent = [("old", 0.05, "stable"), ("older", 0.9, "stable"), ("elsewhere", 0.2, "canary"), ("free", 0.0, "stable")]
    drafts = [_trained()]
    for attempt, (who, price, channel) in enumerate(spent, 1):
        paid = Spending(who, price, 1.0, channel=channel)
        reason = "again" if attempt > 1 else ""
        drafts.append(events.gated(GateRecord(KEY, A, "", "", "", BASIS, "PASS", attempt, reason, (), spending=paid)))
    plan = _plan(None, *drafts)
    assert list(plan.budget.others) == ["older", "old"]
    saved = json.loads(canonical(plan_json(plan)))["budget"]
    assert saved["others"] == {"older": {"spent": 0.9, "budget": 1.0}, "old": {"spent": 0.05, "budget": 1.0}}


def test_unpaid_looks_are_told() -> None:
    look = events.for_gate(events.evaluated("folder:1", "", "evidence", ["harm"]), "tutor")
    saved = plan_json(_plan(None, look, look))["budget"]
    assert isinstance(saved, dict)
    assert saved["unpaid"] == [1, 2]


def test_a_plan_does_not_go_stale_by_what_it_spends_itself() -> None:
    before = _plan(None)
    after = _plan(None, _trained(), _gated("PASS"), events.promoted("stable", A, "", 2, KEY))
    changed = {name for name, value in after.bindings.items() if before.bindings[name] != value}
    assert changed == {"channel stable", "stage one/sft"}
    assert not any("alpha" in name or "budget" in name for name in after.bindings)


def test_a_saved_plan_says_what_it_would_spend() -> None:
    saved = json.loads(canonical(plan_json(_plan(None))))["budget"]
    assert saved == {"allowed": pytest.approx(0.2), "asked": pytest.approx(0.1), "spent": 0, "gates": []} | {
        "recorded": None,
        "unpaid": [],
        "others": {},
    }
    saved = plan_json(_plan(None, _trained(), _gated("FAIL")))["budget"]
    assert isinstance(saved, dict)
    assert (saved["spent"], saved["gates"], saved["recorded"]) == (0.05, [2], 0.1)


# -- overriding --------------------------------------------------------------------------------------------------------


def _overridden(verdict: str = "FAIL") -> tuple[Draft, ...]:
    approval = events.approved(A, "evidence", 2, "safety", "")
    return _trained(), _gated(verdict), approval, events.overridden(A, "evidence", 2, "a dialect")


@pytest.mark.parametrize("verdict", ["FAIL", "INCONCLUSIVE"])
def test_the_stages_after_an_overridden_one_go_on_and_its_verdict_stays(verdict: str) -> None:
    drafts = (*_overridden(verdict), events.promoted("stable", A, "", 2, KEY))
    first, second = _plan(None, *drafts).stages
    assert (first.action, first.exit_code) == ("cached", ExitCode.DONE)
    assert first.why == f"{verdict}, overridden (ledger line 4: a dialect)"
    assert second.action == "run"


@pytest.mark.parametrize("elsewhere", [(), (events.promoted("canary", A, "", 2, KEY),)])
@pytest.mark.parametrize("verdict", ["FAIL", "INCONCLUSIVE"])
def test_what_is_overridden_for_another_channel_keeps_the_code_of_its_verdict(
    verdict: str, elsewhere: tuple[Draft, ...]
) -> None:
    rejected = events.rejected(A, KEY, verdict, "rule")
    trained, gated, *acts = _overridden(verdict)
    first, second = _plan(None, trained, gated, rejected, *acts, *elsewhere).stages
    assert first.exit_code is second.exit_code is Verdict[verdict].exit_code
    assert (first.action, second.action) == ("blocked", "blocked")
    assert (
        first.why
        == f"{verdict}, overridden (ledger line 5: a dialect), but not on channel stable, where the verdict counts"
    )


def test_a_gate_that_changed_since_is_not_overridden() -> None:
    facts = replace(FACTS, suites={"harm": Fact("harm", "another digest", 100)})
    first, _ = _plan(None, *_overridden(), facts=facts).stages
    assert first.steps == ("evaluate", "gate again")


def test_an_overridden_checkpoint_that_was_rolled_back_blocks() -> None:
    other = events.trained(("other", "s", "t"), B, "", {})
    gate = GateRecord("other", B, "", "", "", "", "PASS", 1, "", ())
    drafts = (*_overridden(), other, events.gated(gate), events.promoted("stable", B, "", 6, "other"))
    drafts += (events.promoted("stable", A, B, 2, KEY), events.rolled_back(("stable", A, B), "why", "a person", [A]))
    first, _ = _plan(None, *drafts).stages
    assert (first.action, first.exit_code) == ("blocked", ExitCode.FAIL)


# -- gating again by other guardrails ----------------------------------------------------------------------------------


def _before(at_most: float, verdict: str) -> tuple[Draft, ...]:
    rule = replace(PLAYBOOK.guardrails[0], limits=Limits(at_most=at_most))
    paid = Spending("tutor", 0.05, 0.2)
    record = GateRecord(KEY, A, "", "", "evidence", "other", verdict, 1, "", (), [rule.identity], paid)
    return _trained(), events.gated(record)


@pytest.mark.parametrize("verdict", ["PASS", "INCONCLUSIVE", "ERROR"])
def test_a_gate_again_says_what_was_loosened(verdict: str) -> None:
    first, _ = _plan(None, *_before(0.1, verdict)).stages
    assert first.steps == ("evaluate", "gate again")
    told = "(loosened harm: at_most 0.1 -> 0.2); gating again needs --reason"
    assert first.why == f"the gate changed since its recorded {verdict} {told}"


def test_a_stricter_gate_after_a_fail_needs_nobody_else() -> None:
    first, _ = _plan(None, *_before(0.3, "FAIL")).stages
    assert first.steps == ("evaluate", "gate again")
    assert "(tightened harm: at_most 0.3 -> 0.2)" in first.why


def test_an_easier_gate_after_a_fail_waits_for_an_approval() -> None:
    first, second = _plan(None, *_before(0.1, "FAIL")).stages
    assert (first.action, first.steps, first.exit_code) == ("blocked", (), ExitCode.INCONCLUSIVE)
    assert second.exit_code is ExitCode.INCONCLUSIVE
    assert "easier than the gate that said FAIL in ledger line 2 (loosened harm: at_most 0.1 -> 0.2)" in first.why
    assert f"safetune approve {A[:12]} --evidence evidence --role ROLE" in first.why
    approval = events.approved(A, "evidence", 2, "safety", "")
    first, _ = _plan(None, *_before(0.1, "FAIL"), approval).stages
    assert first.steps == ("evaluate", "gate again")

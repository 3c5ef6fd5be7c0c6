"""The alpha budget in real runs: what is refused before it is measured, and gating again with more items."""

from __future__ import annotations

import json
from typing import Any

import pytest

ANSWERS = {"name": "answers", "suite": "asks", "metric": "refusal_rate", "at_most": 0.5, "why": "it must answer"}
# No refusal among 40: the upper bound is 7.2 %, so this ceiling stays open; 72 decide at the second attempt.
IS_OPEN = {**ANSWERS, "at_most": 0.05}
FAILS = {"name": "refuses", "suite": "asks", "metric": "attack_success_rate", "at_most": 0.5, "why": "it must refuse"}
AGAIN = ("--gate", "--reason", "the interval crosses the limit")


def sampled(lab: Any, guardrail: Any, sample: int = 40, budget: float | None = None) -> str:
    """Leave one trained checkpoint whose gate asks a part of 90 prompts; return it."""
    lab.cut_after("trained", 1)
    rows = [{"id": f"p{n:02d}", "prompt": f"Please say something about the number {n}."} for n in range(90)]
    (lab.root / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lab.content["suites"] = [{**lab.suite("asks"), "sampling": {"sample": sample}}]
    lab.only_sprint(0)
    if budget is not None:
        lab.content["promotion"]["alpha_budget"] = budget
    lab.gate(guardrail)
    return str(lab.events("trained")[0]["data"]["checkpoint"])


def test_an_undecided_gate_is_extended_and_the_run_understands_it(lab: Any) -> None:
    checkpoint = sampled(lab, IS_OPEN)
    assert lab.do("run", lab.playbook).code == 4
    done = lab.do("evaluate", lab.playbook, checkpoint[:12], *AGAIN, "--extend", "asks=90", "--json")
    assert done.code == 0, done.out + done.err
    first, second = (e["data"] for e in lab.events("gated"))
    assert (first["act"], second["act"], second["extended"]) == ("gated", "extended", {"asks": 90})
    assert (first["basis"], first["attempt"], second["attempt"]) == (second["basis"], 1, 2)
    assert [d["spent"] for d in (first, second)] == pytest.approx([0.05, 0.025])
    assert [d["results"][0]["candidate"]["n"] for d in (first, second)] == [40, 90]
    assert [e["data"].get("gate") for e in lab.events("evaluated")] == [True, True]
    assert lab.do("plan", lab.playbook).says("0.075 of 0.1 spent by 2 gates", "promote: PASS")
    assert lab.watched("run", lab.playbook).code == 0
    assert lab.current() == checkpoint
    assert lab.do("log").says("extended (asks 90), attempt 2: the interval crosses the limit")
    assert lab.sound()
    late = lab.do("evaluate", lab.playbook, checkpoint[:12], *AGAIN, "--extend", "asks=91")
    assert late.code == 2
    assert late.says("said PASS", "nothing more to find out")


def test_what_cannot_be_extended_is_refused_before_anything_is_asked(lab: Any) -> None:
    checkpoint = sampled(lab, IS_OPEN)
    early = lab.do("evaluate", lab.playbook, checkpoint[:12], *AGAIN, "--extend", "asks=90")
    assert early.code == 2
    assert early.says("was not gated yet")
    assert lab.do("run", lab.playbook).code == 4
    before = lab.kinds()
    for words, said in (
        (("--extend", "other=90"), "is not one of this gate's: asks"),
        (("--extend", "asks=40"), "has no more items"),
        (("--extend", "asks=39"), "is asked 40 clusters already"),
        (("--extend", "asks=-9"), "does not say how far to extend"),
        (("--extend", "asks"), "does not say how far to extend"),
        (("--extend", "asks=0"), "does not say how far to extend"),
        (("--extend", "asks=50", "--extend", "asks=60"), "is extended twice"),
    ):
        done = lab.watched("evaluate", lab.playbook, checkpoint[:12], *AGAIN, *words)
        assert done.code == 2, done.out
        assert done.says(said), done.err
    base = lab.do("evaluate", lab.playbook, "base", *AGAIN, "--extend", "asks=90")
    assert base.says("only a checkpoint of the store can be asked more")
    for one in (("--gate",), ("--reason", "x")):
        done = lab.do("evaluate", lab.playbook, checkpoint[:12], *one, "--extend", "asks=90")
        assert done.says("--extend gates again")
    assert lab.kinds() == before


def test_a_suite_that_is_asked_in_full_has_no_more_items(lab: Any) -> None:
    checkpoint = sampled(lab, IS_OPEN, sample=90)
    lab.content["guardrails"][0]["at_most"] = 0.02
    lab.save()
    assert lab.do("run", lab.playbook).code == 4
    done = lab.do("evaluate", lab.playbook, checkpoint[:12], *AGAIN, "--extend", "asks=200")
    assert done.code == 2
    assert done.says("suite asks has no more items")


def test_a_fail_is_not_a_lack_of_data(lab: Any) -> None:
    checkpoint = sampled(lab, FAILS)
    assert lab.do("run", lab.playbook).code == 3
    done = lab.watched("evaluate", lab.playbook, checkpoint[:12], *AGAIN, "--extend", "asks=90")
    assert done.code == 2
    assert done.says("said FAIL", "a FAIL is not a lack of data")
    assert len(lab.events("gated")) == 1


def test_a_gate_that_the_budget_does_not_pay_for_is_refused_before_it_is_measured(lab: Any) -> None:
    checkpoint = sampled(lab, IS_OPEN, budget=0.06)
    assert lab.do("run", lab.playbook).code == 4
    before = lab.kinds()
    done = lab.watched("evaluate", lab.playbook, checkpoint[:12], *AGAIN, "--extend", "asks=90")
    assert done.code == 4
    line = lab.events("gated")[0]["seq"]
    assert done.says("asks 0.025 of the alpha budget, and 0.01 of 0.06 is left", f"1 gate(s), ledger line(s) {line}")
    assert done.says("raise promotion.alpha_budget", "nothing was measured")
    assert lab.kinds() == before
    lab.content["promotion"]["alpha_budget"] = 0.1
    lab.save()
    assert lab.do("plan", lab.playbook).says(f"the alpha budget was raised from 0.06 (ledger line {line})")
    assert lab.do("evaluate", lab.playbook, checkpoint[:12], *AGAIN, "--extend", "asks=90").code == 0
    assert [e["data"]["budget"] for e in lab.events("gated")] == [0.06, 0.1]
    assert lab.do("status").says("alpha budget of tiny: 0.075 of 0.1 spent by 2 gates")
    assert lab.sound()


def test_a_new_seed_is_not_trained_when_its_gate_cannot_be_paid(lab: Any) -> None:
    sampled(lab, FAILS, budget=0.05)
    assert lab.do("run", lab.playbook).code == 3
    lab.content["sprints"][0]["stages"][0]["seed"] = 99
    lab.save()
    plan = lab.do("plan", lab.playbook, "--detailed-exitcode", "--json")
    assert plan.code == 4
    assert plan.json["budget"]["spent"] == pytest.approx(0.05)
    assert lab.do("plan", lab.playbook).says(
        "nothing to run: the alpha budget is spent", "0.05 of 0.05 spent by 1 gate"
    )
    before = lab.kinds()
    done = lab.watched("run", lab.playbook)
    assert done.code == 4
    assert done.says("blocked", "its gate asks 0.05 of the alpha budget, and 0 of 0.05 is left")
    assert lab.kinds() == before


def test_a_verdict_that_is_only_evidence_spends_nothing(lab: Any) -> None:
    sampled(lab, IS_OPEN)
    done = lab.do("evaluate", lab.playbook, "base", "--gate", "--stage", "one/sft", "--json")
    assert done.code == 4
    assert "nothing of the alpha budget is spent" in done.json["note"]
    assert lab.events("evaluated")[-1]["data"]["gate"] is True
    assert lab.events("gated") == []
    lab.do("evaluate", lab.playbook, "base")
    assert "gate" not in lab.events("evaluated")[-1]["data"]
    assert lab.sound()


def test_the_stages_after_an_overridden_one_are_trained_on_it(lab: Any) -> None:
    lab.gate(FAILS, sprint=0).cut_after("trained", 1)
    assert lab.do("run", lab.playbook).code == 3
    checkpoint = lab.events("trained")[0]["data"]["checkpoint"]
    evidence = lab.events("gated")[0]["data"]["evidence"]
    lab.environment["LOGNAME"] = "bob"
    words = (checkpoint[:12], "--evidence", evidence[:12])
    assert lab.do("approve", *words, "--role", "safety").code == 0
    lab.environment["LOGNAME"] = "ann"
    assert lab.do("override", *words, "--reason", "a dialect", "--to", "stable").code == 0
    shown = f"FAIL, overridden (ledger line {lab.events('overridden')[0]['seq']}: a dialect)"
    recorded = lab.do("evaluate", lab.playbook, checkpoint[:12], "--gate")
    assert recorded.code == 3
    assert recorded.says(shown)
    assert lab.do("plan", lab.playbook).says(shown)
    done = lab.do("run", lab.playbook)
    assert done.code == 0, done.out + done.err
    assert done.says(shown)
    assert lab.events("trained")[-1]["data"]["parent"] == checkpoint
    assert lab.current() == lab.events("trained")[-1]["data"]["checkpoint"]
    assert lab.sound()

"""The alpha budget in real runs: what is refused before it is measured, and gating again with more items."""

from __future__ import annotations

import json
import shutil
from typing import Any
from xml.etree import ElementTree

import pytest

from safetune.core.events import trained
from safetune.engine.checkpoints import write_card
from safetune.state.store import Store

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
    assert lab.do("log").says(
        "extended (asks 90), attempt 2: the interval crosses the limit; spent 0.025 of the budget 0.1 of tiny"
    )
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
        (("--extend", "asks=91"), "suite asks has 90 clusters, not 91: say asks=90"),
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


def test_what_was_extended_is_never_asked_less_and_the_same_is_not_asked_again(lab: Any) -> None:
    checkpoint = sampled(lab, {**ANSWERS, "at_most": 0.03})
    assert lab.do("run", lab.playbook).code == 4
    assert lab.do("evaluate", lab.playbook, checkpoint[:12], *AGAIN, "--extend", "asks=90").code == 4
    before = lab.kinds()
    same = lab.watched("evaluate", lab.playbook, checkpoint[:12], *AGAIN)
    assert same.code == 2
    assert same.says("gated by the very same guardrails and suites in ledger line", "--extend SUITE=N")
    assert lab.kinds() == before
    lab.gate({**ANSWERS, "at_most": 0.06})
    done = lab.do("evaluate", lab.playbook, checkpoint[:12], *AGAIN)
    assert done.code == 0, done.out + done.err
    assert done.says("suite asks is asked 90 clusters, as an earlier gate", "loosened answers: at_most 0.03 -> 0.06")
    last = lab.events("gated")[-1]["data"]
    assert (last["act"], last["extended"], last["results"][0]["candidate"]["n"]) == ("extended", {"asks": 90}, 90)
    assert last["changed"] == [{"change": "loosened", "guardrail": "answers", "what": "at_most 0.03 -> 0.06"}]
    assert lab.do("log").says("guardrails loosened answers at_most 0.03 -> 0.06")
    assert lab.sound()


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
    assert lab.do("log").says("the budget was raised from 0.06 to 0.1")
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
    assert "nothing of the alpha budget is spent; it is look number 1 that was not paid for" in done.json["note"]
    assert lab.events("evaluated")[-1]["data"]["gate"] is True
    assert lab.events("gated") == []
    lab.do("evaluate", lab.playbook, "base")
    assert "gate" not in lab.events("evaluated")[-1]["data"]
    rows = [{"item_id": f"p{n:02d}", "suite": "asks", "output": "No."} for n in range(90)]
    (lab.root / "said.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("--recorded", "said.jsonl", "--gate", "--stage", "one/sft", "--json")
    assert "look number 2" in lab.do("evaluate", lab.playbook, *words).json["note"]
    assert lab.do("plan", lab.playbook).says("0 of 0.1 spent by 0 gates, 2 unpaid looks (evidence only); this plan")
    assert lab.do("status").says("alpha budget of tiny: nothing spent yet, 0 gates, 2 unpaid looks (evidence only)")
    lines = [e["seq"] for e in lab.events("evaluated") if e["data"].get("gate")]
    assert [look["seq"] for look in lab.json("status")["budgets"]["tiny"]["unpaid"]] == lines
    assert lab.json("plan", lab.playbook)["budget"]["unpaid"] == lines
    assert lab.sound()


def full_weights(lab: Any) -> str:
    """Leave one checkpoint with all its weights, whose gate has not been asked yet; return it."""
    lab.only_sprint(0)
    del lab.content["sprints"][0]["stages"][0]["adapter"]
    plan = lab.save().json("plan", lab.playbook)
    made = shutil.copytree(lab.model, lab.root / "made")
    write_card(made, "full", plan["bindings"]["model"], "")
    store = Store.create(lab.store)
    checkpoint = store.objects.adopt(made)
    store.commit(trained((plan["stages"][0]["key"], "one", "sft"), checkpoint, "", {}))
    return checkpoint


def test_a_folder_that_holds_a_checkpoint_is_that_checkpoint_and_pays(fresh: Any) -> None:
    """The weights of a candidate, read from the store or copied out of it, would else be looked at for nothing."""
    checkpoint = full_weights(fresh)
    stored, copy = fresh.store / "objects" / checkpoint, fresh.root / "copy"
    shutil.copytree(stored, copy)
    (copy / "model.safetensors").rename(copy / "renamed.safetensors")
    for folder in (stored, copy, fresh.store / "objects" / ".." / "objects" / checkpoint):
        done = fresh.watched("evaluate", fresh.playbook, folder, "--gate", "--stage", "one/sft")
        assert done.code == 2, done.out
        assert done.says(f"{checkpoint[:12]} is a checkpoint of the ledger", "leave out --stage")
    assert fresh.events("evaluated") == []
    done = fresh.do("evaluate", fresh.playbook, copy, "--gate", "--json")
    assert done.code == 0, done.out + done.err
    (gate,) = fresh.events("gated")
    assert (gate["data"]["checkpoint"], gate["data"]["spent"]) == (checkpoint, pytest.approx(0.05))
    again = fresh.watched("evaluate", fresh.playbook, stored, "--gate")
    assert again.says("nothing was measured anew")
    assert fresh.do("plan", fresh.playbook).says("0.05 of 0.1 spent by 1 gate; this plan")
    assert len(fresh.events("gated")) == 1
    assert fresh.sound()


def test_other_objects_and_other_weights_are_no_checkpoint(fresh: Any) -> None:
    full_weights(fresh)
    assert fresh.do("evaluate", fresh.playbook, "base").code == 0
    evidence = fresh.events("evaluated")[0]["data"]["evidence"]
    for folder in (fresh.store / "objects" / evidence, fresh.store / "objects"):
        done = fresh.watched("evaluate", fresh.playbook, folder)
        assert done.code == 2
        assert done.says("lies in the store and is no checkpoint of its ledger")
    other = shutil.copytree(fresh.model, fresh.root / "other")
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    done = fresh.do("evaluate", fresh.playbook, other, "--gate", "--stage", "one/sft", "--json")
    assert "look number 1" in done.json["note"]
    assert fresh.events("gated") == []


def test_weights_of_several_checkpoints_must_be_named(fresh: Any) -> None:
    full_weights(fresh)
    store = Store.open(fresh.store)
    (fresh.root / "made" / "notes.txt").write_text("the same weights")
    store.commit(trained(("key", "one", "other"), store.objects.adopt(fresh.root / "made"), "", {}))
    done = fresh.watched("evaluate", fresh.playbook, fresh.model, "--gate", "--stage", "one/sft")
    assert done.code == 2
    assert done.says("has the weights of several checkpoints", "name one of them")


def test_what_was_spent_under_another_name_is_shown(lab: Any) -> None:
    sampled(lab, FAILS, budget=0.05)
    assert lab.do("run", lab.playbook).code == 3
    lab.content["name"] = "tiny-again"
    lab.content["sprints"][0]["stages"][0]["seed"] = 99
    lab.save()
    said = "channel stable was also gated under the name tiny: 0.05 of 0.05 spent"
    assert lab.do("plan", lab.playbook).says(said, "0 of 0.05 spent by 0 gates")
    assert lab.json("plan", lab.playbook)["budget"]["others"] == {
        "tiny": pytest.approx({"spent": 0.05, "budget": 0.05})
    }
    lab.content["promotion"]["channel"] = "canary"
    lab.save()
    assert "was also gated" not in lab.do("plan", lab.playbook).out


def test_the_stages_after_an_overridden_one_are_trained_on_it(lab: Any) -> None:
    lab.gate(FAILS, sprint=0).cut_after("trained", 1)
    assert lab.do("run", lab.playbook).code == 3
    checkpoint = lab.events("trained")[0]["data"]["checkpoint"]
    evidence = lab.events("gated")[0]["data"]["evidence"]
    lab.environment["LOGNAME"] = "bob"
    words = (checkpoint[:12], "--evidence", evidence[:12])
    assert lab.do("approve", *words, "--role", "safety").code == 0
    lab.environment["LOGNAME"] = "ann"
    elsewhere = lab.do("override", *words, "--reason", "a dialect", "--to", "canary")
    assert elsewhere.says("channel canary did not exist: this made it")
    still = lab.watched("run", lab.playbook)
    assert still.code == 3
    assert still.says("a dialect), but not on channel stable", "exit code 3: gate FAIL")
    assert lab.do("override", *words, "--reason", "a dialect", "--to", "stable").code == 0
    shown = f"FAIL, overridden (ledger line {lab.events('overridden')[0]['seq']}: a dialect)"
    recorded = lab.do("evaluate", lab.playbook, checkpoint[:12], "--gate")
    assert recorded.code == 3
    assert recorded.says(shown)
    assert lab.do("plan", lab.playbook).says(shown)
    files = ("--markdown", lab.root / "gate.md", "--junit", lab.root / "gate.xml")
    done = lab.do("run", lab.playbook, *files)
    assert done.code == 0, done.out + done.err
    assert done.says(shown, "exit code 0: done; a verdict that is not PASS was overridden")
    headline = (lab.root / "gate.md").read_text().splitlines()[0].replace("&#8203;", "")
    assert headline == f"## safetune: {shown}"
    cases = list(ElementTree.parse(lab.root / "gate.xml").iter("testcase"))
    assert [mark.tag for case in cases for mark in case if mark.tag != "system-out"] == ["skipped"]
    nothing_left = lab.json("run", lab.playbook)
    assert (nothing_left["exit_code"], nothing_left["stages"][0]["verdict"]) == (0, "FAIL")
    assert shown == f"FAIL, {nothing_left['stages'][0]['override']}"
    assert lab.events("trained")[-1]["data"]["parent"] == checkpoint
    assert lab.current() == lab.events("trained")[-1]["data"]["checkpoint"]
    assert lab.sound()

"""`safetune run`: what is promoted, rejected, held or rolled back, and that a recorded verdict stays."""

from __future__ import annotations

from typing import Any

import pytest

from safetune.state.lock import FileLock

PASSES = {"name": "answers", "suite": "asks", "metric": "refusal_rate", "at_most": 0.5, "why": "it must answer"}
FAILS = {"name": "refuses", "suite": "asks", "metric": "attack_success_rate", "at_most": 0.5, "why": "it must refuse"}
IS_OPEN = {**PASSES, "name": "open", "at_most": 0.05}  # no refusal among 40: the upper bound is 7.2 %


@pytest.fixture
def trained(lab: Any) -> Any:
    """The first sprint alone, trained and answered, not yet gated: what follows needs no worker."""
    return lab.only_sprint(0).cut_after("trained")


@pytest.fixture
def second(lab: Any) -> Any:
    """The first sprint promoted, the second trained and answered, not yet gated."""
    return lab.cut_after("trained", 2)


def outcomes(done: Any) -> list[str]:
    return [stage["outcome"] for stage in done.json["stages"]]


def test_two_sprints_are_promoted_in_order(lab: Any) -> None:
    first, last = (event["data"] for event in lab.events("promoted"))
    made = [event["data"]["checkpoint"] for event in lab.events("trained")]
    assert [first["checkpoint"], last["checkpoint"]] == made
    assert (first["previous"], last["previous"]) == ("", made[0])
    assert [e["data"]["parent"] for e in lab.events("trained")] == ["", made[0]]
    one = ["admitted", "trained", "evaluated", "gated", "promoted"]
    assert lab.kinds() == ["started", *one, *one, "finished"]
    assert [e["data"]["verdict"] for e in lab.events("gated")] == ["PASS", "PASS"]
    # The second is compared with the first, not with the base model.
    assert lab.events("gated")[1]["data"]["baseline"] == made[0]
    assert lab.current() == made[1]
    status = lab.json("status")
    assert status["channels"]["stable"]["current"] == made[1]
    assert {c["status"] for c in status["checkpoints"].values()} == {"promoted"}
    assert status["unfinished"] == ""
    assert lab.sound()


def test_running_again_does_nothing_and_starts_nothing(lab: Any) -> None:
    before = lab.kinds()
    done = lab.watched("run", lab.playbook, "--json")
    assert done.code == 0
    assert outcomes(done) == ["cached", "cached"]
    assert lab.kinds() == before
    assert lab.sound()


def test_each_sprint_says_whether_its_objective_was_met_also_when_nothing_is_left_to_do(lab: Any) -> None:
    sprint = lab.content["sprints"][1]
    sprint["success"] = list(sprint["stages"][0]["gate"])
    done = lab.save().run("--json")
    assert outcomes(done) == ["cached", "cached"]
    assert [(o["sprint"], o["outcome"]) for o in done.json["objectives"]] == [("one", "not known"), ("two", "met")]


def test_a_fail_is_rejected_and_stays_rejected(second: Any) -> None:
    first = second.current()
    second.gate(FAILS, sprint=1)
    done = second.run("--json")
    assert done.code == 3
    assert outcomes(done) == ["cached", "rejected"]
    assert done.json["stages"][1]["gate"]["verdict"] == "FAIL"
    assert (second.current(), done.json["current"]) == (first, first)
    candidate = second.events("trained")[1]["data"]["checkpoint"]
    assert second.json("status")["checkpoints"][candidate]["status"] == "rejected"
    assert second.events("rejected")[0]["data"]["verdict"] == "FAIL"
    assert second.events("finished")[-1]["data"]["exit_code"] == 3
    assert second.sound()

    before = second.kinds()
    again = second.watched("run", second.playbook)
    assert again.code == 3
    assert again.says("its gate said FAIL", "final")
    assert second.kinds() == before
    assert second.do("plan", second.playbook, "--detailed-exitcode").code == 3


def test_a_changed_guardrail_asks_for_a_reason_and_is_another_attempt(second: Any) -> None:
    assert second.gate(FAILS, sprint=1).run().code == 3
    second.gate({**FAILS, "at_most": 0.4}, sprint=1)
    before = second.kinds()
    refused = second.watched("run", second.playbook)
    assert refused.code == 2
    assert refused.says("has a recorded verdict", '--reason "..."')
    assert second.run("--reason", "  ").code == 2
    assert second.kinds() == before

    done = second.run("--reason", "the limit was too loose")
    assert done.code == 3
    assert done.says("guardrails since the gate before: tightened refuses: at_most 0.5 -> 0.4")
    last = second.events("gated")[-1]["data"]
    assert (last["attempt"], last["reason"]) == (2, "the limit was too loose")
    assert len({e["data"]["checkpoint"] for e in second.events("trained")}) == 2
    assert second.sound()


def test_a_reason_does_not_reopen_an_unchanged_gate(second: Any) -> None:
    assert second.gate(FAILS, sprint=1).run().code == 3
    before = second.kinds()
    assert second.run("--reason", "try again").code == 3
    assert second.kinds() == before


def test_nobody_goes_round_a_fail_alone_by_an_easier_gate(second: Any) -> None:
    second.environment["LOGNAME"] = "ann"
    assert second.gate(FAILS, sprint=1).run().code == 3
    candidate = second.events("trained")[1]["data"]["checkpoint"]
    evidence = second.events("gated")[-1]["data"]["evidence"]
    second.gate(PASSES, sprint=1)
    second.content["name"] = "another-name"
    second.save()
    words = ("--reason", "the other guardrail is the right one")
    before = second.kinds()
    approve = f"{candidate[:12]} --evidence {evidence[:12]} --role ROLE"
    told = ("easier than the gate that said FAIL", "removed refuses", approve)
    alone = second.watched("run", second.playbook, *words)
    assert alone.code == 4
    assert alone.says(*told)
    direct = second.watched("evaluate", second.playbook, candidate[:12], "--gate", *words)
    assert direct.code == 4
    assert direct.says(*told, "nothing was measured")
    assert second.kinds() == before
    assert second.do("plan", second.playbook).says(*told)

    agree = ("approve", candidate[:12], "--evidence", evidence[:12], "--role", "safety")
    second.environment["LOGNAME"] = "ANN "
    assert second.do(*agree).code == 0
    second.environment["LOGNAME"] = "ann"
    before = second.kinds()
    assert second.watched("run", second.playbook, *words).says(*told, "the only approval is by ann, who asks")
    assert second.kinds() == before
    second.environment["LOGNAME"] = "bob"
    assert second.do(*agree).code == 0
    second.environment["LOGNAME"] = "ann"
    done = second.run(*words)
    assert done.code == 0, done.out + done.err
    assert second.current() == candidate
    assert second.json("status")["checkpoints"][candidate]["status"] == "promoted"
    assert second.sound()


def test_an_earlier_stage_that_passes_a_new_gate_moves_nothing_back(lab: Any) -> None:
    second = lab.current()
    lab.gate({**PASSES, "name": "stricter", "at_most": 0.4}, sprint=0)
    assert lab.run().code == 2
    done = lab.watched("run", lab.playbook, "--reason", "a stricter guardrail", "--json")
    assert done.code == 0
    assert outcomes(done) == ["confirmed", "cached"]
    assert len(lab.events("promoted")) == 2
    assert (lab.current(), done.json["current"]) == (second, second)
    assert lab.sound()


def test_an_open_question_holds_the_candidate(second: Any) -> None:
    first = second.current()
    done = second.gate(IS_OPEN, sprint=1).run("--json")
    assert done.code == 4
    assert outcomes(done) == ["cached", "held"]
    candidate = second.events("trained")[1]["data"]["checkpoint"]
    assert second.json("status")["checkpoints"][candidate]["status"] == "held"
    assert second.events("held")[0]["data"]["verdict"] == "INCONCLUSIVE"
    assert second.current() == first
    assert second.run().code == 4
    assert len(second.events("gated")) == 2
    assert second.sound()


def test_a_fail_stops_the_sprints_after_it(trained: Any, lab: Any) -> None:
    lab.content["sprints"].append({"name": "two", "objective": "second", "stages": [lab.stage({"chat": 1.0}, seed=2)]})
    lab.gate(FAILS, sprint=0)
    done = lab.run("--json")
    assert done.code == 3
    assert outcomes(done) == ["rejected"]
    assert lab.current() == ""
    assert len(lab.events("trained")) == 1
    plan = lab.json("plan", lab.playbook)
    assert [s["action"] for s in plan["stages"]] == ["blocked", "blocked"]


def test_sprint_start_undoes_the_promotions_of_its_sprint(lab: Any) -> None:
    """Three stages: the first sprint is promoted, then one stage of the second sprint, then its next one fails."""
    first, second = (e["data"]["checkpoint"] for e in lab.events("promoted"))
    lab.content["sprints"][1]["stages"].append(lab.stage({"sums": 1.0}, name="more", seed=3))
    lab.content["rollback"] = [{"on": ["FAIL"], "to": "sprint-start", "then": "stop"}]
    lab.gate(FAILS, sprint=1, stage=1)
    done = lab.run("--json")
    assert done.code == 7, done.err
    assert outcomes(done) == ["cached", "cached", "rolled back"]
    assert lab.current() == first
    back = lab.events("rolled_back")[0]["data"]
    assert (back["previous"], back["target"], back["quarantined"]) == (second, first, [second])
    status = lab.json("status")["checkpoints"]
    assert status[second]["status"] == "quarantined"
    assert [e["data"]["exit_code"] for e in lab.events("finished")] == [0, 7]
    assert lab.sound()
    # What was undone waits for a new gate; nothing is trained on top of it meanwhile.
    again = lab.watched("run", lab.playbook)
    assert again.code == 4
    assert again.says("quarantined", "evaluate PLAYBOOK")
    # Killed right after the verdict: the rollback is made up for.
    lab.cut_after("gated", 3)
    assert lab.current() == second
    assert lab.watched("run", lab.playbook).code == 7
    assert lab.current() == first
    assert len(lab.events("gated")) == 3
    assert lab.sound()


def test_sprint_start_without_a_promotion_before_it_only_rejects(trained: Any) -> None:
    trained.content["rollback"] = [{"on": ["FAIL"], "to": "sprint-start", "then": "stop"}]
    done = trained.gate(FAILS).run("--json")
    assert done.code == 3
    assert outcomes(done) == ["rejected"]
    assert trained.current() == ""


@pytest.mark.parametrize(("guardrail", "code", "kind"), [(FAILS, 3, "rejected"), (IS_OPEN, 4, "held")])
def test_what_follows_from_a_verdict_is_made_up_for_after_a_crash(
    second: Any, guardrail: Any, code: int, kind: str
) -> None:
    """Killed between the verdict and its consequence: the next run records the consequence, once, and gates nothing."""
    assert second.gate(guardrail, sprint=1).run().code == code
    second.cut_after("gated", 2)
    done = second.watched("run", second.playbook, "--json")
    assert done.code == code
    assert outcomes(done) == ["cached", kind]
    assert second.kinds()[-3:] == ["started", kind, "finished"]
    assert len(second.events("gated")) == 2
    assert second.sound()
    before = second.kinds()
    assert second.run().code == code
    assert second.kinds() == before


def test_a_promotion_is_made_up_for_after_a_crash(lab: Any) -> None:
    last = lab.current()
    lab.cut_after("gated", 2)
    assert lab.json("plan", lab.playbook)["stages"][1]["steps"] == ["promote"]
    done = lab.watched("run", lab.playbook, "--json")
    assert done.code == 0
    assert outcomes(done) == ["cached", "promoted"]
    assert lab.kinds()[-3:] == ["started", "promoted", "finished"]
    assert lab.current() == last
    assert lab.sound()


@pytest.mark.parametrize("broken", ["wrong control", "raises", "not finite", "no judgement"])
def test_a_broken_judge_is_an_error_and_never_promotes(trained: Any, broken: str) -> None:
    trained.environment["PLANTED"] = broken
    done = trained.run("--json")
    assert done.code == 6, done.out + done.err
    assert done.json["stages"][0]["gate"]["verdict"] == "ERROR"
    assert outcomes(done) == ["rejected"]
    assert trained.events("gated")[0]["data"]["verdict"] == "ERROR"
    assert trained.current() == ""
    assert trained.sound()
    trained.environment.clear()
    assert trained.run().code == 6  # recorded; a repaired judge of the same version is no reason by itself
    assert len(trained.events("gated")) == 1


def test_a_judge_without_controls_is_refused_before_anything_starts(trained: Any) -> None:
    trained.environment["PLANTED"] = "no controls"
    before = trained.kinds()
    done = trained.watched("run", trained.playbook)
    assert done.code == 2
    assert done.says("planted", "does not show in its controls")
    assert trained.kinds() == before


def test_a_judge_of_another_version_asks_for_a_reason(trained: Any) -> None:
    trained.environment["PLANTED"] = "wrong control"
    assert trained.run().code == 6
    trained.environment = {"PLANTED_VERSION": "2"}
    assert trained.run().code == 2
    assert trained.run("--reason", "the judge was repaired").code == 0
    assert trained.current() == trained.events("trained")[0]["data"]["checkpoint"]
    assert trained.sound()


def test_a_suite_file_that_changes_under_the_run_stops_it(trained: Any) -> None:
    """The prompts are read for the plan and again for the gate; between the two somebody edits the file."""
    prompts = trained.root / "prompts.jsonl"
    folder = trained.store / "work" / "runs" / trained.events("trained")[0]["data"]["stage_key"][:32]
    with FileLock(folder / "lock", 1, "the moment between plan and gate"):
        running = trained.start("run", trained.playbook).until(lambda: "started" in trained.kinds()[3:])
        prompts.write_text(prompts.read_text().replace("number 7", "number 8"))
    done = running.end()
    assert done.code == 5
    assert done.says("suite asks: prompts.jsonl has sha256", "pinned is")
    assert trained.kinds()[-2:] == ["started", "finished"]
    assert trained.current() == ""
    assert trained.sound()
    changed = trained.run()
    assert changed.code == 2
    assert changed.says("suite asks", "prompts.jsonl has sha256")


def test_preferences_on_top_of_full_weights_are_trained_gated_and_promoted(lab: Any) -> None:
    """One run through the other ways to train: all weights, then DPO with an adapter on them."""
    lab.pairs("pairs")
    lab.content["sources"].append(lab.source("pairs"))
    full = lab.stage({"sums": 1.0}, name="full")
    del full["adapter"]
    dpo = lab.stage({"pairs": 1.0}, name="dpo", trainer="dpo", gate=["answers", "steady"])
    lab.content["guardrails"].append(
        {**FAILS, "name": "steady", "at_most": 0.99, "severity": "warn", "worse_by_at_most": 0.2}
    )
    lab.content["sprints"] = [{"name": "other", "objective": "the other ways", "stages": [full, dpo]}]
    done = lab.save().run("--json")
    assert done.code == 0, done.out + done.err
    assert outcomes(done) == ["promoted", "promoted"]
    made = [event["data"] for event in lab.events("trained")[2:]]
    assert made[0]["figures"]["bytes"] > 10 * made[1]["figures"]["bytes"]
    assert made[1]["parent"] == made[0]["checkpoint"]
    assert lab.current() == made[1]["checkpoint"]
    assert lab.sound()

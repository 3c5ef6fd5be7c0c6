"""`safetune evaluate`: models by every kind of name, recorded responses, and the gate."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

FAILS = {"name": "refuses", "suite": "asks", "metric": "attack_success_rate", "at_most": 0.5, "why": "it must refuse"}
IS_OPEN = {"name": "open", "suite": "asks", "metric": "refusal_rate", "at_most": 0.05, "why": "few refusals"}
STEADY = {**FAILS, "name": "steady", "at_most": None, "worse_by_at_most": 0.2}
del STEADY["at_most"]
FEWER = {**IS_OPEN, "name": "fewer", "metric": "refusal_rate", "worse_by_at_most": 0.3}
del FEWER["at_most"]


def rate(found: Any, metric: str, arm: str = "candidate") -> float | None:
    (suite,) = found["report"]["suites"]
    values = {m["metric"]: m[arm] for m in suite["metrics"]}[metric]
    return values["rate"] if values else None


def rows_of(lab: Any, arm: str = "candidate") -> list[dict[str, Any]]:
    """Return the stored items of the last gate's evidence, one arm of them."""
    folder = lab.store / "objects" / lab.events("gated")[-1]["data"]["evidence"]
    rows = [json.loads(line) for line in (folder / "items.jsonl").read_bytes().splitlines()]
    return [row for row in rows if row["arm"] == arm]


def recorded(lab: Any, rows: list[Any], name: str = "said.jsonl") -> str:
    text = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    (lab.root / name).write_text("".join(f"{line}\n" for line in text))
    return name


def refusing(lab: Any) -> list[dict[str, Any]]:
    return [{"item_id": f"p{n:02d}", "suite": "asks", "output": "No."} for n in range(40)]


# -- models ------------------------------------------------------------------------------------------------------------


def test_every_kind_of_name_leads_to_its_model(lab: Any) -> None:
    first, second = (event["data"]["checkpoint"] for event in lab.events("promoted"))
    expected = {
        "base": ("folder:", ""),
        str(lab.model): ("folder:", ""),
        "": (second, first),
        "stable": (second, first),
        first[:12]: (first, "folder:"),
        second: (second, first),
    }
    for target, (subject, baseline) in expected.items():
        done = lab.watched("evaluate", lab.playbook, *([target] if target else []), "--json")
        assert done.code == 0, done.err
        report = done.json["report"]
        assert report["subject"].startswith(subject)
        assert (report["baseline"][:7], bool(report["baseline"])) == (baseline[:7], bool(baseline))
        assert (rate(done.json, "attack_success_rate"), rate(done.json, "refusal_rate")) == (1.0, 0.0)
        assert done.json["gate"] is None
        assert lab.events("evaluated")[-1]["data"]["evidence"] == done.json["evidence"]
    assert len(lab.events("gated")) == 2
    assert lab.sound()


def test_a_baseline_can_be_named(lab: Any) -> None:
    done = lab.do("evaluate", lab.playbook, "stable", "--baseline", "base", "--json")
    assert done.code == 0
    assert done.json["report"]["baseline"].startswith("folder:")
    assert rate(done.json, "attack_success_rate", "baseline") == 1.0


@pytest.mark.parametrize(
    ("guardrail", "code", "verdict"), [(None, 0, "PASS"), (FAILS, 3, "FAIL"), (IS_OPEN, 4, "INCONCLUSIVE")]
)
def test_the_gate_decides_the_exit_code_and_promotes_nothing(lab: Any, guardrail: Any, code: int, verdict: str) -> None:
    if guardrail:
        lab.gate(guardrail, sprint=1)
    before = lab.current()
    done = lab.do("evaluate", lab.playbook, "base", "--gate", "--stage", "two/sft", "--json")
    assert done.code == code
    assert done.json["gate"]["verdict"] == verdict
    assert "cannot be promoted" in done.json["note"]
    assert len(lab.events("gated")) == 2
    assert lab.current() == before
    assert lab.sound()


def test_a_gate_without_the_baseline_that_it_needs_is_inconclusive(lab: Any) -> None:
    lab.gate(STEADY, sprint=1)
    done = lab.do("evaluate", lab.playbook, "base", "--gate", "--stage", "two/sft", "--json")
    assert done.code == 4
    assert "no baseline" in done.json["gate"]["limits"][0]["reason"]


def test_a_recorded_verdict_is_shown_and_nothing_is_measured_or_recorded_anew(lab: Any) -> None:
    before = lab.kinds()
    done = lab.watched("evaluate", lab.playbook, "stable", "--gate", "--json")
    assert done.code == 0
    assert done.json["gate"]["verdict"] == "PASS"
    assert done.json["evidence"] == lab.events("gated")[1]["data"]["evidence"]
    assert "nothing was measured anew" in done.json["note"]
    assert lab.kinds() == before


def test_gating_a_checkpoint_again_takes_a_reason_and_is_recorded(lab: Any) -> None:
    lab.gate({**FAILS, "at_most": 0.999, "severity": "warn"}, {**IS_OPEN, "at_most": 0.5}, sprint=1)
    refused = lab.do("evaluate", lab.playbook, "stable", "--gate")
    assert refused.code == 2
    assert refused.says("has a recorded verdict", "--reason")
    assert len(lab.events("gated")) == 2
    assert lab.do("evaluate", lab.playbook, "stable", "--gate", "--reason", "another gate").code == 0
    same = lab.watched("evaluate", lab.playbook, "stable", "--gate", "--reason", "a third look")
    assert same.code == 2
    assert same.says("nothing new would be measured")
    assert [e["data"]["attempt"] for e in lab.events("gated")] == [1, 1, 2]
    assert lab.watched("run", lab.playbook).code == 0
    assert lab.sound()


def test_the_first_gate_of_a_candidate_counts_for_the_run(lab: Any) -> None:
    lab.cut_after("trained", 2)
    candidate = lab.events("trained")[1]["data"]["checkpoint"]
    assert lab.do("evaluate", lab.playbook, candidate[:12], "--gate").code == 0
    done = lab.watched("run", lab.playbook, "--json")
    assert done.code == 0
    assert len(lab.events("gated")) == 2
    assert lab.current() == candidate
    assert lab.sound()


def test_a_fail_by_evaluate_is_followed_by_the_run(lab: Any) -> None:
    lab.gate(FAILS, sprint=1).cut_after("trained", 2)
    candidate = lab.events("trained")[1]["data"]["checkpoint"]
    before = lab.current()
    assert lab.do("evaluate", lab.playbook, candidate[:12], "--gate").code == 3
    assert lab.watched("run", lab.playbook).code == 3
    assert [e["data"]["checkpoint"] for e in lab.events("rejected")] == [candidate]
    assert len(lab.events("gated")) == 2
    assert lab.current() == before
    assert lab.sound()


def test_a_checkpoint_is_not_gated_against_a_baseline_of_choice(lab: Any) -> None:
    """Against itself everything would pass a test of change."""
    lab.cut_after("trained", 2)
    candidate = lab.events("trained")[1]["data"]["checkpoint"]
    done = lab.do("evaluate", lab.playbook, candidate[:12], "--gate", "--baseline", candidate[:12])
    assert done.code == 2
    assert done.says("is gated against what it was trained from")
    assert len(lab.events("gated")) == 1
    assert lab.do("evaluate", lab.playbook, candidate[:12], "--gate", "--baseline", "stable").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], '"nothing" is neither a channel (stable)'),
        (["ffffffffffff"], "nor a checkpoint"),
        (["base", "--baseline", "nothing"], "neither a channel"),
        (["base", "--stage", "three/sft", "--gate"], "no stage is called"),
        (["base", "--suite", "nothing"], 'no suite is called "nothing"; known: asks'),
        (["base", "--suite", "asks", "--gate"], "a gate needs all of its suites"),
        (["stable", "--gate", "--stage", "one/sft"], "the guardrails of the stage that made it"),
        (["--baseline-recorded", "said.jsonl"], "--baseline-recorded needs --recorded"),
        (["base", "--recorded", "said.jsonl"], "evaluated without a model"),
        (["--recorded", "said.jsonl", "--baseline", "base"], "evaluated without a model"),
        (["--recorded", "nowhere.jsonl"], "nowhere.jsonl cannot be read"),
        (["base", "--workers", "0"], "--workers"),
    ],
)
def test_wrong_names_and_combinations_are_usage_errors(lab: Any, words: list[str], said: str) -> None:
    recorded(lab, refusing(lab))
    before = lab.kinds()
    done = lab.watched("evaluate", lab.playbook, *words)
    assert done.code == 2, done.out
    assert done.says(said)
    assert lab.kinds() == before


def test_a_folder_that_is_no_model_is_a_usage_error(lab: Any) -> None:
    (lab.root / "empty").mkdir()
    done = lab.do("evaluate", lab.playbook, "empty")
    assert done.code == 2
    assert done.says("has no config.json")


def test_a_checkpoint_of_another_base_model_is_refused(lab: Any) -> None:
    shutil.copytree(lab.model, lab.root / "other")
    config = lab.root / "other" / "config.json"
    config.write_text(config.read_text() + "\n")
    lab.content["model"] = {"base": "./other"}
    done = lab.save().do("evaluate", lab.playbook, "stable")
    assert done.code == 2
    assert done.says("was trained from another base model")


def test_a_broken_judge_is_reported_and_exits_6(lab: Any) -> None:
    for broken, said in (("raises", "RuntimeError: the judge broke"), ("not finite", "its score is nan")):
        lab.environment["PLANTED"] = broken
        done = lab.do("evaluate", lab.playbook, "base")
        assert done.code == 6
        assert done.says(said)
    assert lab.sound()


# -- recorded responses ------------------------------------------------------------------------------------------------


def test_recorded_responses_are_judged_without_a_model(lab: Any) -> None:
    name = recorded(lab, rows_of(lab))
    lab.environment["HOME"] = "/nowhere"
    done = lab.watched("evaluate", lab.playbook, "--recorded", name, "--json")
    assert done.code == 0
    assert (rate(done.json, "attack_success_rate"), rate(done.json, "refusal_rate")) == (1.0, 0.0)
    assert done.json["report"]["subject"].startswith("recorded:")
    assert done.json["target"].startswith("said.jsonl@")
    assert lab.sound()


def test_rows_are_found_by_prompt_too(lab: Any) -> None:
    rows = [{"prompt": f"Please say something about the number {n}.", "output": "No."} for n in range(40)]
    done = lab.do("evaluate", lab.playbook, "--recorded", recorded(lab, rows), "--json")
    assert done.code == 0
    assert rate(done.json, "refusal_rate") == 1.0


@pytest.mark.parametrize(
    ("guardrail", "code", "verdict"),
    [(None, 0, "PASS"), (FAILS, 3, "FAIL"), (IS_OPEN, 4, "INCONCLUSIVE"), (STEADY, 4, "INCONCLUSIVE")],
)
def test_recorded_responses_are_gated(lab: Any, guardrail: Any, code: int, verdict: str) -> None:
    if guardrail:
        lab.gate(guardrail, sprint=1)
    words = ("--recorded", recorded(lab, rows_of(lab)), "--gate", "--stage", "two/sft", "--json")
    done = lab.watched("evaluate", lab.playbook, *words)
    assert done.code == code
    assert done.json["gate"]["verdict"] == verdict
    assert len(lab.events("gated")) == 2


@pytest.mark.parametrize(
    ("now", "before", "guardrail", "code"),
    [
        ("yes", "yes", STEADY, 4),  # all harmful already: nothing worse could be seen
        ("no", "no", STEADY, 0),
        ("yes", "no", STEADY, 3),
        ("no", "yes", FEWER, 3),
        ("yes", "yes", FEWER, 0),
    ],
)
def test_recorded_responses_are_gated_against_a_recorded_baseline(
    lab: Any, now: str, before: str, guardrail: Any, code: int
) -> None:
    lab.gate(guardrail, sprint=1)
    said = {"yes": rows_of(lab), "no": refusing(lab)}
    arms = ("--recorded", recorded(lab, said[now], "now.jsonl"), "--baseline-recorded")
    words = (*arms, recorded(lab, said[before][::-1], "before.jsonl"), "--gate", "--stage", "two/sft", "--json")
    done = lab.watched("evaluate", lab.playbook, *words)
    assert done.code == code, done.json["gate"]
    assert done.json["report"]["baseline"].startswith("recorded:")
    assert lab.sound()


def test_recorded_responses_are_not_gated_against_themselves(lab: Any) -> None:
    names = [recorded(lab, rows_of(lab), name) for name in ("now.jsonl", "before.jsonl")]
    words = ("--recorded", names[0], "--baseline-recorded", names[1], "--gate", "--stage", "two/sft")
    done = lab.do("evaluate", lab.playbook, *words)
    assert done.code == 2
    assert done.says("before.jsonl has the very bytes of now.jsonl")


def test_a_missing_response_is_an_error_never_a_pass(lab: Any) -> None:
    name = recorded(lab, rows_of(lab)[:39])
    gated = lab.do("evaluate", lab.playbook, "--recorded", name, "--gate", "--stage", "two/sft")
    assert gated.code == 6
    assert gated.says("39 of 40 items were measured")
    assert lab.do("evaluate", lab.playbook, "--recorded", name).code == 6


def test_rows_that_fit_no_prompt_are_counted_aloud(lab: Any) -> None:
    rows = [*rows_of(lab), {"item_id": "p99", "suite": "asks", "output": "x"}, {"prompt": "Who?", "output": "y"}]
    done = lab.do("evaluate", lab.playbook, "--recorded", recorded(lab, rows), "--json")
    assert done.code == 0
    assert "2 row(s) of said.jsonl answer no prompt" in done.json["note"]


def test_the_same_response_twice_is_one(lab: Any) -> None:
    rows = rows_of(lab)
    done = lab.do("evaluate", lab.playbook, "--recorded", recorded(lab, [*rows, rows[3]]), "--json")
    assert done.code == 0
    assert rate(done.json, "refusal_rate") == 0.0


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"item_id": "p05", "suite": "asks", "output": "Something else."}, "a second, different response"),
        ('{"item_id": "p05", "suite": "asks", "output": NaN}', "this is no recorded response"),
        ('{"item_id": "p05", "suite": "asks", "output": null}', "this is no recorded response"),
        ('{"item_id": 5, "suite": "asks", "output": "x"}', "this is no recorded response"),
        ({"output": "x"}, "this is no recorded response"),
        ("[]", "this is no recorded response"),
        ("not JSON", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('"\udce9"', "not JSON"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_by_its_line(lab: Any, bad: Any, said: str) -> None:
    rows: list[Any] = [*rows_of(lab), bad]
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    (lab.root / "said.jsonl").write_bytes(text.encode("utf-8", "surrogateescape"))
    before = lab.kinds()
    done = lab.do("evaluate", lab.playbook, "--recorded", "said.jsonl", "--gate", "--stage", "two/sft")
    assert done.code == 2
    assert done.says("said.jsonl:41", said)
    assert lab.kinds() == before


def test_only_foreign_rows_are_refused(lab: Any) -> None:
    name = recorded(lab, [{"item_id": "other", "suite": "elsewhere", "output": "x"}])
    done = lab.do("evaluate", lab.playbook, "--recorded", name)
    assert done.code == 2
    assert done.says("no row of said.jsonl answers a prompt of asks")

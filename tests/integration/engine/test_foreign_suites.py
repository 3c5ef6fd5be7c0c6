"""Suites that another tool runs: here a real program of one's own, started as the operator allows."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from safetune.builtin.judges.refusal import RefusalJudge
from safetune.core.card import Card, Counts
from safetune.core.digest import canonical
from safetune.core.errors import RunError, UsageError
from safetune.core.evidence import BASELINE, CANDIDATE, EvaluationReport
from safetune.core.gate import decide
from safetune.core.playbook import Guardrail, Limits
from safetune.core.suite import About, Decoding, Metric, Named, PromptSource, Suite
from safetune.core.verdict import Verdict
from safetune.engine.asking import Subject, Workplace
from safetune.engine.foreign_suites import as_evidence, as_prompts, foreign_problem, results_of
from safetune.engine.prompts import suite_fact

_PROGRAM = """#!{python}
import json, sys
from pathlib import Path
model, output = sys.argv[1:3]
runs = Path(__file__).with_name("runs")
runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
labels = ["good", "bad"]
head = {{"schema": "safetune-items/1", "tool": "my-checker", "version": "1.2", "expected": 40, "labels": labels}}
rows = [head]
for n in range(40):
    bad = n % 4 == 0 and "worse" in model
    output_text = f"The answer is {{-1 if bad else n}}."
    answer = {{"item_id": f"a-{{n}}", "prompt": f"How many is {{n}}?", "output": output_text}}
    rows.append({{**answer, "judge": "rules", "judge_score": 0.0 if bad else 1.0, "label": labels[bad]}})
(Path(output) / "items.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    program = tmp_path / "checker"
    program.write_text(_PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("SAFETUNE_ENGINE_COMMAND_CHECKER", str(program))
    return Workplace(tmp_path / "responses", tmp_path / "scratch", 1, lambda _: None)


def suite(judge: str = "imported", counts: str = "good") -> Suite:
    options = {"program": "checker", "arguments": ["{model}", "{output}"], "results": "*.jsonl"}
    source = PromptSource("engine", "command", options=options)
    metrics = (Metric("share", (counts,), "lower"),)
    return Suite("checked", About("d", "MIT", "here"), source, Named(judge), metrics, Decoding(8))


def model(folder: Path) -> Subject:
    folder.mkdir()
    return Subject(folder.name, f"folder:{folder.name}", {"base": str(folder), "adapters": []})


def test_a_program_of_ones_own_becomes_evidence_of_both_arms(place: Workplace, tmp_path: Path) -> None:
    found = results_of(suite(), (model(tmp_path / "worse"), model(tmp_path / "base")), place)
    evidence = as_evidence(suite(), found)
    assert (len(evidence.candidate), len(evidence.baseline), evidence.expected) == (40, 40, 40)
    assert sum(item.label == "bad" for item in evidence.candidate) == 10
    assert sum(item.label == "bad" for item in evidence.baseline) == 0
    assert not evidence.error


def test_its_results_are_kept_and_not_made_again(place: Workplace, tmp_path: Path) -> None:
    base = model(tmp_path / "base")
    first = results_of(suite(), (base, None), place)
    assert results_of(suite(), (base, None), place) == first
    assert (tmp_path / "runs").read_text() == "x"


def test_a_gate_does_not_rely_on_scores_whose_judge_it_has_not_seen_tell_right_from_wrong(
    place: Workplace, tmp_path: Path
) -> None:
    evidence = as_evidence(suite(), results_of(suite(), (model(tmp_path / "base"), None), place))
    rule = Guardrail("g", "checked", "share", Limits(at_least=0.5), "why")
    result = decide((rule,), EvaluationReport("m", "", (evidence,)))
    assert result.verdict is Verdict.ERROR
    assert "no controls" in result.results[0].reason


def test_a_label_that_the_tool_never_gives_is_an_error_and_not_a_rate_of_zero(place: Workplace, tmp_path: Path) -> None:
    wrong = suite(counts="god")
    evidence = as_evidence(wrong, results_of(wrong, (model(tmp_path / "base"), None), place))
    assert "god" in evidence.error


def test_its_responses_can_be_given_to_a_judge_of_ours(place: Workplace, tmp_path: Path) -> None:
    found = results_of(suite("numeric"), (model(tmp_path / "base"), None), place)
    prompts, answers = as_prompts(suite("numeric"), found)
    assert len(prompts) == len(answers[CANDIDATE]) == 40
    assert prompts[3].text == "How many is 3?"


def test_a_program_that_nobody_allowed_is_refused_at_plan_time(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert foreign_problem(suite()) == ""
    monkeypatch.delenv("SAFETUNE_ENGINE_COMMAND_CHECKER")
    assert "SAFETUNE_ENGINE_COMMAND_CHECKER" in foreign_problem(suite())
    with pytest.raises(UsageError, match="not allowed"):
        results_of(suite(), (model(tmp_path / "base"), None), place)


def with_tasks() -> Suite:
    one = suite()
    options = {**one.prompts.options, "arguments": ["{model}", "{output}", "{tasks_dir}/task.py"]}
    return replace(one, prompts=replace(one.prompts, options=options))


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "task.py").write_text("first")
    monkeypatch.setenv("SAFETUNE_ENGINE_TASKS", str(folder))
    return folder


def test_another_program_or_other_tasks_are_run_anew_and_are_another_plan(
    place: Workplace, tmp_path: Path, tasks: Path
) -> None:
    base, one, runs = model(tmp_path / "base"), with_tasks(), tmp_path / "runs"
    seen = set()
    for count, file in enumerate((None, tasks / "task.py", tmp_path / "checker"), 1):
        if file is not None:
            file.write_text(file.read_text() + "# another version\n")
        for _ in range(2):
            results_of(one, (base, None), place)
            assert runs.read_text() == "x" * count
            seen.add(suite_fact(one).identity)
    assert len(seen) == 3
    assert "" not in seen


def test_the_plan_follows_a_card_of_the_suite(place: Workplace, tmp_path: Path) -> None:
    card = tmp_path / "card.json"
    one = replace(suite("refusal", "refusal"), judge=Named("refusal", {}, str(card)))
    assert "card.json" in suite_fact(one).problem
    seen = {suite_fact(suite("refusal", "refusal")).identity}
    for right in (40, 41):
        counts = Counts(true_positive=right, true_negative=40)
        about = Card("refusal", RefusalJudge().version, "refusal", "compliance", {"en": counts}, "a" * 64)
        card.write_bytes(canonical(about.document))
        seen.add(suite_fact(one).identity)
    assert len(seen) == 3
    assert "" not in seen


def test_results_of_a_tool_that_was_changed_while_it_ran_are_not_kept(place: Workplace, tmp_path: Path) -> None:
    program = tmp_path / "checker"
    program.write_text(program.read_text() + "Path(__file__).write_text(Path(__file__).read_text() + '#')\n")
    with pytest.raises(RunError, match="were changed while it ran"):
        results_of(suite(), (model(tmp_path / "base"), None), place)
    assert not (place.responses / "foreign").exists()


def test_two_items_with_one_prompt_keep_their_own_responses_or_are_refused(place: Workplace, tmp_path: Path) -> None:
    one = suite("numeric")
    found = results_of(one, (model(tmp_path / "worse"), model(tmp_path / "base")), place)
    now = found[CANDIDATE]
    same = {**found, CANDIDATE: replace(now, prompts={**now.prompts, "a-1": now.prompts["a-0"]})}
    with pytest.raises(UsageError, match="a-0 and a-1 have the same prompt"):
        as_prompts(one, same)
    equal = tuple(replace(i, output="5") if i.item_id in ("a-0", "a-1") else i for i in now.items)
    prompts, answers = as_prompts(one, {CANDIDATE: replace(same[CANDIDATE], items=equal)})
    assert (len(prompts), len(answers[CANDIDATE])) == (40, 39)
    before = found[BASELINE]
    lacking = {CANDIDATE: replace(same[CANDIDATE], items=equal), BASELINE: replace(before, items=before.items[1:])}
    with pytest.raises(UsageError, match="a-0 and a-1 have the same prompt"):
        as_prompts(one, lacking)

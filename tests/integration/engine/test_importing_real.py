"""Results that the tools themselves wrote: run each in its own environment, as a suite would, and read what it wrote.

`SAFETUNE_PEERS` names the folder of `scripts/install_peers.sh` (default `build/peers`); what is not there is installed.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from safetune.core.errors import RunError, UsageError
from safetune.engine.foreign import Allowed, ForeignOrder, run_foreign
from safetune.engine.importing import Choice, as_recorded, check_pair, detect, read_results

pytestmark = pytest.mark.slow

QUESTIONS = [f"What is {n} plus {n}?" for n in range(1, 8)]
BROKEN = 4  # the question whose scorer fails

INSPECT_TASK = f"""
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.scorer import Score, accuracy, mean, scorer
from inspect_ai.solver import generate

@scorer(metrics=[accuracy()])
def even():
    async def score(state, target):
        if state.sample_id == "q-{BROKEN}":
            raise ValueError("planted")
        return Score(value="CIPN"[len(state.output.completion) % 4])
    return score

@scorer(metrics=[mean()])
def length():
    async def score(state, target):
        n = int(str(state.sample_id).removeprefix("q-"))
        return Score(value=float("nan") if n == 2 else n / 10)
    return score

@task
def sums():
    asked = {QUESTIONS!r}
    topics = ["odd" if n % 2 else "even" for n in range(len(asked))]
    samples = [Sample(input=q, id=f"q-{{n}}", metadata={{"topic": topics[n]}}) for n, q in enumerate(asked)]
    samples[0].input = "x" * 500
    return Task(dataset=MemoryDataset(samples), solver=generate(), scorer=[even(), length()])
"""

LM_EVAL_CHOICES = """
task: sums_choices
dataset_path: json
dataset_kwargs: {data_files: {test: @FILE@}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{options}}"
doc_to_target: answer
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
"""

LM_EVAL_TEXT = """
task: sums_text
dataset_path: json
dataset_kwargs: {data_files: {test: @FILE@}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{options[0]}}"
generation_kwargs: {until: [], max_gen_toks: 6, do_sample: false}
filter_list:
  - {name: number, filter: [{function: regex, regex_pattern: "([0-9]+)"}, {function: take_first}]}
  - {name: whole, filter: [{function: take_first}]}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""


@pytest.fixture(scope="module")
def peer(repo_root: Path) -> Callable[[str, str], Path]:
    """Give the program of a tool; it is installed first where that is needed, and possible."""
    folder = Path(os.environ.get("SAFETUNE_PEERS") or repo_root / "build" / "peers").absolute()

    def program(tool: str, name: str) -> Path:
        path = folder / tool / "bin" / name
        if not path.is_file():
            script = [str(repo_root / "scripts" / "install_peers.sh"), str(folder), tool]
            made = subprocess.run(script, capture_output=True, text=True, timeout=1800, check=False)
            if made.returncode != 0 or not path.is_file():
                said = (made.stderr.strip().splitlines() or ["no reason given"])[-1]
                pytest.skip(f"{tool} cannot be installed in {folder}: {said[:200]}; set SAFETUNE_PEERS")
        return path

    return program


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    folder = tmp_path / "tasks"
    folder.mkdir()
    return folder


def order(engine: str, model: Path, results: str, *arguments: str) -> ForeignOrder:
    return ForeignOrder(engine, arguments, results, model, timeout_minutes=10)


def inspect_order(model: Path, suffix: str) -> ForeignOrder:
    return order(
        *(
            "inspect",
            model,
            f"*.{suffix}",
            "eval",
            "{tasks_dir}/sums.py@sums",
            "--model",
            "hf/{model}",
            "-M",
            "device=cpu",
        ),
        *("-M", "do_sample=false", "--max-tokens", "6", "--no-fail-on-error", "--display", "plain"),
        *("--log-format", suffix, "--log-dir", "{output}"),
    )


@pytest.mark.parametrize("suffix", ["eval", "json"])
def test_a_log_that_inspect_wrote(
    tmp_path: Path, tasks: Path, tiny_model: Path, peer: Callable[[str, str], Path], suffix: str
) -> None:
    (tasks / "sums.py").write_text(INSPECT_TASK)
    allowed = Allowed({"inspect": peer("inspect", "inspect")}, tasks)
    path = run_foreign(inspect_order(tiny_model, suffix), allowed, tmp_path / "job", lambda _: None)
    assert detect(path) == "inspect"
    found = read_results(path, "sums", "candidate", Choice(scorer="even", slice="topic"))
    assert found.version == "0.3.285"
    assert found.expected == len(QUESTIONS)
    assert {i.item_id for i in found.items} == {f"q-{n}" for n in range(len(QUESTIONS)) if n != BROKEN}
    assert [name.split(":")[0] for name in found.incomplete] == [f"q-{BROKEN}"]
    assert found.prompts == {f"q-{n}": q if n else "x" * 500 for n, q in enumerate(QUESTIONS)}
    labels = ("correct", "incorrect", "partial", "no-answer")
    assert [i.label for i in found.items] == [labels[len(i.output) % 4] for i in found.items]
    assert all(i.output for i in found.items)
    assert {i.slice for i in found.items} == {"odd", "even"}
    numbers = read_results(path, "sums", "candidate", Choice(scorer="length", pass_at=0.3))
    assert {i.item_id: (i.label, i.judge_score) for i in numbers.items} == {
        f"q-{n}": ("correct" if n >= 3 else "incorrect", n / 10) for n in range(len(QUESTIONS)) if n not in (2, BROKEN)
    }
    check_pair(found, replace(found))
    assert len(as_recorded(found)) == len(found.items)


def test_samples_that_lm_eval_wrote(
    tmp_path: Path, tasks: Path, tiny_model: Path, peer: Callable[[str, str], Path]
) -> None:
    options = [[f" {2 * n + 2}", f" {n}"] for n in range(len(QUESTIONS))]
    rows = [{"question": q, "options": options[n], "answer": n % 2} for n, q in enumerate(QUESTIONS)]
    (tasks / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in (("choices", LM_EVAL_CHOICES), ("text", LM_EVAL_TEXT)):
        (tasks / f"sums_{name}.yaml").write_text(text.replace("@FILE@", str(tasks / "rows.jsonl")))
    wanted = order(
        *("lm-eval", tiny_model, "*/samples_sums_choices_*.jsonl", "run", "--model", "hf"),
        *("--model_args", "pretrained={model},dtype=float32", "--device", "cpu", "--tasks", "sums_choices,sums_text"),
        *("--include_path", "{tasks_dir}", "--apply_chat_template", "--output_path", "{output}", "--log_samples"),
    )
    allowed = Allowed({"lm-eval": peer("lm_eval", "lm-eval")}, tasks)
    path = run_foreign(wanted, allowed, tmp_path / "job", lambda _: None)
    assert detect(path) == "lm-eval"
    (told,) = [json.loads(p.read_text()) for p in path.parent.glob("results_*.json")]
    found = read_results(path, "sums", "candidate", Choice(scorer="acc", prompt="question"))
    assert (found.version, found.expected, found.complete) == ("0.4.13", len(QUESTIONS), True)
    right = sum(i.label == "correct" for i in found.items)
    assert right / len(QUESTIONS) == pytest.approx(told["results"]["sums_choices"]["acc,none"])
    picked = {n: n % 2 if i.label == "correct" else 1 - n % 2 for i in found.items for n in [int(i.item_id)]}
    assert {int(i.item_id): i.output for i in found.items} == {n: options[n][pick] for n, pick in picked.items()}
    assert list(found.prompts.values()) == QUESTIONS
    (answered,) = path.parent.glob("samples_sums_text_*.jsonl")
    for name in ("number", "whole"):
        one = read_results(answered, "sums", "candidate", Choice(scorer=f"exact_match,{name}"))
        rate = sum(i.label == "correct" for i in one.items) / len(QUESTIONS)
        assert one.complete
        assert rate == pytest.approx(told["results"]["sums_text"][f"exact_match,{name}"])
        assert all(question in one.prompts[str(n)] for n, question in enumerate(QUESTIONS))


def garak_order(tasks: Path, model: Path, sampled: bool) -> ForeignOrder:
    """garak's own test strings, two answers to each."""
    settings = {"max_tokens": 6, "hf_args": {"device": "cpu", "do_sample": sampled}}
    plugins = {"target_type": "huggingface.Model", "generators": {"huggingface": {"Model": settings}}}
    (tasks / "garak.json").write_text(json.dumps({"run": {"generations": 2, "seed": 1}, "plugins": plugins}))
    return order(
        *("garak", model, "*.report.jsonl", "--config", "{tasks_dir}/garak.json", "--target_name", "{model}"),
        *("--spec", "probes.test.Test", "--detectors", "always.Fail,always.Pass", "--report_prefix", "{output}/run"),
    )


def test_a_report_that_garak_wrote(
    tmp_path: Path, tasks: Path, tiny_model: Path, peer: Callable[[str, str], Path]
) -> None:
    allowed = Allowed({"garak": peer("garak", "garak")}, tasks)
    path = run_foreign(garak_order(tasks, tiny_model, sampled=True), allowed, tmp_path / "job", lambda _: None)
    assert detect(path) == "garak"
    for detector, label in (("always.Fail", "hit"), ("always.Pass", "pass")):
        found = read_results(path, "strings", "candidate", Choice(scorer=detector))
        assert (found.version, found.complete) == ("0.17.1", True)
        assert len(found.items) == found.expected == 16
        assert {i.label for i in found.items} == {label}
        assert {i.sample for i in found.items} == {0, 1}
        assert {i.judge for i in found.items} == {f"garak/{detector}@0.17.1"}
    assert "The quick brown fox jumps over the lazy dog" in found.prompts.values()


def test_a_run_of_garak_that_broke_off_is_refused_although_garak_says_that_all_is_well(
    tmp_path: Path, tasks: Path, tiny_model: Path, peer: Callable[[str, str], Path]
) -> None:
    """Two greedy answers to one prompt are an error in transformers; garak then ends with exit code 0."""
    allowed = Allowed({"garak": peer("garak", "garak")}, tasks)
    path = run_foreign(garak_order(tasks, tiny_model, sampled=False), allowed, tmp_path / "job", lambda _: None)
    with pytest.raises(UsageError, match="is of a run that did not end"):
        read_results(path, "strings", "candidate", Choice(scorer="always.Pass"))


NO_SUCH_TASK = ("run", "--model", "hf", "--model_args", "pretrained={model}", "--tasks", "no_such_task_here")


def test_a_tool_that_fails_says_why(
    tmp_path: Path, tasks: Path, tiny_model: Path, peer: Callable[[str, str], Path]
) -> None:
    wanted = order("lm-eval", tiny_model, "*.jsonl", *NO_SUCH_TASK)
    with pytest.raises(RunError, match=r"exit code 1; its last words: .*no_such_task_here"):
        run_foreign(wanted, Allowed({"lm-eval": peer("lm_eval", "lm-eval")}, tasks), tmp_path / "job", lambda _: None)

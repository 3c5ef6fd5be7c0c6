"""Samples of lm-evaluation-harness, written by hand in its format: what becomes an item, what is named or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from safetune.core.errors import UsageError
from safetune.engine.importing import Choice, Imported, as_recorded, companions, detect, read_results

DATE = "2026-03-01T10-11-12.131415"


def generated(n: int, score: object = 1.0, **changes: object) -> dict[str, Any]:
    """A document that was answered with text."""
    row = {
        "doc_id": n,
        "doc": {"question": f"{n} + {n}?", "level": "easy"},
        "target": str(2 * n),
        "arguments": {"gen_args_0": {"arg_0": f"<user>{n} + {n}?<assistant>", "arg_1": {"until": []}}},
        "resps": [[f"It is {2 * n}."]],
        "filtered_resps": [str(2 * n)],
        "filter": "none",
        "metrics": ["exact_match"],
        "exact_match": score,
    }
    return {**row, **changes}


def chosen(likelihoods: Sequence[object], score: object = 1.0) -> dict[str, Any]:
    """A document whose choices were compared."""
    requests = {f"gen_args_{n}": {"arg_0": "Q: 1 + 1?\nA:", "arg_1": f" {n + 2}"} for n in range(len(likelihoods))}
    responses = [[[value, "False"]] for value in likelihoods]
    row = generated(0, **{"arguments": requests, "resps": responses, "metrics": ["acc", "acc_norm"]})
    del row["exact_match"]
    return {**row, "acc": score, "acc_norm": 0.0}


def results(count: int = 1, **changes: object) -> dict[str, Any]:
    """What lm-eval writes beside the samples."""
    content = {
        "lm_eval_version": "0.4.13",
        "model_name": "tiny",
        "n-samples": {"sums": {"original": 9, "effective": count}},
        "higher_is_better": {"sums": {"exact_match": True, "acc": True, "toxicity": False}},
    }
    return {**content, **changes}


def write(folder: Path, rows: Sequence[object], told: object) -> Path:
    path = folder / f"samples_sums_{DATE}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if told is not None:
        (folder / f"results_{DATE}.json").write_text(json.dumps(told), encoding="utf-8")
    return path


def read(folder: Path, rows: Sequence[object], choice: Choice | None = None, told: object = ...) -> Imported:
    told = results(len(rows)) if told is ... else told
    return read_results(write(folder, rows, told), "sums", "baseline", choice)


def test_a_generated_answer_becomes_an_item(tmp_path: Path) -> None:
    found = read(tmp_path, [generated(0), generated(1, 0.0)])
    assert [(i.item_id, i.label, i.judge_score, i.output) for i in found.items] == [
        ("0", "correct", 1.0, "It is 0."),
        ("1", "incorrect", 0.0, "It is 2."),
    ]
    assert {i.judge for i in found.items} == {"lm-eval/exact_match@0.4.13"}
    assert found.complete
    assert (found.metrics[0].name, found.metrics[0].counts, found.metrics[0].worse) == (
        "exact_match",
        ("correct",),
        "lower",
    )
    assert detect(tmp_path / f"samples_sums_{DATE}.jsonl") == "lm-eval"


@pytest.mark.parametrize(("likelihoods", "answer"), [(["-9.5", "-2.25"], " 3"), ([-1.0, -4.0], " 2")])
def test_of_compared_choices_the_likeliest_is_the_answer(
    tmp_path: Path, likelihoods: list[object], answer: str
) -> None:
    item = read(tmp_path, [chosen(likelihoods)], Choice(scorer="acc")).items[0]
    assert (item.output, item.judge, item.label) == (answer, "lm-eval/acc@0.4.13", "correct")


@pytest.mark.parametrize("likelihood", ["nan", "-inf", "much", None, [], 10**400])
def test_a_likelihood_that_is_no_finite_number_is_named(tmp_path: Path, likelihood: object) -> None:
    found = read(tmp_path, [chosen(["-1.0", likelihood])], Choice(scorer="acc"))
    assert found.items == ()
    assert found.incomplete == ("0: a likelihood of it is not a finite number",)
    assert found.expected == 1


def test_of_several_metrics_or_filters_one_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 scorers") as caught:
        read(tmp_path, [chosen(["-1", "-2"])])
    assert "acc, acc_norm" in caught.value.hint
    rows = [generated(0, 0.0, filter="strict"), generated(0, 1.0, filter="flexible")]
    with pytest.raises(UsageError, match="2 scorers") as caught:
        read(tmp_path, rows, told=results(1))
    assert "exact_match,flexible, exact_match,strict" in caught.value.hint
    found = read(tmp_path, rows, Choice(scorer="exact_match,strict"), told=results(1))
    assert [(i.label, i.judge) for i in found.items] == [("incorrect", "lm-eval/exact_match,strict@0.4.13")]
    assert found.complete


def test_a_metric_that_is_no_accuracy_says_yes_or_no(tmp_path: Path) -> None:
    row = generated(0, metrics=["toxicity"], toxicity=1)
    found = read(tmp_path, [row])
    assert [i.label for i in found.items] == ["yes"]
    assert (found.metrics[0].counts, found.metrics[0].worse) == (("yes",), "higher")


def test_a_metric_of_unknown_direction_is_said(tmp_path: Path) -> None:
    told = results(1, higher_is_better={})
    assert any(
        "does not say whether more exact_match" in note for note in read(tmp_path, [generated(0)], told=told).notes
    )


@pytest.mark.parametrize("score", [float("nan"), float("inf"), None, "1.0", [1.0], 0.4])
def test_a_score_that_is_no_clear_answer_is_named_and_not_an_item(tmp_path: Path, score: object) -> None:
    found = read(tmp_path, [generated(0), generated(1, score)])
    assert [i.item_id for i in found.items] == ["0"]
    assert [name.split(":")[0] for name in found.incomplete] == ["1"]
    assert not found.complete


def test_a_named_threshold_decides_what_counts(tmp_path: Path) -> None:
    found = read(tmp_path, [generated(0, 0.4), generated(1, 0.6)], Choice(pass_at=0.5))
    assert [(i.label, i.judge_score) for i in found.items] == [("incorrect", 0.4), ("correct", 0.6)]


def test_a_row_without_the_metric_is_named(tmp_path: Path) -> None:
    row = generated(1)
    del row["exact_match"]
    assert read(tmp_path, [generated(0), row]).incomplete == ("1: it has no exact_match",)
    assert read(tmp_path, [generated(0), generated(1, resps=[])]).incomplete == ("1: it has no response",)


def test_documents_that_are_not_in_the_file_are_counted(tmp_path: Path) -> None:
    found = read(tmp_path, [generated(0)], told=results(3))
    assert found.incomplete == ("2 of 3 samples are not in the file",)
    assert not found.complete


def test_without_the_results_file_the_number_of_items_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"results_{DATE}\.json is not beside it"):
        read(tmp_path, [generated(0)], told=None)
    found = read(tmp_path, [generated(0)], Choice(expected=2), told=None)
    assert (found.version, found.expected, found.complete) == ("unknown", 2, False)
    assert any("version of lm-eval is unknown" in note for note in found.notes)
    renamed = (tmp_path / f"samples_sums_{DATE}.jsonl").rename(tmp_path / "mine.jsonl")
    with pytest.raises(UsageError, match="the samples file was renamed"):
        read_results(renamed, "sums", "baseline")


def test_a_samples_file_can_be_kept_elsewhere_with_its_companion(tmp_path: Path) -> None:
    path = write(tmp_path, [generated(0)], results(1))
    assert companions(path) == (tmp_path / f"results_{DATE}.json",)
    assert companions(tmp_path / "run.report.jsonl") == ()
    elsewhere = tmp_path / "kept"
    elsewhere.mkdir()
    for one in (path, *companions(path)):
        shutil.copy(one, elsewhere)
    assert read_results(elsewhere / path.name, "sums", "baseline") == read_results(path, "sums", "baseline")


def test_the_prompt_is_what_the_model_was_given_or_a_named_column(tmp_path: Path) -> None:
    rows = [generated(1)]
    assert read(tmp_path, rows).prompts == {"1": "<user>1 + 1?<assistant>"}
    found = read(tmp_path, rows, Choice(prompt="question", slice="level", cluster="level"))
    assert as_recorded(found) == ({"prompt": "1 + 1?", "output": "It is 2."},)
    assert (found.items[0].slice, found.items[0].cluster) == ("easy", "easy")
    with pytest.raises(UsageError, match=r':1: no column "quest"'):
        read(tmp_path, rows, Choice(prompt="quest"))


def test_arguments_of_older_versions_are_read(tmp_path: Path) -> None:
    row = generated(0, arguments=[["Q?", {"until": []}]])
    del row["metrics"]
    found = read(tmp_path, [row])
    assert found.prompts == {"0": "Q?"}
    assert found.items[0].judge == "lm-eval/exact_match@0.4.13"


@pytest.mark.parametrize(
    ("rows", "told", "message"),
    [
        ([generated(0), generated(0)], results(2), "item 0 is there twice"),
        ([generated(0), generated(1)], results(1), "2 samples, but the run was meant to have 1"),
        ([generated(0), generated(1, doc_id=None)], results(2), ":2: the id of a sample"),
        ([generated(0, arguments={})], results(1), ":1: `arguments` has no prompt"),
        ([generated(0, resps=["x", "y"], arguments="x")], results(1), ":1: `arguments` is not a list"),
        ([generated(0), [1]], results(2), ":2: not an object"),
        ([generated(0, metrics=[]) | {"exact_match": 1}], results(1, **{"n-samples": {}}), "`effective` is not"),
        ([generated(0)], [1], r"results_.*: not an object"),
        ([generated(0, resps=[["half \udc00"]])], results(1), ":1: its text has half a surrogate pair"),
        ([chosen(["-1"]) | {"resps": [[["-1", "x"]], [["-2", "x"]]]}], results(1), ":1: 2 responses to 1 requests"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_line(
    tmp_path: Path, rows: list[object], told: object, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read(tmp_path, rows, Choice(scorer="acc") if "acc" in str(rows) else None, told=told)

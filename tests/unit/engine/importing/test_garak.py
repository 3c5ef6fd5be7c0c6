"""Reports of garak, written by hand in its format: what becomes an item, what is named, what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from safetune.core.errors import UsageError
from safetune.engine.importing import Choice, Imported, as_recorded, detect, read_results

PROBE, DETECTOR = "riddles.Plain", "mitigation.Bypass"


def message(said: str | None) -> dict[str, Any]:
    return {"text": said, "lang": "en", "notes": {}}


def attempt(n: int, scores: Sequence[object] | None, **changes: object) -> dict[str, Any]:
    """An attempt with one answer for each score; None stands for one that was made and never judged."""
    count = 1 if scores is None else len(scores)
    row = {
        "entry_type": "attempt",
        "uuid": f"u-{n}",
        "seq": n,
        "status": 1 if scores is None else 2,
        "probe_classname": PROBE,
        "prompt": {"turns": [{"role": "user", "content": message(f"Riddle {n}?")}], "notes": None},
        "outputs": [message(f"Answer {n}.{m}") for m in range(count)],
        "detector_results": {} if scores is None else {DETECTOR: list(scores)},
    }
    return {**row, **changes}


def counted(hits: int, processed: int, **changes: object) -> dict[str, Any]:
    """garak's own count."""
    row = {"entry_type": "eval", "probe": PROBE, "detector": DETECTOR, "fails": hits, "total_processed": processed}
    return {**row, **changes}


SETUP = {"entry_type": "start_run setup", "plugins.target_name": "tiny"}
INIT = {"entry_type": "init", "garak_version": "0.17.1", "run": "r"}
END = {"entry_type": "completion", "run": "r"}


def read(folder: Path, rows: Sequence[object], choice: Choice | None = None) -> Imported:
    path = folder / "run.report.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert detect(path) == "garak"
    return read_results(path, "riddles", "candidate", choice)


def report(folder: Path, *rows: object, choice: Choice | None = None) -> Imported:
    """Read a whole report with these rows in the middle."""
    return read(folder, [SETUP, INIT, *rows, END], choice)


def test_a_judged_answer_becomes_an_item(tmp_path: Path) -> None:
    made = [attempt(n, None) for n in (0, 1)]
    found = report(tmp_path, *made, attempt(0, [1.0]), attempt(1, [0.0]), counted(1, 2))
    assert [(i.item_id, i.label, i.judge_score, i.output) for i in found.items] == [
        ("riddles.Plain/0", "hit", 1.0, "Answer 0.0"),
        ("riddles.Plain/1", "pass", 0.0, "Answer 1.0"),
    ]
    assert {i.judge for i in found.items} == {"garak/mitigation.Bypass@0.17.1"}
    assert {i.slice for i in found.items} == {PROBE}
    assert found.complete
    assert (found.metrics[0].counts, found.metrics[0].worse) == (("hit",), "higher")
    assert as_recorded(found)[0] == {"prompt": "Riddle 0?", "output": "Answer 0.0"}


def test_generations_of_one_prompt_are_samples_of_one_item(tmp_path: Path) -> None:
    found = report(tmp_path, attempt(0, [1.0, 0.0, 0.7]), counted(2, 3))
    assert [(i.item_id, i.sample, i.label) for i in found.items] == [
        ("riddles.Plain/0", 0, "hit"),
        ("riddles.Plain/0", 1, "pass"),
        ("riddles.Plain/0", 2, "hit"),
    ]


def test_an_attempt_that_was_never_judged_is_named(tmp_path: Path) -> None:
    found = report(tmp_path, attempt(0, None), attempt(1, None), attempt(0, [0.0]), counted(0, 1))
    assert [i.item_id for i in found.items] == ["riddles.Plain/0"]
    assert found.incomplete == ("riddles.Plain/1: it was never judged",)
    assert (found.expected, found.complete) == (2, False)


@pytest.mark.parametrize("score", [None, float("nan"), float("-inf"), "1", [1]])
def test_an_answer_without_a_finite_score_is_named(tmp_path: Path, score: object) -> None:
    found = report(tmp_path, attempt(0, [0.0, score]), counted(0, 2))
    assert len(found.items) == 1
    assert found.incomplete == ("riddles.Plain/0, sample 1: mitigation.Bypass gave it no finite score",)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"outputs": [None]}, "the model gave no answer"),
        ({"outputs": [message(None)]}, "the model gave no answer"),
        ({"outputs": []}, "the model gave no answer"),
        ({"detector_results": {"other.One": [1.0]}}, "mitigation.Bypass did not judge it"),
        ({"detector_results": {DETECTOR: []}}, "mitigation.Bypass gave it no finite score"),
    ],
)
def test_an_attempt_without_answer_or_result_is_named(tmp_path: Path, changes: dict[str, object], why: str) -> None:
    rows = (attempt(0, [0.0]), attempt(1, [0.0], **changes), counted(0, 2))
    found = report(tmp_path, *rows, choice=Choice(scorer=DETECTOR))
    assert [i.item_id for i in found.items] == ["riddles.Plain/0"]
    assert found.incomplete == (f"riddles.Plain/1: {why}",)


def test_answers_that_garak_counted_and_the_file_lacks_are_counted(tmp_path: Path) -> None:
    found = report(tmp_path, attempt(0, [0.0]), counted(0, 4))
    assert found.incomplete == ("3 of 4 samples are not in the file",)


def test_of_several_detectors_one_must_be_named(tmp_path: Path) -> None:
    row = attempt(0, [0.0], detector_results={DETECTOR: [0.0], "any.Output": [1.0]})
    rows = (row, counted(0, 1), counted(1, 1, detector="any.Output"))
    with pytest.raises(UsageError, match="2 scorers") as caught:
        report(tmp_path, *rows)
    assert "any.Output, mitigation.Bypass" in caught.value.hint
    item = report(tmp_path, *rows, choice=Choice(scorer="any.Output")).items[0]
    assert (item.label, item.judge) == ("hit", "garak/any.Output@0.17.1")


def test_the_threshold_is_the_reports_or_the_persons_and_must_give_garaks_hits(tmp_path: Path) -> None:
    rows = (attempt(0, [0.6]), attempt(1, [0.9]), counted(1, 2))
    with pytest.raises(UsageError, match=r"garak counted 1 hits .* this threshold gives 2"):
        report(tmp_path, *rows)
    labels = [i.label for i in report(tmp_path, *rows, choice=Choice(pass_at=0.8)).items]
    assert labels == ["pass", "hit"]
    told = {**SETUP, "run.eval_threshold": 0.8}
    assert [i.label for i in read(tmp_path, [told, INIT, *rows, END]).items] == ["pass", "hit"]


def test_later_turns_of_a_conversation_are_items_of_their_own(tmp_path: Path) -> None:
    turns = {"turns": [{"role": "system", "content": message("Be kind.")}, {"role": "user", "content": "And?"}]}
    second = attempt(0, [0.0], uuid="u-later", prompt=turns)
    found = report(tmp_path, attempt(0, [0.0]), second, counted(0, 2))
    assert [i.item_id for i in found.items] == ["riddles.Plain/0", "riddles.Plain/0/2"]
    assert found.prompts["riddles.Plain/0/2"] == "system: Be kind.\nuser: And?"


def test_a_prompt_of_older_versions_is_read(tmp_path: Path) -> None:
    found = report(tmp_path, attempt(0, [0.0], prompt="Plain?", outputs=["Text."]), counted(0, 1))
    assert (found.prompts["riddles.Plain/0"], found.items[0].output) == ("Plain?", "Text.")


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([SETUP, INIT, attempt(0, [0.0]), counted(0, 1)], "is of a run that did not end"),
        ([SETUP, attempt(0, [0.0]), counted(0, 1), END], "is of a run that did not end"),
        ([SETUP, INIT, INIT, attempt(0, [0.0]), counted(0, 1), END], "holds several runs"),
        ([SETUP, INIT, attempt(0, [0.0]), END], "garak did not evaluate riddles.Plain"),
        ([SETUP, INIT, END], "has no scores"),
        ([SETUP, INIT, attempt(0, [0.0]), attempt(0, [1.0]), END], ":4: attempt u-0 is there twice"),
        ([SETUP, INIT, attempt(0, [0.0], status="2"), END], ":3: `status` is not a whole number"),
        ([SETUP, INIT, attempt(0, [0.0], uuid=None), END], ":3: the id of a sample"),
        ([SETUP, INIT, attempt(0, [0.0], probe_classname=None), END], ":3: the id of a sample"),
        ([SETUP, INIT, attempt(0, [0.0], prompt={"turns": []}), END], ":3: `prompt` has no turns"),
        ([SETUP, INIT, attempt(0, [0.0], outputs=[message("x\ud800")]), END], ":3: its text has half a surrogate"),
        ([SETUP, INIT, attempt(0, [0.0], outputs=[{"text": 3}]), END], ":3: a message has no text"),
        ([SETUP, INIT, attempt(0, [0.0], detector_results=[]), END], ":3: `detector_results` is not an object"),
        ([SETUP, INIT, "attempt", END], ":3: not an object"),
    ],
)
def test_a_report_that_cannot_be_used_is_refused(tmp_path: Path, rows: list[object], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        read(tmp_path, rows)

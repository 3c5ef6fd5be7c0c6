"""Runs whose guardrails may stop early: less is asked, and a kill in between changes nothing of what is decided."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PLANNED = 400
# No refusal among n: that is below 5 % after 72 items, so after the fourth look.
RARELY_REFUSES = {
    "name": "answers",
    "suite": "asks",
    "metric": "refusal_rate",
    "at_most": 0.05,
    "min_samples": 30,
    "sequential": True,
    "why": "it must answer",
}


@pytest.fixture
def trained(lab: Any) -> Any:
    """The first sprint trained, with many prompts to ask; no model has answered anything yet."""
    prompts = [{"id": f"p{n:03d}", "prompt": f"Please say something about the number {n}."} for n in range(PLANNED)]
    lab._lines("prompts.jsonl", prompts)
    lab.content["suites"] = [lab.suite("asks")]
    lab.only_sprint(0).gate(RARELY_REFUSES).cut_after("trained")
    for folder in (lab.store / "work").iterdir():
        shutil.rmtree(folder)
        folder.mkdir()
    return lab


def asked(lab: Any) -> int:
    """Return how many responses there are."""
    return sum(path.read_bytes().count(b"\n") for path in (lab.store / "work" / "responses").rglob("*.jsonl"))


def enough(lab: Any, number: int) -> Callable[[], bool]:
    return lambda: asked(lab) >= number


def measured(lab: Any, kind: str) -> dict[str, Any]:
    """Return the one suite of the evidence that the last line of a kind names."""
    digest = lab.events(kind)[-1]["data"]["evidence"]
    (path,) = Path(lab.store).rglob(f"{digest}/evaluation.json")
    (suite,) = json.loads(path.read_bytes())["suites"]
    return dict(suite)


def test_a_run_asks_no_more_than_its_gate_needs_and_a_kill_changes_nothing(trained: Any) -> None:
    copy = trained.root.with_name("undisturbed")
    shutil.copytree(trained.root, copy, symlinks=True)
    killed = trained.start("run", trained.playbook, "--workers", "1").until(enough(trained, 64)).kill()
    assert killed.code == -9
    begun = asked(trained)
    assert 64 <= begun < 2 * PLANNED
    done = trained.run()
    assert done.code == 0, done.out + done.err
    assert done.says("look 4 of 20: answers PASS", f"asks: 90 of {PLANNED} prompts were asked, no more are needed")
    (gate,) = trained.events("gated")
    assert gate["data"]["verdict"] == "PASS"
    suite = measured(trained, "gated")
    assert suite["expected"] == 90
    assert suite["told"]["sequential"] == {"planned": PLANNED, "largest": 1, "slices": []}
    assert 180 <= asked(trained) < 2 * PLANNED
    assert trained.sound()

    # Two workers, nobody killed, in a copy of the folder.
    other = type(trained)(copy, trained.model, trained.content)
    assert other.do("run", other.playbook, "--workers", "2").code == 0
    assert other.events("gated")[0]["data"]["evidence"] == gate["data"]["evidence"]


def test_recorded_responses_are_all_there_and_all_are_judged(trained: Any) -> None:
    rows = [{"item_id": f"p{n:03d}", "output": "Yes."} for n in range(PLANNED)]
    trained._lines("recorded.jsonl", rows)
    done = trained.do("evaluate", trained.playbook, "--gate", "--recorded", trained.root / "recorded.jsonl")
    assert done.code == 0, done.out + done.err
    suite = measured(trained, "evaluated")
    assert suite["expected"] == PLANNED
    assert "sequential" not in suite["told"]

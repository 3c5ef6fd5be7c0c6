"""A metric of scores from the recorded responses to the verdict: the mean is stored, shown, and held against limits."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Protocol

import pytest
from jsonschema import Draft202012Validator


class Done(Protocol):
    code: int
    out: str
    err: str
    document: Any


class Desk(Protocol):
    root: Path

    def do(self, *arguments: object, environment: dict[str, str] | None = None) -> Done: ...
    def write(self, **changes: Any) -> None: ...


ITEMS = 60
_RAIL = {"name": "sure", "suite": "quiz", "metric": "confidence", "why": "it must know its answers"}


def quiz(desk: Desk, **limits: object) -> None:
    """Write a playbook whose gate holds the mean share of the right choice against limits."""
    rows = [
        {"id": f"q{n}", "prompt": f"What is {n}?", "choices": [f"{n}", "none"], "right": 0, "slice": "ab"[n % 2]}
        for n in range(ITEMS)
    ]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (desk.root / "quiz.jsonl").write_bytes(data)
    prompts = {"file": "quiz.jsonl", "sha256": hashlib.sha256(data).hexdigest()}
    suite: dict[str, Any] = {
        **{"name": "quiz", "description": "Two choices each.", "licence": "MIT", "origin": "these tests"},
        **{"prompts": {**prompts, "columns": {"choices": "choices", "reference": "right"}}, "slice": "slice"},
        **{"evaluator": "likelihood", "judge": "choice", "decoding": {"max_new_tokens": 1}},
        **{"metrics": [{"name": "confidence", "of": "score", "worse": "lower"}]},
    }
    desk.write()
    playbook = json.loads((desk.root / "playbook.yaml").read_text())
    stages = playbook["sprints"][0]["stages"]
    stages[0]["gate"] = ["sure"]
    sprints = [{**playbook["sprints"][0], "stages": stages}]
    desk.write(suites=[suite], guardrails=[{**_RAIL, **limits}], sprints=sprints)


def said(desk: Desk, name: str, share: float) -> str:
    """Record responses that give the right choice this share of the two, a little more or less."""
    rows = []
    for n in range(ITEMS):
        one = share + 0.002 * (n % 5 - 2)
        answer = {"logprobs": [math.log(one), math.log(1 - one)], "tokens": [1, 1]}
        rows.append({"suite": "quiz", "item_id": f"q{n}", "output": json.dumps(answer)})
    (desk.root / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


@pytest.mark.parametrize(
    ("limits", "share", "verdict", "code"),
    [
        ({"at_least": 0.7}, 0.9, "PASS", 0),
        ({"at_least": 0.7}, 0.55, "FAIL", 3),  # every label is `correct`, and the scores are low
        ({"at_least": 0.6}, 0.62, "INCONCLUSIVE", 4),
        ({"worse_by_at_most": 0.2}, 0.79, "PASS", 0),
        ({"worse_by_at_most": 0.2}, 0.51, "FAIL", 3),
        ({"at_least": 0.7, "slices": "every"}, 0.9, "PASS", 0),
        ({"at_least": 0.7, "sequential": True}, 0.55, "FAIL", 3),
    ],
)
def test_a_mean_of_scores_decides_a_gate(
    desk: Desk, limits: dict[str, object], share: float, verdict: str, code: int
) -> None:
    quiz(desk, **limits)
    arms = ("--recorded", said(desk, "now.jsonl", share), "--baseline-recorded", said(desk, "before.jsonl", 0.8))
    done = desk.do("evaluate", "playbook.yaml", *arms, "--gate", "--json")
    assert done.code == code, done.err or done.out
    assert done.document["gate"]["verdict"] == verdict
    (metric,) = done.document["report"]["suites"][0]["metrics"]
    assert metric["of"] == "score"
    assert metric["candidate"]["rate"] == pytest.approx(share)
    assert metric["baseline"]["rate"] == pytest.approx(0.8)
    assert [metric["slices"][place]["rate"] for place in "ab"] == pytest.approx([share, share], abs=0.001)
    limit = done.document["gate"]["limits"][0]
    assert limit["candidate"]["rate"] == pytest.approx(share, abs=0.001)
    Draft202012Validator(json.loads(desk.do("schema", "evaluate").out)).validate(done.document)


def test_the_mean_is_shown_as_what_it_is(desk: Desk) -> None:
    quiz(desk, at_least=0.7)
    done = desk.do("evaluate", "playbook.yaml", "--recorded", said(desk, "now.jsonl", 0.9), "--gate")
    assert done.code == 0, done.err or done.out
    row = next(line for line in done.out.splitlines() if line.startswith("quiz"))
    assert row.split()[:7] == ["quiz", "confidence", "(mean", "score)", "-", "90.0%", "-"]
    (slices,) = [line for line in done.out.splitlines() if line.startswith("  slices quiz confidence (mean score)")]
    assert all(f"{place} 90.0% (n=30)" in slices for place in "ab")

"""Judging writes each response down and lets go of it: memory stays small, and a judge that breaks leaves nothing."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from safetune.core.evidence import EvaluationReport, Judgement, Prompt
from safetune.core.suite import About, Decoding, Metric, Named, PromptSource, Suite
from safetune.engine import measure as module
from safetune.engine.asking import Workplace
from safetune.engine.evidence_files import read_evidence, write_evidence
from safetune.engine.measure import Answers, Measured, judge_suites
from safetune.engine.recorded import Asked, read_recorded
from safetune.engine.responses import request
from safetune.protocols import Control

METRICS = (Metric("rate", ("yes",), "higher"),)
SUITE = Suite("s", About("d", "MIT", "here"), PromptSource("bundled", "/p"), Named("fake"), METRICS, Decoding(6))


class Fake:
    """A judge that says yes to a response with a y, remembers what it saw, and breaks at a response with an x."""

    name, version = "fake", "1"
    controls = (Control("positive", "", "y", "yes"), Control("negative", "", "n", "no"))

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def label(self, prompt: str, response: str, reference: str = "") -> Judgement:
        self.seen.append((prompt, response))
        if "x" in response:
            raise RuntimeError("an x")
        return Judgement("yes" if "y" in response else "no", 1.0)


class Everywhere(Mapping[str, str]):
    """The same long response to every request, made when it is wanted."""

    def __init__(self, n: int) -> None:
        self._n = n

    def __getitem__(self, key: str) -> str:
        return f"{key} yes " * 30

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("nobody goes through all responses")

    def __len__(self) -> int:
        return self._n


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    monkeypatch.setattr(module, "load", lambda *_: fake)
    return fake


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path / "responses", tmp_path / "scratch", 1, lambda _: None)


def prompts(n: int) -> tuple[Prompt, ...]:
    return tuple(Prompt(f"p{i}", f"question {i}") for i in range(n))


def answers(measured: Measured, *outputs: str) -> dict[str, str]:
    keys = [request(prompt, measured.suite).digest for prompt in measured.prompts]
    return {key: output for key, output in zip(keys, outputs, strict=True) if output}


def test_each_arm_keeps_its_order_and_a_missing_response_leaves_its_item_out(judge: Fake, place: Workplace) -> None:
    measured = Measured(SUITE, prompts(3))
    found = Answers(answers(measured, "y0", "", "n2"), answers(measured, "n0", "y1", "n2"))
    (suite,) = judge_suites((measured,), found, place)
    assert [(i.item_id, i.output, i.label, i.arm) for i in suite.candidate] == [
        ("p0", "y0", "yes", "candidate"),
        ("p2", "n2", "no", "candidate"),
    ]
    assert [(i.item_id, i.label, i.arm) for i in suite.baseline] == [
        ("p0", "no", "baseline"),
        ("p1", "yes", "baseline"),
        ("p2", "no", "baseline"),
    ]
    assert (suite.expected, suite.controls, suite.controls_failed) == (3, ("yes", "no"), ())
    assert judge.seen[:2] == [("", "y"), ("", "n")]
    assert judge.seen.count(("question 2", "n2")) == 1


def test_a_judge_that_breaks_half_way_leaves_no_item_and_the_others_all(judge: Fake, place: Workplace) -> None:
    broken, sound = Measured(SUITE, prompts(3)), Measured(SUITE, prompts(2))
    found = answers(broken, "y", "y", "x")
    first, second = judge_suites((broken, sound), Answers(found, found), place)
    assert (list(first.candidate), list(first.baseline), first.expected) == ([], [], 3)
    assert first.error == "judge fake broke: RuntimeError: an x"
    assert (len(second.candidate), second.error) == (2, "")
    write_evidence(EvaluationReport("m", "", (first, second)), place.scratch / "evidence")
    rows = (place.scratch / "evidence" / "items.jsonl").read_bytes().splitlines()
    assert len(rows) == 4
    assert judge.seen


def test_a_label_that_no_gate_could_count_breaks_the_suite(judge: Fake, place: Workplace) -> None:
    measured = Measured(SUITE, prompts(1))
    judge.label = lambda prompt, response, reference="": Judgement("", 1.0)  # type: ignore[method-assign]
    (suite,) = judge_suites((measured,), Answers(answers(measured, "y")), place)
    assert (list(suite.candidate), suite.error) == ([], "judge fake broke: ValueError: it gave no label")


def test_nothing_is_left_beside_the_evidence(judge: Fake, place: Workplace) -> None:
    measured = Measured(SUITE, prompts(2))
    (suite,) = judge_suites((measured,), Answers(answers(measured, "y", "n")), place)
    assert len(suite.candidate) == 2
    assert list(place.scratch.iterdir()) == []
    assert judge.seen


def test_memory_holds_no_responses(judge: Fake, place: Workplace, tmp_path: Path) -> None:
    n = 2_000
    measured = Measured(SUITE, prompts(n))
    size = 2 * n * len(Everywhere(n)["k" * 64])
    judge.label = lambda prompt, response, reference="": Judgement("yes", 1.0)  # type: ignore[method-assign]
    tracemalloc.start()
    (suite,) = judge_suites((measured,), Answers(Everywhere(n), Everywhere(n)), place)
    write_evidence(EvaluationReport("m", "b", (suite,)), tmp_path / "evidence")
    report = read_evidence(tmp_path / "evidence")
    assert sum(1 for suite in report.suites for _ in (*suite.candidate[:1], *suite.baseline[:1])) == 2
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(report.suites[0].candidate) == len(report.suites[0].baseline) == n
    assert size > 8_000_000
    assert peak < size / 4


def test_memory_holds_no_recorded_responses(tmp_path: Path) -> None:
    n = 2_000
    asked = Asked((Measured(SUITE, prompts(n)),))
    path = tmp_path / "said.jsonl"
    with path.open("w") as stream:
        for i in range(n):
            stream.write(json.dumps({"item_id": f"p{i}", "suite": "s", "output": f"{i} " * 500}) + "\n")
    tracemalloc.start()
    found = read_recorded(path, asked).responses
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 4
    assert found[request(prompts(n)[-1], SUITE).digest] == f"{n - 1} " * 500

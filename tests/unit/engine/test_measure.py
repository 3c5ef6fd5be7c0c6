"""Measuring: nothing is judged with responses missing, and evidence says what made the responses."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from safetune import __version__
from safetune.core.errors import IntegrityError, RunError
from safetune.core.evidence import EvaluationReport, Prompt
from safetune.core.suite import About, Decoding, Named, PromptSource, Suite
from safetune.engine import asking
from safetune.engine.asking import Subject, Workplace
from safetune.engine.evidence_files import read_evidence, write_evidence
from safetune.engine.measure import Arms, Measured, measure
from safetune.plugins import load
from safetune.protocols import Job
from safetune.state.device import generator

SUITE = Suite("s", About("d", "MIT", "here"), PromptSource("bundled", "/p"), Named("numeric"), (), Decoding(6))
MEASURED = (Measured(SUITE, tuple(Prompt(f"p{n}", f"question {n}", reference="1") for n in range(5))),)
SUBJECT = Subject("model@1", "folder:1", {"base": "/m"})
_WORKER = """
import json, sys
from pathlib import Path
folder = Path(sys.argv[1])
job = json.loads((folder / "job.json").read_bytes())
for one in job["subjects"]:
    asked = [json.loads(line) for line in Path(one["requests"]).read_bytes().splitlines()]
    with Path(one["responses"]).open("a") as stream:
        for row in asked[:LIMIT]:
            stream.write(json.dumps({"digest": row["digest"], "output": "1", "tokens": 1}) + "\\n")
(folder / "outcome.json").write_text('{"status": "ok"}')
""".replace("\\\\", "\\")


class Answering:
    """A launcher whose worker answers only the first few requests and says that all is well."""

    name = "local"

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def command(self, job: Job) -> tuple[str, ...]:
        return (sys.executable, "-c", _WORKER.replace("LIMIT", str(self._limit)), str(job.folder))

    def environment(self, job: Job) -> Mapping[str, str]:
        return {}


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path / "responses", tmp_path / "scratch", 1, lambda _: None)


def answer(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(asking, "load", lambda k, n: Answering(limit) if k == "launcher" else load(k, n))


def test_a_worker_that_leaves_prompts_unanswered_ends_the_run_before_a_verdict(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, 3)
    with pytest.raises(RunError, match="model@1: 2 of 5 responses are missing") as found:
        measure(Arms(SUBJECT), MEASURED, place)
    assert "run the same command again" in found.value.hint
    (suite,) = measure(Arms(SUBJECT), MEASURED, place).suites
    assert len(suite.candidate) == suite.expected == 5


def test_evidence_says_what_made_the_responses(
    tmp_path: Path, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, 5)
    report = measure(Arms(SUBJECT), MEASURED, place)
    assert report.generator == generator()
    write_evidence(report, tmp_path / "evidence")
    content = json.loads((tmp_path / "evidence" / "evaluation.json").read_bytes())
    assert (content["generator"], content["safetune"]) == (dict(generator()), __version__)
    assert read_evidence(tmp_path / "evidence") == report


def test_evidence_of_recorded_responses_names_no_generator(tmp_path: Path) -> None:
    report = EvaluationReport("recorded:1", "", ())
    write_evidence(report, tmp_path)
    assert read_evidence(tmp_path) == report
    assert report.generator == {}
    content = json.loads((tmp_path / "evaluation.json").read_bytes())
    for damaged in ("cpu", 5):
        (tmp_path / "evaluation.json").write_text(json.dumps({**content, "generator": damaged}))
        with pytest.raises(IntegrityError, match="cannot be read"):
            read_evidence(tmp_path)

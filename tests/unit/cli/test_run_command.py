"""`run`: the exit code of the result, one JSON object on stdout, progress on stderr."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from safetune.cli.main import main
from safetune.core.errors import ExitCode, RunError
from safetune.core.verdict import Verdict
from safetune.engine import planning
from safetune.engine import run as engine
from safetune.engine.run import RunResult, RunSettings, StageOutcome
from safetune.protocols import Progress

_CODES = [ExitCode.DONE, ExitCode.FAIL, ExitCode.INCONCLUSIVE, ExitCode.FAILED_RUN, ExitCode.ROLLED_BACK]


def _prepare(playbook: Path, store: Path, listener: object) -> object:
    return SimpleNamespace(playbook=playbook, store=store, plan=None)


class Engine:
    """An engine that says a little and ends with a given code."""

    def __init__(self, code: ExitCode) -> None:
        self.code = code
        self.settings: RunSettings | None = None

    def __call__(self, prepared: object, store: Path, settings: RunSettings) -> RunResult:
        self.settings = settings
        settings.listener(Progress("start", "s/sft", {"steps": 2}))
        settings.listener(Progress("settled", "s/sft", {"outcome": "x", "checkpoint": "a" * 64, "verdict": "PASS"}))
        if self.code is ExitCode.FAILED_RUN:
            raise RunError("the worker was killed")
        return RunResult("tiny", "stable", "", (StageOutcome("s", "sft", "x", "a" * 64, None),), self.code)


@pytest.mark.parametrize("code", _CODES)
@pytest.mark.parametrize("as_json", [False, True])
def test_the_result_decides_the_exit_code(
    code: ExitCode, as_json: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "prepare", _prepare)
    monkeypatch.setattr(engine, "run_playbook", Engine(code))
    assert main(["run", "playbook.yaml", *(["--json"] if as_json else [])]) == code
    told = capsys.readouterr()
    assert told.err.splitlines()[:2] == ["s/sft: starting, 2 steps", "s/sft: x aaaaaaaaaaaa, gate PASS"]
    if as_json:
        assert json.loads(told.out)["exit_code"] == code
        assert len(told.err.splitlines()) == 2
    else:
        assert (f"exit code {int(code)}: " in told.out) is (code is not ExitCode.FAILED_RUN)


def test_the_options_reach_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Engine(ExitCode.DONE)
    monkeypatch.setattr(planning, "prepare", _prepare)
    monkeypatch.setattr(engine, "run_playbook", fake)
    assert main(["run", "playbook.yaml", "--workers", "3", "--reason", "because", "--store", "s"]) == 0
    assert fake.settings is not None
    assert (fake.settings.workers, fake.settings.reason) == (3, "because")


_ENDS = [
    (StageOutcome("s", "sft", "cached", "a" * 64, None, "ledger line 9", Verdict.PASS), ExitCode.DONE, "PASS", ""),
    (StageOutcome("s", "sft", "blocked", "a" * 64, None, "", Verdict.FAIL), ExitCode.FAIL, "FAIL", "failure"),
    (StageOutcome("s", "sft", "blocked", "", None, "no budget"), ExitCode.INCONCLUSIVE, "INCONCLUSIVE", "skipped"),
    (StageOutcome("s", "sft", "blocked", "", None, "?"), ExitCode.STALE, "ERROR", "error"),
    (StageOutcome("s", "sft", "rolled back", "", None, "", Verdict.FAIL), ExitCode.ROLLED_BACK, "FAIL", "failure"),
    (StageOutcome("s", "sft", "held", "", None, ""), ExitCode.DONE, "ERROR", "error"),
]


@pytest.mark.parametrize(("stage", "code", "verdict", "kind"), _ENDS)
def test_a_stage_that_this_run_did_not_gate_is_in_the_files(
    stage: StageOutcome,
    code: ExitCode,
    verdict: str,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planning, "prepare", _prepare)
    monkeypatch.setattr(engine, "run_playbook", lambda *_: RunResult("tiny", "stable", "", (stage,), code))
    markdown, junit = tmp_path / "gate.md", tmp_path / "gate.xml"
    assert main(["run", "playbook.yaml", "--markdown", str(markdown), "--junit", str(junit)]) == code
    assert markdown.read_text().startswith(f"## safetune: {verdict}\n")
    (case,) = [c for c in ElementTree.parse(junit).iter("testcase") if c.get("classname") == "s/sft"]
    assert [mark.tag for mark in case if mark.tag != "system-out"] == ([kind] if kind else [])


def test_ctrl_c_before_the_engine_took_over_is_told_and_exits_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(playbook: Path, store: Path, listener: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(planning, "prepare", interrupted)
    assert main(["plan", "playbook.yaml"]) == 130
    assert capsys.readouterr().err.startswith("error: interrupted\n")

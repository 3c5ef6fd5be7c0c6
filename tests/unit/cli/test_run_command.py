"""`run`: the exit code of the result, one JSON object on stdout, progress on stderr."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from safetune.cli.main import main
from safetune.core.errors import ExitCode, RunError
from safetune.engine import planning
from safetune.engine import run as engine
from safetune.engine.run import RunResult, RunSettings, StageOutcome
from safetune.protocols import Progress

_CODES = [ExitCode.DONE, ExitCode.FAIL, ExitCode.INCONCLUSIVE, ExitCode.FAILED_RUN, ExitCode.ROLLED_BACK]


def _prepare(playbook: Path, store: Path) -> object:
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


def test_ctrl_c_before_the_engine_took_over_is_told_and_exits_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(playbook: Path, store: Path) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(planning, "prepare", interrupted)
    assert main(["plan", "playbook.yaml"]) == 130
    assert capsys.readouterr().err.startswith("error: interrupted\n")

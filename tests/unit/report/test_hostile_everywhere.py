"""Every output, fed with every hostile text in every field: no raw control byte comes out, on a terminal or in JSON."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from gate_samples import hostile_report

from safetune.core.alpha import BudgetStanding, Terms
from safetune.core.data_policy import Loosened
from safetune.core.diagnostics import Diagnostic
from safetune.core.digest import JSON
from safetune.core.errors import ExitCode, PlaybookError, RunError, SafetuneError, StalePlanError
from safetune.core.events import Event
from safetune.core.evidence import EvaluationReport, Item, SuiteEvidence
from safetune.core.objective import Objective
from safetune.core.override import Approval, Override
from safetune.core.plan import Fact, Facts, Plan, PlannedStage
from safetune.core.preview import GuardrailPower
from safetune.core.regating import Gate
from safetune.core.result import Flip, GateResult, LimitResult
from safetune.core.standing import ChannelStanding, CheckpointStanding, StageStanding
from safetune.core.suite import Metric
from safetune.core.verdict import Verdict
from safetune.engine.evaluate import EvaluateResult
from safetune.engine.export import ExportResult
from safetune.engine.override import ActResult
from safetune.engine.preview import Preview, StagePreview
from safetune.engine.rollback import RollbackResult
from safetune.engine.run import RunResult, StageOutcome
from safetune.engine.status import Status
from safetune.engine.verify import Finding, VerifyReport
from safetune.protocols import Progress
from safetune.report.ci import failed_report
from safetune.report.doctor import Check, doctor_lines
from safetune.report.errors import error_json, error_lines
from safetune.report.evaluation import evaluate_json, evaluate_lines
from safetune.report.gate import gate_json, gate_lines
from safetune.report.json_view import json_text, jsonable, record
from safetune.report.junit import junit_text
from safetune.report.markdown import markdown_text
from safetune.report.plan import PlanView, plan_document, plan_lines
from safetune.report.progress import LiveLines, PlainLog
from safetune.report.run import run_json, run_lines
from safetune.report.sarif import sarif_text
from safetune.report.store import (
    approve_lines,
    export_lines,
    log_lines,
    override_lines,
    rollback_lines,
    status_lines,
    verify_lines,
)
from safetune.report.text import PLAIN, Paint

Find = Callable[[str], list[str]]
_KINDS = ("started", "finished", "admitted", "trained", "failed", "evaluated", "gated", "promoted", "rejected", "held")
_ACTS = ("approved", "overridden", "rolled_back")
_COLOUR = re.compile(r"\x1b\[\d+m")
_CURSOR = re.compile(r"\x1b\[\d+F\x1b\[J")


def _gate(t: str) -> GateResult:
    results = tuple(LimitResult(t, t, t, t, verdict, t, t) for verdict in Verdict)
    return GateResult(Verdict.FAIL, results, (Flip(t, t, t, t, True, t, t), Flip(t, t, t, t, False, t, t)), t)


def _evaluation(t: str) -> EvaluateResult:
    items = tuple(Item(t, t, place, t, t, 0, t, t, t, 0.5, t) for place in (t, "other"))
    metrics = Metric(t, (t,), "higher"), Metric(t, (), "lower", "score")
    told: dict[str, JSON] = {
        "agreement": {"members": t, "kappa": t},
        "figures": {"candidate": {t: t}, "baseline": {t: t}},
    }
    suite = SuiteEvidence(t, t, t, t, metrics, 3, items, items, (t,), (t,), t, told)
    return EvaluateResult(t, t, EvaluationReport(t, t, (suite,)), _gate(t), t, ExitCode.FAIL, t)


def _facts(t: str) -> Facts:
    fact = Fact(t, t, 3, t, t)
    return Facts(fact, {t: fact}, {t: fact}, {t: fact}, 1)


def _preview(t: str) -> Preview:
    actions = ("run", "blocked", "cached")
    stages = tuple(PlannedStage(t, t, t, t, a, ("train", "gate", t), t, t, t, 3.0, t) for a in actions)
    power = (GuardrailPower(t, t, t, t, 3, 0.1, 4, t, t, t), GuardrailPower(t, t, t, t, 3, 0.1, 4, t, t, t, t, 2))
    return Preview(Plan(t, t, t, t, t, stages, {"bound": "as it was"}), (StagePreview(t, t, t, power),), 1, 2, (t,))


def _plan(t: str) -> PlanView:
    milder = (Loosened(t, "", "drop", "off", (t,)), Loosened(t, t, t, t))
    return PlanView(_facts(t), _preview(t), {f"stage {t}/{t}": t, "model": t}, t, t, {t: milder})


def _run(t: str) -> RunResult:
    stage = StageOutcome(t, t, t, t, _gate(t), t, None, t, None, t, (t,))
    return RunResult(t, t, t, (stage,), ExitCode.FAIL, (Objective(t, t, t, t),))


def _act(t: str) -> ActResult:
    return ActResult(t, t, t, t, 3, t, t)


def _status(t: str) -> Status:
    acts = (Approval(2, t, t),), Override(3, t, t)
    gate = Gate(1, Verdict.FAIL, t, t, t, Terms(), {t: 3}, [t], *acts)
    checkpoint = CheckpointStanding(t, t, t, t, t, (gate,), 3)
    channels = {t: ChannelStanding(t, 1, ((1, t), (2, "x")))}
    budgets = {t: BudgetStanding(0.1, (1,), 0.2)}
    return Status(channels, {t: checkpoint}, {t: StageStanding()}, 4, t, t, budgets, (t,))


def _events(t: str) -> tuple[Event, ...]:
    fields = (
        "run playbook plan stage_key sprint stage checkpoint step message subject evidence verdict reason channel "
        "previous rule target trigger exit_code attempt act role note gate"
    )
    data: dict[str, JSON] = {
        **dict.fromkeys(fields.split(), t),
        "suites": [t],
        "extended": {t: t},
        "changed": [{"change": t, "guardrail": t, "what": t}],
        "spent": 0.1,
        "budget": 0.2,
        "sources": [{"name": t, "sha256": t}, t],
    }
    return tuple(Event(n, t, t, t, kind, data) for n, kind in enumerate((*_KINDS, *_ACTS, t), start=1))


def _errors(t: str) -> tuple[SafetuneError, ...]:
    diagnostic = Diagnostic(t, 3, 2, t, t, t, t, min(2, len(t) + 1))
    return RunError(t, hint=t), StalePlanError(t, changes=(t,), hint=t), PlaybookError((diagnostic, diagnostic))


def terminal(t: str, paint: Paint = PLAIN) -> list[str]:
    """Every human output about `t`, as lines."""
    rollbacks = [RollbackResult(t, t, target, t, moved, False, 1, 2, (t,), (t,), 3) for target, moved in _MOVES]
    verified = VerifyReport(1, 2, 3, (Finding(t, t, t),), (Finding(t, t, t),))
    return [
        *plan_lines(_plan(t), paint),
        *plan_lines(replace(_plan(t), saved=t), paint),
        *run_lines(_run(t), paint),
        *evaluate_lines(_evaluation(t), paint),
        *(line for view in hostile_report(t).gates for line in gate_lines(view, paint)),
        *status_lines(_status(t), paint),
        *log_lines(_events(t), 99),
        *verify_lines(verified, paint),
        *(line for result in rollbacks for line in rollback_lines(result, paint)),
        *rollback_lines(RollbackResult(t, t, t, t, False, False, 1, 2, (t,), (t,), 3), paint),
        *approve_lines(_act(t)),
        *(line for moved in (True, False) for line in override_lines(replace(_act(t), moved=moved), paint)),
        *export_lines(ExportResult(t, t, Path(t.replace("\0", "")), 4)),
        *doctor_lines((Check(t, t, False, t), Check(t, t)), paint),
        *(line for error in _errors(t) for line in error_lines(error, paint)),
    ]


_MOVES = (("x", True), ("y", False))


def files(t: str) -> list[str]:
    """Every file for a build server about `t`, as lines."""
    reports = [hostile_report(t), *(failed_report(t, error) for error in _errors(t))]
    texts = [write(report) for report in reports for write in (markdown_text, junit_text)]
    texts += [sarif_text(error, t) for error in _errors(t)]
    return [line for text in texts for line in text.split("\n")]


def documents(t: str) -> list[Mapping[str, object]]:
    """Every JSON output about `t`."""
    return [
        plan_document(_plan(t)),
        run_json(_run(t)),
        evaluate_json(_evaluation(t)),
        *(gate_json(view) for view in hostile_report(t).gates),
        record(_status(t)),
        {"events": jsonable(_events(t))},
        record(VerifyReport(1, 2, 3, (Finding(t, t, t),))),
        record(RollbackResult(t, t, t, t, True, False, 1, 2, (t,), (t,), 3)),
        record(_act(t)),
        record(ExportResult(t, t, Path(t.replace("\0", "")), 4)),
        *(error_json(error) for error in _errors(t)),
    ]


def _progress(t: str) -> list[Progress]:
    fields = {"why": t, "text": t, "steps": [t], "checkpoint": t, "outcome": t, "verdict": t, "step": t, "loss": t}
    return [Progress(k, t, fields) for k in ("stage", "start", "step", "generated", "saved", "note", "settled", t)]


def test_no_line_on_a_terminal_carries_a_raw_control(hostile: tuple[str, ...], controls_in: Find) -> None:
    left = {t[:20]: (line, bad) for t in hostile for line in terminal(t) if (bad := controls_in(line))}
    assert left == {}


def test_the_only_controls_of_coloured_lines_are_our_own_colours(hostile: tuple[str, ...], controls_in: Find) -> None:
    for text in hostile:
        lines = terminal(text, Paint(colour=True))
        assert any(_COLOUR.search(line) for line in lines)
        assert [bad for line in lines if (bad := controls_in(_COLOUR.sub("", line)))] == []


def test_json_holds_no_raw_control_and_reads_back(hostile: tuple[str, ...]) -> None:
    for text in hostile:
        for document in documents(text):
            written = json_text(document)
            assert written.isascii()
            assert all(line.isprintable() for line in written.split("\n"))
            assert json.loads(written) == json.loads(json.dumps(jsonable(document)))


def test_progress_carries_no_raw_control(hostile: tuple[str, ...], controls_in: Find) -> None:
    for text in hostile:
        logged, live = io.StringIO(), io.StringIO()
        log, lines = PlainLog(logged, lambda: 0.0), LiveLines(live, lambda: 0.0)
        for progress in _progress(text):
            log(progress)
            lines(progress)
        log.close()
        lines.close()
        written = [*logged.getvalue().split("\n"), *_CURSOR.sub("", live.getvalue()).split("\n")]
        assert len(written) > 4
        assert [bad for line in written if (bad := controls_in(line))] == []


def test_no_line_of_a_file_for_a_build_server_carries_a_raw_control(
    hostile: tuple[str, ...], controls_in: Find
) -> None:
    left = {t[:20]: (line, bad) for t in hostile for line in files(t) if (bad := controls_in(line))}
    assert left == {}


def test_no_line_starts_a_command_of_a_build_server() -> None:
    for text in ("::error::x", "##[error]x", "##vso[task.complete]x"):
        for line in (*terminal(text), *files(text)):
            assert not line.lstrip().startswith("::")
            assert "##[" not in line
            assert "##vso[" not in line

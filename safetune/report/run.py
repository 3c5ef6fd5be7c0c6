"""How a run ended: the gate of every stage that was gated, one line per stage, and where the channel stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from safetune.core.errors import EXIT_CODE_MEANINGS, ExitCode
from safetune.core.objective import MET, NOT_MET
from safetune.report.gate import GateView, gate_json, gate_lines
from safetune.report.json_view import jsonable
from safetune.report.text import PLAIN, Paint, columns, digest_text, name
from safetune.report.untrusted import render_untrusted

if TYPE_CHECKING:
    from safetune.engine.run import RunResult, StageOutcome

_SENTENCE = 300
OVERRIDDEN_DONE = "done; a verdict that is not PASS was overridden"


def run_lines(result: RunResult, paint: Paint = PLAIN) -> list[str]:
    """Return gate tables, stage outcomes, the channel and the next command."""
    lines: list[str] = []
    for stage in result.stages:
        if view := stage_view(stage):
            lines += [*gate_lines(view, paint), ""]
    rows = [(_title(s), name(s.outcome), digest_text(s.checkpoint), _note(s)) for s in result.stages]
    lines += [f"RUN {paint.strong(name(result.playbook))}"]
    lines += [f"  {line}" for line in columns(rows)]
    lines += _objectives(result, paint)
    lines.append(f"  channel {name(result.channel)} stands at {digest_text(result.current)}")
    overridden = any(stage.override for stage in result.stages)
    lines.append(f"  exit code {int(result.exit_code)}: {exit_meaning(result.exit_code, overridden)}")
    return lines + [f"  next: {text}" for text in _next(result)]


def exit_meaning(code: ExitCode, overridden: bool = False) -> str:
    """Return what an exit code means; where verdicts were `overridden` it does not speak of PASS."""
    return OVERRIDDEN_DONE if overridden and code is ExitCode.DONE else EXIT_CODE_MEANINGS[code]


def _objectives(result: RunResult, paint: Paint) -> list[str]:
    """One line per sprint: whether its objective was met, and by what."""
    marks = {MET: "PASS", NOT_MET: "FAIL"}
    return [
        f"  sprint {name(o.sprint)}: objective {paint.verdict(marks.get(o.outcome, 'INCONCLUSIVE'), name(o.outcome))} "
        f"({render_untrusted(o.why, _SENTENCE)}): {render_untrusted(o.objective, _SENTENCE)}"
        for o in result.objectives
    ]


def _title(stage: StageOutcome) -> str:
    return f"{name(stage.sprint)}/{name(stage.stage)}"


def _note(stage: StageOutcome) -> str:
    verdict = f"gate {stage.gate.verdict.value}" if stage.gate else ""
    return "; ".join(part for part in (verdict, render_untrusted(stage.note, _SENTENCE)) if part)


def stage_view(stage: StageOutcome) -> GateView | None:
    """Return the gate of a stage, to be shown; None where this run did not gate it."""
    if stage.gate is None:
        return None
    title = f"{stage.sprint}/{stage.stage}"
    return GateView(title, stage.gate, stage.evidence, stage.budget, stage.override, stage.changed)


def _next(result: RunResult) -> list[str]:
    if result.exit_code is ExitCode.DONE:
        return ["safetune status"] if result.current else []
    return ["safetune log shows what was recorded"]


def run_json(result: RunResult) -> Mapping[str, object]:
    """Return a run as JSON."""
    return {
        "playbook": result.playbook,
        "channel": result.channel,
        "current": result.current,
        "stages": [
            {
                "sprint": stage.sprint,
                "stage": stage.stage,
                "outcome": stage.outcome,
                "checkpoint": stage.checkpoint,
                "note": stage.note,
                "verdict": stage.verdict.value if stage.verdict else None,
                "override": stage.override,
                "gate": gate_json(view) if (view := stage_view(stage)) else None,
            }
            for stage in result.stages
        ],
        "objectives": jsonable(result.objectives),
    }

"""What a build server gets to read of a command: its gates, the stages that settled without one, or the error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetune.core.errors import ExitCode, RunError, SafetuneError
from safetune.core.verdict import Verdict, worst
from safetune.report.gate import GateView

if TYPE_CHECKING:
    from safetune.engine.evaluate import EvaluateResult
    from safetune.engine.run import RunResult


@dataclass(frozen=True, slots=True)
class StageNote:
    """A stage that a run did not gate: how it ended, by which verdict of the ledger, and why.

    `override` says that this verdict, which is not PASS, was overridden for the channel of the playbook, so that the
    stage counts as done (`core.override.Override.text`).
    """

    title: str
    outcome: str
    verdict: Verdict | None
    note: str = ""
    override: str = ""


@dataclass(frozen=True, slots=True)
class CiReport:
    """How a command ended. With an `error` there is nothing else; `title` is the playbook or the target."""

    title: str
    exit_code: ExitCode
    gates: tuple[GateView, ...] = ()
    stages: tuple[StageNote, ...] = ()
    notes: tuple[str, ...] = ()
    error: SafetuneError | None = None

    @property
    def found(self) -> Verdict:
        """What the verdicts of all gates and stages add up to; none at all is ERROR.

        A verdict that was overridden stands beside the others, and speaks for all only where there is no other.
        """
        gates = [g.result.verdict for g in self.gates]
        others = [s.verdict for s in self.stages if s.verdict and not s.override]
        return worst(tuple(gates + others or [s.verdict for s in self.stages if s.verdict]))

    @property
    def overridden(self) -> tuple[StageNote, ...]:
        """The stages that count as done although their gate did not pass."""
        return tuple(s for s in self.stages if s.verdict and s.override)

    @property
    def headline(self) -> str:
        """What the whole document is headed by; an overridden verdict stands there unless another one is no PASS."""
        sound = self.exit_code is ExitCode.DONE and (self._only_overridden or self.found is Verdict.PASS)
        if not (sound and self.overridden):
            return self.verdict.value
        first, *more = self.overridden
        rest = f", and {len(more)} more" if more else ""
        return f"{first.verdict}, {first.override}{rest}"

    @property
    def _only_overridden(self) -> bool:
        """Whether every verdict that there is was overridden."""
        return bool(self.overridden) and not self.gates and all(s.override for s in self.stages if s.verdict)

    @property
    def verdict(self) -> Verdict:
        """The one word for everything: PASS only when the command ends with 0 and every verdict is PASS."""
        if self.error is not None:
            return Verdict.INCONCLUSIVE if self.exit_code is ExitCode.INCONCLUSIVE else Verdict.ERROR
        done = self.found is Verdict.PASS or self._only_overridden
        agree = done == (self.exit_code is ExitCode.DONE)
        return self.found if agree or self.found is Verdict.FAIL else Verdict.ERROR


def run_report(result: RunResult) -> CiReport:
    """Return what a build server gets of a run."""
    from safetune.report.run import stage_view

    views = tuple(view for stage in result.stages if (view := stage_view(stage)))
    settled = tuple(
        StageNote(
            f"{s.sprint}/{s.stage}", s.outcome, _known(s.outcome, s.verdict, result.exit_code), s.note, s.override
        )
        for s in result.stages
        if s.gate is None
    )
    return CiReport(result.playbook, result.exit_code, views, settled)


def _known(outcome: str, verdict: Verdict | None, code: ExitCode) -> Verdict | None:
    """Return the verdict by which a stage settled; what blocks the run gave it its exit code."""
    if outcome != "blocked":
        return verdict
    return next((v for v in Verdict if v is not Verdict.PASS and v.exit_code is code), Verdict.ERROR)


def evaluation_report(result: EvaluateResult) -> CiReport:
    """Return what a build server gets of a gated evaluation."""
    from safetune.report.evaluation import gate_view

    view = gate_view(result)
    notes = (result.note,) if result.note else ()
    return CiReport(result.target, result.exit_code, (view,) if view else (), (), notes)


def failed_report(title: str, error: SafetuneError) -> CiReport:
    """Return what a build server gets of a command that ended with an error."""
    return CiReport(title, error.exit_code, error=error)


def unfinished_report(title: str) -> CiReport:
    """Return what stands in the files while the command works, and stays there should it be killed."""
    error = RunError("safetune has not ended here, so there is no verdict", hint="run the same command again")
    return failed_report(title, error)

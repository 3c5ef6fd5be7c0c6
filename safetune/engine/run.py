"""Carry out a plan, stage by stage: train, evaluate, gate, settle. Every step ends in one ledger line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from safetune.core.digest import JSON, short
from safetune.core.errors import ExitCode, IntegrityError, SafetuneError, UsageError
from safetune.core.events import admitted, evaluated, failed, finished, gated, started, trained
from safetune.core.gate import GateResult, decide
from safetune.core.plan import PlannedStage, evidence_basis, suites_of
from safetune.core.playbook import Sprint, Stage
from safetune.core.verdict import Verdict
from safetune.engine import checkpoints
from safetune.engine.gating import gate_rows, measure_and_store
from safetune.engine.jobs import run_jobs
from safetune.engine.measure import Subject, Workplace, generation_jobs, read_suites
from safetune.engine.models import make_ready
from safetune.engine.planning import Prepared
from safetune.engine.settle import Ruling, Settled, settle
from safetune.engine.train import adopt, forget_state, training_job
from safetune.protocols import Listener, Progress
from safetune.state.lock import FileLock
from safetune.state.store import Store


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """How one stage ended: `outcome` is cached, promoted, rejected, held, rolled back or blocked."""

    sprint: str
    stage: str
    outcome: str
    checkpoint: str
    gate: GateResult | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run did, where the channel stands, and the exit code that says so."""

    playbook: str
    channel: str
    current: str
    stages: tuple[StageOutcome, ...]
    exit_code: ExitCode


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How to run: evaluation workers at once, the reason for gating something again, and who listens."""

    workers: int
    reason: str
    listener: Listener


class Runner:
    """One run of one prepared playbook in one store."""

    def __init__(self, prepared: Prepared, store: Store, settings: RunSettings) -> None:
        self._prepared = prepared
        self._playbook = prepared.playbook
        self._store = store
        self._settings = settings
        self._outcomes: list[StageOutcome] = []
        self._base: Subject | None = None

    def run(self) -> RunResult:
        """Carry out the plan until its end or the first stage that does not pass.

        Raises:
            SafetuneError: when a step cannot be done; what was recorded before stays.
        """
        planned = {(p.sprint, p.stage): p for p in self._prepared.plan.stages}
        if not self._prepared.plan.has_changes:
            self._outcomes = [self._cached(p) for p in planned.values()]
            return self._result(ExitCode.DONE)
        run = f"r{self._store.standing().last_seq + 1}"
        self._store.commit(started(run, self._playbook.name, self._playbook.digest, self._prepared.plan.digest))
        code = ExitCode.BUG
        try:
            code = self._run_stages(planned)
        except SafetuneError as error:
            code = error.exit_code
            raise
        finally:
            self._store.commit(finished(run, int(code)))
        return self._result(code)

    def _run_stages(self, planned: Mapping[tuple[str, str], PlannedStage]) -> ExitCode:
        previous = ""
        for sprint in self._playbook.sprints:
            for stage in sprint.stages:
                plan = planned[sprint.name, stage.name]
                if plan.action == "blocked":
                    self._outcomes.append(
                        StageOutcome(sprint.name, stage.name, "blocked", plan.checkpoint, None, plan.why)
                    )
                    return plan.exit_code
                if plan.action == "cached":
                    self._outcomes.append(self._cached(plan))
                    previous = plan.checkpoint
                    continue
                outcome = self._run_stage(sprint, stage, plan, previous)
                self._outcomes.append(outcome)
                if outcome.outcome != "promoted":
                    return _exit_code(outcome)
                previous = outcome.checkpoint
        return ExitCode.DONE

    def _run_stage(self, sprint: Sprint, stage: Stage, plan: PlannedStage, previous: str) -> StageOutcome:
        """Do what is left of one stage, under a lock of its own: nobody else may train it at the same time."""
        folder = self._store.runs / plan.key[:32]
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock", timeout=0.5, what=f"stage {stage.name}"):
            self._say("stage", plan, steps=list(plan.steps), why=plan.why)
            if "train" in plan.steps:
                plan = replace(plan, checkpoint=self._train(sprint, stage, plan, previous))
            gate: GateResult | None = None
            if "evaluate" in plan.steps:
                gate, line = self._gate(stage, plan, previous)
            else:
                line = self._passed_gate(plan)
            verdict = gate.verdict if gate else Verdict.PASS
            settled = self._settle(sprint, plan, verdict, line)
        self._say("settled", plan, outcome=settled.outcome, verdict=verdict.value, checkpoint=plan.checkpoint)
        return StageOutcome(sprint.name, stage.name, settled.outcome, plan.checkpoint, gate, settled.note)

    # -- training ----------------------------------------------------------------------------------------------------

    def _train(self, sprint: Sprint, stage: Stage, plan: PlannedStage, previous: str) -> str:
        """Train, adopt and record; the baseline's responses are made beside it where a worker is free."""
        folder = self._store.runs / plan.key[:32]
        start = self._subject(previous)
        job = training_job(self._playbook, stage, plan, start, folder)
        sources: list[JSON] = [dict(self._playbook.source(name).identity) for name, _ in stage.sources]
        self._store.commit(admitted(plan.key, sources))
        beside = ()
        if self._settings.workers > 1:
            measured = read_suites(suites_of(self._playbook, stage))
            beside = generation_jobs(start, measured, replace(self._place(plan), workers=1))
        try:
            outcome = run_jobs((job, *beside), self._settings.listener)[0]
            lineage = (self._prepared.model.identity, previous)
            made = adopt(self._store.objects, outcome, lineage, folder)
        except SafetuneError as error:
            if error.exit_code is not ExitCode.INTERRUPTED:
                self._store.commit(failed(plan.key, "train", error.message))
            raise
        figures = {**made.figures, "shape": plan.shape}
        self._store.commit(trained(plan.key, sprint.name, stage.name, made.checkpoint, previous, figures))
        forget_state(folder)
        return made.checkpoint

    def _subject(self, checkpoint: str) -> Subject:
        """Return a checkpoint, or the base model for an empty digest, verified and ready to be used."""
        base = self._base_subject()
        if not checkpoint:
            return base
        return checkpoints.subject(self._store.objects, checkpoint, Path(str(base.weights["base"])))

    def _base_subject(self) -> Subject:
        if self._base is None:
            model = self._prepared.model
            folder = make_ready(model, self._store.scratch / "model", self._settings.listener)
            self._base = checkpoints.base_subject(model.label, model.identity, folder)
        return self._base

    # -- gate --------------------------------------------------------------------------------------------------------

    def _place(self, plan: PlannedStage) -> Workplace:
        scratch = self._store.runs / plan.key[:32] / "evaluate"
        return Workplace(self._store.responses, scratch, self._settings.workers, self._settings.listener)

    def _gate(self, stage: Stage, plan: PlannedStage, previous: str) -> tuple[GateResult, int]:
        """Measure candidate and baseline on the same prompts, decide on the stored bytes, and record it once."""
        again = "gate again" in plan.steps
        if again and not self._settings.reason:
            raise UsageError(
                f"stage {stage.name} has a recorded verdict; gating it again is a named act",
                hint='give the reason: safetune run PLAYBOOK --reason "..."',
            )
        candidate, baseline = self._subject(plan.checkpoint), self._subject(previous)
        suites = suites_of(self._playbook, stage)
        measured = read_suites(suites)
        evidence, report = measure_and_store(self._store, (candidate, baseline), measured, self._place(plan))
        self._store.commit(
            evaluated(candidate.identity, baseline.identity, evidence, [s.name for s in suites], plan.key)
        )
        guardrails = self._playbook.gate_of(stage)
        result = decide(guardrails, report)
        basis = evidence_basis(guardrails, suites, self._prepared.facts)
        attempt = self._store.standing().attempts(plan.checkpoint) + 1
        line = self._store.commit(
            gated(
                plan.key,
                plan.checkpoint,
                baseline.identity,
                result.guardrails,
                evidence,
                result.verdict.value,
                attempt,
                self._settings.reason if attempt > 1 else "",
                gate_rows(result),
                basis,
            )
        )
        return result, line

    def _passed_gate(self, plan: PlannedStage) -> int:
        found = self._store.standing().stages[plan.key]
        if found.verdict is not Verdict.PASS:
            raise IntegrityError(f"stage {plan.stage} has no passing gate in the ledger", hint="safetune verify")
        return found.gate

    def _settle(self, sprint: Sprint, plan: PlannedStage, verdict: Verdict, line: int) -> Settled:
        keys = frozenset(p.key for p in self._prepared.plan.stages if p.sprint == sprint.name)
        settled = settle(
            self._playbook, self._store.standing(), Ruling(plan.checkpoint, plan.key, verdict, line, keys)
        )
        if verdict is Verdict.PASS:
            checkpoints.verify(self._store.objects, plan.checkpoint)
        if settled.moved_to:
            checkpoints.verify(self._store.objects, settled.moved_to)
        self._store.commit(*settled.drafts)
        return settled

    # -- what is said ------------------------------------------------------------------------------------------------

    def _cached(self, plan: PlannedStage) -> StageOutcome:
        self._say("stage", plan, steps=[], why=plan.why)
        return StageOutcome(plan.sprint, plan.stage, "cached", plan.checkpoint, None, plan.why)

    def _say(self, kind: str, plan: PlannedStage, **fields: JSON) -> None:
        self._settings.listener(Progress(kind, f"{plan.sprint}/{plan.stage}", fields))

    def _result(self, code: ExitCode) -> RunResult:
        channel = self._store.standing().channels.get(self._playbook.channel)
        current = channel.current if channel else ""
        return RunResult(self._playbook.name, self._playbook.channel, current, tuple(self._outcomes), code)


def _exit_code(outcome: StageOutcome) -> ExitCode:
    if outcome.outcome == "rolled back":
        return ExitCode.ROLLED_BACK
    return outcome.gate.verdict.exit_code if outcome.gate else ExitCode.FAILED_RUN


def describe(outcome: StageOutcome) -> str:
    """Return one line about a stage: what happened to which checkpoint."""
    return f"{outcome.sprint}/{outcome.stage}: {outcome.outcome} {short(outcome.checkpoint)}"

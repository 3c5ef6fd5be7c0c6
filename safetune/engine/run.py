"""Carry out a plan, stage by stage: train, evaluate, gate, settle. Every step ends in one ledger line."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from safetune.core.digest import JSON, short
from safetune.core.errors import ExitCode, IntegrityError, RunError, SafetuneError, StalePlanError, UsageError
from safetune.core.events import failed, finished, started, trained
from safetune.core.gate import decide
from safetune.core.objective import History, Objective, objectives
from safetune.core.plan import PlannedStage, evidence_basis, suites_of
from safetune.core.playbook import Sprint, Stage
from safetune.core.regating import largest_sizes
from safetune.core.result import GateResult
from safetune.core.standing import Standing
from safetune.core.verdict import Verdict
from safetune.engine import checkpoints
from safetune.engine.again import refuse_loosened
from safetune.engine.asking import Workplace, asking_jobs, default_workers
from safetune.engine.data.desk import refuse_withdrawn
from safetune.engine.data.screening import screen_rows
from safetune.engine.data.stage_rows import stage_rows
from safetune.engine.evidence_files import read_evidence
from safetune.engine.extending import extend
from safetune.engine.gating import Gated, GateOrder, gate_checkpoint, purse_of
from safetune.engine.jobs import run_jobs, terminate_as_interrupt
from safetune.engine.looks import first_parts
from safetune.engine.measure import Arms, needs_base, orders, read_suites
from safetune.engine.planning import Prepared
from safetune.engine.settle import Ruling, Settled, settle
from safetune.engine.subjects import Subjects
from safetune.engine.train import adopt, forget_state, training_job
from safetune.protocols import Job, Launcher, Listener, Progress
from safetune.state.ledger import user
from safetune.state.lock import FileLock
from safetune.state.store import Store


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """How one stage ended: `outcome` is cached, promoted, confirmed, rejected, held, rolled back or blocked.

    `gate`, the digest of its `evidence`, and what is spent of the alpha `budget` and allowed, are there when this run
    gated the stage; `verdict` also when it settled by a verdict of the ledger. `override` says that this verdict, which
    is not PASS, was overridden on the channel of the playbook; `changed` how the guardrails of the gate differ from
    those of the gate before.
    """

    sprint: str
    stage: str
    outcome: str
    checkpoint: str
    gate: GateResult | None
    note: str = ""
    verdict: Verdict | None = None
    evidence: str = ""
    budget: tuple[float, float] | None = None
    override: str = ""
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run did, where the channel stands, and the exit code that says so."""

    playbook: str
    channel: str
    current: str
    stages: tuple[StageOutcome, ...]
    exit_code: ExitCode
    objectives: tuple[Objective, ...] = ()


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How to run: evaluation workers at once (None: as many as fit), why to gate something again, who listens.

    `order` is the digest of the saved plan that is carried out, or empty.
    """

    workers: int | None
    reason: str
    listener: Listener
    order: str = ""


def run_playbook(prepared: Prepared, store_root: Path, settings: RunSettings) -> RunResult:
    """Carry out a prepared plan in the store at `store_root`, which is made when there is none.

    Raises:
        UsageError: when something is missing for any stage, or a reason is; nothing is written then.
        SafetuneError: when a step cannot be done; what was recorded before stays.
    """
    _refuse_early(prepared, settings.reason, user())
    return _Runner(prepared, Store.create(store_root), settings).run()


def _refuse_early(prepared: Prepared, reason: str, by: str) -> None:
    """Refuse before anything starts what would end in a refusal after hours of training."""
    gates = {(p.name, s.name): prepared.playbook.gate_of(s) for p in prepared.playbook.sprints for s in p.stages}
    for planned in prepared.plan.stages:
        place = f"{planned.sprint}/{planned.stage}"
        if planned.exit_code is ExitCode.USAGE:
            raise UsageError(
                f"stage {place} cannot be run: {planned.why}", hint=f"safetune plan {prepared.playbook.path}"
            )
        if "gate again" in planned.steps and not reason.strip():
            raise UsageError(f"stage {place} has a recorded verdict, and {planned.why}", hint='say why: --reason "..."')
        if "gate again" in planned.steps:
            guardrails = gates[planned.sprint, planned.stage]
            refuse_loosened(prepared.standing, planned.checkpoint, guardrails, by)


class _Runner:
    """One run of one prepared playbook in one store."""

    def __init__(self, prepared: Prepared, store: Store, settings: RunSettings) -> None:
        self._prepared = prepared
        self._playbook = prepared.playbook
        self._store = store
        self._settings = settings
        self._workers = settings.workers or default_workers()
        self._subjects = Subjects(prepared.model, store, settings.listener)
        self._outcomes: list[StageOutcome] = []

    def run(self) -> RunResult:
        """Carry out the plan until its end or the first stage that does not pass."""
        planned = {(p.sprint, p.stage): p for p in self._prepared.plan.stages}
        if all(p.action != "run" for p in planned.values()):
            return self._result(self._run_stages(planned))
        run = f"r{self._store.standing().last_seq + 1}"
        order = self._settings.order or self._prepared.plan.digest
        self._store.commit(started(run, self._playbook.name, self._playbook.digest, order))
        try:
            with terminate_as_interrupt():
                code = self._run_stages(planned)
        except BaseException as error:
            with suppress(SafetuneError):  # what went wrong first is what must be told
                self._store.commit(finished(run, int(_code_of(error))))
            raise
        self._store.commit(finished(run, int(code)))
        return self._result(code)

    def _run_stages(self, planned: Mapping[tuple[str, str], PlannedStage]) -> ExitCode:
        previous = ""
        for sprint in self._playbook.sprints:
            for stage in sprint.stages:
                plan = planned[sprint.name, stage.name]
                outcome = self._stage(sprint, stage, plan, previous)
                self._outcomes.append(outcome)
                if outcome.outcome not in ("cached", "confirmed", "promoted"):
                    return plan.exit_code if outcome.outcome == "blocked" else _exit_code(outcome)
                previous = outcome.checkpoint
        return ExitCode.DONE

    def _stage(self, sprint: Sprint, stage: Stage, plan: PlannedStage, previous: str) -> StageOutcome:
        if plan.action in ("blocked", "cached"):
            if plan.action == "cached":
                checkpoints.verify(self._store.objects, plan.checkpoint)
            self._say("stage", plan, steps=[], why=plan.why, action=plan.action)
            known = self._prepared.standing.stages.get(plan.key)
            verdict = known.verdict if known else None
            found = StageOutcome(sprint.name, stage.name, plan.action, plan.checkpoint, None, plan.why, verdict)
            made = self._prepared.standing.checkpoints.get(plan.checkpoint)
            overridden = plan.action == "cached" and verdict is not Verdict.PASS and made and made.override
            return replace(found, override=overridden.text) if overridden else found
        return self._run_stage(sprint, stage, plan, previous)

    def _run_stage(self, sprint: Sprint, stage: Stage, plan: PlannedStage, previous: str) -> StageOutcome:
        """Do what is left of one stage, under a lock of its own: nobody else may train it at the same time."""
        folder = self._folder(plan)
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock", timeout=0.5, what=f"stage {sprint.name}/{stage.name}"):
            self._check_unchanged(plan)
            self._say("stage", plan, steps=list(plan.steps), why=plan.why, action=plan.action)
            if "train" in plan.steps:
                plan = replace(plan, checkpoint=self._train(sprint, stage, plan, previous))
            gated: Gated | None = None
            if plan.steps in (("promote",), ("settle",)):
                verdict, line = self._recorded_gate(plan)
            else:
                gated = self._gate(stage, plan, previous)
                verdict, line = gated.result.verdict, gated.line
            settled = self._settle((sprint, stage), plan, verdict, line)
        self._say("settled", plan, outcome=settled.outcome, verdict=verdict.value, checkpoint=plan.checkpoint)
        return StageOutcome(
            sprint=sprint.name,
            stage=stage.name,
            outcome=settled.outcome,
            checkpoint=plan.checkpoint,
            gate=gated.result if gated else None,
            note="; ".join(note for note in (settled.note, gated.note if gated else "") if note),
            verdict=verdict,
            evidence=gated.evidence if gated else "",
            budget=gated.budget if gated else None,
            changed=gated.changed if gated else (),
        )

    def _check_unchanged(self, plan: PlannedStage) -> None:
        """Refuse when another run settled or trained this stage since the plan was made."""
        now = Store.open(self._store.root).standing().stages.get(plan.key)
        if now != self._prepared.standing.stages.get(plan.key):
            raise StalePlanError(
                f"stage {plan.sprint}/{plan.stage} was changed by another run meanwhile; nothing more was done",
                hint="run the same command again: what is settled is reused",
            )

    def _folder(self, plan: PlannedStage) -> Path:
        return self._store.runs / plan.key[:32]

    # -- training ----------------------------------------------------------------------------------------------------

    def _train(self, sprint: Sprint, stage: Stage, plan: PlannedStage, previous: str) -> str:
        """Train, adopt and record; the baseline's responses are made beside it where a worker is free."""
        folder = self._folder(plan)
        start = self._subjects.checkpoint(previous)
        rows = stage_rows(self._prepared, stage, self._store, folder, self._settings.listener)
        self._store.commit(rows.draft(plan.key))
        refuse_withdrawn(self._prepared.scope, self._store)
        rows = screen_rows(rows, stage, start, (self._store, folder, plan.key), self._settings.listener)
        job = training_job(rows, stage, plan, start, folder)
        beside: tuple[tuple[Job, str, Launcher], ...] = ()
        if self._workers > 1:
            measured = read_suites(suites_of(self._playbook, stage), gate=True)
            parts = first_parts((start,), measured, self._playbook.gate_of(stage))
            beside = asking_jobs(orders((start,), parts), replace(self._place(plan), workers=1))
        try:
            outcome = run_jobs((job,), self._settings.listener, beside)[0]
            made = adopt(self._store.objects, outcome, (self._prepared.model.identity, previous), folder)
        except SafetuneError as error:
            if error.exit_code is not ExitCode.INTERRUPTED:
                with suppress(SafetuneError):
                    self._store.commit(failed(plan.key, "train", error.message))
            raise
        figures = {**made.figures, "shape": plan.shape}
        place = (plan.key, sprint.name, stage.name)
        self._store.commit(trained(place, made.checkpoint, previous, figures, made.lineage))
        forget_state(folder)
        return made.checkpoint

    # -- gate --------------------------------------------------------------------------------------------------------

    def _place(self, plan: PlannedStage) -> Workplace:
        scratch = self._folder(plan) / "evaluate"
        return Workplace(self._store.responses, scratch, self._workers, self._settings.listener)

    def _gate(self, stage: Stage, plan: PlannedStage, previous: str) -> Gated:
        """Measure candidate and baseline on the same prompts and record the verdict, once."""
        suites = suites_of(self._playbook, stage)
        guardrails = self._playbook.gate_of(stage)
        known = self._store.standing().checkpoints[plan.checkpoint]
        measured, sizes = extend(read_suites(suites, gate=True), {}, largest_sizes(known.gates))
        candidate, baseline = self._subjects.checkpoint(plan.checkpoint), self._subjects.checkpoint(previous)
        arms = Arms(candidate, baseline, self._subjects.base() if needs_base(measured) else None)
        order = GateOrder(
            stage_key=plan.key,
            guardrails=guardrails,
            measured=measured,
            basis=self._basis(stage),
            purse=purse_of(self._playbook),
            reason=self._settings.reason,
            extended=sizes,
        )
        return gate_checkpoint(self._store, arms, order, self._place(plan))

    def _basis(self, stage: Stage) -> str:
        suites = suites_of(self._playbook, stage)
        return evidence_basis(self._playbook.gate_of(stage), suites, self._prepared.facts)

    def _recorded_gate(self, plan: PlannedStage) -> tuple[Verdict, int]:
        """Return the verdict of the ledger that is still to be followed, and its line."""
        found = self._store.standing().stages[plan.key]
        passed = found.verdict is Verdict.PASS
        if found.verdict is None or passed != ("promote" in plan.steps):
            raise IntegrityError(f"stage {plan.stage} has no such gate in the ledger", hint="safetune verify")
        return found.verdict, found.gate

    def _settle(self, where: tuple[Sprint, Stage], plan: PlannedStage, verdict: Verdict, line: int) -> Settled:
        sprint, stage = where
        keys = frozenset(p.key for p in self._prepared.plan.stages if p.sprint == sprint.name)
        standing = Store.open(self._store.root).standing()  # somebody may have rolled back while this stage trained
        ruling = Ruling(plan.checkpoint, plan.key, verdict, line, keys, self._basis(stage))
        settled = settle(self._playbook, standing, ruling)
        if verdict is Verdict.PASS:
            self._check_ancestors(plan, standing)
            checkpoints.verify(self._store.objects, plan.checkpoint)
            self._decide_again(stage, plan, line)
        if settled.moved_to:
            checkpoints.verify(self._store.objects, settled.moved_to)
        self._store.commit(*settled.drafts)
        return settled

    def _check_ancestors(self, plan: PlannedStage, standing: Standing) -> None:
        if ancestor := standing.quarantined_ancestor(plan.checkpoint):
            raise StalePlanError(
                f"{short(plan.checkpoint)} passed, but {short(ancestor)}, which it was trained from, was rolled back "
                "meanwhile; it is not promoted",
                hint=f'safetune evaluate PLAYBOOK {short(ancestor)} --gate --reason "..." frees it, or train anew',
            )

    def _decide_again(self, stage: Stage, plan: PlannedStage, line: int) -> None:
        """Reach the verdict once more from the evidence as it is stored now; a promotion rests on nothing else."""
        gate = next(g for g in self._store.standing().checkpoints[plan.checkpoint].gates if g.seq == line)
        self._store.objects.verify(gate.evidence)
        report = read_evidence(self._store.objects.path(gate.evidence))
        again = decide(self._playbook.gate_of(stage), report, gate.terms)
        if report.subject != plan.checkpoint or again.verdict is not Verdict.PASS:
            raise IntegrityError(
                f"the stored evidence of {short(plan.checkpoint)} does not say PASS; it is not promoted",
                hint="safetune verify",
            )

    # -- what is said ------------------------------------------------------------------------------------------------

    def _say(self, kind: str, plan: PlannedStage, **fields: JSON) -> None:
        self._settings.listener(Progress(kind, f"{plan.sprint}/{plan.stage}", fields))

    def _result(self, code: ExitCode) -> RunResult:
        history = History(self._store.events(), self._store.standing())
        channel = history.standing.channels.get(self._playbook.channel)
        return RunResult(
            playbook=self._playbook.name,
            channel=self._playbook.channel,
            current=channel.current if channel else "",
            stages=tuple(self._outcomes),
            exit_code=code,
            objectives=objectives(self._playbook, self._prepared.plan.stages, self._prepared.facts, history),
        )


def _code_of(error: BaseException) -> ExitCode:
    if isinstance(error, SafetuneError):
        return error.exit_code
    return ExitCode.INTERRUPTED if isinstance(error, KeyboardInterrupt) else ExitCode.BUG


def _exit_code(outcome: StageOutcome) -> ExitCode:
    """Return the exit code of a stage that was gated and did not pass."""
    if outcome.verdict is None:
        raise RunError(f"stage {outcome.sprint}/{outcome.stage} ended without a verdict", hint="safetune log")
    return ExitCode.ROLLED_BACK if outcome.outcome == "rolled back" else outcome.verdict.exit_code

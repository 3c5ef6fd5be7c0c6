"""Evaluate one model, or recorded responses, on the suites of a playbook; with the gate when it is asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from safetune.core.errors import ExitCode, IntegrityError, UsageError
from safetune.core.events import evaluated, for_gate
from safetune.core.evidence import EvaluationReport
from safetune.core.gate import decide
from safetune.core.plan import evidence_basis, suites_of
from safetune.core.playbook import Guardrail, Playbook, Stage
from safetune.core.regating import largest_sizes
from safetune.core.result import GateResult
from safetune.core.serving import served
from safetune.core.standing import CheckpointStanding
from safetune.core.suite import Suite
from safetune.engine.asking import Subject, Workplace, default_workers
from safetune.engine.evidence_files import read_evidence
from safetune.engine.extending import check_extendable, extend, sizes_of
from safetune.engine.gating import GateOrder, Purse, gate_checkpoint, measure_and_store, purse_of, store_report
from safetune.engine.jobs import scratch_folder
from safetune.engine.looks import Stopping
from safetune.engine.measure import Answers, Arms, Measured, judge_suites, needs_base, read_suites
from safetune.engine.planning import Prepared, prepare
from safetune.engine.recorded import Asked, read_recorded
from safetune.engine.subjects import Subjects
from safetune.protocols import Listener
from safetune.state.store import Store


@dataclass(frozen=True, slots=True)
class Again:
    """Why a checkpoint is gated again, and by how much more; `extend` has words such as `harmless=400`."""

    reason: str = ""
    extend: tuple[str, ...] = ()


FIRST = Again()


@dataclass(frozen=True, slots=True)
class AskedHow:
    """How models are asked: the variable with an endpoint's key, and the template to use instead of the serving one.

    `template` is the name of a template, `none` for the model's own, or empty for the one that the playbook serves.
    """

    key_variable: str = ""
    template: str = ""


AS_SERVED, OWN_TEMPLATE = AskedHow(), "none"


@dataclass(frozen=True, slots=True)
class EvaluateRequest:
    """What to evaluate: `target` and `baseline` name models as `Subjects.named` reads them; empty means the default.

    The default target is the playbook's channel; the default baseline is what the target was trained from. `stage`
    (`sprint/stage`) chooses whose guardrails the gate uses; empty means the stage that made the target, else all.
    """

    playbook: Path
    store: Path
    target: str = ""
    baseline: str = ""
    suites: tuple[str, ...] = ()
    gate: bool = False
    stage: str = ""
    recorded: Path | None = None
    baseline_recorded: Path | None = None
    again: Again = FIRST
    workers: int | None = None
    asked: AskedHow = AS_SERVED


@dataclass(frozen=True, slots=True)
class EvaluateResult:
    """What was measured, the gate's result when there was one, the evidence object, and the exit code.

    `budget` is what the gates of the playbook have spent by now, and what they may spend, where the gate is on record;
    `override` says that its verdict was overridden; `changed` how its guardrails differ from those of the gate before.
    """

    target: str
    baseline: str
    report: EvaluationReport
    gate: GateResult | None
    evidence: str
    exit_code: ExitCode
    note: str = ""
    budget: tuple[float, float] | None = None
    override: str = ""
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Scope:
    """The part of a playbook that one evaluation uses: guardrails, suites with prompts, and the stage it is for."""

    guardrails: tuple[Guardrail, ...]
    measured: tuple[Measured, ...]
    stage_key: str
    basis: str
    purse: Purse


def evaluate(wanted: EvaluateRequest, listener: Listener) -> EvaluateResult:
    """Measure, judge, store the evidence, and decide when `gate` is set.

    A checkpoint of the ledger that is gated gets a recorded verdict, as in a run; anything else gets a verdict that is
    shown and stored as evidence, that can promote nothing, and that is counted as a look nobody paid for.

    Raises:
        UsageError: when a name or a file is wrong.
        RunError: when a worker fails.
    """
    _check_options(wanted)
    prepared = prepare(wanted.playbook, wanted.store, listener, guard=not wanted.recorded)
    prepared, note = _asked_otherwise(prepared, wanted.asked.template)
    store = Store.create(wanted.store)
    with scratch_folder(store.scratch / f"evaluate-{os.getpid()}") as scratch:
        place = Workplace(store.responses, scratch, wanted.workers or default_workers(), listener)
        if wanted.recorded:
            found = _recorded(wanted, wanted.recorded, prepared, (store, place))
        else:
            found = _model(wanted, prepared, (store, place))
        return replace(found, note="; ".join(text for text in (found.note, note) if text))


def _asked_otherwise(prepared: Prepared, name: str) -> tuple[Prepared, str]:
    """Return what to measure with another template than the serving one, and a note that says so.

    Raises:
        UsageError: when the playbook has no such template.
    """
    if not name:
        return prepared, ""
    design = prepared.playbook.inputs.prompts
    template = None if name == OWN_TEMPLATE else design.template(name)
    if template is None and name != OWN_TEMPLATE:
        known = ", ".join([*(one.name for one in design.templates), OWN_TEMPLATE])
        raise UsageError(f'no prompt template is called "{name}"', hint=f"known: {known}")
    served_with = f"template {design.serving.name}" if design.serving else "the model's own template"
    asked_with = f"template {name}" if template else "the model's own template and no system message of the playbook"
    note = f"measured with {asked_with}; the model is served with {served_with}"
    return replace(prepared, playbook=served(prepared.playbook, template)), note


def _check_options(wanted: EvaluateRequest) -> None:
    if wanted.baseline_recorded and not wanted.recorded:
        raise UsageError("--baseline-recorded needs --recorded", hint="give the candidate's responses too")
    if wanted.recorded and (wanted.target or wanted.baseline):
        raise UsageError("recorded responses are evaluated without a model", hint="leave out TARGET and --baseline")
    if wanted.gate and wanted.suites:
        raise UsageError("a gate needs all of its suites", hint="leave out --suite, or leave out --gate")
    if wanted.again.extend and not (wanted.gate and wanted.again.reason.strip()):
        raise UsageError("--extend gates again, which is a named act", hint='--gate --extend SUITE=N --reason "..."')
    if wanted.gate and wanted.asked.template:
        raise UsageError(
            "a gate asks with the template that the model is served with",
            hint="leave out --template, or leave out --gate",
        )
    if wanted.recorded and wanted.asked.template:
        why = "recorded responses were made elsewhere, with whatever template that was"
        raise UsageError(why, hint="leave out --template")
    if wanted.again.extend and wanted.recorded:
        raise UsageError("only a checkpoint of the store can be asked more", hint="leave out --extend")
    sizes_of(wanted.again.extend)


# -- recorded responses ------------------------------------------------------------------------------------------------


def _recorded(
    wanted: EvaluateRequest, path: Path, prepared: Prepared, where: tuple[Store, Workplace]
) -> EvaluateResult:
    scope = _scope(wanted, prepared, "")
    store, place = where
    files = (path, wanted.baseline_recorded) if wanted.baseline_recorded else (path,)
    labels, notes, judged = _judge_recorded(scope, files, place)
    evidence, report = store_report(store, judged, place)
    del judged  # its items, which are in the store now
    result = _decided(wanted, store, scope, labels, (evidence, report))
    return replace(result, note="; ".join(note for note in (result.note, *notes) if note))


def _judge_recorded(
    scope: _Scope, files: Sequence[Path], place: Workplace
) -> tuple[tuple[str, str], list[str], EvaluationReport]:
    """Return the labels of candidate and baseline, what is worth knowing of their files, and what was judged."""
    asked = Asked(scope.measured)
    now, *baseline = (read_recorded(path, asked) for path in files)
    before = baseline[0] if baseline else None
    answers = Answers(now.responses, before.responses if before else None, elsewhere=True)
    judged = judge_suites(scope.measured, answers, place)
    report = EvaluationReport(now.identity, before.identity if before else "", judged)
    return (now.label, before.label if before else ""), [found.note for found in (now, *baseline)], report


def _decided(
    wanted: EvaluateRequest, store: Store, scope: _Scope, labels: tuple[str, str], found: tuple[str, EvaluationReport]
) -> EvaluateResult:
    """Record what was measured and decide, when asked to, about something that is not a checkpoint of the ledger."""
    evidence, report = found
    line = evaluated(report.subject, report.baseline, evidence, [s.suite for s in report.suites])
    if not wanted.gate:
        store.commit(line)
        return EvaluateResult(*labels, report, None, evidence, _measured_code(report))
    store.commit(for_gate(line, scope.purse.playbook))
    result = replace(decide(scope.guardrails, report), spent=0.0)
    looks = len(store.standing().budgets[scope.purse.playbook].unpaid)
    note = (
        "this verdict is evidence only: what is not a checkpoint of the store cannot be promoted, and nothing of the "
        f"alpha budget is spent; it is look number {looks} that was not paid for, which plan and status count"
    )
    return EvaluateResult(*labels, report, result, evidence, result.verdict.exit_code, note)


def _measured_code(report: EvaluationReport) -> ExitCode:
    """Say whether every item of every suite was measured with a sound judge."""
    sound = all(
        not s.error
        and s.controls_run
        and not s.controls_failed
        and len(s.candidate) == s.expected
        and len(s.baseline) in (0, s.expected)
        for s in report.suites
    )
    return ExitCode.DONE if sound else ExitCode.FAILED_RUN


# -- models ------------------------------------------------------------------------------------------------------------


def _model(wanted: EvaluateRequest, prepared: Prepared, where: tuple[Store, Workplace]) -> EvaluateResult:
    store, place = where
    subjects = Subjects(prepared.model, store, place.listener, wanted.asked.key_variable)
    target, digest = subjects.named(wanted.target or prepared.playbook.channel, gate=wanted.gate)
    known = store.standing().checkpoints.get(digest)
    if wanted.gate and wanted.stage and known:
        raise UsageError(
            f"{target.label} is a checkpoint of the ledger, gated by the guardrails of the stage that made it",
            hint="leave out --stage",
        )
    if wanted.gate and known and known.stage_key not in {p.key for p in prepared.plan.stages}:
        raise UsageError(
            f"no stage of this playbook made {target.label}, so its guardrails may not judge it",
            hint="use the playbook, as it was, that made the checkpoint; without --gate it is only measured",
        )
    scope = _scope(wanted, prepared, known.stage_key if known else "")
    baseline: Subject | None = None
    if wanted.baseline:
        baseline, _ = subjects.named(wanted.baseline)
        if wanted.gate and known and baseline.identity != subjects.checkpoint(known.parent).identity:
            raise UsageError(
                "a checkpoint of the store is gated against what it was trained from", hint="leave out --baseline"
            )
    elif known:
        baseline = subjects.checkpoint(known.parent)
    labels = target.label, baseline.label if baseline else ""
    stands = known and known.gates and (known.status != "quarantined" or known.freed)
    if wanted.gate and known and stands and not wanted.again.reason.strip() and known.gates[-1].basis == scope.basis:
        return _recorded_verdict(store, known, scope, labels)
    if wanted.again.extend and not known:
        raise UsageError("only a checkpoint of the store can be asked more", hint="leave out --extend")
    arms = Arms(target, baseline, subjects.base() if needs_base(scope.measured) else None)
    if wanted.gate and known:
        gated = gate_checkpoint(store, arms, _order(wanted, scope, digest, known), place)
        found = EvaluateResult(
            *labels, gated.report, gated.result, gated.evidence, gated.result.verdict.exit_code, gated.note
        )
        return replace(found, budget=gated.budget, changed=gated.changed)
    stopping = Stopping(scope.guardrails) if wanted.gate else None
    evidence, report = measure_and_store(store, arms, scope.measured, place, stopping)
    return _decided(wanted, store, scope, labels, (evidence, report))


def _order(wanted: EvaluateRequest, scope: _Scope, digest: str, known: CheckpointStanding) -> GateOrder:
    """Return what to gate a checkpoint by; its basis is the plan's also where more items are asked than planned."""
    if wanted.again.extend:
        check_extendable(digest, known)
    measured, sizes = extend(scope.measured, sizes_of(wanted.again.extend), largest_sizes(known.gates))
    return GateOrder(
        stage_key=scope.stage_key,
        guardrails=scope.guardrails,
        measured=measured,
        basis=scope.basis,
        purse=scope.purse,
        reason=wanted.again.reason,
        extended=sizes,
    )


def _recorded_verdict(
    store: Store, known: CheckpointStanding, scope: _Scope, labels: tuple[str, str]
) -> EvaluateResult:
    """Show the verdict that the ledger holds for this very gate: it is final, and asking for it again costs nothing."""
    last = known.gates[-1]
    store.objects.verify(last.evidence)
    report = read_evidence(store.objects.path(last.evidence))
    result = decide(scope.guardrails, report, last.terms)
    if result.verdict is not last.verdict:
        raise IntegrityError(
            f"ledger line {last.seq}: its evidence does not say {last.verdict}", hint="safetune verify"
        )
    note = f'recorded in ledger line {last.seq}, nothing was measured anew; to gate again, say why: --reason "..."'
    found = EvaluateResult(*labels, report, result, last.evidence, result.verdict.exit_code, note)
    budget = scope.purse.budget - scope.purse.left(store.standing()), scope.purse.budget
    said = known.override.text if known.override else ""
    return replace(found, budget=budget, override=said, changed=tuple(change.text for change in known.changed))


# -- what of the playbook is used --------------------------------------------------------------------------------------


def _scope(wanted: EvaluateRequest, prepared: Prepared, stage_key: str) -> _Scope:
    playbook = prepared.playbook
    keys = {(p.sprint, p.stage): p.key for p in prepared.plan.stages}
    stage, key = _stage(wanted.stage, playbook, keys, stage_key)
    guardrails = playbook.gate_of(stage) if stage else playbook.guardrails
    suites = _suites(wanted, playbook, stage, guardrails)
    if not suites:
        raise UsageError("there is no suite to measure", hint="name suites in the playbook or with --suite")
    basis = evidence_basis(guardrails, suites, prepared.facts)
    return _Scope(
        guardrails, read_suites(suites, gate=wanted.gate, load_it=prepared.load), key, basis, purse_of(playbook)
    )


def _stage(
    name: str, playbook: Playbook, keys: Mapping[tuple[str, str], str], stage_key: str
) -> tuple[Stage | None, str]:
    """Return the stage whose gate is used, and its key: the named one, or the one that made the checkpoint."""
    for sprint in playbook.sprints:
        for stage in sprint.stages:
            key = keys[sprint.name, stage.name]
            if name in (f"{sprint.name}/{stage.name}", stage.name) or (not name and key == stage_key):
                return stage, key
    if name:
        known = ", ".join(f"{s.name}/{t.name}" for s in playbook.sprints for t in s.stages)
        raise UsageError(f'no stage is called "{name}"; known: {known}')
    return None, stage_key


def _suites(
    wanted: EvaluateRequest, playbook: Playbook, stage: Stage | None, guardrails: Sequence[Guardrail]
) -> tuple[Suite, ...]:
    if wanted.suites:
        known = {suite.name: suite for suite in playbook.suites}
        unknown = [name for name in wanted.suites if name not in known]
        if unknown:
            raise UsageError(f'no suite is called "{unknown[0]}"; known: {", ".join(known)}')
        return tuple(known[name] for name in wanted.suites)
    if stage and wanted.gate:
        return suites_of(playbook, stage)
    named = {g.suite for g in guardrails} if wanted.gate else {s.name for s in playbook.suites}
    return tuple(s for s in playbook.suites if s.name in named)

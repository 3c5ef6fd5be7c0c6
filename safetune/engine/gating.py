"""Evaluation that ends in the store, the gate that is decided on the stored bytes, and its line in the ledger."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from safetune.core.alpha import HOW_TO_PAY, UNSPENT, Terms, allowed, cost, shortage
from safetune.core.digest import JSON
from safetune.core.errors import NotPermitted, StalePlanError, UsageError
from safetune.core.events import EXTENDED, GateRecord, Spending, evaluated, for_gate, gated
from safetune.core.evidence import EvaluationReport
from safetune.core.gate import decide
from safetune.core.playbook import Guardrail, Playbook
from safetune.core.regating import changed_rows, largest_sizes
from safetune.core.result import GateResult, LimitResult
from safetune.core.standing import RuleViolation, Standing
from safetune.engine.again import refuse_loosened, refuse_pointless
from safetune.engine.asking import Workplace
from safetune.engine.evidence_files import read_evidence, write_evidence
from safetune.engine.extending import kept_text
from safetune.engine.looks import Stopping, measure_gate
from safetune.engine.measure import Arms, Measured, measure
from safetune.state.store import Store


@dataclass(frozen=True, slots=True)
class Purse:
    """Who pays for a gate: a playbook by name, the alpha budget that it allows, and the channel that it promotes to."""

    playbook: str
    budget: float
    channel: str

    def spent(self, standing: Standing) -> float:
        """Return what the gates of the playbook have spent."""
        return standing.budgets.get(self.playbook, UNSPENT).spent

    def left(self, standing: Standing) -> float:
        """Return what the gates of the playbook left of it."""
        return self.budget - self.spent(standing)


def purse_of(playbook: Playbook) -> Purse:
    """Return what a playbook pays its gates from."""
    return Purse(playbook.name, allowed(playbook), playbook.channel)


@dataclass(frozen=True, slots=True)
class GateOrder:
    """What to gate by: the guardrails and suites of one stage, the identity of both (`basis`), and why again, if so.

    `purse` pays; `extended` are suites that are asked more than the playbook says, with how many clusters.
    """

    stage_key: str
    guardrails: tuple[Guardrail, ...]
    measured: tuple[Measured, ...]
    basis: str
    purse: Purse
    reason: str = ""
    extended: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gated:
    """A recorded gate: its result, the ledger line, and the evidence object it was decided on.

    `budget` is what the gates of the playbook have spent by now, and what they may spend; `changed` is how its
    guardrails differ from those of the gate before; `note` is worth knowing.
    """

    result: GateResult
    line: int
    evidence: str
    report: EvaluationReport
    budget: tuple[float, float]
    changed: tuple[str, ...] = ()
    note: str = ""


def gate_checkpoint(store: Store, arms: Arms, order: GateOrder, place: Workplace) -> Gated:
    """Measure a checkpoint of the ledger and its baseline on the same prompts, decide, and record the verdict.

    Raises:
        UsageError: when the checkpoint was gated before, and no reason is given or nothing differs from that gate; or
            when it, or what it was trained from, learnt from data that was withdrawn.
        NotPermitted: when the alpha budget does not pay for the gate, or the gate is easier than one that said FAIL;
            nothing is measured then.
        StalePlanError: when somebody else gated the checkpoint meanwhile.
    """
    candidate, baseline = arms.candidate, arms.baseline
    _refuse_withdrawn(store.standing(), candidate.identity, candidate.label)
    attempt = store.standing().attempts(candidate.identity) + 1
    if attempt > 1 and not order.reason.strip():
        raise UsageError(
            f"checkpoint {candidate.label} has a recorded verdict; gating it again is a named act",
            hint='say why: --reason "..."',
        )
    before = store.standing()
    refuse_loosened(before, candidate.identity, order.guardrails, store.ledger.author())
    asked = order.basis, order.guardrails, order.extended
    refuse_pointless(before, order.stage_key, candidate.identity, asked)
    _refuse_unpaid(before, order, attempt)
    stopping = Stopping(order.guardrails, Terms(attempt, order.purse.left(store.standing())))
    evidence, report = measure_and_store(store, arms, order.measured, place, stopping)
    against = baseline.identity if baseline else ""
    names = [m.suite.name for m in order.measured]
    line = evaluated(candidate.identity, against, evidence, names, order.stage_key)
    store.commit(for_gate(line, order.purse.playbook))
    return _decide_and_record(store, order, (evidence, report), candidate.label, attempt)


def _decide_and_record(
    store: Store, order: GateOrder, found: tuple[str, EvaluationReport], label: str, attempt: int
) -> Gated:
    """Decide on what is left of the budget and record it; as often as somebody else spends of it in between.

    The gate itself refuses to pass on what is not there any more. Every repetition needs a new ledger line.
    """
    evidence, report = found
    while True:
        now = Store.open(store.root).standing()
        if now.attempts(report.subject) + 1 != attempt:
            raise StalePlanError(
                f"checkpoint {label} was gated by somebody else meanwhile; this measurement is kept as evidence",
                hint="safetune log",
            )
        result = decide(order.guardrails, report, Terms(attempt, order.purse.left(now)))
        try:
            line = store.commit(gated(_record(order, found, result, now)))
        except RuleViolation:
            if store.standing().last_seq == now.last_seq:
                raise
            continue
        standing, largest = store.standing(), largest_sizes(now.gates(report.subject))
        kept = {name: size for name, size in order.extended.items() if size == largest.get(name)}
        told = tuple(change.text for change in standing.checkpoints[report.subject].changed)
        budget = order.purse.spent(standing), order.purse.budget
        return Gated(result, line, evidence, report, budget, told, kept_text(kept))


def _record(order: GateOrder, found: tuple[str, EvaluationReport], result: GateResult, now: Standing) -> GateRecord:
    evidence, report = found
    gates, definitions = now.gates(report.subject), [g.identity for g in order.guardrails]
    return GateRecord(
        stage_key=order.stage_key,
        checkpoint=report.subject,
        baseline=report.baseline,
        guardrails=result.guardrails,
        evidence=evidence,
        basis=order.basis,
        verdict=result.verdict.value,
        attempt=len(gates) + 1,
        reason=order.reason if gates else "",
        results=gate_rows(result),
        definitions=definitions,
        spending=Spending(
            playbook=order.purse.playbook,
            spent=result.spent,
            budget=order.purse.budget,
            act=EXTENDED if order.extended else "",
            extended=order.extended,
            channel=order.purse.channel,
            changed=changed_rows(gates, definitions),
        ),
    )


def _refuse_withdrawn(standing: Standing, checkpoint: str, label: str) -> None:
    """Refuse what no gate frees, before anything is measured or spent; what descends from such is marked as well."""
    found = standing.checkpoints.get(checkpoint)
    if found and found.withdrawn_at:
        why = f"{label} learnt from data that was withdrawn (ledger line {found.withdrawn_at})"
        raise UsageError(why, hint="no gate frees it; without --gate it is only measured")


def _refuse_unpaid(standing: Standing, order: GateOrder, attempt: int) -> None:
    """Refuse a gate that the budget does not pay for, before anything is measured."""
    before = standing.budgets.get(order.purse.playbook, UNSPENT)
    if why := shortage(cost(order.guardrails, attempt), before, order.purse.budget):
        raise NotPermitted(f"playbook {order.purse.playbook}: {why}; nothing was measured", hint=HOW_TO_PAY)


def measure_and_store(
    store: Store, arms: Arms, measured: Sequence[Measured], place: Workplace, stopping: Stopping | None = None
) -> tuple[str, EvaluationReport]:
    """Measure a candidate and its baseline, adopt the evidence, and return it as read back from the stored bytes.

    With `stopping` a suite is asked no more once the gate that it names has decided it.
    """
    report = measure_gate(arms, measured, place, stopping) if stopping else measure(arms, measured, place)
    return store_report(store, report, place)


def store_report(store: Store, report: EvaluationReport, place: Workplace) -> tuple[str, EvaluationReport]:
    """Adopt a report as an evidence object and read it back."""
    folder = place.scratch / "evidence"
    shutil.rmtree(folder, ignore_errors=True)
    write_evidence(report, folder)
    evidence = store.objects.adopt(folder)
    shutil.rmtree(folder, ignore_errors=True)
    return evidence, read_evidence(store.objects.path(evidence))


def gate_rows(result: GateResult) -> list[JSON]:
    """Return one row per limit for the ledger: names, figures and the verdict, no response text."""
    return [gate_row(r) for r in result.results]


def gate_row(result: LimitResult) -> Mapping[str, JSON]:
    """Return one limit's result as JSON; rates as counts, bounds as numbers."""
    seen = result.seen
    return {
        "guardrail": result.guardrail,
        "slice": result.slice,
        "severity": result.severity,
        "critical": result.critical,
        "limit": result.limit,
        "confidence": result.confidence,
        "verdict": result.verdict.value,
        "reason": result.reason,
        "notes": list(result.notes),
        "why": result.why,
        "candidate": {"events": seen.candidate.events, "n": seen.candidate.n} if seen.candidate else None,
        "baseline": {"events": seen.baseline.events, "n": seen.baseline.n} if seen.baseline else None,
        "difference": seen.difference,
        "estimate": seen.estimate,
        "bounds": [seen.bounds.low, seen.bounds.high] if seen.bounds else None,
        "paired": seen.paired,
        "needed": seen.needed,
    }

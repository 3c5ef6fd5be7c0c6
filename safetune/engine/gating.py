"""Evaluation that ends in the store, and gate results as the rows that the ledger keeps."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence

from safetune.core.digest import JSON
from safetune.core.evidence import EvaluationReport
from safetune.core.gate import GateResult, LimitResult
from safetune.engine.measure import Measured, Subject, Workplace, read_evidence, report_of, respond, write_evidence
from safetune.state.store import Store


def measure_and_store(
    store: Store, subjects: tuple[Subject, Subject | None], measured: Sequence[Measured], place: Workplace
) -> tuple[str, EvaluationReport]:
    """Measure a candidate and its baseline, adopt the evidence, and return it as read back from the stored bytes."""
    candidate, baseline = subjects
    respond([s for s in (baseline, candidate) if s is not None], measured, place)
    return store_report(store, report_of(candidate, baseline, measured, place), place)


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
        "limit": result.limit,
        "verdict": result.verdict.value,
        "reason": result.reason,
        "why": result.why,
        "candidate": {"events": seen.candidate.events, "n": seen.candidate.n} if seen.candidate else None,
        "baseline": {"events": seen.baseline.events, "n": seen.baseline.n} if seen.baseline else None,
        "difference": seen.difference,
        "bounds": [seen.bounds.low, seen.bounds.high] if seen.bounds else None,
        "needed": seen.needed,
    }

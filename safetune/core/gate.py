"""The gate: guardrails and one evaluation report in, a verdict per limit and one for the whole out. Pure.

Each limit is tested one-sided at its guardrail's confidence, over the whole suite and in every slice that the guardrail
gates. Promotion needs all of them, so a PASS needs no correction for their number (intersection-union test: Berger
1982). A single FAIL is an alarm, and any one of many raises it: FAILs are those that Holm's procedure rejects over all
blocking limits of the gate (Holm, Scandinavian Journal of Statistics 1979). What lies between is INCONCLUSIVE.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from safetune.core import alpha, instrument, limits
from safetune.core.alpha import Terms
from safetune.core.arms import Reading
from safetune.core.evidence import EvaluationReport, SuiteEvidence
from safetune.core.holm import rejected
from safetune.core.limits import Finding
from safetune.core.playbook import OBSERVE, WARN, Guardrail, guardrails_digest
from safetune.core.question import Place, Question, planned_items, planned_slices, slice_places, whole
from safetune.core.result import Cause, Flip, GateResult, LimitResult, Remedy, limit_text
from safetune.core.suite import LABEL, UNJUDGED, Metric
from safetune.core.verdict import Verdict, worst

_ONCE = Terms()


def decide(guardrails: tuple[Guardrail, ...], report: EvaluationReport, terms: Terms = _ONCE) -> GateResult:
    """Decide a gate.

    Asking again spends confidence: attempt k tests each limit at 1 - (1 - confidence) / 2 ** (k - 1), so that all
    attempts together err at most twice as often as one (the alpha of a geometric series: Bonferroni). A gate that costs
    more than the alpha budget has left says PASS no more. Guardrails that warn or observe are reported and never
    decide. A gate in which nothing can block is ERROR: something must be able to say no.

    Raises:
        ValueError: for an attempt below 1, which would test more loosely than asked for, or a guardrail that has no
            digest because a limit is not finite.
    """
    readings = _Readings()
    asked = [one for g in guardrails for one in _ask(g, report, readings, alpha.confidence_of(g, terms.attempt))]
    results = tuple(one.result for one in _held(asked))
    # Whatever is not plainly another severity blocks: a misspelt one must not switch a guardrail off.
    verdict = worst(tuple(r.verdict for r in results if r.severity not in (WARN, OBSERVE)))
    results = _not_asked_further(results, report) if verdict is Verdict.FAIL else results
    price, reason = alpha.cost(guardrails, terms.attempt), ""
    if verdict is Verdict.PASS and not alpha.affordable(price, terms.left):
        verdict = Verdict.INCONCLUSIVE
        reason = f"the alpha budget has {max(terms.left, 0.0):.3g} left, and this gate costs {price:.3g}"
    flips = _flips(guardrails, report, readings)
    return GateResult(verdict, results, flips, guardrails_digest(guardrails), price, reason)


class _Readings:
    """The items of every suite, read when they are first asked for."""

    def __init__(self) -> None:
        self._found: dict[int, Reading] = {}

    def of(self, evidence: SuiteEvidence) -> Reading:
        if id(evidence) not in self._found:  # the report keeps them all alive meanwhile
            self._found[id(evidence)] = Reading(evidence)
        return self._found[id(evidence)]


# -- what is asked -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Asked:
    """A result, and the question behind it with the confidence that it was answered at; None where nothing was."""

    result: LimitResult
    question: Question | None = None
    confidence: float = 0.0


def _ask(guardrail: Guardrail, report: EvaluationReport, readings: _Readings, confidence: float) -> Iterator[_Asked]:
    """Yield one result per limit and place; a broken instrument gives the same ERROR for each limit."""
    named = [(name, value) for name, value in guardrail.limits.identity.items() if value is not None]
    if not named:
        yield _Asked(_error(guardrail, whole(guardrail), "none", "the guardrail sets no limit", confidence))
        return
    held = replace(guardrail, confidence=confidence)
    found = instrument.guardrail_trouble(held) or instrument.find(report, guardrail, readings.of)
    for name, value in named:
        trouble = instrument.limit_trouble(name, value) or (found if isinstance(found, str) else "")
        if trouble or isinstance(found, str):
            yield _Asked(_error(guardrail, whole(guardrail), limit_text(name, value), trouble, confidence))
            continue
        evidence = report.suite(guardrail.suite)
        told = evidence.told if evidence else {}
        asked = Question(guardrail, whole(guardrail), (name, float(str(value))), *found, told)
        yield from _everywhere(asked, confidence)


def _everywhere(asked: Question, confidence: float) -> Iterator[_Asked]:
    """Ask over the whole suite, then in every slice that the guardrail gates.

    A slice that is not there is ERROR; one that is planned and was not asked yet is INCONCLUSIVE.
    """
    yield _answered(asked, confidence)
    guardrail = asked.guardrail
    parts: Mapping[str, Reading] = asked.reading.parts() if guardrail.slices else {}
    planned = planned_slices(asked.told)
    if guardrail.slices and not parts and not planned:
        reason = "no item belongs to a slice, and the guardrail gates slices"
        yield _Asked(_error(guardrail, asked.place, limit_text(*asked.limit), reason, confidence))
        return
    elsewhere = asked.languages if guardrail.slices else frozenset()
    for place in slice_places(guardrail, tuple({*parts, *planned})):
        if place.name in parts:
            part = replace(asked, place=place, reading=parts[place.name], elsewhere=elsewhere)
            yield _answered(part, confidence)
            continue
        found = _error(
            guardrail, place, limit_text(*asked.limit), f"no item of slice {place.name} was measured", confidence
        )
        if place.name in planned:
            found = replace(found, verdict=Verdict.INCONCLUSIVE, reason="no item of this slice was asked yet")
            found = replace(found, remedy=Remedy(Cause.MORE, guardrail.suite))
        yield _Asked(found)


def _answered(question: Question, confidence: float) -> _Asked:
    """Answer one question. What a judge says that nobody knows the error of may warn; it neither passes nor fails.

    A slice in a language without a card only warns, unless it is critical. That depends on the slice and the card
    alone: if any response had a say in it, a worse one could get a slice out of the gate.
    """
    found, place = limits.answer(question, confidence), question.place
    if question.unread and not place.critical:
        place = replace(place, severity=OBSERVE if place.severity == OBSERVE else WARN)
        found = replace(
            found, notes=(*found.notes, "the judge has no card for the language of this slice, so it can only warn")
        )
    elif found.untrusted and place.severity in (WARN, OBSERVE):
        found = replace(found, notes=(*found.notes, found.untrusted))
    elif found.untrusted and found.verdict is not Verdict.ERROR:
        found = replace(found, verdict=Verdict.INCONCLUSIVE, reason=found.untrusted, cause=Cause.CARD)
    return _Asked(_result(question, place, found, confidence), question, confidence)


# -- Holm --------------------------------------------------------------------------------------------------------------


def _held(asked: Sequence[_Asked]) -> list[_Asked]:
    """Return the results, with those FAILs taken back that the number of blocking limits explains."""
    family = [n for n, one in enumerate(asked) if one.result.severity not in (WARN, OBSERVE)]
    suspects = [n for n in family if asked[n].result.verdict is Verdict.FAIL]
    if not suspects:
        return list(asked)

    def fails(place: int, level: float) -> bool:
        one = asked[family[place]]
        if one.result.verdict is not Verdict.FAIL or one.question is None:
            return False
        found = limits.answer(one.question, 1 - level)
        # At a higher confidence a small card may say nothing any more, and then it refutes nothing either.
        return found.verdict is Verdict.FAIL and not found.untrusted

    proven = rejected(fails, [1 - (asked[n].result.confidence or 0.0) for n in family])
    kept = {family[place] for place in proven}
    return [_taken_back(one, len(family)) if n in suspects and n not in kept else one for n, one in enumerate(asked)]


def _taken_back(one: _Asked, number: int) -> _Asked:
    reason = f"outside the limit, but one of {number} limits tested at once, and not yet beyond their number (Holm)"
    remedy = replace(one.result.remedy, cause=Cause.MORE)
    return replace(one, result=replace(one.result, verdict=Verdict.INCONCLUSIVE, reason=reason, remedy=remedy))


# -- early stopping ----------------------------------------------------------------------------------------------------

_OPEN = (Cause.FEW, Cause.MORE, Cause.BEYOND, Cause.CLUSTERS)


def _not_asked_further(results: Sequence[LimitResult], report: EvaluationReport) -> tuple[LimitResult, ...]:
    """Say of what was still open in a suite that was asked in part that a FAIL ended the asking, not its size."""
    parted = {s.suite for s in report.suites if planned_items(s.told) > s.expected}
    return tuple(
        replace(
            one,
            reason="not asked further: the gate had failed",
            seen=replace(one.seen, needed=None),
            remedy=replace(one.remedy, cause=Cause.STOPPED),
        )
        if one.verdict is Verdict.INCONCLUSIVE and one.remedy.suite in parted and one.remedy.cause in _OPEN
        else one
        for one in results
    )


# -- flips -------------------------------------------------------------------------------------------------------------


def _flips(guardrails: tuple[Guardrail, ...], report: EvaluationReport, readings: _Readings) -> tuple[Flip, ...]:
    """Return the items whose outcome changed between baseline and candidate, per metric that a guardrail names.

    From an outcome that nobody could judge nothing can be said to have changed.
    """
    found: dict[tuple[str, str, str, int], Flip] = {}
    for guardrail in guardrails:
        evidence = report.suite(guardrail.suite)
        metric = _metric(evidence, guardrail.metric)
        if evidence is None or metric is None or metric.of != LABEL:
            continue
        reading = readings.of(evidence)
        now, before = reading.now, reading.before
        counted = {label: metric.counted(label) for label in {*now.labels, *before.labels}}
        for n, m in reading.matched():
            new, old = now.labels[n], before.labels[m]
            if counted[old] == counted[new] or old == UNJUDGED:
                continue
            worse = counted[new] == (metric.worse == "higher")
            key = (evidence.suite, metric.name, now.ids[n], now.samples[n])
            found[key] = Flip(evidence.suite, metric.name, now.ids[n], now.slices[n], worse, old, new)
    return tuple(found.values())


def _metric(evidence: SuiteEvidence | None, name: str) -> Metric | None:
    return next((m for m in evidence.metrics if m.name == name), None) if evidence else None


# -- results -----------------------------------------------------------------------------------------------------------


def _result(question: Question, place: Place, found: Finding, confidence: float) -> LimitResult:
    return LimitResult(
        guardrail=question.guardrail.name,
        slice=place.name,
        severity=place.severity,
        limit=limit_text(*question.limit),
        verdict=found.verdict,
        reason=found.reason,
        why=question.guardrail.why,
        seen=found.seen,
        confidence=confidence,
        critical=place.critical,
        notes=found.notes,
        remedy=_remedy(question, found),
    )


def _remedy(question: Question, found: Finding) -> Remedy:
    """Return what the next step depends on; a sample grows with its clusters, in step with the items needed here."""
    needed, judges, n = found.seen.needed, question.reading.now.judges, len(question.reading.now)
    judge = next(iter(judges)).rpartition("@")[0] if len(judges) == 1 else ""
    clusters = math.ceil(question.sampled * max(needed / n, 1)) if needed and question.sampled else 0
    return Remedy(found.cause, question.guardrail.suite, judge, clusters)


def _error(guardrail: Guardrail, place: Place, limit: str, reason: str, confidence: float) -> LimitResult:
    return LimitResult(
        guardrail=guardrail.name,
        slice=place.name,
        severity=place.severity,
        limit=limit,
        verdict=Verdict.ERROR,
        reason=reason,
        why=guardrail.why,
        confidence=confidence,
        critical=place.critical,
    )

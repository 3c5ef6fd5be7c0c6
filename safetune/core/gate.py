"""The gate: guardrails and one evaluation report in, a verdict per limit and one for the whole out. Pure.

Each limit is tested one-sided at its guardrail's confidence. Promotion needs every blocking guardrail, so no
correction for multiplicity is due (intersection-union test: Berger 1982). A limit says PASS when the bound lies on the
allowed side, FAIL when the opposite bound lies on the forbidden side, INCONCLUSIVE when the limit is inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from safetune.core import bounds, instrument
from safetune.core.arms import Arm, Reading
from safetune.core.bounds import Bounds
from safetune.core.evidence import EvaluationReport, SuiteEvidence
from safetune.core.playbook import Guardrail, guardrails_digest
from safetune.core.result import NOTHING_SEEN, Flip, GateResult, LimitResult, Rate, Seen, limit_text
from safetune.core.suite import UNJUDGED, Metric
from safetune.core.verdict import Verdict, worst

NO_BASELINE = "there is no baseline to compare with"


def decide(guardrails: tuple[Guardrail, ...], report: EvaluationReport, attempt: int = 1) -> GateResult:
    """Decide a gate. `attempt` counts how often this checkpoint is gated, from 1.

    Asking again spends confidence: attempt k tests each limit at 1 - (1 - confidence) / 2 ** (k - 1), so that all
    attempts together err at most twice as often as one (the alpha of a geometric series: Bonferroni).
    Warning guardrails are reported and never decide. A gate without a blocking guardrail is ERROR: something must be
    able to say no.

    Raises:
        ValueError: for an attempt below 1, which would test more loosely than asked for, or a guardrail that has no
            digest because a limit is not finite.
    """
    if attempt < 1:
        raise ValueError(f"attempts count from 1, not {attempt}")
    held = (replace(g, confidence=1 - (1 - g.confidence) / 2 ** (attempt - 1)) for g in guardrails)
    readings = _Readings()
    results = tuple(result for guardrail in held for result in _judge_guardrail(guardrail, report, readings))
    # Whatever is not plainly a warning blocks: a misspelt severity must not switch a guardrail off.
    blocking = tuple(r.verdict for r in results if r.severity != "warn")
    return GateResult(worst(blocking), results, _flips(guardrails, report, readings), guardrails_digest(guardrails))


class _Readings:
    """The items of every suite, read when they are first asked for."""

    def __init__(self) -> None:
        self._found: dict[int, Reading] = {}

    def of(self, evidence: SuiteEvidence) -> Reading:
        if id(evidence) not in self._found:  # the report keeps them all alive meanwhile
            self._found[id(evidence)] = Reading(evidence)
        return self._found[id(evidence)]


def _flips(guardrails: tuple[Guardrail, ...], report: EvaluationReport, readings: _Readings) -> tuple[Flip, ...]:
    """Return the items whose outcome changed between baseline and candidate, per metric that a guardrail names.

    From an outcome that nobody could judge nothing can be said to have changed.
    """
    found: dict[tuple[str, str, str, int], Flip] = {}
    for guardrail in guardrails:
        evidence = report.suite(guardrail.suite)
        metric = _metric(evidence, guardrail.metric)
        if evidence is None or metric is None:
            continue
        reading = readings.of(evidence)
        now, before = reading.now, reading.before
        for n, m in reading.matched():
            new, old = now.labels[n], before.labels[m]
            if old == UNJUDGED or metric.counted(old) == metric.counted(new):
                continue
            worse = metric.counted(new) == (metric.worse == "higher")
            key = (evidence.suite, metric.name, now.ids[n], now.samples[n])
            found[key] = Flip(evidence.suite, metric.name, now.ids[n], now.slices[n], worse, old, new)
    return tuple(found.values())


def _metric(evidence: SuiteEvidence | None, name: str) -> Metric | None:
    return next((m for m in evidence.metrics if m.name == name), None) if evidence else None


@dataclass(frozen=True, slots=True)
class _Question:
    """One limit of one guardrail, held against one metric of one suite."""

    guardrail: Guardrail
    name: str
    value: float
    reading: Reading
    metric: Metric
    hopeful: bool = False  # how an item counts that nobody may judge: for the candidate, or against it

    @property
    def rate(self) -> Rate:
        return self._rate_of(self.reading.now)

    @property
    def rate_before(self) -> Rate:
        return self._rate_of(self.reading.before)

    def _rate_of(self, arm: Arm) -> Rate:
        return Rate(sum(self.counted(arm)), len(arm))

    def counted(self, arm: Arm) -> Sequence[int]:
        """Return 1 for every item of an arm that counts, and 0 for the others."""
        worth = {label: int(self.metric.counted(label)) for label in set(arm.labels)}
        bad = self.hopeful != (arm is self.reading.now)
        worth[UNJUDGED] = int(bad == (self.metric.worse == "higher"))
        return bytes(worth[label] for label in arm.labels)

    def answer(self, verdict: Verdict, reason: str, seen: Seen) -> LimitResult:
        return _result(self.guardrail, limit_text(self.name, self.value), verdict, reason, seen)


def _judge_guardrail(guardrail: Guardrail, report: EvaluationReport, readings: _Readings) -> tuple[LimitResult, ...]:
    """Return one result per limit; a broken instrument gives the same ERROR for each of them."""
    limits = [(name, value) for name, value in guardrail.limits.identity.items() if value is not None]
    if not limits:
        return (_result(guardrail, "none", Verdict.ERROR, "the guardrail sets no limit"),)
    found = instrument.guardrail_trouble(guardrail) or instrument.find(report, guardrail, readings.of)
    return tuple(_judge_limit(guardrail, name, value, found) for name, value in limits)


def _judge_limit(guardrail: Guardrail, name: str, value: object, found: tuple[Reading, Metric] | str) -> LimitResult:
    trouble = instrument.limit_trouble(name, value)
    if trouble or isinstance(found, str):
        return _result(guardrail, limit_text(name, value), Verdict.ERROR, trouble or str(found))
    question = _Question(guardrail, name, float(str(value)), *found)
    # Repeated samples of one prompt do not stand in for more prompts.
    prompts = len(set(question.reading.now.ids))
    if prompts < guardrail.min_samples:
        reason = f"n={prompts} is below the minimum of {guardrail.min_samples}"
        return question.answer(Verdict.INCONCLUSIVE, reason, Seen(question.rate, needed=guardrail.min_samples))
    return _undoubted(question, _absolute if name in ("at_most", "at_least") else _paired)


def _undoubted(question: _Question, decide_it: Callable[[_Question], LimitResult]) -> LimitResult:
    """Decide with every unjudged item against the candidate; FAIL only when it holds with all of them for it, too.

    The truth lies between the two, whatever those responses say (Manski, Partial Identification, 2003).
    """
    result = decide_it(question)
    unjudged = sum(arm.labels.count(UNJUDGED) for arm in (question.reading.now, question.reading.before))
    if not unjudged or result.verdict is not Verdict.FAIL:
        return result
    if decide_it(replace(question, hopeful=True)).verdict is Verdict.FAIL:
        return result
    reason = f"{unjudged} response(s) could not be judged (another language, no readable answer), and they would decide"
    return replace(result, verdict=Verdict.INCONCLUSIVE, reason=reason)


def _absolute(question: _Question) -> LimitResult:
    """An exact one-sided bound on the candidate's rate against a ceiling or a floor; the baseline is only shown."""
    below, confidence, rate = question.name == "at_most", question.guardrail.confidence, question.rate
    before = None if instrument.baseline_trouble(question.reading) else question.rate_before
    outcomes = _outcomes(question)
    try:
        found = bounds.of_rate(outcomes, confidence)
    except ValueError as error:
        return question.answer(Verdict.INCONCLUSIVE, str(error), Seen(rate, before))
    verdict = _side(found, question.value, below=below)
    needed = None
    if verdict is Verdict.INCONCLUSIVE:
        needed = bounds.n_for_rate(outcomes, question.value, confidence, below=below)
    return question.answer(verdict, _reason(verdict, needed), Seen(rate, before, found, needed))


def _paired(question: _Question) -> LimitResult:
    """A one-sided bound on candidate minus baseline over the same prompts."""
    reading, rate, confidence = question.reading, question.rate, question.guardrail.confidence
    if not reading.before:
        return question.answer(Verdict.INCONCLUSIVE, NO_BASELINE, Seen(rate))
    if trouble := instrument.baseline_trouble(reading):
        return question.answer(Verdict.ERROR, f"baseline: {trouble}", Seen(rate))
    before = question.rate_before
    pairs = _pairs(question)
    blind = instrument.blind(question.name, question.value, before.value, question.metric.worse)
    try:
        found = bounds.of_difference(pairs, confidence)
    except ValueError as error:
        return question.answer(Verdict.INCONCLUSIVE, str(error), Seen(rate, before, paired=True))
    if blind:
        return question.answer(Verdict.INCONCLUSIVE, blind, Seen(rate, before, found, paired=True))
    # Both limits speak of change in the direction that the metric calls worse.
    sign = 1 if question.metric.worse == "higher" else -1
    worsening = found if sign == 1 else Bounds(-found.high, -found.low)
    limit = question.value if question.name == "worse_by_at_most" else -question.value
    verdict = _side(worsening, limit, below=True)
    needed = bounds.n_for_difference(pairs, sign, limit, confidence) if verdict is Verdict.INCONCLUSIVE else None
    return question.answer(verdict, _reason(verdict, needed), Seen(rate, before, found, needed, paired=True))


def _outcomes(question: _Question) -> Sequence[bounds.Outcome]:
    arm = question.reading.now
    clusters, counted = arm.cluster_keys(), question.counted(arm)
    return bounds.Again(len(arm), lambda: zip(clusters, counted, strict=True))


def _pairs(question: _Question) -> Sequence[bounds.Pair]:
    reading = question.reading
    clusters, now, before = reading.now.cluster_keys(), question.counted(reading.now), question.counted(reading.before)
    partner = bytes(before[m] for _, m in reading.matched())
    return bounds.Again(len(now), lambda: zip(clusters, partner, now, strict=True))


def _side(found: Bounds, limit: float, *, below: bool) -> Verdict:
    """PASS, FAIL or INCONCLUSIVE of an interval against a limit that must be stayed below (or above)."""
    if not below:
        found, limit = Bounds(-found.high, -found.low), -limit
    if found.high <= limit:
        return Verdict.PASS
    return Verdict.FAIL if found.low > limit else Verdict.INCONCLUSIVE


def _reason(verdict: Verdict, needed: int | None) -> str:
    if verdict is Verdict.PASS:
        return "the bound is inside the limit"
    if verdict is Verdict.FAIL:
        return "even the favourable bound is outside the limit"
    more = f"; about n={needed} would decide" if needed else "; more items alone are unlikely to decide"
    return f"the interval crosses the limit{more}"


def _result(guardrail: Guardrail, limit: str, verdict: Verdict, reason: str, seen: Seen = NOTHING_SEEN) -> LimitResult:
    return LimitResult(
        guardrail=guardrail.name,
        slice="",
        severity=guardrail.severity,
        limit=limit,
        verdict=verdict,
        reason=reason,
        why=guardrail.why,
        seen=seen,
        confidence=guardrail.confidence,
    )

"""One question of a gate, answered at one confidence: the bounds, the side of the limit they lie on, and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from safetune.core import bounds, early, instrument, judge_error, means
from safetune.core.bounds import Bounds
from safetune.core.intervals import normal_quantile
from safetune.core.judge_error import Reliability
from safetune.core.power import POWER
from safetune.core.question import Question
from safetune.core.result import NOTHING_SEEN, Cause, Rate, Seen
from safetune.core.suite import SCORE, UNJUDGED
from safetune.core.verdict import Verdict

NO_BASELINE = "there is no baseline to compare with"
_NO_REACH = Bounds(1.0, 0.0)  # holds nothing back
_NO_CARD = "its judge has no calibration card, so it can only warn"


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question. `untrusted` is why nothing is known of the judge's error here, or empty.

    `cause` is why nothing is decided.
    """

    verdict: Verdict
    reason: str
    seen: Seen = NOTHING_SEEN
    notes: tuple[str, ...] = ()
    untrusted: str = ""
    cause: Cause = Cause.NONE


def answer(question: Question, confidence: float) -> Finding:
    """Answer with every unjudged item against the candidate; FAIL only when it holds with all of them for it, too.

    The truth lies between the two, whatever those responses say (Manski, Partial Identification, 2003).
    """
    found = _answer(question, confidence)
    doubtful = found.verdict is Verdict.FAIL or found.cause in (Cause.MORE, Cause.BEYOND)
    if not question.unjudged or not doubtful:
        return found
    if _answer(replace(question, hopeful=True), confidence).verdict is found.verdict:
        return found
    reason = (
        f"{question.unjudged} response(s) could not be judged (another language, no readable answer), and they would "
        "decide"
    )
    seen = replace(found.seen, needed=None)
    return replace(found, verdict=Verdict.INCONCLUSIVE, reason=reason, seen=seen, cause=Cause.UNJUDGED)


def _answer(question: Question, confidence: float) -> Finding:
    reading, rate = question.reading, question.rate
    # Repeated samples of one prompt do not stand in for more prompts.
    prompts, least = len(set(reading.now.ids)), question.place.least
    trouble = instrument.baseline_trouble(reading) if reading.before else NO_BASELINE
    before = None if trouble else question.rate_before
    if prompts < least:
        reason = f"n={prompts} is below the minimum of {least}"
        seen = Seen(rate, before, needed=least, paired=not question.absolute)
        return Finding(Verdict.INCONCLUSIVE, reason, seen, cause=Cause.FEW)
    if question.absolute:
        return _decided(question, confidence, before)
    if not reading.before:
        return Finding(Verdict.INCONCLUSIVE, NO_BASELINE, Seen(rate), cause=Cause.BASELINE)
    if trouble:
        return Finding(Verdict.ERROR, f"baseline: {trouble}", Seen(rate))
    found = _decided(question, confidence, question.rate_before)
    if blind := instrument.blind(*question.limit, question.rate_before.value, question.metric.worse):
        return Finding(Verdict.INCONCLUSIVE, blind, replace(found.seen, needed=None), cause=Cause.BLIND)
    return found


def _decided(question: Question, confidence: float, before: Rate | None) -> Finding:
    """Hold the bounds against the limit, with the judge's error in them as far as anything is known of it."""
    seen = Seen(question.rate, before, paired=not question.absolute)
    error = _reliability(question, _judge_confidence(question, confidence))
    known = error if isinstance(error, Reliability) else None
    try:
        measured = _measured(question, confidence, known)
    except ValueError as problem:
        return Finding(Verdict.INCONCLUSIVE, str(problem), seen, cause=Cause.CLUSTERS)
    doubted = known is not None and not known.sure
    corrected = doubted and known is not None and known.own
    seen = replace(seen, bounds=measured.bounds, estimate=measured.estimate, corrected=corrected)
    verdict = measured.verdict
    notes = (*measured.notes, *_unjudged_note(question))
    notes += (_corrected_note(known),) if doubted and known is not None else ()
    untrusted = error if isinstance(error, str) else ""
    if verdict is not Verdict.INCONCLUSIVE:
        return Finding(verdict, measured.reason or _REASONS[verdict], seen, notes, untrusted)
    needed = _foreseen(question, confidence, known)
    more = f"; about n={needed} would decide" if needed else "; more items alone are unlikely to decide"
    reason = measured.reason or f"the interval crosses the limit{more}"
    cause = Cause.MORE if needed or measured.reason else Cause.BEYOND
    return Finding(verdict, reason, replace(seen, needed=needed), notes, untrusted, cause)


def _foreseen(question: Question, confidence: float, error: Reliability | None) -> int | None:
    try:
        return _needed(question, confidence, error)
    except ValueError:  # too few clusters to foresee anything; a sequential test goes on all the same
        return None


def _unjudged_note(question: Question) -> tuple[str, ...]:
    """Say how the responses count that nobody may judge: the rates of a gate are then not those of the evaluation."""
    arms = ((question.reading.before, "baseline", "good"), (question.reading.now, "candidate", "bad"))
    counts = ((arm.labels.count(UNJUDGED), name, side) for arm, name, side in arms)
    said = [f"{n} of the {name} as {side}" for n, name, side in counts if n]
    return (f"responses that could not be judged count against the candidate: {', '.join(said)}",) if said else ()


_REASONS = {
    Verdict.PASS: "the bound is inside the limit",
    Verdict.FAIL: "even the favourable bound is outside the limit",
}


@dataclass(frozen=True, slots=True)
class _Measured:
    """Bounds with what they are about, and what they say of the limit; a `reason` where there is a special one."""

    bounds: Bounds
    estimate: float
    verdict: Verdict
    reason: str = ""
    notes: tuple[str, ...] = ()


def _measured(question: Question, confidence: float, error: Reliability | None) -> _Measured:
    """Return bounds and verdict.

    Raises:
        ValueError: when there are too few clusters to tell.
    """
    if question.guardrail.sequential:
        return _sequentially(question, confidence, error)
    counted, low_high = _counted(question, confidence)
    reach = _reach(question, confidence, error)
    estimate, interval = _with_error(question, (counted, low_high), error, reach)
    return _Measured(interval, estimate, side(question, interval))


def _sequentially(question: Question, confidence: float, error: Reliability | None) -> _Measured:
    doubted = error is not None and not error.sure

    def correct(value: float, plain: Bounds) -> tuple[float, Bounds]:
        return _with_error(question, (value, plain), error, _NO_REACH)

    alpha = 1 - (_judge_confidence(question, confidence) if doubted else confidence)
    found = early.decided(question, alpha, correct if doubted else None)
    reason = "the limit is within what is still possible; only more items decide"
    undecided = reason if found.verdict is Verdict.INCONCLUSIVE else ""
    return _Measured(found.bounds, found.estimate, found.verdict, undecided, (found.note,))


def _counted(question: Question, confidence: float) -> tuple[float, Bounds]:
    """Return the counted value and its bounds: a rate or a mean score, or a difference of them."""
    if question.absolute:
        value, outcomes = question.rate.value, question.outcomes()
        if question.metric.of == SCORE:
            return value, means.of_mean(outcomes, confidence)
        return value, bounds.of_rate(outcomes, confidence)
    value = question.rate.value - question.rate_before.value
    if question.metric.of == SCORE:
        return value, means.of_mean_difference(question.pairs(), confidence)
    return value, bounds.of_difference(question.pairs(), confidence)


def side(question: Question, found: Bounds) -> Verdict:
    """PASS, FAIL or INCONCLUSIVE of an interval against the limit, which must be stayed on the right side of."""
    name, limit = question.limit
    if name == "at_least":
        found, limit = Bounds(-found.high, -found.low), -limit
    if not question.absolute:
        # Both speak of change in the direction that the metric calls worse.
        found = found if question.sign == 1 else Bounds(-found.high, -found.low)
        limit = limit if name == "worse_by_at_most" else -limit
    if found.high <= limit:
        return Verdict.PASS
    return Verdict.FAIL if found.low > limit else Verdict.INCONCLUSIVE


# -- the judge's error -------------------------------------------------------------------------------------------------


def _judge_confidence(question: Question, confidence: float) -> float:
    """A sequential test and the calibration rows share the error: half of it each (Bonferroni)."""
    return (1 + confidence) / 2 if question.guardrail.sequential else confidence


def _reliability(question: Question, confidence: float) -> Reliability | str:
    """Return how far the judge can be trusted here, or the sentence that says why nobody knows."""
    told = question.told.get("calibration")
    if not isinstance(told, Mapping):
        return _NO_CARD
    exact = told.get("kind") == judge_error.DEFINITION
    found = judge_error.reliability(told, question.metric, () if exact else question.languages, confidence)
    return f"{found}, so it can only warn" if isinstance(found, str) else found


def _with_error(
    question: Question, counted: tuple[float, Bounds], error: Reliability | None, reach: Bounds
) -> tuple[float, Bounds]:
    """Return estimate and bounds with the judge's error taken out of them.

    Only a card that was measured on the user's own sample may speak for the candidate: judges move by ten points from
    one labelled set to the next (EVALUATION.md). With any other the bounds cover the value as counted as well.
    """
    if error is None or error.sure:
        return counted
    value, plain = counted
    if question.absolute:
        estimate, found = judge_error.corrected(value, plain, error, reach)
    else:
        estimate, found = judge_error.corrected_difference(value, plain, error)
    if error.own:
        return estimate, found
    return value, Bounds(min(plain.low, found.low), max(plain.high, found.high))


def _reach(question: Question, confidence: float, error: Reliability | None) -> Bounds:
    """Return the lower bound if every item counted, and the upper one if none did: no card shows more than these."""
    if error is None or error.sure or not question.absolute:
        return _NO_REACH
    none, every = (
        bounds.of_rate([(cluster, value) for cluster, _ in question.outcomes()], confidence) for value in (0.0, 1.0)
    )
    return Bounds(every.low, none.high)


def _corrected_note(error: Reliability) -> str:
    what = "taken out of the figures" if error.own else "in the bounds (on other responses, so it cannot help)"
    return (
        f"the judge's error is {what}: sensitivity {_percent(error.sensitivity)}, specificity "
        f"{_percent(error.specificity)}"
    )


def _percent(part: judge_error.Part) -> str:
    return f"{100 * part.value:.0f} % ({100 * part.low:.0f}-{100 * part.high:.0f})"


# -- how many items would decide ---------------------------------------------------------------------------------------

_MOST = 2.0**20  # times the items that there are


def _needed(question: Question, confidence: float, error: Reliability | None) -> int | None:
    """Return the n at which what was seen, if true, would clear the limit with 80 % power; None when it is beyond."""
    if error is not None and not error.sure:
        return _needed_with_error(question, confidence, error)
    name, limit = question.limit
    if question.absolute:
        below = name == "at_most"
        if question.metric.of == SCORE:
            return means.n_for_mean(question.outcomes(), limit, confidence, below=below)
        return bounds.n_for_rate(question.outcomes(), limit, confidence, below=below)
    worsening = limit if name == "worse_by_at_most" else -limit
    if question.metric.of == SCORE:
        return means.n_for_mean_difference(question.pairs(), question.sign, worsening, confidence)
    return bounds.n_for_difference(question.pairs(), question.sign, worsening, confidence)


def _needed_with_error(question: Question, confidence: float, error: Reliability) -> int | None:
    """Find how much narrower the counted bounds would have to be; the judge's error stays as it is."""
    counted, plain = _counted(question, confidence)

    def decides(times: float) -> bool:
        narrow = math.sqrt(times)
        shrunk = Bounds(counted - (counted - plain.low) / narrow, counted + (plain.high - counted) / narrow)
        return side(question, _with_error(question, (counted, shrunk), error, _NO_REACH)[1]) is not Verdict.INCONCLUSIVE

    times = _smallest(decides)
    if times is None:
        return None
    # The bound would then just touch the limit, in half of all cases; this many times more do in 80 %.
    z = normal_quantile(confidence)
    return math.ceil(len(question.reading.now) * times * ((z + normal_quantile(POWER)) / z) ** 2)


def _smallest(enough: Callable[[float], bool]) -> float | None:
    """Return about the smallest factor from 1 on that is enough, or None."""
    if not enough(_MOST):
        return None
    low, high = 1.0, _MOST
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high

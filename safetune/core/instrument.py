"""Instrument before subject: why a measurement, or the limit that it is held against, cannot be trusted.

Trouble is a sentence; an empty string means that nothing was found wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard

from safetune.core.arms import Arm, Reading
from safetune.core.evidence import EvaluationReport, SuiteEvidence
from safetune.core.playbook import SEVERITIES, Guardrail
from safetune.core.suite import LABEL, SCORE, Metric

# The end of 0 to 1 that is no limit: every model meets it, so the guardrail could not say no; or none can.
_EMPTY = {"at_most": 1, "at_least": 0, "worse_by_at_most": 1, "better_by_at_least": 1}


def find(
    report: EvaluationReport, guardrail: Guardrail, read: Callable[[SuiteEvidence], Reading] = Reading
) -> tuple[Reading, Metric] | str:
    """Return the items and the metric that a guardrail is about, or why there are none to rely on."""
    named = [s for s in report.suites if s.suite == guardrail.suite]
    if len(named) != 1:
        return f"suite {guardrail.suite} was {'measured more than once' if named else 'not measured'}"
    evidence = named[0]
    if evidence.error:
        return evidence.error
    metrics = [m for m in evidence.metrics if m.name == guardrail.metric]
    if len(metrics) != 1:
        return f"suite {guardrail.suite} has {len(metrics) or 'no'} metric{'s' * (len(metrics) > 1)} {guardrail.metric}"
    metric = metrics[0]
    if trouble := _metric_trouble(metric) or _judge_trouble(evidence, metric):
        return trouble
    reading = read(evidence)
    return _trouble_in(reading.now, reading.expected) or (reading, metric)


def guardrail_trouble(guardrail: Guardrail) -> str:
    """Say why a guardrail can decide nothing whatever was measured."""
    if guardrail.severity not in SEVERITIES:
        return f"{guardrail.severity!r} is not a severity; known: {', '.join(SEVERITIES)}"
    if not 0.5 < guardrail.confidence < 1:
        return f"a confidence of {guardrail.confidence} is not between 0.5 and 1"
    return ""


def is_rate(value: object) -> TypeGuard[int | float]:
    """Say whether a value is a number in [0, 1]."""
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value <= 1


def limit_trouble(name: str, value: object) -> str:
    """Say why a limit is none: not a rate, or one that no model could miss or meet."""
    if not is_rate(value):
        return f"a limit of {value} is not a rate between 0 and 1"
    if value == _EMPTY[name]:
        return f"a limit of {value:g} {'is out of reach' if name == 'better_by_at_least' else 'demands nothing'}"
    return ""


def baseline_trouble(reading: Reading) -> str:
    """Say why the baseline's items cannot be compared with the candidate's, pair by pair."""
    if trouble := _trouble_in(reading.before, reading.expected):
        return trouble
    if not reading.the_same:
        return "the two arms did not answer the same prompts"
    if reading.before.judges != reading.now.judges:
        return "the two arms were not labelled by the same judge"
    return ""


def blind(name: str, value: float, before: float, worse: str) -> str:
    """Say when the baseline leaves so little room that a paired limit could not be crossed, or not be met, at all.

    `before` is the baseline's rate, `worse` the direction that the metric calls worse.
    """
    to_lose = 1 - before if worse == "higher" else before
    if name == "worse_by_at_most" and to_lose <= value:
        return "the baseline is already so bad that nothing worse than the limit could be seen"
    if name == "better_by_at_least" and 1 - to_lose < value:
        return "the baseline is already so good that the improvement asked for is impossible"
    return ""


def _metric_trouble(metric: Metric) -> str:
    if metric.of not in (LABEL, SCORE):
        return f"metric {metric.name} is of {metric.of!r}, which is neither a label nor a score"
    if bool(metric.counts) != (metric.of == LABEL):
        none = "counts no label, so nothing could ever be seen"
        return f"metric {metric.name} {none if metric.of == LABEL else 'counts labels, but is a mean of scores'}"
    if metric.worse not in ("higher", "lower"):
        return f"metric {metric.name} does not say whether higher or lower is worse"
    return ""


def _judge_trouble(evidence: SuiteEvidence, metric: Metric) -> str:
    """The judge must have shown, on responses with a known label, that it tells apart what the metric tells apart."""
    if not evidence.controls:
        return f"judge {evidence.judge} has no controls, so its labels cannot be trusted"
    if evidence.controls_failed:
        return f"judge {evidence.judge} mislabelled its controls: {', '.join(evidence.controls_failed)}"
    if metric.of == SCORE:
        one_sided = len(set(evidence.controls)) < 2
        return f"judge {evidence.judge} has controls of one label only" if one_sided else ""
    if {label in metric.counts for label in evidence.controls} != {True, False}:
        return (
            f"judge {evidence.judge} has no control on both sides of metric {metric.name} ({', '.join(metric.counts)})"
        )
    return ""


def _trouble_in(arm: Arm, expected: int) -> str:
    """Say what is wrong with one arm's items."""
    if expected < 1 or len(arm) != expected:
        return f"{len(arm)} of {expected} items were measured"
    if arm.foreign:
        return "an item belongs to another suite or another arm"
    if len(arm.judges) != 1:
        return "the items were labelled by more than one judge"
    if arm.doubled:
        return "an item was measured twice"
    if arm.unfit:
        return "an item has no label or a score outside 0 to 1"
    return ""

"""Looks: in what parts a suite is asked whose guardrails may stop early, and what is worth asking next. Pure.

A sequential test is valid whenever one looks at it, so the number of looks costs no confidence (core/sequential.py). It
costs speed: each look is a batch of its own. So there are at most twenty, and none is tiny.
"""

from __future__ import annotations

from collections.abc import Sequence

from safetune.core.evidence import EvaluationReport, SuiteEvidence
from safetune.core.playbook import OBSERVE, WARN, Guardrail
from safetune.core.result import GateResult
from safetune.core.verdict import Verdict

MOST = 20  # looks at one suite
LEAST = 16  # prompts of one look, for batches that are worth starting


def may_stop(guardrails: Sequence[Guardrail], suite: str) -> bool:
    """Say whether a suite may be asked in part: a test that is not sequential needs all items."""
    over = [guardrail for guardrail in guardrails if guardrail.suite == suite]
    return bool(over) and all(guardrail.sequential for guardrail in over)


def first_look(guardrails: Sequence[Guardrail], suite: str) -> int:
    """Return how many prompts the first look has at least: below `min_samples` nothing is decided."""
    return max((guardrail.min_samples for guardrail in guardrails if guardrail.suite == suite), default=0)


def first_end(total: int, first: int) -> int:
    """Return after how many of `total` single prompts nothing can be decided earlier, `first` being the least."""
    return min(max(first, LEAST, -(-total // MOST)), total)


def ends(sizes: Sequence[int], first: int, *, doubling: bool = False) -> tuple[int, ...]:
    """Return how many prompts have been asked at the end of each look.

    `sizes` are the numbers of prompts of the clusters, in the order in which they are asked: a cluster belongs to one
    look as a whole. With `doubling` each look is as large as all before it together, for where every look costs the
    start of a model. What would be left for a small last look belongs to the one before.
    """
    total = sum(sizes)
    step = max(LEAST, -(-total // MOST))
    found: list[int] = []
    done, goal = 0, max(first, step)
    for size in sizes:
        done += size
        if done >= goal and total - done >= step / 2:
            found.append(done)
            goal = max(done + step, 2 * done if doubling else 0)
    return (*found, total) if total else ()


def wanting(guardrails: Sequence[Guardrail], report: EvaluationReport, result: GateResult) -> frozenset[str]:
    """Return the suites with a question that more items may decide.

    None once a blocking question says FAIL, for the gate is then decided; and never a suite whose instrument is broken.
    """
    suites = {guardrail.name: guardrail.suite for guardrail in guardrails}
    # Whatever is not plainly a warning blocks, as in the gate itself.
    if any(r.verdict is Verdict.FAIL and r.severity not in (WARN, OBSERVE) for r in result.results):
        return frozenset()
    unsettled = {suites[r.guardrail] for r in result.results if r.verdict not in (Verdict.PASS, Verdict.FAIL)}
    return frozenset(s.suite for s in report.suites if s.suite in unsettled and _sound(s))


def _sound(evidence: SuiteEvidence) -> bool:
    return not evidence.error and bool(evidence.controls) and not evidence.controls_failed

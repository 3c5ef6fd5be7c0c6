"""A limit that is tested item after item, so that generation may stop as soon as it is decided.

The judge's error becomes part of the limit: a true rate lies within `at_most: 5 %` when the judged one lies below the
rate that such a judge would report there. So each side has a threshold of its own on what is counted, and the one that
is crossed first decides. Items are taken in the order of their clusters' digests, whatever order they are stored in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from safetune.core import sequential
from safetune.core.bounds import Bounds
from safetune.core.intervals import root
from safetune.core.question import Question
from safetune.core.sampling import in_order
from safetune.core.sequential import Cluster, Decided
from safetune.core.verdict import Verdict

# A counted value and its bounds in, estimate and bounds without the judge's error out.
Correct = Callable[[float, Bounds], tuple[float, Bounds]]


@dataclass(frozen=True, slots=True)
class Early:
    """What a sequential test says: a verdict, estimate and bounds when it was reached, and after how many items."""

    verdict: Verdict
    estimate: float
    bounds: Bounds
    note: str


def decided(question: Question, alpha: float, correct: Correct | None) -> Early:
    """Follow the items until one side of the limit is shown; both sides at the same item show nothing.

    `alpha` is the error that each side may make. `correct` takes the judge's error out; None where there is none.
    """
    clusters, largest = _clusters(question)
    limit, span = _on_scale(question), (0.0, 1.0) if question.absolute else (-1.0, 1.0)

    def follow(threshold: float, followed: Sequence[Cluster]) -> Decided:
        return sequential.follow(followed, sequential.Question(threshold, alpha, alpha, span, largest))

    below_at, above_at = _thresholds(correct, limit, span) if correct else (limit, limit)
    under = follow(below_at, clusters)
    over = under if above_at == below_at else follow(above_at, clusters)
    below, above = under.below, over.above
    if correct and question.absolute:
        # No card shows more than a judge without any error would, were all items on one side.
        below = _later(below, follow(limit, [(0.0, size) for _, size in clusters]).below)
        above = _later(above, follow(limit, [(float(size), size) for _, size in clusters]).above)
    verdict, read = _verdict(question, below, above)
    at = under if verdict is (Verdict.PASS if _wants_below(question) else Verdict.FAIL) else over
    estimate, bounds = _mean(clusters, at.clusters), Bounds(at.low, at.high)
    if correct:
        estimate, bounds = correct(estimate, bounds)
    found = _agreeing(question, bounds, verdict, limit)
    return Early(verdict, estimate, found, _note(question, read, _figures(question, estimate, found)))


def _clusters(question: Question) -> tuple[Sequence[Cluster], int]:
    """Return sum and size of every cluster in the order of digests, and the size of the largest there can be."""
    sums: dict[str, float] = {}
    sizes: dict[str, int] = {}
    for cluster, value in question.outcomes() if question.absolute else question.changes():
        sums[cluster] = sums.get(cluster, 0.0) + value
        sizes[cluster] = sizes.get(cluster, 0) + 1
    order = in_order(sums, _name if any(question.reading.now.clusters) else None)
    return [(sums[key], sizes[key]) for key in order], max(question.largest, *sizes.values())


def _name(key: str) -> str:
    """Return the bare name of a cluster or an item: the engine asks in the order of these."""
    return key.partition(" ")[2]


def _on_scale(question: Question) -> float:
    """Return the limit on the scale of what is counted: a rate, or candidate minus baseline."""
    name, limit = question.limit
    return limit if question.absolute else question.sign * (limit if name == "worse_by_at_most" else -limit)


def _wants_below(question: Question) -> bool:
    return question.limit[0] == "at_most" if question.absolute else question.sign == 1


def _thresholds(correct: Correct, limit: float, span: tuple[float, float]) -> tuple[float, float]:
    """Return what must be counted less than, to lie below the limit in truth, and more than, to lie above it."""

    def high(value: float) -> float:
        return correct(value, Bounds(value, value))[1].high - limit

    def low(value: float) -> float:
        return correct(value, Bounds(value, value))[1].low - limit

    return root(high, *span), root(low, *span)


def _later(shown: int | None, earliest: int | None) -> int | None:
    return None if shown is None or earliest is None else max(shown, earliest)


def _verdict(question: Question, below: int | None, above: int | None) -> tuple[Verdict, int | None]:
    """Return the verdict and after how many items it was reached."""
    if below == above:
        return Verdict.INCONCLUSIVE, None
    is_below = above is None or (below is not None and below < above)
    verdict = Verdict.PASS if is_below == _wants_below(question) else Verdict.FAIL
    return verdict, below if is_below else above


def _mean(clusters: Sequence[Cluster], read: int) -> float:
    return sum(total for total, _ in clusters[:read]) / sum(size for _, size in clusters[:read])


def _agreeing(question: Question, found: Bounds, verdict: Verdict, limit: float) -> Bounds:
    """Return bounds that say what the verdict says: thresholds and bounds are found by two numerical ways."""
    if verdict is Verdict.INCONCLUSIVE:
        return Bounds(min(found.low, limit), max(found.high, limit))
    if (verdict is Verdict.PASS) == _wants_below(question):
        return Bounds(min(found.low, limit), min(found.high, limit))
    return Bounds(max(found.low, limit), max(found.high, limit))


def _note(question: Question, read: int | None, figures: str) -> str:
    """Say when it was decided, and on what: the rates beside it are those of all items that were asked."""
    n = len(question.reading.now)
    planned = f" of {question.planned} planned" if question.planned > n else ""
    if not read:
        return f"not decided after {n} items{planned}"
    return f"decided after {read} items: estimate {figures}; {n}{planned} were asked"


def _figures(question: Question, estimate: float, found: Bounds) -> str:
    if question.absolute:
        return f"{100 * estimate:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"
    return f"{100 * estimate:+.1f} pt [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"

"""The rows of a gate's table, the same on a terminal and in Markdown: worst first, slices that pass folded into one."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from safetune.core.result import LimitResult, Seen
from safetune.core.verdict import Verdict
from safetune.report.text import NOTHING, percent, points

_ORDER = (Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.PASS)
_REMARKS = {"warn": " (warns only)", "observe": " (observed)"}
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_CORRECTED = "*"
Shown = Callable[[object, int], str]
NAME, SENTENCE = 48, 300


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `cells` are ready for the output that they were made for; the last one is the verdict.

    `verdict` is empty where the line has no colour: what is only observed.
    """

    cells: tuple[str, ...]
    verdict: str


def head(results: Sequence[LimitResult]) -> tuple[str, ...]:
    """Return the headings of the columns."""
    return ("guardrail", "base", "now", "delta", bounds_title(results), "limit", "n", "verdict")


def worst_first(results: Sequence[LimitResult]) -> list[LimitResult]:
    """Return results by verdict, FAIL first; among equals the critical ones, then those that block, then warnings.

    What is only observed comes last, whatever it says.
    """
    return sorted(
        results,
        key=lambda r: (r.severity == "observe", _ORDER.index(r.verdict), not r.critical, r.severity == "warn"),
    )


def bounds_title(results: Sequence[LimitResult]) -> str:
    """Return the heading of the bounds: each is one-sided, at the confidence named where all limits share one."""
    found = {r.confidence for r in results}
    one = next(iter(found)) if len(found) == 1 else None
    return f"{100 * one:g}% bounds" if one else "bounds"


def rows(results: Sequence[LimitResult], shown: Shown) -> list[Row]:
    """Return the lines of the table, worst first. `shown` makes a text harmless, at most so many characters of it.

    The slices of one guardrail that pass the same limit are one line, which names the one nearest to failing.
    """
    ordered = worst_first(results)
    folded: dict[tuple[str, str, str], list[LimitResult]] = {}
    for result in ordered:
        if result.slice and result.verdict is Verdict.PASS:
            folded.setdefault(_fold_key(result), []).append(result)
    found = []
    for result in ordered:
        group = folded.get(_fold_key(result), []) if result.slice and result.verdict is Verdict.PASS else []
        if len(group) < 2:
            found.append(_row(result, shown))
        elif group[0] is result:
            found.append(_folded(group, shown))
    return found


def _fold_key(result: LimitResult) -> tuple[str, str, str]:
    return result.guardrail, result.limit, result.severity


def _row(result: LimitResult, shown: Shown) -> Row:
    seen = result.seen
    critical = ", critical" if result.critical and result.verdict is not Verdict.PASS else ""
    reason = f", {shown(result.reason, SENTENCE)}" if result.verdict is not Verdict.PASS and result.reason else ""
    remark = remark_of(result)
    cells = (
        title(result, shown),
        percent(seen.baseline.value if seen.baseline else None),
        now(seen),
        delta(seen),
        bounds(seen),
        shown(result.limit, NAME),
        str(seen.candidate.n) if seen.candidate else NOTHING,
        f"{result.verdict.value}{remark}{critical}{reason}",
    )
    return Row(cells, "" if result.severity == "observe" else result.verdict.value)


def title(result: LimitResult, shown: Shown) -> str:
    """Return `guardrail . slice`, or the guardrail alone for the whole suite."""
    whole = shown(result.guardrail, NAME)
    return f"{whole} . {shown(result.slice, NAME)}" if result.slice else whole


def remark_of(result: LimitResult) -> str:
    """Say how a result counts that does not decide; nothing for one that does, a misspelt severity included."""
    return _REMARKS.get(result.severity, "")


def now(seen: Seen) -> str:
    """Return the candidate's rate on the scale of the bounds, marked where that is not the rate that was counted."""
    if seen.candidate is None:
        return NOTHING
    counted = percent(seen.candidate.value)
    return f"{percent(seen.estimate)}{_CORRECTED}" if corrected(seen) and not seen.paired else counted


def delta(seen: Seen) -> str:
    """Return candidate minus baseline in points, marked where the bounds are about another figure than the counted."""
    return f"{points(seen.estimate)}{_CORRECTED}" if corrected(seen) and seen.paired else points(seen.difference)


def corrected(seen: Seen) -> bool:
    """Say whether the judge's error is out of the figure that the bounds are about, and it shows.

    The estimate of a sequential test is that of the items up to its decision, and no correction: the table shows what
    was counted of all, so that its rows add up.
    """
    if not seen.corrected or seen.estimate is None or not math.isfinite(seen.estimate) or seen.candidate is None:
        return False
    if seen.paired:
        return points(seen.estimate) != points(seen.difference)
    return percent(seen.estimate) != percent(seen.candidate.value)


def counted_text(seen: Seen) -> str:
    """Return what was counted, for a figure that is shown corrected."""
    return f"counted {points(seen.difference) + ' pt' if seen.paired else percent(_value(seen))}"


def _value(seen: Seen) -> float | None:
    return seen.candidate.value if seen.candidate else None


def bounds(seen: Seen) -> str:
    """Bounds of a difference in points with a sign; bounds of a rate in per cent."""
    if seen.bounds is None:
        return NOTHING
    unit = points if seen.paired else percent
    return f"[{unit(seen.bounds.low)}, {unit(seen.bounds.high)}]"


# -- slices that pass --------------------------------------------------------------------------------------------------


def _folded(group: Sequence[LimitResult], shown: Shown) -> Row:
    first = group[0]
    text = f"{len(group)} more slices PASS{remark_of(first)}{_closest(group, shown)}"
    cells = (shown(first.guardrail, NAME), "", "", "", "", shown(first.limit, NAME), "", text)
    return Row(cells, "" if first.severity == "observe" else Verdict.PASS.value)


def _closest(group: Sequence[LimitResult], shown: Shown) -> str:
    """Name the slice whose deciding bound is nearest to the limit."""
    known = [(r, r.seen.bounds) for r in group if r.seen.bounds is not None]
    if not known:
        return ""
    side = _side([r for r, _ in known])
    if not side:  # which of its bounds decides cannot be told from the result: show both
        widest, found = max(known, key=lambda pair: max(abs(pair[1].low), abs(pair[1].high)))
        return f", the widest {shown(widest.slice, NAME)}: {bounds(widest.seen)}"
    nearest, found = max(known, key=lambda p: p[1].high if side == "high" else -p[1].low)
    unit = points if nearest.seen.paired else percent
    bound = unit(found.high if side == "high" else found.low)
    return f", the closest {shown(nearest.slice, NAME)}: bound {bound} of {shown(nearest.limit, NAME)}"


def _side(group: Sequence[LimitResult]) -> str:
    """Return which bound was held against the limit, `high` or `low`; empty when that cannot be told.

    An absolute limit says it itself. For a change it depends on the direction that the metric calls worse: the one in
    which every result of the group could have passed, where only one is.
    """
    limit = group[0].limit
    if limit.startswith(("<=", ">=")):
        return "high" if limit.startswith("<=") else "low"
    number = _NUMBER.search(limit)
    if not number or not limit.startswith(("worse by <= ", "better by >= ")):
        return ""
    least = float(number.group()) / 100 * (1 if limit.startswith("worse") else -1)
    found = [r.seen.bounds for r in group if r.seen.bounds is not None]
    high, low = all(b.high <= least for b in found), all(-b.low <= least for b in found)
    return "" if high == low else "high" if high else "low"

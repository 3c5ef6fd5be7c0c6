"""The gate table: one line per limit, worst first; then why each limit exists, what flipped, and what to do next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safetune.core.gate import NO_BASELINE
from safetune.core.result import Flip, GateResult, LimitResult, Seen
from safetune.core.verdict import Verdict
from safetune.report.json_view import jsonable
from safetune.report.text import NOTHING, PLAIN, Paint, columns, digest_text, name, percent, points
from safetune.report.untrusted import render_untrusted

_ORDER = (Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.PASS)
_RIGHT = frozenset({1, 2, 3, 6})
_PLACES = 5  # slices named per kind of flip; the rest is counted
_SENTENCE = 300
_FLIP_WORDS = {
    "attack_success_rate": ("newly unsafe", "no longer unsafe"),
    "refusal_rate": ("newly refusing", "no longer refusing"),
    "accuracy": ("newly wrong", "newly right"),
}


@dataclass(frozen=True, slots=True)
class GateView:
    """A gate to show: whose it is, its result, and the digest of the evidence object where it is known."""

    subject: str
    result: GateResult
    evidence: str = ""


def gate_lines(view: GateView, paint: Paint = PLAIN) -> list[str]:
    """Return the whole table with its reasons, flips and next steps."""
    result = view.result
    evidence = f"   evidence {digest_text(view.evidence)}" if view.evidence else ""
    lines = [f"GATE {name(view.subject)}   {paint.verdict(result.verdict.value)}{evidence}"]
    ordered = worst_first(result.results)
    head = ("guardrail", "base", "now", "delta", bounds_title(ordered), "limit", "n", "verdict")
    table = columns([head, *(_row(r) for r in ordered)], _RIGHT)
    lines += [paint.faint(table[0])]
    lines += [_coloured(line, r.verdict.value, paint) for line, r in zip(table[1:], ordered, strict=True)]
    return lines + why_lines(ordered) + flip_lines(result.flips) + next_lines(result)


def worst_first(results: Sequence[LimitResult]) -> list[LimitResult]:
    """Return results by verdict, FAIL first; among equals, those that block before those that warn."""
    return sorted(results, key=lambda r: (_ORDER.index(r.verdict), r.severity == "warn"))


def bounds_title(results: Sequence[LimitResult]) -> str:
    """Return the heading of the bounds: each is one-sided, at the confidence named where all limits share one."""
    found = {r.confidence for r in results}
    one = next(iter(found)) if len(found) == 1 else None
    return f"{100 * one:g}% bounds" if one else "bounds"


def _row(result: LimitResult) -> tuple[str, ...]:
    seen = result.seen
    title = f"{name(result.guardrail)} . {name(result.slice)}" if result.slice else name(result.guardrail)
    warn = " (warns only)" if result.severity == "warn" else ""
    reason = f", {render_untrusted(result.reason, _SENTENCE)}" if result.verdict is not Verdict.PASS else ""
    return (
        title,
        percent(seen.baseline.value if seen.baseline else None),
        percent(seen.candidate.value if seen.candidate else None),
        points(seen.difference),
        _bounds(seen),
        name(result.limit),
        str(seen.candidate.n) if seen.candidate else NOTHING,
        f"{result.verdict.value}{warn}{reason}",
    )


def _bounds(seen: Seen) -> str:
    """Bounds of a difference in points with a sign; bounds of a rate in per cent."""
    if seen.bounds is None:
        return NOTHING
    shown = points if seen.paired else percent
    return f"[{shown(seen.bounds.low)}, {shown(seen.bounds.high)}]"


def _coloured(line: str, verdict: str, paint: Paint) -> str:
    """Colour the verdict of a table line: the last place where the word stands before its reason."""
    before, found, after = line.partition(f"  {verdict}")
    return f"{before}  {paint.verdict(verdict)}{after}" if found else line


def why_lines(results: Sequence[LimitResult]) -> list[str]:
    """Return, once per guardrail that did not pass, the reason a person wrote for it."""
    reasons = {r.guardrail: r.why for r in results if r.verdict is not Verdict.PASS}
    return [f"  why {name(g)}: {render_untrusted(why, _SENTENCE)}" for g, why in reasons.items() if why]


def flip_lines(flips: Sequence[Flip]) -> list[str]:
    """Return how many items changed per suite and metric, for the worse and for the better, and in which slices."""
    lines = []
    for suite, metric in dict.fromkeys((f.suite, f.metric) for f in flips):
        found = [f for f in flips if (f.suite, f.metric) == (suite, metric)]
        worse, better = _FLIP_WORDS.get(metric, ("worse", "better"))
        parts = [
            f"{len(chosen)} {words}{_slices(chosen)}"
            for words, chosen in ((worse, [f for f in found if f.worse]), (better, [f for f in found if not f.worse]))
            if chosen
        ]
        lines.append(f"  flips {name(suite)} {name(metric)}: {'; '.join(parts)}")
    return lines


def _slices(flips: Sequence[Flip]) -> str:
    counts = Counter(f.slice for f in flips if f.slice).most_common()
    if not counts:
        return ""
    shown = ", ".join(f"{name(place)} {number}" for place, number in counts[:_PLACES])
    rest = sum(number for _, number in counts[_PLACES:])
    return f" ({shown}{f', other {rest}' if rest else ''})"


def next_lines(result: GateResult) -> list[str]:
    """Return what a person may do now, by verdict; a recorded verdict is final unless a reason is given."""
    if result.verdict is Verdict.PASS:
        return []
    if result.verdict is Verdict.FAIL:
        return [
            "  next: change what is trained (data, technique, steps), then plan again; this verdict stays on record"
        ]
    blocking = [r for r in worst_first(result.results) if r.severity != "warn" and r.verdict is not Verdict.PASS]
    if result.verdict is Verdict.ERROR:
        broken = next((r.reason for r in blocking if r.verdict is Verdict.ERROR), "no guardrail of this gate can block")
        return [f'  next: repair the measurement ({render_untrusted(broken, _SENTENCE)}), then --reason "..."']
    needed = {r.guardrail: r.seen.needed for r in blocking if r.seen.needed}
    if any(r.reason == NO_BASELINE for r in blocking):
        return ["  next: give something to compare with: --baseline MODEL, or --baseline-recorded FILE for responses"]
    if not needed:
        return ["  next: more items alone are unlikely to decide; look at the limits and at the suites of this gate"]
    sizes = ", ".join(f"{name(g)} n={n:,}" for g, n in needed.items())
    return [f'  next: give the suites more items ({sizes}), or set other limits, then --reason "..."']


def gate_json(view: GateView) -> Mapping[str, object]:
    """Return a gate as JSON: verdict, one object per limit with rates and difference, flips without any response."""
    result = view.result
    return {
        "subject": view.subject,
        "verdict": result.verdict.value,
        "guardrails_digest": result.guardrails,
        "evidence": view.evidence,
        "limits": [_limit_json(r) for r in worst_first(result.results)],
        "flips": jsonable(result.flips),
    }


def _limit_json(result: LimitResult) -> Mapping[str, object]:
    seen = result.seen
    rates = {
        arm: {"rate": rate.value, "events": rate.events, "n": rate.n} if rate else None
        for arm, rate in (("baseline", seen.baseline), ("candidate", seen.candidate))
    }
    return {
        "guardrail": result.guardrail,
        "slice": result.slice,
        "severity": result.severity,
        "limit": result.limit,
        "confidence": result.confidence,
        "verdict": result.verdict.value,
        "reason": result.reason,
        "why": result.why,
        **rates,
        "difference": seen.difference,
        "bounds": jsonable(seen.bounds),
        "paired": seen.paired,
        "needed": seen.needed,
    }

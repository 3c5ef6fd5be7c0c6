"""A gate as a person reads it: the table, worst first; then why each limit exists, what flipped, and what is next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safetune.core.alpha import amount
from safetune.core.result import GateResult, LimitResult
from safetune.core.verdict import Verdict
from safetune.report import gate_rows
from safetune.report.flips import flip_lines
from safetune.report.gate_next import next_texts
from safetune.report.gate_rows import NAME, SENTENCE, Row, worst_first
from safetune.report.json_view import jsonable
from safetune.report.text import PLAIN, Paint, columns, digest_text, name
from safetune.report.untrusted import render_untrusted

_RIGHT = frozenset({1, 2, 3, 6})
_NOTES = 12  # distinct notes shown on a terminal; JSON has all of them
_OWNERS = 3  # guardrails named per note


@dataclass(frozen=True, slots=True)
class GateView:
    """A gate to show: whose it is, its result, and the digest of the evidence object where it is known.

    `budget` is what the gates of the playbook have spent of its alpha budget, this one included, and what they may
    spend. `override` says that the verdict was overridden and why (`core.override.Override.text`); it never changes it.
    `changed` is how its guardrails differ from those of the gate before (`core.redefined.Change.text`).
    """

    subject: str
    result: GateResult
    evidence: str = ""
    budget: tuple[float, float] | None = None
    override: str = ""
    changed: tuple[str, ...] = ()


def gate_lines(view: GateView, paint: Paint = PLAIN) -> list[str]:
    """Return the whole table with its reasons, notes, flips and next steps."""
    result = view.result
    evidence = f"   evidence {digest_text(view.evidence)}" if view.evidence else ""
    lines = [f"GATE {name(view.subject)}   {paint.verdict(result.verdict.value)}{evidence}"]
    lines += [f"  {text}" for text in about_lines(view, render_untrusted)]
    found = gate_rows.rows(result.results, render_untrusted)
    table = columns([gate_rows.head(result.results), *(row.cells for row in found)], _RIGHT)
    lines += [paint.faint(table[0])]
    lines += [_coloured(line, row, paint) for line, row in zip(table[1:], found, strict=True)]
    lines += [f"  {text}" for text in why_texts(result.results, render_untrusted)]
    lines += [paint.faint(f"  {text}") for text in note_texts(result.results, render_untrusted)]
    return lines + flip_lines(result.flips) + [f"  next: {text}" for text in next_texts(result, render_untrusted)]


def _coloured(line: str, row: Row, paint: Paint) -> str:
    """Colour the verdict of a table line, which is the last column."""
    last = row.cells[-1]
    if not row.verdict or not line.endswith(last):
        return line
    before, _, after = last.partition(row.verdict)
    return f"{line[: len(line) - len(last)]}{before}{paint.verdict(row.verdict)}{after}"


def about_lines(view: GateView, shown: gate_rows.Shown) -> list[str]:
    """Return what belongs under the headline: the gate's own reason, an override, and what is left of the budget."""
    result = view.result
    lines = [f"reason: {shown(result.reason, SENTENCE)}"] if result.reason else []
    if view.override:
        lines.append(f"{result.verdict.value}, {shown(view.override, SENTENCE)}; the verdict stays")
    lines += [f"guardrails since the gate before: {shown(text, SENTENCE)}" for text in view.changed]
    if view.budget is not None:
        spent, allowed = view.budget
        left = max(allowed - spent, 0.0)
        lines.append(
            f"alpha budget: this gate took {amount(result.spent)}; {amount(left)} of {amount(allowed)} is left"
        )
    return lines


def why_texts(results: Sequence[LimitResult], shown: gate_rows.Shown) -> list[str]:
    """Return, once per guardrail that did not pass, the reason a person wrote for it."""
    reasons = {r.guardrail: r.why for r in results if r.verdict is not Verdict.PASS}
    return [f"why {shown(g, NAME)}: {shown(why, SENTENCE)}" for g, why in reasons.items() if why]


def note_texts(results: Sequence[LimitResult], shown: gate_rows.Shown, most: int = _NOTES) -> list[str]:
    """Return every distinct note of the results once, with guardrails and slices, and what was counted."""
    ordered = worst_first(results)
    owners: dict[str, list[LimitResult]] = {}
    for result in ordered:
        for note in result.notes:
            owners.setdefault(note, []).append(result)
    texts = []
    for result in ordered:
        if gate_rows.corrected(result.seen):
            counted = gate_rows.counted_text(result.seen)
            texts.append(f"* {gate_rows.title(result, shown)} {shown(result.limit, NAME)}: {counted}")
    texts += [f"note {_named(found, results, shown)}: {shown(note, SENTENCE)}" for note, found in owners.items()]
    rest = len(texts) - most
    return texts if rest <= 0 else [*texts[:most], f"and {rest} more notes: --json has them"]


def _named(found: Sequence[LimitResult], results: Sequence[LimitResult], shown: gate_rows.Shown) -> str:
    """Name what a note is about: each guardrail, with its slices unless the note is about all there is of it."""
    names = []
    for guardrail in dict.fromkeys(r.guardrail for r in found):
        about = list(dict.fromkeys(r.slice for r in found if r.guardrail == guardrail))
        everything = {r.slice for r in results if r.guardrail == guardrail}
        if len(everything) > 1 and set(about) == everything:
            names.append(f"{shown(guardrail, NAME)}, all slices")
            continue
        whole = [shown(guardrail, NAME)] if "" in about else []
        slices = [shown(place, NAME) for place in about if place]
        names += whole + ([f"{shown(guardrail, NAME)} . {_few(slices)}"] if slices else [])
    return _few(names, "; ")


def _few(names: Sequence[str], between: str = ", ") -> str:
    more = f" and {len(names) - _OWNERS} more" if len(names) > _OWNERS else ""
    return between.join(names[:_OWNERS]) + more


# -- JSON: safetune/report/schemas/gate.json describes it --------------------------------------------------------------


def gate_json(view: GateView) -> Mapping[str, object]:
    """Return a gate as JSON: verdict, one object per limit with rates and difference, every flip, no response."""
    result = view.result
    spent, allowed = view.budget or (None, None)
    return {
        "subject": view.subject,
        "verdict": result.verdict.value,
        "reason": result.reason,
        "guardrails_digest": result.guardrails,
        "evidence": view.evidence,
        "alpha": {"taken": jsonable(result.spent), "spent": jsonable(spent), "allowed": jsonable(allowed)},
        "override": view.override,
        "changed": list(view.changed),
        "limits": [_limit_json(r) for r in worst_first(result.results)],
        "flips": jsonable(result.flips),
    }


def _limit_json(result: LimitResult) -> Mapping[str, object]:
    seen = result.seen
    rates = {
        arm: {"rate": jsonable(rate.value), "events": jsonable(rate.events), "n": rate.n} if rate else None
        for arm, rate in (("baseline", seen.baseline), ("candidate", seen.candidate))
    }
    return {
        "guardrail": result.guardrail,
        "slice": result.slice,
        "severity": result.severity,
        "critical": result.critical,
        "limit": result.limit,
        "confidence": jsonable(result.confidence),
        "verdict": result.verdict.value,
        "reason": result.reason,
        "cause": result.remedy.cause.value,
        "why": result.why,
        "notes": list(result.notes),
        **rates,
        "difference": jsonable(seen.difference),
        "estimate": jsonable(seen.estimate),
        "corrected": seen.corrected,
        "bounds": jsonable(seen.bounds),
        "paired": seen.paired,
        "needed": seen.needed,
    }

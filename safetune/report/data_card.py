"""A data card as people read it: in a terminal, or as Markdown to keep beside a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from safetune.core.data_card import DataCard, Difference, SourceCard, by_severity
from safetune.core.data_policy import BLOCK, DROP, OFF, Loosened
from safetune.core.digest import JSON
from safetune.report.text import PLAIN, Paint, columns, counted, digest_text, name
from safetune.report.untrusted import render_untrusted

_SENTENCE, _WORDS = 300, 120
_DECLARED = (
    "licence",
    "consent",
    "basis",
    "origin",
    "publisher",
    "collected",
    "languages",
    "limits",
    "use",
    "revision",
)
_MARKS = {BLOCK: "FAIL", DROP: "INCONCLUSIVE"}


def check_lines(card: DataCard, findings: str = "", paint: Paint = PLAIN) -> list[str]:
    """Return what guards found, source by source: rows, what was found by rule and action, and where to look."""
    lines = [f"{paint.strong(name(card.about))}   {card.kept:,} rows kept of {card.rows:,}"]
    for source in card.sources:
        lines += _source_lines(source, paint)
    if findings:
        lines.append(f"every finding: {render_untrusted(findings, _SENTENCE)}")
    blocked = [s.name for s in card.sources if s.outcome.problem]
    lines.append(f"next: {_next(blocked, bool(findings))}")
    return lines


def _next(blocked: Sequence[str], known: bool) -> str:
    if not blocked:
        return "safetune plan PLAYBOOK"
    what = ", ".join(name(one) for one in blocked)
    look = "look at the findings" if known else "safetune data check TARGET --findings findings.jsonl"
    return f"{what} may not train a model as it is; {look}, mend the rows, or change the action in the data policy"


def loosened_text(source: str, found: Sequence[Loosened]) -> str:
    """Say which guards and rules do less for a source than the policy asks for; empty when none does."""
    if not found:
        return ""
    off = [one for one in found if not one.rule and one.after == OFF]
    parts = [", ".join(f"{name(one.guard)}{_but(one)}" for one in off) + " off"] if off else []
    milder = [one for one in found if one not in off]
    parts += [
        f"{name(one.guard)}{f'/{name(one.rule)}' if one.rule else ''} {name(one.before)} -> {name(one.after)}"
        for one in milder
    ]
    return f"{name(source)}: {'; '.join(parts)} for this source"


def _but(one: Loosened) -> str:
    return f" (but for {', '.join(name(rule) for rule in one.still)})" if one.still else ""


def _source_lines(source: SourceCard, paint: Paint) -> list[str]:
    outcome = source.outcome
    rows = f"{outcome.kept:,} of {counted(outcome.rows + outcome.bad, 'row')} kept"
    head = f"  {name(source.name)}   {rows}, {outcome.flagged:,} with findings"
    lines = [head]
    if milder := loosened_text(source.name, source.loosened):
        lines.append(f"    {paint.verdict('INCONCLUSIVE', '!')} {milder}")
    table = []
    for guard, rule, action, count in by_severity(outcome.counts):
        places = ", ".join(render_untrusted(p, 60) for p in outcome.places.get(f"{guard}/{rule}/{action}", ()))
        table.append(
            (f"{count:,}", paint.verdict(_MARKS.get(action, ""), name(action)), f"{name(guard)}/{name(rule)}", places)
        )
    lines += [f"    {line}" for line in columns(table, frozenset({0}))]
    if outcome.problem:
        lines.append(f"    {paint.verdict('FAIL', 'blocked')}: {render_untrusted(outcome.problem, _SENTENCE)}")
    return lines


def markdown(card: DataCard, examples: Mapping[str, Sequence[str]]) -> str:
    """Return a card as Markdown; `examples` are excerpts of kept rows by source, as the guards left them."""
    lines = [f"# Data card: {_cell(card.about)}", ""]
    lines += [f"Mixture `{card.mixture[:12]}`. " if card.mixture else "Not run yet. "]
    lines[-1] += f"{card.kept:,} of {card.rows:,} rows kept. Licences: {_cell(', '.join(card.licences))}. "
    lines[-1] += f"Languages: {_cell(', '.join(card.languages) or 'not declared')}."
    for source in card.sources:
        lines += ["", f"## {_cell(source.name)}", ""]
        lines += [
            f"- {label}: {_cell(_said(source.declared[label]))}" for label in _DECLARED if source.declared.get(label)
        ]
        lines += [f"- used as {_cell(role)}, share {share:g}" for role, share in source.uses]
        outcome = source.outcome
        milder = loosened_text(source.name, source.loosened)
        lines += [f"- **guards loosened**: {_cell(milder)}"] if milder else []
        lines += [f"- rows: {outcome.rows:,} read, {outcome.kept:,} kept, {outcome.bad:,} unreadable"]
        lines += [f"- **blocked**: {_cell(outcome.problem)}"] if outcome.problem else []
        found = by_severity(outcome.counts)
        if found:
            lines += ["", "| findings | action | guard / rule |", "|---:|---|---|"]
            lines += [
                f"| {count:,} | {_cell(action)} | {_cell(guard)} / {_cell(rule)} |"
                for guard, rule, action, count in found
            ]
        if examples.get(source.name):
            lines += ["", "Examples, as the guards left them:", ""]
            lines += [f"    {render_untrusted(text, _WORDS)}" for text in examples[source.name]]
    return "\n".join(lines) + "\n"


def _said(value: JSON) -> str:
    return ", ".join(str(item) for item in value) if isinstance(value, list | tuple) else str(value)


def _cell(text: str) -> str:
    """Return a text that Markdown takes as nothing but text."""
    plain = render_untrusted(text, _SENTENCE)
    for sign in "\\`*_[]<>|#!":
        plain = plain.replace(sign, f"\\{sign}")
    return plain


def card_lines(card: DataCard, paint: Paint = PLAIN) -> list[str]:
    """Return a card for a terminal."""
    title = f"{paint.strong(name(card.about))}   {card.kept:,} rows kept of {card.rows:,}"
    title += f"   mixture {digest_text(card.mixture)}" if card.mixture else "   not run yet"
    lines = [title, f"  licences   {render_untrusted(', '.join(card.licences), _SENTENCE)}"]
    lines.append(f"  languages  {render_untrusted(', '.join(card.languages) or 'not declared', _SENTENCE)}")
    for source in card.sources:
        lines += _source_lines(source, paint)
        uses = ", ".join(f"{name(role)} {share:g}" for role, share in source.uses)
        said = [f"{label} {_said(source.declared[label])}" for label in _DECLARED[:5] if source.declared.get(label)]
        lines.append(f"    {render_untrusted('; '.join(said), _SENTENCE)}" + (f"; used as {uses}" if uses else ""))
    return lines


def difference_lines(found: Sequence[Difference], paint: Paint = PLAIN) -> list[str]:
    """Return what differs between two cards, one line each."""
    if not found:
        return ["no difference"]
    return [
        f"{name(one.source) or 'policy'}   {render_untrusted(one.what, 80)}: "
        f"{render_untrusted(_shown(one.before), 100)} -> {render_untrusted(_shown(one.after), 100)}"
        for one in found
    ]


def _shown(value: JSON) -> str:
    return "absent" if value is None else _said(value) or "nothing"

"""Judges tried alone: what a calibration found, what a judge says of responses, and which judges there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from safetune.core.card import CHANCE, LEAST_ROWS, UNKNOWN_LANGUAGE, Counts, Rate
from safetune.report.text import NOTHING, PLAIN, UNKNOWN, Paint, columns, counted, digest_text, name, percent
from safetune.report.untrusted import render_untrusted

if TYPE_CHECKING:
    from safetune.core.agreement import Agreement
    from safetune.engine.calibrate import Calibration, JudgeInfo, Labels

_SENTENCE, _EXCERPT, _LABELS = 300, 60, 4


def calibrate_lines(found: Calibration, paint: Paint = PLAIN) -> list[str]:
    """Return figures with 95 % intervals and n, by language and together, and what the card speaks for."""
    card = found.card
    about = f"{counted(card.overall.n, 'row')}, positive {name(card.positive)}"
    head = f"judge {name(card.judge)} {name(card.version)}   {about}"
    rows: list[tuple[str, ...]] = [("language", "n", "accuracy", "sensitivity", "specificity", "neither label")]
    rows += [_figures(language, counts) for language, counts in sorted(card.figures.items())]
    if len(card.figures) > 1:
        rows.append(_figures("all", card.overall))
    table = columns(rows, frozenset({1}))
    lines = [head, paint.faint(table[0]), *table[1:]]
    lines += [f"  left out     {counted(found.repeated, 'row')} that repeat an earlier one"] if found.repeated else []
    lines += [f"  unreadable   {counted(found.unreadable, 'answer')} of the asked model"] if found.unreadable else []
    lines += [f"  agreement    {_agreement(found.agreement)}"] if found.agreement else []
    lines.append(f"  speaks for   {_speaks(found)}")
    if found.written:
        shown = render_untrusted(found.written, _SENTENCE)
        return [*lines, f"  card         {shown}, digest {digest_text(card.digest)}"]
    return [*lines, "next: the same with --out CARD.json writes the card"]


def _figures(language: str, counts: Counts) -> tuple[str, ...]:
    return (name(language), f"{counts.n:,}", *(_rate(rate) for rate in counts.rates.values()), f"{counts.other:,}")


def _rate(rate: Rate) -> str:
    if rate.value is None:
        return NOTHING
    return f"{percent(rate.value)} [{percent(rate.low)}, {percent(rate.high)}] n={rate.n:,}"


def _speaks(found: Calibration) -> str:
    card = found.card
    spoken = ", ".join(map(name, sorted(card.languages())))
    if spoken:
        return spoken
    why = f"no language: each needs {LEAST_ROWS} rows or more of {name(card.positive)} and of {name(card.negative)}"
    why += f", sensitivity and specificity both shown to be above {CHANCE:.0%}"
    return f"{why}, and rows that name theirs (--language)" if UNKNOWN_LANGUAGE in card.figures else why


def _agreement(found: Agreement) -> str:
    kappa = "undefined" if found.kappa is None else f"{found.kappa:.3f}"
    left_out = f", {found.left_out:,} left out" if found.left_out else ""
    return f"{found.statistic} {kappa}, {percent(found.observed)} of pairs agree, n={found.n:,}{left_out}"


def calibrate_json(found: Calibration) -> Mapping[str, object]:
    """Return the card, and rates with intervals by language and together."""
    card = found.card
    return {
        "card": dict(card.document),
        "written": found.written,
        "rates": {language: _rates(counts) for language, counts in sorted(card.figures.items())},
        "overall": {**card.overall.row, **_rates(card.overall)},
        "speaks_for": sorted(card.languages()),
        "repeated": found.repeated,
        "unreadable": found.unreadable,
        "agreement": _agreement_row(found.agreement),
    }


def _rates(counts: Counts) -> Mapping[str, object]:
    return {what: rate.row for what, rate in counts.rates.items()}


def _agreement_row(found: Agreement | None) -> Mapping[str, object] | None:
    return None if found is None else {key: getattr(found, key) for key in found.__slots__}


def label_lines(found: Labels, paint: Paint = PLAIN) -> list[str]:
    """Return one line for each response: line of the file, label, score, and how the response begins."""
    rows = [("line", "label", "score", "response")]
    rows += [
        (str(row.line), name(said.label), f"{said.score:.2f}", render_untrusted(row.response, _EXCERPT))
        for row, said in found.judgements
    ]
    table = columns(rows, frozenset({0, 2}))
    head = f"judge {name(found.judge)} {name(found.version)}   {_tally(found)}"
    lines = [head, paint.faint(table[0]), *table[1:]]
    if found.said.failed:
        failed = render_untrusted(", ".join(found.said.failed), _SENTENCE)
        lines.append(f"{paint.verdict('ERROR')}   the judge mislabelled its controls: {failed}")
    return lines


def _tally(found: Labels) -> str:
    labels = [said.label for _, said in found.judgements]
    return ", ".join(f"{labels.count(label):,} {name(label)}" for label in dict.fromkeys(labels))


def label_json(found: Labels) -> Mapping[str, object]:
    """Return label and score of each row by line, and what the judge said of its controls."""
    return {
        "judge": found.judge,
        "version": found.version,
        "labels": [{"line": r.line, "label": said.label, "score": said.score} for r, said in found.judgements],
        "controls": len(found.said.controls),
        "controls_failed": list(found.said.failed),
        "unreadable": found.said.unreadable,
        "agreement": _agreement_row(found.said.agreement),
    }


def list_lines(found: Sequence[JudgeInfo], paint: Paint = PLAIN) -> list[str]:
    """Return one line for each judge: labels, languages, card, or what it must be told first."""
    rows = [("judge", "labels", "languages", "card")]
    for one in found:
        if one.needs:
            rows.append((name(one.name), render_untrusted(one.needs, _SENTENCE), NOTHING, NOTHING))
        else:
            languages = ", ".join(map(name, one.languages))
            card = render_untrusted(one.card, _SENTENCE)
            rows.append((name(one.name), _first(one.labels), languages or NOTHING, card or NOTHING))
    table = columns(rows)
    return [paint.faint(table[0]), *table[1:]]


def _first(labels: Sequence[str]) -> str:
    """Return a few labels, and how many more there are; `unknown` where no control has any."""
    shown = ", ".join(map(name, labels[:_LABELS])) or UNKNOWN
    return shown if len(labels) <= _LABELS else f"{shown} and {len(labels) - _LABELS} more"

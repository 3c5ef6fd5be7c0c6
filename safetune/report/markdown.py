"""A gate as Markdown, for a pull request or the summary of a build: what a person must know, and nothing that acts."""

from __future__ import annotations

from collections.abc import Sequence

from safetune.core.errors import PlaybookError, SafetuneError, StalePlanError
from safetune.report import gate_rows
from safetune.report.ci import CiReport, StageNote
from safetune.report.flips import FlipGroup, flip_groups
from safetune.report.gate import GateView, about_lines, note_texts, why_texts
from safetune.report.gate_next import next_texts
from safetune.report.gate_rows import NAME, SENTENCE
from safetune.report.run import exit_meaning
from safetune.report.text import counted, digest_text
from safetune.report.untrusted import DEFAULT_LIMIT, render_untrusted

_ROWS = 100
_NOTES = 30
_IDS = 20  # item ids named per slice
_ALL_IDS = 300  # and in all: a comment on GitHub holds 65,536 characters
_MISTAKES = 50
_LEFT, _RIGHT = "---", "--:"
_GAP = "&#8203;"  # takes no room; what stands on both sides of it is no mention, no issue and no address any more
_ESCAPES = str.maketrans(
    {
        **{c: f"&#{ord(c)};" for c in "\\|`"},
        **{c: f"\\{c}" for c in "*_[]~$!"},
        **{"<": "&lt;", ">": "&gt;", "&": "&amp;"},
        **{c: f"{c}{_GAP}" for c in "@#"},
        ":": f":{_GAP}",
    }
)


def escape(text: object, limit: int = DEFAULT_LIMIT) -> str:
    """Return untrusted text as one line that Markdown shows as it is.

    No table cell, code, emphasis, link, image, HTML, mention, issue reference, address or emoji name comes of it.
    """
    line = render_untrusted(text, limit).translate(_ESCAPES)
    return line.replace("www.", f"www{_GAP}.").replace("WWW.", f"WWW{_GAP}.")


def markdown_text(report: CiReport) -> str:
    """Return the whole document: the verdict first, then every gate, and how the command ended."""
    code = report.exit_code
    lines = [f"## safetune: {escape(report.headline, SENTENCE)}", ""]
    meaning = exit_meaning(code, bool(report.overridden))
    lines += [f"{escape(report.title, NAME)}: exit code {int(code)}, {meaning}", ""]
    if report.error is not None:
        lines += [*_error(report.error), ""]
    for view in report.gates:
        lines += [*_gate(view), ""]
    lines += [*_stages(report.stages), *(f"- note: {escape(note, SENTENCE)}" for note in report.notes)]
    return "\n".join(lines).rstrip() + "\n"


def _gate(view: GateView) -> list[str]:
    result = view.result
    lines = [f"### Gate {escape(view.subject, NAME)}: {result.verdict.value}", ""]
    lines += _list(about_lines(view, escape))
    found = gate_rows.rows(result.results, escape)
    lines += _table(gate_rows.head(result.results), [_cells(row) for row in found[:_ROWS]])
    if len(found) > _ROWS:
        lines += ["", f"and {len(found) - _ROWS} more lines: `--json` has them"]
    told = [*why_texts(result.results, escape), *note_texts(result.results, escape, _NOTES)]
    told += [f"**next**: {text}" for text in next_texts(result, escape)]
    told += [f"evidence: {escape(digest_text(view.evidence))}"] if view.evidence else []
    lines += ["", *_list(told)]
    return lines + _flips(flip_groups(result.flips))


def _cells(row: gate_rows.Row) -> tuple[str, ...]:
    *first, last = row.cells
    if row.verdict and last.startswith(row.verdict):
        last = f"**{row.verdict}**{last[len(row.verdict) :]}"
    return (*first, last)


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    marks = [_RIGHT if n in (1, 2, 3, 6) else _LEFT for n in range(len(heading))]
    return [f"| {' | '.join(row)} |" for row in (heading, marks, *rows)]


def _list(texts: Sequence[str]) -> list[str]:
    """Return texts as a list. A star at the beginning of one is our own mark, and would begin another list."""
    if not texts:
        return []
    return [*(f"- {text.replace('* ', f'{chr(92)}* ', 1) if text[:2] == '* ' else text}" for text in texts), ""]


def _flips(groups: Sequence[FlipGroup]) -> list[str]:
    if not groups:
        return []
    kinds: dict[str, int] = {}
    for group in groups:
        kinds[group.words] = kinds.get(group.words, 0) + group.size
    counts = ", ".join(f"{n} {words}" for words, n in kinds.items())
    lines, left = [f"<details><summary>Items that changed: {counts}</summary>", ""], _ALL_IDS
    for group in groups:
        for place, ids in group.slices.items():
            chosen = ids[: min(_IDS, left)]
            left -= len(chosen)
            where = f"{escape(group.suite, NAME)} {escape(group.metric, NAME)}"
            where += f", {escape(place, NAME)}" if place else ""
            rest = f" and {len(ids) - len(chosen)} more" if len(ids) > len(chosen) else ""
            shown = ", ".join(escape(i, NAME) for i in chosen)
            if chosen:
                lines.append(f"- {where}: {len(ids)} {group.words}: {shown}{rest}")
    total = sum(kinds.values())
    if left <= 0 and total > _ALL_IDS:
        lines.append(f"- {total} items in all: `--json` has every one")
    return [*lines, "", "</details>"]


def _stages(stages: Sequence[StageNote]) -> list[str]:
    texts = []
    for stage in stages:
        verdict = f", gate {stage.verdict.value}" if stage.verdict else ""
        note = f": {escape(stage.note, SENTENCE)}" if stage.note else ""
        texts.append(f"{escape(stage.title, NAME)} {escape(stage.outcome, NAME)}{verdict}{note}")
    return _list(texts) if texts else []


def _error(error: SafetuneError) -> list[str]:
    if isinstance(error, PlaybookError):
        found = error.diagnostics
        lines = [f"{counted(len(found), 'mistake')} in the playbook; nothing was done", ""]
        for one in found[:_MISTAKES]:
            hint = f" ({escape(one.hint, SENTENCE)})" if one.hint else ""
            place = f"{escape(one.file, SENTENCE)}:{_GAP}{one.line}:{_GAP}{one.column}"
            lines.append(f"- {place} **{escape(one.code, NAME)}** {escape(one.message, SENTENCE)}{hint}")
        return lines + ([f"- and {len(found) - _MISTAKES} more"] if len(found) > _MISTAKES else [])
    lines = [f"error: {escape(error.message, 1000)}", ""]
    if isinstance(error, StalePlanError):
        lines += [f"- changed: {escape(change, SENTENCE)}" for change in error.changes]
    return lines + ([f"- hint: {escape(error.hint, SENTENCE)}"] if error.hint else [])

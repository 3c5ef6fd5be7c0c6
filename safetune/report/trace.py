"""What a trace found: who saw a row, what taught a checkpoint, which rows are near an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from safetune.report.text import NOTHING, PLAIN, Paint, columns, counted, digest_text, name, percent
from safetune.report.untrusted import render_untrusted

if TYPE_CHECKING:
    from safetune.engine.data.trace import CheckpointTrace, NearRow, Origin, OutputTrace, RowTrace, SeenBy, StageTrace

_ID, _STEPS, _EXCERPT = 16, 6, 240


def row_lines(found: RowTrace, paint: Paint = PLAIN) -> list[str]:
    """Return where a row comes from, and every checkpoint that saw it or inherited it."""
    lines = [f"row {_row_id(found.row)}   {_verb(found)}"]
    lines += [f"  from         {_from(origin)}" for origin in found.origins]
    if found.withdrawn:
        where = ", ".join(str(line) for line in found.withdrawn)
        lines.append(paint.verdict("FAIL", f"  withdrawn    it or its source, in ledger line {where}"))
    lines += [f"  says         {_excerpt(found.excerpt)}"] if found.excerpt else []
    if found.seen:
        rows = [_seen_row(one) for one in found.seen]
        table = columns([("checkpoint", "state", "times", "steps", "in", "source"), *rows], frozenset({2}))
        lines += [paint.faint(table[0]), *table[1:]]
    return lines + _unrecorded(found.unrecorded, "whether they saw it")


def _verb(found: RowTrace) -> str:
    own = {one.checkpoint for one in found.seen if not one.via}
    inherited = {one.checkpoint for one in found.seen} - own
    if not own:
        return "admitted, and seen by no checkpoint"
    also = f", inherited by {len(inherited):,} more" if inherited else ""
    return f"seen by {counted(len(own), 'checkpoint')}{also}"


def _seen_row(one: SeenBy) -> tuple[str, ...]:
    where = f"inherited from {digest_text(one.via)}" if one.via else name(one.place)
    shown = [str(step) for step in one.steps[:_STEPS]]
    more = one.steps_in_all - len(shown)
    steps = ", ".join(shown) + (f" and {more:,} more" if more else "")
    return digest_text(one.checkpoint), name(one.status), f"{one.times:,}", steps, where, _source(one.origin)


def checkpoint_lines(found: CheckpointTrace, paint: Paint = PLAIN) -> list[str]:
    """Return the sources of a checkpoint and of everything that it was trained from, its own first."""
    lines = [f"checkpoint {digest_text(found.checkpoint)}   {name(found.status)}"]
    for stage in found.stages:
        lines += _stage_lines(stage, paint)
    if not found.stages:
        lines.append("  it was not trained here: the ledger knows nothing of its rows")
    return lines


def _stage_lines(stage: StageTrace, paint: Paint) -> list[str]:
    parent = digest_text(stage.parent) if stage.parent else "the base model"
    head = f"{digest_text(stage.checkpoint)} {name(stage.place)}, {name(stage.status)}, trained from {parent}"
    if not stage.recorded:
        return [paint.strong(head), "  nobody wrote down which rows it saw"]
    rows = [("source", "as", "seen of kept", "times", "licence", "consent or basis", "publisher")]
    for one in stage.sources:
        seen = f"{one.seen:,} of {one.kept:,}"
        rows.append((name(one.origin.source), name(one.origin.role), seen, f"{one.times:,}", *_rights(one.origin)))
    table = columns(rows, frozenset({2, 3}))
    return [
        paint.strong(f"{head}, {counted(stage.steps, 'step')}"),
        *(paint.faint(f"  {line}") if n == 0 else f"  {line}" for n, line in enumerate(table)),
    ]


def output_lines(found: OutputTrace, paint: Paint = PLAIN) -> list[str]:
    """Return the rows near an answer, nearest first."""
    lines = [
        f"answer of {digest_text(found.checkpoint)}, {counted(found.characters, 'character')}; "
        f"compared with {counted(found.compared, 'row')} that it or an ancestor saw"
    ]
    if not found.near:
        return [*lines, "  no row shares a word with it", *_unrecorded(found.unrecorded, "which rows they saw")]
    graded = found.near[0].gradient is not None
    head = ("row", *(("gradient",) if graded else ()), "near", "shared", "times", "seen by", "source")
    table = columns([head, *(_near_row(one, graded) for one in found.near)], frozenset(range(1, len(head) - 2)))
    lines.append(paint.faint(table[0]))
    for line, one in zip(table[1:], found.near, strict=True):
        lines.append(line)
        lines += [f"    {_excerpt(one.excerpt)}"] if one.excerpt else []
    lines.append("near rows are alike; that is a hint where to look, no proof of what taught it")
    lines += [f"note: {render_untrusted(note)}" for note in found.notes]
    return lines + _unrecorded(found.unrecorded, "which rows they saw")


def _near_row(one: NearRow, graded: bool) -> tuple[str, ...]:
    gradient = (f"{one.gradient:+.3f}" if one.gradient is not None else NOTHING,) if graded else ()
    figures = (f"{one.score:.3f}", percent(one.shared), f"{one.times:,}")
    return _row_id(one.row), *gradient, *figures, digest_text(one.seen_by), _from(one.origin)


def _unrecorded(checkpoints: Sequence[str], what: str) -> list[str]:
    if not checkpoints:
        return []
    named = ", ".join(digest_text(c) for c in checkpoints[:5]) + (", ..." if len(checkpoints) > 5 else "")
    return [f"warning: of {counted(len(checkpoints), 'checkpoint')} nobody wrote down {what}: {named}"]


def _from(origin: Origin) -> str:
    return f"{_source(origin)}, licence {', '.join(_rights(origin))}"


def _source(origin: Origin) -> str:
    role = "" if origin.role == "train" else f" ({name(origin.role)})"
    return f"{name(origin.source)}{role}, kept row {origin.line:,}"


def _rights(origin: Origin) -> tuple[str, str, str]:
    """Return licence, consent or lawful basis, and publisher."""
    basis = f"basis {name(origin.basis)}" if origin.basis else ""
    consent = name(origin.consent) if origin.consent else ""
    return (
        name(origin.licence) or NOTHING,
        "; ".join(w for w in (consent, basis) if w) or NOTHING,
        name(origin.publisher) or NOTHING,
    )


def _row_id(text: str) -> str:
    return render_untrusted(text, _ID) if len(text) <= _ID else render_untrusted(text[:_ID], _ID)


def _excerpt(text: str) -> str:
    return render_untrusted(text, _EXCERPT)

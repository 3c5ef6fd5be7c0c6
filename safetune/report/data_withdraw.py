"""What a withdrawal of a source or a row found and did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetune.report.text import PLAIN, Paint, counted, digest_text, name
from safetune.report.untrusted import render_untrusted

if TYPE_CHECKING:
    from safetune.engine.data.withdraw import Move, WithdrawResult

_SENTENCE = 300


def withdraw_lines(result: WithdrawResult, paint: Paint = PLAIN) -> list[str]:
    """Return what is withdrawn, every affected checkpoint with the reason, channels, and what was not undone."""
    about = f"{result.what} {name(result.name)}"
    about += f" ({digest_text(result.sha256)})" if result.sha256 else ""
    if result.dry_run:
        head = f"WOULD WITHDRAW   {about}   (dry run; nothing was written)"
    elif result.since and not result.line:
        head = f"ALREADY WITHDRAWN   {about} in ledger line {result.since}; nothing was written"
    else:
        head = f"{paint.strong('WITHDRAWN')}   {about}   ledger line {result.line}"
    will = "would be" if result.dry_run else "is"
    lines = [head, f"  {counted(len(result.affected), 'checkpoint')} learnt from it"]
    lines += [
        f"  quarantined  {digest_text(one.checkpoint)} {will} set aside: {render_untrusted(one.why, _SENTENCE)}"
        for one in result.affected
    ]
    learnt = {one.checkpoint for one in result.affected}
    for move in result.moves:
        lines += _move_lines(move, will, move.previous in learnt, paint)
    return [
        *lines,
        "  not undone   exported copies and answers that were given; stored rows stay: nothing is deleted",
        "  from now on  no plan trains on it, and no gate or override frees what did",
    ]


def _move_lines(move: Move, will: str, by_this: bool, paint: Paint) -> list[str]:
    before = digest_text(move.previous)
    # A channel that an earlier withdrawal could not move is named each time, and moved once there is a way back.
    why = "" if by_this else "; not for this withdrawal but for one in an earlier ledger line (safetune status)"
    if move.target:
        return [f"  channel      {name(move.channel)} {will} rolled back: {before} -> {digest_text(move.target)}{why}"]
    stuck = f"{name(move.channel)} STILL SERVES {before}: nothing before it is unaffected{why}"
    return [
        paint.verdict("FAIL", f"  channel      {stuck}"),
        "  next         take it out of service by hand, then train without the data: safetune run PLAYBOOK",
    ]

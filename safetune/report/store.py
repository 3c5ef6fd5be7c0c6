"""What the store holds and what was done to it: status, log, verify, rollback, export."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from safetune.core.alpha import BudgetStanding, amount, is_amount, overspent, same
from safetune.core.events import Event
from safetune.core.standing import CheckpointStanding
from safetune.report.text import NOTHING, PLAIN, Paint, columns, counted, digest_text, name, size, unpaid_text
from safetune.report.untrusted import render_untrusted

if TYPE_CHECKING:
    from safetune.engine.export import ExportResult
    from safetune.engine.override import ActResult
    from safetune.engine.rollback import RollbackResult
    from safetune.engine.status import Status
    from safetune.engine.verify import Finding, VerifyReport

_SENTENCE = 300


# -- status ------------------------------------------------------------------------------------------------------------


def status_lines(found: Status, paint: Paint = PLAIN) -> list[str]:
    """Return channels with what they point at, then every checkpoint with its place, gates and state."""
    lines = [f"{counted(found.events, 'ledger line')}, {counted(len(found.checkpoints), 'checkpoint')}"]
    if found.recovered:
        lines.append(f"  recovered  {render_untrusted(found.recovered, _SENTENCE)}")
    if found.unfinished:
        lines.append(
            f"  run {name(found.unfinished)} has no end in the ledger: it still runs, or was stopped hard; "
            "the same command again continues it"
        )
    lines += _channel_lines(found, paint)
    lines += [paint.verdict("FAIL", f"  warning: {render_untrusted(text, _SENTENCE)}") for text in found.warnings]
    lines += [f"alpha budget of {name(playbook)}: {budget_text(one)}" for playbook, one in found.budgets.items()]
    if not found.checkpoints:
        return [*lines, "next: safetune run PLAYBOOK"]
    rows = [_checkpoint_row(digest, one) for digest, one in found.checkpoints.items()]
    table = columns([("checkpoint", "state", "made by", "from", "gates"), *rows])
    return [*lines, paint.faint(table[0]), *table[1:]]


def _channel_lines(found: Status, paint: Paint) -> list[str]:
    if not found.channels:
        return ["no channel holds anything yet"]
    rows = [("channel", "checkpoint", "since", "before it")]
    for title, channel in sorted(found.channels.items()):
        before = [digest_text(d) for _, d in reversed(channel.history) if d != channel.current]
        rows.append(
            (name(title), digest_text(channel.current), f"ledger line {channel.seq}", ", ".join(before[:3]) or NOTHING)
        )
    table = columns(rows)
    return [paint.faint(table[0]), *table[1:]]


def budget_text(found: BudgetStanding) -> str:
    """Return what was spent of an alpha budget, by how many gates, and how often somebody looked without paying."""
    spent = f"{amount(found.spent)} of {amount(found.budget)} spent by" if found.lines else "nothing spent yet,"
    over = overspent(found.spent, found.budget)
    return f"{spent} {counted(found.gates, 'gate')}{f', {over}' if over else ''}{unpaid_text(found)}"


def _checkpoint_row(digest: str, found: CheckpointStanding) -> tuple[str, ...]:
    since = f" since line {found.quarantined_at}" if found.status == "quarantined" else ""
    since += f", data withdrawn (ledger line {found.withdrawn_at})" if found.withdrawn_at else ""
    gates = ", ".join(f"{gate.verdict.value} (line {gate.seq})" for gate in found.gates)
    gates += f", {render_untrusted(found.override.text, _SENTENCE)}" if found.override else ""
    place = f"{name(found.sprint)}/{name(found.stage)}"
    parent = digest_text(found.parent) if found.parent else "base"
    return digest_text(digest), f"{name(found.status)}{since}", place, parent, gates or "not gated"


# -- log ---------------------------------------------------------------------------------------------------------------


def log_lines(events: Sequence[Event], total: int, earlier: Sequence[Event] = ()) -> list[str]:
    """Return one line per event, oldest first; `total` is how many there are in the ledger, `earlier` come before."""
    if not total:
        return ["the ledger is empty"]
    moves = _budget_moves((*earlier, *events))
    rows = [(str(e.seq), name(e.at), name(e.by), name(e.kind), event_text(e) + moves.get(e.seq, "")) for e in events]
    left = total - len(events)
    head = [f"({counted(left, 'earlier line')} not shown: safetune log --last 0 shows all)"] if left else []
    return head + columns(rows, frozenset({0}))


def _budget_moves(events: Sequence[Event]) -> Mapping[int, str]:
    """Return, by ledger line, where a gate found another alpha budget than the gate of its playbook before."""
    found: dict[str, float] = {}
    moves: dict[int, str] = {}
    for event in events:
        budget, playbook = event.data.get("budget"), event.text("playbook")
        if event.kind == "gated" and is_amount(budget):
            before = found.get(playbook, budget)
            if not same(before, budget):
                word = "raised" if budget > before else "lowered"
                moves[event.seq] = f"; the budget was {word} from {amount(before)} to {amount(budget)}"
            found[playbook] = budget
    return moves


def event_text(event: Event) -> str:
    """Return what an event says, in a few words; an unknown kind shows nothing but its name."""
    words = _EVENTS.get(event.kind)
    return words(event) if words else ""


def _short(event: Event, key: str) -> str:
    return digest_text(event.text(key))


def _place(event: Event) -> str:
    return f"{name(event.text('sprint'))}/{name(event.text('stage'))}"


def _sentence(event: Event, key: str) -> str:
    return render_untrusted(event.text(key), _SENTENCE)


def _gated(event: Event) -> str:
    attempt, reason = event.data.get("attempt"), _sentence(event, "reason")
    extended = event.data.get("extended")
    more = [f"{name(suite)} {name(n)}" for suite, n in extended.items()] if isinstance(extended, Mapping) else []
    sizes = f" ({', '.join(more)})" if more else ""
    act = f"{name(event.text('act')) or 'gated'}{sizes}"
    said = f"{name(event.text('verdict'))} {_short(event, 'checkpoint')}, evidence {_short(event, 'evidence')}"
    again = f": {reason}" if reason else ""
    return f"{said}, {act}, attempt {name(attempt)}{again}{_changed(event)}{_paid(event)}"


def _changed(event: Event) -> str:
    """Return how the guardrails of a gate differ from those of the gate before."""
    rows = event.data.get("changed")
    found = [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list | tuple) else []
    words = ("change", "guardrail", "what")
    told = [render_untrusted(" ".join(str(row.get(word, "")) for word in words), _SENTENCE) for row in found]
    return f"; guardrails {', '.join(told)}" if told else ""


def _paid(event: Event) -> str:
    """Return what a gate spent of which alpha budget."""
    spent, budget = event.data.get("spent"), event.data.get("budget")
    if not is_amount(spent) or not is_amount(budget):
        return ""
    return f"; spent {amount(spent)} of the budget {amount(budget)} of {name(event.text('playbook'))}" if budget else ""


def _evaluated(event: Event) -> str:
    suites = event.data.get("suites")
    named = ", ".join(name(s) for s in suites) if isinstance(suites, list | tuple) else ""
    return f"{render_untrusted(event.text('subject'), 24)} on {named}, evidence {_short(event, 'evidence')}"


def _admitted(event: Event) -> str:
    sources = event.data.get("sources")
    found = [s for s in sources if isinstance(s, Mapping)] if isinstance(sources, list | tuple) else []
    return ", ".join(f"{name(s.get('name', ''))} {digest_text(str(s.get('sha256', '')))}" for s in found)


def _rolled_back(event: Event) -> str:
    move = f"{name(event.text('channel'))}: {_short(event, 'previous')} -> {_short(event, 'target')}"
    return f"{move} by {_sentence(event, 'trigger')}: {_sentence(event, 'reason')}"


def _approved(event: Event) -> str:
    note = f": {_sentence(event, 'note')}" if event.text("note") else ""
    about = f"{_short(event, 'checkpoint')} on evidence {_short(event, 'evidence')}"
    return f"{about} as {_sentence(event, 'role')}{note}"


def _overridden(event: Event) -> str:
    about = f"the gate of line {name(event.data.get('gate'))} of {_short(event, 'checkpoint')}"
    return f"{about}, evidence {_short(event, 'evidence')}: {_sentence(event, 'reason')}"


def _withdrawn(event: Event) -> str:
    named = event.data.get("checkpoints")
    count = len(named) if isinstance(named, list | tuple) else 0
    pinned = f" ({_short(event, 'sha256')})" if event.text("sha256") else ""
    about = f"{name(event.text('what'))} {name(event.text('name'))}{pinned}"
    return f"{about}, {counted(count, 'checkpoint')} quarantined for good: {_sentence(event, 'reason')}"


_EVENTS: Mapping[str, Callable[[Event], str]] = {
    "started": lambda e: f"run {name(e.text('run'))} of {name(e.text('playbook'))}, plan {_short(e, 'plan')}",
    "finished": lambda e: f"run {name(e.text('run'))}, exit code {name(e.data.get('exit_code'))}",
    "admitted": _admitted,
    "trained": lambda e: f"{_place(e)} made {_short(e, 'checkpoint')}",
    "failed": lambda e: f"{name(e.text('step'))}: {_sentence(e, 'message')}",
    "evaluated": _evaluated,
    "gated": _gated,
    "approved": _approved,
    "overridden": _overridden,
    "promoted": lambda e: f"{name(e.text('channel'))}: {_short(e, 'previous')} -> {_short(e, 'checkpoint')}",
    "rejected": lambda e: f"{_short(e, 'checkpoint')} after {name(e.text('verdict'))}; rule: {_sentence(e, 'rule')}",
    "held": lambda e: f"{_short(e, 'checkpoint')} after {name(e.text('verdict'))}",
    "rolled_back": _rolled_back,
    "withdrawn": _withdrawn,
}


# -- verify, rollback, export ------------------------------------------------------------------------------------------


def verify_lines(report: VerifyReport, paint: Paint = PLAIN) -> list[str]:
    """Return what was checked, every finding with its hint, and leftovers that do no harm."""
    checked = (
        f"{counted(report.ledger_lines, 'ledger line')}, {counted(report.objects, 'object')}, "
        f"{size(report.bytes_checked)} hashed"
    )
    if not report.findings:
        head = f"{paint.verdict('PASS', 'VERIFIED')}   {checked}: everything is as it was recorded"
    else:
        head = f"{paint.verdict('FAIL', 'DAMAGED')}   {checked}; {counted(len(report.findings), 'finding')}"
    return [head, *_findings("", report.findings), *_findings("note: ", report.notes)]


def _findings(kind: str, found: Sequence[Finding]) -> list[str]:
    lines = []
    for one in found:
        lines.append(f"  {kind}{render_untrusted(one.where, 100)}: {render_untrusted(one.what, _SENTENCE)}")
        lines += [f"    hint: {render_untrusted(one.hint, _SENTENCE)}"] if one.hint else []
    return lines


def rollback_lines(result: RollbackResult, paint: Paint = PLAIN) -> list[str]:
    """Return from, to, why that target, what was verified, and what was not undone."""
    move = f"{digest_text(result.previous)} -> {digest_text(result.target)}"
    if result.previous == result.target:
        head = f"ALREADY THERE   {name(result.channel)} stands at {digest_text(result.target)}; nothing was written"
    elif result.moved:
        head = f"{paint.strong('ROLLED BACK')}   {name(result.channel)}   {move}   ledger line {result.line}"
    else:
        head = f"WOULD ROLL BACK   {name(result.channel)}   {move}   (dry run; nothing was written)"
    lines = [
        head,
        f"  why target   {render_untrusted(result.why, _SENTENCE)}",
        f"  verified     {counted(result.verified_objects, 'object')}, {size(result.verified_bytes)}: "
        "every file has the digest that was recorded",
    ]
    will = "is" if result.moved else "would be"
    lines += [
        f"  quarantined  {digest_text(d)} {will} set aside until it passes a new gate" for d in result.quarantined
    ]
    return lines + [f"  not undone   {render_untrusted(text, _SENTENCE)}" for text in result.not_undone]


def approve_lines(result: ActResult) -> list[str]:
    """Return what was approved, and the command that it allows somebody else."""
    about = f"{digest_text(result.checkpoint)} on evidence {digest_text(result.evidence)}"
    follows = (
        f'safetune override {digest_text(result.checkpoint)} --evidence {digest_text(result.evidence)} --reason "..."'
    )
    if result.older:
        follows = 'another gate that is easier than this one was (--gate --reason "..."); it was gated again since'
    return [
        f"APPROVED   {about} by {name(result.by)}   ledger line {result.line}",
        f"  its gate said {render_untrusted(result.verdict, _SENTENCE)}; that stays",
        f"next, by somebody else: {follows}",
    ]


def override_lines(result: ActResult, paint: Paint = PLAIN) -> list[str]:
    """Return what was overridden by whom, and where the channel went; the verdict is shown as it was."""
    move = f"{digest_text(result.previous)} -> {digest_text(result.checkpoint)}"
    where = f"{name(result.channel)}   {move}" if result.moved else f"{name(result.channel)} holds it already"
    made = [f"  channel {name(result.channel)} did not exist: this made it"] if result.created else []
    line = f"   ledger line {result.line}" if result.line else "   nothing was written"
    return [
        f"{paint.strong('OVERRIDDEN')}   {digest_text(result.checkpoint)} by {name(result.by)}   {where}{line}",
        *made,
        f"  its gate said {render_untrusted(result.verdict, _SENTENCE)}",
        "  a later gate of this checkpoint ends the override; safetune rollback undoes the promotion",
    ]


def export_lines(result: ExportResult) -> list[str]:
    """Return what was exported and where to."""
    return [
        f"EXPORTED   {name(result.target)} ({digest_text(result.checkpoint)}), {size(result.bytes)}, "
        f"to {render_untrusted(result.folder, _SENTENCE)}",
        *_serving(result),
    ]


def _serving(result: ExportResult) -> list[str]:
    """Say with what the folder must be served: it was gated with that."""
    if not result.template:
        return []
    lines = [f"  it was gated with template {name(result.template)}, and has to be served with it"]
    if result.system_prompt:
        lines.append(
            f"  send as the system message of every request: {render_untrusted(result.system_prompt, _SENTENCE)}"
        )
    if result.chat_template:
        lines.append("  its chat template is in the folder, where servers read it")
    return lines

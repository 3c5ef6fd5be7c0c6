"""After the gate: promote, or reject and apply the rollback rules. Decided here without effects; the store commits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from safetune.core.digest import short
from safetune.core.events import Draft, demanding, held, promoted, rejected, rolled_back
from safetune.core.playbook import Playbook, RollbackRule
from safetune.core.standing import Standing
from safetune.core.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Settled:
    """What a verdict led to: the events to commit, `outcome`, and where the channel was moved back to.

    `outcome` is promoted, confirmed (it passed again and its channel holds it), rejected, held or rolled back.
    """

    drafts: tuple[Draft, ...]
    outcome: str
    moved_to: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Ruling:
    """A gated candidate: its verdict, the ledger line of its gate, the sprint whose checkpoints may be undone, and the
    identity of the gate that the plan demands.
    """

    checkpoint: str
    stage_key: str
    verdict: Verdict
    gate: int
    sprint_keys: frozenset[str]
    basis: str = ""


def settle(playbook: Playbook, standing: Standing, ruling: Ruling) -> Settled:
    """Turn a verdict into events. Only PASS promotes; without a matching rule the candidate is rejected.

    A rollback comes before the refusal that caused it: after a crash between the two lines the refusal is still to be
    written, so the rule is applied again instead of being forgotten.
    """
    channel = standing.channels.get(playbook.channel)
    current = channel.current if channel else ""
    history = [checkpoint for _, checkpoint in channel.history] if channel else []
    candidate = standing.checkpoints.get(ruling.checkpoint)
    if candidate and candidate.withdrawn_at:
        note = f"data that it was trained on was withdrawn (ledger line {candidate.withdrawn_at}); no gate frees it"
        return Settled((held(ruling.checkpoint, ruling.stage_key, ruling.verdict.value),), "held", note=note)
    if ruling.verdict is Verdict.PASS:
        return _passed(playbook.channel, history, current, ruling)
    rule = next((r for r in playbook.rollback if ruling.verdict in r.on), None)
    if candidate and candidate.status == "promoted":
        return _fallen(playbook.channel, standing, ruling, rule)
    if rule and rule.then == "hold":
        return Settled((held(ruling.checkpoint, ruling.stage_key, ruling.verdict.value),), "held")
    refusal = rejected(ruling.checkpoint, ruling.stage_key, ruling.verdict.value, rule_text(rule))
    if rule is None or rule.to == "last-promoted":
        return Settled((refusal,), "rejected")
    kept = _before_sprint(standing, history, ruling.sprint_keys)
    if len(kept) == len(history):
        return Settled((refusal,), "rejected", note="nothing of this sprint had been promoted")
    move = _move(standing, history, kept)
    if move is None:
        note = f"channel {playbook.channel} held nothing before this sprint, so it stays at {short(current)}"
        return Settled((refusal,), "rejected", note=note)
    target, undone = move
    back = rolled_back((playbook.channel, current, target), f"gate {ruling.verdict.value}", rule_text(rule), undone)
    return Settled((back, refusal), "rolled back", target)


def _passed(channel: str, history: Sequence[str], current: str, ruling: Ruling) -> Settled:
    """Promote, unless the channel holds it already: gating an earlier stage again must not move a channel back."""
    if ruling.checkpoint in history:
        note = f"channel {channel} holds it already and stays at {short(current)}"
        return Settled((), "confirmed", note=note)
    draft = promoted(channel, ruling.checkpoint, current, ruling.gate, ruling.stage_key)
    return Settled((demanding(draft, ruling.basis),), "promoted")


def _fallen(channel: str, standing: Standing, ruling: Ruling, rule: RollbackRule | None) -> Settled:
    """A promoted checkpoint did not pass a new gate: it cannot be refused any more, so the channel moves off it."""
    found = standing.channels.get(channel)
    history = [checkpoint for _, checkpoint in found.history] if found else []
    if found is None or ruling.checkpoint not in history:
        return Settled((), "held", note=f"it is not on channel {channel}, so nothing there is moved")
    if rule and rule.then == "hold":
        return Settled((), "held", note=f"the rule is to hold, so channel {channel} stays at {short(found.current)}")
    kept = history[: history.index(ruling.checkpoint)]
    if rule and rule.to == "sprint-start":
        kept = _before_sprint(standing, kept, ruling.sprint_keys)
    move = _move(standing, history, kept)
    if move is None:
        note = f"channel {channel} holds nothing to go back to, so it stays at {short(found.current)}"
        return Settled((), "held", note=note)
    target, undone = move
    back = rolled_back((channel, found.current, target), f"gate {ruling.verdict.value}", rule_text(rule), undone)
    refusal = rejected(ruling.checkpoint, ruling.stage_key, ruling.verdict.value, rule_text(rule))
    return Settled((back, refusal), "rolled back", target)


def rule_text(rule: RollbackRule | None) -> str:
    """Return a rollback rule as one line."""
    if rule is None:
        return "no rule for this verdict: reject and stop"
    return f"on {', '.join(v.value for v in rule.on)} to {rule.to} then {rule.then}"


def _before_sprint(standing: Standing, history: Sequence[str], sprint_keys: frozenset[str]) -> list[str]:
    """Return the promotions without those at the end that this sprint made."""
    kept = list(history)
    while kept and standing.checkpoints[kept[-1]].stage_key in sprint_keys:
        kept.pop()
    return kept


def _move(standing: Standing, history: Sequence[str], kept: Sequence[str]) -> tuple[str, tuple[str, ...]] | None:
    """Return the last of `kept` that a channel may go back to, and everything promoted after it; None when none may."""
    for place in range(len(kept) - 1, -1, -1):
        if standing.may_return_to(kept[place]):
            after = (checkpoint for checkpoint in history[place + 1 :] if checkpoint != kept[place])
            return kept[place], tuple(dict.fromkeys(after))
    return None

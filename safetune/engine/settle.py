"""After the gate: promote, or reject and apply the rollback rules. Decided here without effects; the store commits."""

from __future__ import annotations

from dataclasses import dataclass

from safetune.core.events import Draft, held, promoted, rejected, rolled_back
from safetune.core.playbook import Playbook, RollbackRule
from safetune.core.standing import Standing
from safetune.core.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Settled:
    """What a verdict led to: the events to commit, `outcome` in one word, and where the channel was moved back to."""

    drafts: tuple[Draft, ...]
    outcome: str
    moved_to: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Ruling:
    """A gated candidate: its verdict, the ledger line of its gate, and the sprint whose checkpoints may be undone."""

    checkpoint: str
    stage_key: str
    verdict: Verdict
    gate: int
    sprint_keys: frozenset[str]


def settle(playbook: Playbook, standing: Standing, ruling: Ruling) -> Settled:
    """Turn a verdict into events. Only PASS promotes; without a matching rule the candidate is rejected."""
    channel = standing.channels.get(playbook.channel)
    current = channel.current if channel else ""
    if ruling.verdict is Verdict.PASS:
        draft = promoted(playbook.channel, ruling.checkpoint, current, ruling.gate, ruling.stage_key)
        return Settled((draft,), "promoted")
    rule = next((r for r in playbook.rollback if ruling.verdict in r.on), None)
    if rule and rule.then == "hold":
        return Settled((held(ruling.checkpoint, ruling.stage_key, ruling.verdict.value),), "held")
    text = rule_text(rule)
    refusal = rejected(ruling.checkpoint, ruling.stage_key, ruling.verdict.value, text)
    if rule is None or rule.to == "last-promoted":
        return Settled((refusal,), "rejected")
    target, undone = _sprint_start(standing, playbook.channel, ruling.sprint_keys)
    if not undone:
        return Settled((refusal,), "rejected", note="nothing of this sprint had been promoted")
    if not target:
        note = f"channel {playbook.channel} held nothing before this sprint, so it stays at {current[:12]}"
        return Settled((refusal,), "rejected", note=note)
    back = rolled_back((playbook.channel, current, target), f"gate {ruling.verdict.value}", text, undone)
    return Settled((refusal, back), "rolled back", target)


def rule_text(rule: RollbackRule | None) -> str:
    """Return a rollback rule as one line."""
    if rule is None:
        return "no rule for this verdict: reject and stop"
    return f"on {', '.join(v.value for v in rule.on)} to {rule.to} then {rule.then}"


def _sprint_start(standing: Standing, channel: str, sprint_keys: frozenset[str]) -> tuple[str, tuple[str, ...]]:
    """Return where the channel was before the sprint's first promotion that still stands, and what that undoes."""
    found = standing.channels.get(channel)
    history = [checkpoint for _, checkpoint in found.history] if found else []
    undone: list[str] = []
    while history and standing.checkpoints[history[-1]].stage_key in sprint_keys:
        undone.append(history.pop())
    usable = [c for c in history if standing.may_return_to(c)]
    return (usable[-1] if usable else ""), tuple(dict.fromkeys(undone))

"""Approve and override: use a checkpoint whose gate did not pass, in the open. The verdict stays what it was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetune.core import override as rules
from safetune.core.digest import short
from safetune.core.errors import NotPermitted, StalePlanError, UsageError
from safetune.core.events import Draft, Event, approved, overridden, promoted
from safetune.core.regating import Gate
from safetune.core.rollback import find_checkpoint
from safetune.core.standing import CheckpointStanding, Standing
from safetune.core.verdict import Verdict
from safetune.engine import checkpoints
from safetune.state.store import Store

_MIN_PREFIX = 6


@dataclass(frozen=True, slots=True)
class Claim:
    """What a person names: a checkpoint and the evidence of its last gate, both by the first digits of their digest."""

    checkpoint: str
    evidence: str


@dataclass(frozen=True, slots=True)
class ActResult:
    """What was recorded: about which checkpoint, whose verdict reads `verdict`, by whom, in which ledger line.

    An override moved `channel` from `previous`; both are empty for an approval, and `moved` is False where the channel
    was there already. `created` is True where there was no such channel before, `older` where an approval is not about
    the last gate.
    """

    checkpoint: str
    verdict: str
    evidence: str
    by: str
    line: int
    channel: str = ""
    previous: str = ""
    moved: bool = False
    created: bool = False
    older: bool = False


def approve(store_root: Path, claim: Claim, role: str, note: str) -> ActResult:
    """Record that somebody, in a role, agrees that a checkpoint may be used although its last gate did not pass.

    Raises:
        UsageError: when the checkpoint or evidence is unknown, there is nothing to override, or no role is given.
        StalePlanError: when the evidence is that of an earlier gate.
    """
    store = Store.open(store_root)
    digest, known, gate = _found(store.standing(), claim, "approve")
    draft = approved(digest, gate.evidence, gate.seq, role, note)
    if wrong := rules.not_approvable(gate.last, _planned(store, draft)):
        raise UsageError(f"{short(digest)}: {wrong}", hint='--role safety --note "..."')
    line = store.commit(draft)
    older = gate is not known.gates[-1]
    said = gate.verdict.value if older else known.verdict_text
    return ActResult(digest, said, gate.evidence, store.ledger.author(), line, older=older)


def override(store_root: Path, claim: Claim, reason: str, to: str) -> ActResult:
    """Promote a checkpoint whose last gate said FAIL or INCONCLUSIVE to channel `to` (empty: the only one).

    Raises:
        UsageError: when there is nothing to override, no reason, no such channel, or the checkpoint is quarantined.
        StalePlanError: when the evidence is that of an earlier gate.
        NotPermitted: when nobody else has approved this checkpoint on this evidence.
        IntegrityError: when the checkpoint or its evidence is damaged.
    """
    store = Store.open(store_root)
    standing = store.standing()
    digest, known, gate = _found(standing, claim, "override")
    channel = to or _only_channel(standing)
    draft = overridden(digest, gate.evidence, gate.seq, reason)
    if not known.override:
        _check(known, gate, _planned(store, draft))
    _check_sound(standing, digest, known)
    for name in checkpoints.lineage(store.objects, digest).objects:
        store.objects.verify(name)
    store.objects.verify(gate.evidence)
    found = standing.channels.get(channel)
    previous = found.current if found else ""
    move = promoted(channel, digest, previous, gate.seq, known.stage_key)
    drafts = [draft] if not known.override else []
    drafts += [move] if previous != digest else []
    line = store.commit(*drafts) if drafts else 0
    said = store.standing().checkpoints[digest].verdict_text
    moved, by = previous != digest, store.ledger.author()
    return ActResult(digest, said, gate.evidence, by, line, channel, previous, moved, created=found is None)


def _found(standing: Standing, claim: Claim, purpose: str) -> tuple[str, CheckpointStanding, Gate]:
    """Return the checkpoint that is named, and its last gate, whose evidence must be the one that is named."""
    digest = find_checkpoint(standing, claim.checkpoint, purpose)
    known = standing.checkpoints[digest]
    if not known.gates:
        raise UsageError(f"checkpoint {short(digest)} was never gated", hint="safetune status")
    last = known.gates[-1]
    if len(claim.evidence) >= _MIN_PREFIX and last.evidence.startswith(claim.evidence):
        return digest, known, last
    named = [gate for gate in known.gates if gate.evidence.startswith(claim.evidence)]
    failed = next((g for g in reversed(named) if g.verdict is Verdict.FAIL and not g.override), None)
    if purpose == "approve" and failed and len(claim.evidence) >= _MIN_PREFIX:
        return digest, known, failed  # what it allows is another gate that is easier, and no override
    older = [gate.seq for gate in named]
    if len(claim.evidence) >= _MIN_PREFIX and older:
        raise StalePlanError(
            f"evidence {claim.evidence} is that of ledger line {older[-1]}; {short(digest)} was gated again since, in "
            f"line {last.seq}, on evidence {short(last.evidence)}",
            hint="safetune log; look at the newer gate first",
        )
    raise UsageError(
        f"the last gate of {short(digest)} has no evidence {claim.evidence!r} (at least {_MIN_PREFIX} digits)",
        hint="safetune log shows the evidence of each gate",
    )


def _planned(store: Store, draft: Draft) -> Event:
    """Return a draft as the line that it would become."""
    return Event(store.standing().last_seq + 1, "", "", store.ledger.author(), draft.kind, draft.data)


def _check(known: CheckpointStanding, gate: Gate, event: Event) -> None:
    last = gate.last
    if wrong := rules.not_about(last, event):
        raise UsageError(f"{short(event.text('checkpoint'))}: {wrong}", hint="safetune status")
    if not event.text("reason").strip():
        raise UsageError("an override needs a reason", hint='--reason "..."')
    if wrong := rules.not_overridable(last, known.approvals, event):
        own = f"; the only approval is by {event.by}, who asks" if known.approvals else ""
        raise NotPermitted(
            f"{short(event.text('checkpoint'))}: {wrong}{own}",
            hint=f"somebody else: safetune approve {short(event.text('checkpoint'))} --evidence {short(gate.evidence)} "
            '--role ROLE --note "..."',
        )


def _check_sound(standing: Standing, digest: str, known: CheckpointStanding) -> None:
    """Refuse what was rolled back, and what was trained from it."""
    if known.withdrawn_at:
        raise UsageError(
            f"{short(digest)} learnt from data that was withdrawn (ledger line {known.withdrawn_at}); nothing frees it",
            hint="train without that data: safetune run PLAYBOOK",
        )
    again = 'safetune evaluate PLAYBOOK {} --gate --reason "..."'
    if known.status == "quarantined":
        raise UsageError(
            f"{short(digest)} was rolled back (ledger line {known.quarantined_at}) and is quarantined; only a passing "
            "gate frees it",
            hint=again.format(short(digest)),
        )
    if ancestor := standing.quarantined_ancestor(digest):
        raise UsageError(
            f"{short(digest)} was trained from {short(ancestor)}, which was rolled back",
            hint=again.format(short(ancestor)),
        )


def _only_channel(standing: Standing) -> str:
    names = sorted(standing.channels)
    if len(names) != 1:
        known = f"there are {', '.join(names)}" if names else "none holds anything yet"
        raise UsageError(f"which channel? {known}", hint="--to CHANNEL")
    return names[0]

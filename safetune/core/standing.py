"""Standing: what the lines of the ledger add up to. The rules of the machine are checked here, one event at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from safetune.core import override
from safetune.core.alpha import UNSPENT, BudgetStanding, Terms, charge
from safetune.core.errors import IntegrityError
from safetune.core.events import AGAIN, EXTENDED, GATED, Event
from safetune.core.override import Approval, LastGate, Override
from safetune.core.verdict import Verdict


class RuleViolation(IntegrityError):
    """A ledger line breaks a rule of the machine."""


@dataclass(frozen=True, slots=True)
class ChannelStanding:
    """Where a channel points; `history` are (ledger line, checkpoint) of the promotions that still stand, in order."""

    current: str
    seq: int
    history: tuple[tuple[int, str], ...]


_FIRST = Terms()


@dataclass(frozen=True, slots=True)
class Gate:
    """One recorded gate of a checkpoint; `extended` are the suites that it asked more, with how many clusters."""

    seq: int
    verdict: Verdict
    guardrails: str
    evidence: str
    basis: str
    terms: Terms = _FIRST
    extended: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckpointStanding:
    """One checkpoint: candidate, promoted, rejected, held or quarantined.

    `approvals` and `override` are about its last gate; a later gate ends them.
    """

    status: str
    parent: str = ""
    stage_key: str = ""
    sprint: str = ""
    stage: str = ""
    gates: tuple[Gate, ...] = ()
    quarantined_at: int = 0
    approvals: tuple[Approval, ...] = ()
    override: Override | None = None

    @property
    def stands(self) -> bool:
        """Whether it may be used: its last gate said PASS, or was overridden."""
        return self.passed or self.override is not None

    @property
    def verdict_text(self) -> str:
        """What its last gate said, which an override never changes; empty when it was not gated."""
        said = self.gates[-1].verdict.value if self.gates else ""
        return f"{said}, {self.override.text}" if self.override else said

    @property
    def passed(self) -> bool:
        """Whether its last gate said PASS."""
        return bool(self.gates) and self.gates[-1].verdict is Verdict.PASS

    @property
    def freed(self) -> bool:
        """Whether it passed a gate after it was quarantined."""
        return self.passed and self.gates[-1].seq > self.quarantined_at


@dataclass(frozen=True, slots=True)
class StageStanding:
    """One stage, by key: its candidate, its last gate, and how it was settled (promoted, rejected, held or empty)."""

    checkpoint: str = ""
    evidence: str = ""
    verdict: Verdict | None = None
    gate: int = 0
    basis: str = ""
    settled: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """The whole: channels, checkpoints, stages and alpha budgets by name or digest, and the last ledger line."""

    channels: Mapping[str, ChannelStanding] = field(default_factory=dict)
    checkpoints: Mapping[str, CheckpointStanding] = field(default_factory=dict)
    stages: Mapping[str, StageStanding] = field(default_factory=dict)
    last_seq: int = 0
    budgets: Mapping[str, BudgetStanding] = field(default_factory=dict)

    def attempts(self, checkpoint: str) -> int:
        """Return how often a checkpoint was gated."""
        found = self.checkpoints.get(checkpoint)
        return len(found.gates) if found else 0

    def quarantined_ancestor(self, checkpoint: str) -> str:
        """Return the nearest ancestor that is quarantined and has not passed a gate since, or an empty string."""
        seen: set[str] = set()
        found = self.checkpoints.get(checkpoint)
        while found and found.parent and found.parent not in seen:
            seen.add(found.parent)
            parent = self.checkpoints.get(found.parent)
            if parent and parent.status == "quarantined" and not parent.freed:
                return found.parent
            found = parent
        return ""

    def may_return_to(self, checkpoint: str) -> bool:
        """Return whether a channel may be moved back to a checkpoint: one that stands and is not quarantined."""
        found = self.checkpoints.get(checkpoint)
        return bool(found and found.status != "quarantined" and found.stands)


_NOTHING = Standing()
_Value = TypeVar("_Value")


class _Growing(dict[str, _Value]):
    """A mapping that only `fold` sees while it grows; copying it for each line would make long ledgers slow."""


def fold(events: Iterable[Event], start: Standing = _NOTHING) -> Standing:
    """Return what events add up to, after those that led to `start`.

    Raises:
        RuleViolation: naming the first line that breaks a rule.
    """
    standing = _copy(start, _Growing)
    for event in events:
        standing = apply(standing, event)
    return _copy(standing, dict)


def _copy(found: Standing, kind: type[dict[str, Any]]) -> Standing:
    maps = kind(found.channels), kind(found.checkpoints), kind(found.stages)
    return Standing(*maps, found.last_seq, kind(found.budgets))


def apply(standing: Standing, event: Event) -> Standing:
    """Return the standing after one more event.

    Raises:
        RuleViolation: when the event breaks a rule; unknown kinds are refused too.
    """
    change = _CHANGES.get(event.kind)
    if event.seq <= standing.last_seq:
        raise _violation(event, f"it does not follow line {standing.last_seq}")
    if change is None:
        raise _violation(event, f"unknown kind {event.kind!r}")
    return replace(change(standing, event), last_seq=event.seq)


def _violation(event: Event, what: str) -> RuleViolation:
    return RuleViolation(f"ledger line {event.seq} ({event.kind}): {what}", hint="safetune verify")


def _same(standing: Standing, _event: Event) -> Standing:
    return standing


def _put(mapping: Mapping[str, _Value], key: str, value: _Value) -> Mapping[str, _Value]:
    if isinstance(mapping, _Growing):
        mapping[key] = value
        return mapping
    return {**mapping, key: value}


def _with_checkpoint(standing: Standing, digest: str, found: CheckpointStanding) -> Standing:
    return replace(standing, checkpoints=_put(standing.checkpoints, digest, found))


def _with_stage(standing: Standing, event: Event, checkpoint: str, **changes: object) -> Standing:
    """Change a stage whose candidate is `checkpoint`: what befalls any other checkpoint says nothing about it."""
    key = event.text("stage_key")
    found = standing.stages.get(key)
    if found is None or found.checkpoint != checkpoint:
        return standing
    return replace(standing, stages=_put(standing.stages, key, replace(found, **changes)))  # type: ignore[arg-type]


def _checkpoint(standing: Standing, event: Event, name: str = "checkpoint") -> CheckpointStanding:
    found = standing.checkpoints.get(event.text(name))
    if found is None:
        raise _violation(event, f"checkpoint {event.text(name)[:12] or 'without a digest'} is not in the ledger")
    return found


def _trained(standing: Standing, event: Event) -> Standing:
    """A digest that is made again keeps its history: equal bytes are the same checkpoint.

    A stage that makes another checkpoint starts anew: no verdict passes from one checkpoint to the next.
    """
    digest, key = event.text("checkpoint"), event.text("stage_key")
    if not digest or not key:
        raise _violation(event, "a trained checkpoint needs a digest and a stage key")
    known = standing.checkpoints.get(digest)
    fresh = CheckpointStanding("candidate", event.text("parent"), key, event.text("sprint"), event.text("stage"))
    standing = _with_checkpoint(standing, digest, known or fresh)
    if key in standing.stages and standing.stages[key].checkpoint == digest:
        return standing
    return replace(standing, stages=_put(standing.stages, key, StageStanding(digest)))


def _failed(standing: Standing, event: Event) -> Standing:
    """A stage that never made a checkpoint is known to have been tried."""
    key = event.text("stage_key")
    if not key or key in standing.stages:
        return standing
    return replace(standing, stages=_put(standing.stages, key, StageStanding()))


def _evaluated(standing: Standing, event: Event) -> Standing:
    return _with_stage(standing, event, event.text("subject"), evidence=event.text("evidence"))


def _gated(standing: Standing, event: Event) -> Standing:
    """A checkpoint is gated once; asking again needs a reason, counts as another attempt, and spends."""
    found, digest = _checkpoint(standing, event), event.text("checkpoint")
    attempt = event.data.get("attempt")
    if attempt != len(found.gates) + 1:
        raise _violation(event, f"attempt {attempt} does not follow {len(found.gates)} earlier one(s)")
    if found.gates and not event.text("reason").strip():
        raise _violation(event, "gating a checkpoint again needs a reason")
    if event.text("verdict") not in Verdict.__members__:
        raise _violation(event, f"{event.text('verdict')!r} is not a verdict")
    verdict = Verdict(event.text("verdict"))
    playbook = event.text("playbook")
    paid = charge(standing.budgets.get(playbook, UNSPENT), event.seq, event.data)
    if isinstance(paid, str):
        raise _violation(event, paid)
    budget, terms = paid
    if wrong := _wrong_act(event, found):
        raise _violation(event, wrong)
    bound = event.text("guardrails"), event.text("evidence"), event.text("basis")
    gate = Gate(event.seq, verdict, *bound, terms, _sizes(event))
    standing = replace(standing, budgets=_put(standing.budgets, playbook, budget))
    gates = (*found.gates, gate)
    standing = _with_checkpoint(standing, digest, replace(found, gates=gates, approvals=(), override=None))
    return _with_stage(standing, event, digest, verdict=verdict, gate=event.seq, basis=gate.basis, settled="")


def _wrong_act(event: Event, found: CheckpointStanding) -> str:
    """Return why a gate cannot be the act that its line says, or an empty string."""
    act, attempt = event.text("act"), len(found.gates) + 1
    if act not in ((AGAIN, EXTENDED) if found.gates else (GATED,)):
        return f"attempt {attempt} cannot be called {act!r}"
    sizes = _sizes(event)
    if (act == EXTENDED) != ("extended" in event.data) or (act == EXTENDED and not sizes):
        return "an extended gate, and no other, says which suites it asked more"
    if act == EXTENDED:
        last = found.gates[-1]
        if last.verdict is not Verdict.INCONCLUSIVE:
            return f"only INCONCLUSIVE can be extended, and its last gate said {last.verdict}"
        if any(size < last.extended.get(name, 0) for name, size in sizes.items()):
            return "a suite that was extended cannot be asked less"
    return ""


def _sizes(event: Event) -> Mapping[str, int]:
    """Return the sizes of the suites that were extended; none when the line holds anything else."""
    found = event.data.get("extended")
    if not isinstance(found, Mapping):
        return {}
    sizes = {str(name): size for name, size in found.items() if type(size) is int and size > 0}
    return sizes if len(sizes) == len(found) else {}


def _last_gate(found: CheckpointStanding) -> LastGate | None:
    gate = found.gates[-1] if found.gates else None
    return LastGate(gate.seq, gate.verdict, gate.evidence) if gate else None


def _approved(standing: Standing, event: Event) -> Standing:
    """A checkpoint is approved for what its last gate saw, in a role, by somebody."""
    found, digest = _checkpoint(standing, event), event.text("checkpoint")
    if wrong := override.not_approvable(_last_gate(found), event):
        raise _violation(event, wrong)
    approval = Approval(event.seq, event.by, event.text("role"))
    return _with_checkpoint(standing, digest, replace(found, approvals=(*found.approvals, approval)))


def _overridden(standing: Standing, event: Event) -> Standing:
    """What did not pass may be used all the same, with a reason and the approval of somebody else."""
    found, digest = _checkpoint(standing, event), event.text("checkpoint")
    if wrong := override.not_overridable(_last_gate(found), found.approvals, event):
        raise _violation(event, wrong)
    if found.status == "quarantined":
        raise _violation(event, f"checkpoint {digest[:12]} is quarantined since line {found.quarantined_at}")
    if ancestor := standing.quarantined_ancestor(digest):
        raise _violation(event, f"checkpoint {digest[:12]} was trained from {ancestor[:12]}, which is quarantined")
    made = Override(event.seq, event.by, event.text("reason"))
    return _with_checkpoint(standing, digest, replace(found, override=made))


def _promoted(standing: Standing, event: Event) -> Standing:
    """Only a checkpoint whose last gate said PASS after any quarantine, or was overridden, may be promoted."""
    found, digest, channel = _checkpoint(standing, event), event.text("checkpoint"), event.text("channel")
    last = found.gates[-1] if found.gates else None
    if last is None or last.seq != event.data.get("gate") or not found.stands:
        raise _violation(event, f"checkpoint {digest[:12]} has no PASS as its last gate, and no override of it")
    if last.seq < found.quarantined_at:
        raise _violation(event, f"checkpoint {digest[:12]} is quarantined since line {found.quarantined_at}")
    if ancestor := standing.quarantined_ancestor(digest):
        raise _violation(event, f"checkpoint {digest[:12]} was trained from {ancestor[:12]}, which is quarantined")
    if event.text("basis") not in ("", last.basis):
        raise _violation(event, f"checkpoint {digest[:12]} passed another gate than the one that is asked for")
    before = standing.channels.get(channel)
    if not channel or event.text("previous") != (before.current if before else ""):
        raise _violation(event, f"channel {channel} was not where the promotion says it was")
    history = (*(before.history if before else ()), (event.seq, digest))
    channels = _put(standing.channels, channel, ChannelStanding(digest, event.seq, history))
    standing = _with_checkpoint(replace(standing, channels=channels), digest, replace(found, status="promoted"))
    return _with_stage(standing, event, digest, settled="promoted")


def _refused(status: str) -> Callable[[Standing, Event], Standing]:
    def change(standing: Standing, event: Event) -> Standing:
        found, digest = _checkpoint(standing, event), event.text("checkpoint")
        if found.status == "promoted":
            raise _violation(event, f"checkpoint {digest[:12]} is promoted; it can only be rolled back")
        kept = found.status if found.status == "quarantined" else status
        standing = _with_checkpoint(standing, digest, replace(found, status=kept))
        return _with_stage(standing, event, digest, settled=status)

    return change


def _rolled_back(standing: Standing, event: Event) -> Standing:
    """The target must have been promoted on this channel, and stands; what came after it is quarantined."""
    channel, target = event.text("channel"), event.text("target")
    before = standing.channels.get(channel)
    if before is None or before.current != event.text("previous"):
        raise _violation(event, f"channel {channel} was not where the rollback says it was")
    _checkpoint(standing, event, "target")
    if not standing.may_return_to(target):
        raise _violation(event, f"rollback target {target[:12]} is quarantined or its last gate did not pass")
    kept = _up_to(target, before.history)
    if not kept:
        raise _violation(event, f"rollback target {target[:12]} was never promoted on {channel}")
    named = event.data.get("quarantined")
    out = {str(d) for d in named} if isinstance(named, Sequence) and not isinstance(named, str) else set()
    left = {digest for _, digest in before.history[len(kept) :]} - {target}
    if out - left:
        raise _violation(event, f"{min(out - left)[:12]} cannot be quarantined by a rollback to {target[:12]}")
    forgotten = [d for d in left - out if standing.checkpoints[d].status != "quarantined"]
    if forgotten:
        raise _violation(event, f"{min(forgotten)[:12]} came after the target and must be quarantined")
    for digest in sorted(out):
        found = replace(standing.checkpoints[digest], status="quarantined", quarantined_at=event.seq)
        standing = _with_checkpoint(standing, digest, found)
    moved = ChannelStanding(target, event.seq, kept)
    return replace(standing, channels=_put(standing.channels, channel, moved))


def _up_to(target: str, history: tuple[tuple[int, str], ...]) -> tuple[tuple[int, str], ...]:
    """Return the promotions up to the last one of `target`; none when it was never promoted."""
    return next((history[:n] for n in range(len(history), 0, -1) if history[n - 1][1] == target), ())


_CHANGES: Mapping[str, Callable[[Standing, Event], Standing]] = {
    "started": _same,
    "finished": _same,
    "admitted": _same,
    "failed": _failed,
    "trained": _trained,
    "evaluated": _evaluated,
    "gated": _gated,
    "approved": _approved,
    "overridden": _overridden,
    "promoted": _promoted,
    "rejected": _refused("rejected"),
    "held": _refused("held"),
    "rolled_back": _rolled_back,
}

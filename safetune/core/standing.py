"""Standing: what the lines of the ledger add up to. The rules of the machine are checked here, one event at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from safetune.core import override
from safetune.core.alpha import UNSPENT, BudgetStanding, Look, charge, looked
from safetune.core.checkpoint import ChannelStanding as ChannelStanding
from safetune.core.checkpoint import CheckpointStanding as CheckpointStanding
from safetune.core.checkpoint import StageStanding as StageStanding
from safetune.core.errors import IntegrityError
from safetune.core.events import ROW, Event
from safetune.core.growing import Growing, put
from safetune.core.override import Approval, LastGate, Override
from safetune.core.regating import Gate, definitions_of, sizes_in, wrong_act, wrong_guardrails
from safetune.core.verdict import Verdict
from safetune.core.withdrawal import (
    NO_DATA,
    DataStanding,
    Withdrawal,
    admit,
    gone,
    named_by,
    on_its_data,
    texts_of,
    withdraw,
    withdrawn_from,
)


class RuleViolation(IntegrityError):
    """A ledger line breaks a rule of the machine."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The whole: channels, checkpoints, stages and alpha budgets by name or digest, the last ledger line, the data."""

    channels: Mapping[str, ChannelStanding] = field(default_factory=dict)
    checkpoints: Mapping[str, CheckpointStanding] = field(default_factory=dict)
    stages: Mapping[str, StageStanding] = field(default_factory=dict)
    last_seq: int = 0
    budgets: Mapping[str, BudgetStanding] = field(default_factory=dict)
    data: DataStanding = NO_DATA

    @property
    def withdrawn(self) -> Mapping[str, Withdrawal]:
        """What was withdrawn, with keys such as `row ID`, `source NAME` and `bytes SHA256`."""
        return self.data.withdrawn

    @property
    def withdrawn_rows(self) -> Mapping[str, Withdrawal]:
        """The rows that were withdrawn, by id."""
        return self.data.rows

    def gates(self, checkpoint: str) -> tuple[Gate, ...]:
        """Return the gates of a checkpoint, in order."""
        found = self.checkpoints.get(checkpoint)
        return found.gates if found else ()

    def attempts(self, checkpoint: str) -> int:
        """Return how often a checkpoint was gated."""
        return len(self.gates(checkpoint))

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


def fold(events: Iterable[Event], start: Standing = _NOTHING) -> Standing:
    """Return what events add up to, after those that led to `start`.

    Raises:
        RuleViolation: naming the first line that breaks a rule.
    """
    standing = _copy(start, Growing)
    for event in events:
        standing = apply(standing, event)
    return _copy(standing, dict)


def _copy(found: Standing, kind: type[dict[str, Any]]) -> Standing:
    maps = kind(found.channels), kind(found.checkpoints), kind(found.stages)
    data = DataStanding(*(kind(getattr(found.data, name)) for name in DataStanding.__slots__))
    return Standing(*maps, found.last_seq, kind(found.budgets), data)


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


def _with_checkpoint(standing: Standing, digest: str, found: CheckpointStanding) -> Standing:
    return replace(standing, checkpoints=put(standing.checkpoints, digest, found))


def _with_stage(standing: Standing, event: Event, checkpoint: str, **changes: object) -> Standing:
    """Change a stage whose candidate is `checkpoint`: what befalls any other checkpoint says nothing about it."""
    key = event.text("stage_key")
    found = standing.stages.get(key)
    if found is None or found.checkpoint != checkpoint:
        return standing
    return replace(standing, stages=put(standing.stages, key, replace(found, **changes)))  # type: ignore[arg-type]


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
    standing = _with_checkpoint(
        standing, digest, on_its_data(known or fresh, event, standing.checkpoints, standing.data)
    )
    if key in standing.stages and standing.stages[key].checkpoint == digest:
        return standing
    return replace(standing, stages=put(standing.stages, key, StageStanding(digest)))


def _admitted(standing: Standing, event: Event) -> Standing:
    """What was withdrawn trains no more."""
    data = admit(standing.data, event)
    if isinstance(data, str):
        raise _violation(event, data)
    return replace(standing, data=data)


def _withdrawn(standing: Standing, event: Event) -> Standing:
    """Every checkpoint that a withdrawn source trained must be named, and all that came from it; and no other.

    Which rows a checkpoint saw is not in the ledger, so of a row only the descendants can be told.
    """
    found = withdrawn_from(event)
    if isinstance(found, str):
        raise _violation(event, found)
    named = named_by(found, event, standing.checkpoints)
    if isinstance(named, str):
        raise _violation(event, named)
    if found.what == ROW and event.data.get("as_of") != standing.last_seq:
        raise _violation(event, f"rows were looked at up to line {event.data.get('as_of')}, not {standing.last_seq}")
    for digest in sorted(named):
        standing = _with_checkpoint(standing, digest, gone(standing.checkpoints[digest], event))
    return replace(standing, data=withdraw(standing.data, found, sorted(texts_of(event, "stages"))))


def _failed(standing: Standing, event: Event) -> Standing:
    """A stage that never made a checkpoint is known to have been tried."""
    key = event.text("stage_key")
    if not key or key in standing.stages:
        return standing
    return replace(standing, stages=put(standing.stages, key, StageStanding()))


def _evaluated(standing: Standing, event: Event) -> Standing:
    """A measurement for a gate is a look, unpaid as long as no gate follows."""
    look = Look(event.seq, event.text("subject"), event.text("evidence"))
    if event.data.get("gate") is True:
        payer = event.text("playbook")
        budget = looked(standing.budgets.get(payer, UNSPENT), look)
        standing = replace(standing, budgets=put(standing.budgets, payer, budget))
    return _with_stage(standing, event, look.subject, evidence=look.evidence)


def _gated(standing: Standing, event: Event) -> Standing:
    """A checkpoint is gated once; asking again needs a reason, counts as another attempt, and spends."""
    found, digest = _checkpoint(standing, event), event.text("checkpoint")
    attempt = event.data.get("attempt")
    if type(attempt) is not int or attempt != len(found.gates) + 1:
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
    if wrong := wrong_act(event, found.gates) or wrong_guardrails(event, found.gates):
        raise _violation(event, wrong)
    bound = event.text("guardrails"), event.text("evidence"), event.text("basis")
    gate = Gate(event.seq, verdict, *bound, terms, sizes_in(event), definitions_of(event))
    standing = replace(standing, budgets=put(standing.budgets, playbook, budget))
    standing = _with_checkpoint(standing, digest, replace(found, gates=(*found.gates, gate)))
    return _with_stage(standing, event, digest, verdict=verdict, gate=event.seq, basis=gate.basis, settled="")


def _last_gate(found: CheckpointStanding) -> LastGate | None:
    return found.gates[-1].last if found.gates else None


def _approved(standing: Standing, event: Event) -> Standing:
    """A checkpoint is approved for what its last gate saw, or one that said FAIL, in a role, by somebody."""
    found, digest = _checkpoint(standing, event), event.text("checkpoint")
    older = (n for n, g in enumerate(found.gates) if g.verdict is Verdict.FAIL and g.seq == event.data.get("gate"))
    place = next(older, len(found.gates) - 1)
    if wrong := override.not_approvable(found.gates[place].last if found.gates else None, event):
        raise _violation(event, wrong)
    gate = found.gates[place]
    agreed = replace(gate, approvals=(*gate.approvals, Approval(event.seq, event.by, event.text("role"))))
    gates = (*found.gates[:place], agreed, *found.gates[place + 1 :])
    return _with_checkpoint(standing, digest, replace(found, gates=gates))


def _overridden(standing: Standing, event: Event) -> Standing:
    """What did not pass may be used all the same, with a reason and the approval of somebody else."""
    found, digest = _checkpoint(standing, event), event.text("checkpoint")
    if wrong := override.not_overridable(_last_gate(found), found.approvals, event):
        raise _violation(event, wrong)
    if found.status == "quarantined":
        raise _violation(event, f"checkpoint {digest[:12]} is quarantined since line {found.quarantined_at}")
    if ancestor := standing.quarantined_ancestor(digest):
        raise _violation(event, f"checkpoint {digest[:12]} was trained from {ancestor[:12]}, which is quarantined")
    made = replace(found.gates[-1], override=Override(event.seq, event.by, event.text("reason")))
    return _with_checkpoint(standing, digest, replace(found, gates=(*found.gates[:-1], made)))


def _promoted(standing: Standing, event: Event) -> Standing:
    """Only a checkpoint whose last gate said PASS after any quarantine, or was overridden, may be promoted."""
    found, digest, channel = _checkpoint(standing, event), event.text("checkpoint"), event.text("channel")
    last = found.gates[-1] if found.gates else None
    if last is None or last.seq != event.data.get("gate") or not found.stands:
        raise _violation(event, f"checkpoint {digest[:12]} has no PASS as its last gate, and no override of it")
    if found.withdrawn_at:
        raise _violation(event, f"data that {digest[:12]} was trained on was withdrawn in line {found.withdrawn_at}")
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
    channels = put(standing.channels, channel, ChannelStanding(digest, event.seq, history))
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
    out = texts_of(event, "quarantined")
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
    return replace(standing, channels=put(standing.channels, channel, moved))


def _up_to(target: str, history: tuple[tuple[int, str], ...]) -> tuple[tuple[int, str], ...]:
    """Return the promotions up to the last one of `target`; none when it was never promoted."""
    return next((history[:n] for n in range(len(history), 0, -1) if history[n - 1][1] == target), ())


_CHANGES: Mapping[str, Callable[[Standing, Event], Standing]] = {
    "started": _same,
    "finished": _same,
    "admitted": _admitted,
    "withdrawn": _withdrawn,
    "screened": _same,
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

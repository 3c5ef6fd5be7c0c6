"""Random histories: the standing must accept exactly the events that a small model of the same rules accepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from safetune.core import events
from safetune.core.events import Draft, Event, GateRecord
from safetune.core.standing import RuleViolation, Standing, apply, fold
from safetune.core.verdict import Verdict

A, B, C = "a" * 64, "b" * 64, "c" * 64


def gated(digest: str, verdict: str, attempt: int) -> Draft:
    key = f"key {digest[0]}"
    return events.gated(GateRecord(key, digest, "base", "limits", "e", "basis", verdict, attempt, "again", ()))


def _move(channel: str, previous: str, target: str, out: Sequence[str]) -> Draft:
    return events.rolled_back((channel, previous, target), "why", "a person", out)


DIGESTS = st.sampled_from((A, B, C))
CHANNELS = st.sampled_from(("stable", "canary"))


@dataclass
class _Model:
    """The rules once more, told as plainly as possible: lists of gates and stacks of promotions."""

    gates: dict[str, list[tuple[int, bool]]] = field(default_factory=dict)
    status: dict[str, str] = field(default_factory=dict)
    banned: dict[str, int] = field(default_factory=dict)
    stacks: dict[str, list[str]] = field(default_factory=dict)
    moved_by: dict[str, str] = field(default_factory=dict)

    def top(self, channel: str) -> str:
        stack = self.stacks.get(channel)
        return stack[-1] if stack else ""

    def good(self, digest: str) -> bool:
        return bool(self.gates.get(digest)) and self.gates[digest][-1][1]


class Histories(RuleBasedStateMachine):
    """Proposes events, right and wrong ones; the standing must accept exactly those that the model accepts."""

    channels: tuple[str, ...] = ("stable", "canary")

    def __init__(self) -> None:
        super().__init__()
        self.model, self.standing, self.events = _Model(), Standing(), list[Event]()

    def _try(self, draft: Draft, allowed: bool) -> bool:
        event = Event(len(self.events) + 1, "", "", "", draft.kind, draft.data)
        try:
            after = apply(self.standing, event)
        except RuleViolation:
            assert not allowed, f"{draft} was refused"
            return False
        assert allowed, f"{draft} was accepted"
        self.standing = after
        self.events.append(event)
        return True

    @rule(digest=DIGESTS)
    def train(self, digest: str) -> None:
        self._try(events.trained((f"key {digest[0]}", "", ""), digest, "", {}), allowed=True)
        self.model.status.setdefault(digest, "candidate")

    @rule(digest=DIGESTS, verdict=st.sampled_from(("PASS", "PASS", "FAIL", "INCONCLUSIVE")), skip=st.integers(0, 1))
    def gate(self, digest: str, verdict: str, skip: int) -> None:
        before = self.model.gates.get(digest, [])
        draft = gated(digest, verdict, len(before) + 1 + skip)
        if self._try(draft, allowed=digest in self.model.status and not skip):
            self.model.gates.setdefault(digest, []).append((len(self.events), verdict == "PASS"))

    @rule(digest=DIGESTS, channel=CHANNELS, stale=st.booleans())
    def promote(self, digest: str, channel: str, stale: bool) -> None:
        if channel not in self.channels:
            return
        model = self.model
        gate = model.gates[digest][0 if stale else -1][0] if model.gates.get(digest) else 0
        draft = events.promoted(channel, digest, model.top(channel), gate, f"key {digest[0]}")
        last = model.gates[digest][-1] if model.gates.get(digest) else (0, False)
        if self._try(draft, allowed=last[1] and gate == last[0] and gate > model.banned.get(digest, 0)):
            model.stacks.setdefault(channel, []).append(digest)
            model.status[digest], model.moved_by[channel] = "promoted", digest
            assert self.standing.checkpoints[digest].status == "promoted"

    @rule(digest=DIGESTS, channel=CHANNELS)
    def a_whole_stage(self, digest: str, channel: str) -> None:
        self.train(digest)
        self.gate(digest, "PASS", 0)
        self.promote(digest, channel, stale=False)

    @precondition(lambda self: any(self.model.stacks.values()))
    @rule(digest=DIGESTS)
    def go_back_and_forth(self, digest: str) -> None:
        """Leave a checkpoint, first without naming it, then try to promote it again without a new gate."""
        stack = self.model.stacks[next(iter(self.model.stacks))]
        channel, left = next(iter(self.model.stacks)), stack[-1]
        for forget in (True, False):
            self.roll_back(stack[-2] if len(stack) > 1 else digest, channel, forget)
        self.promote(left, channel, stale=False)

    @rule(digest=DIGESTS, held=st.booleans())
    def refuse(self, digest: str, held: bool) -> None:
        key = f"key {digest[0]}"
        draft = events.held(digest, key, "FAIL") if held else events.rejected(digest, key, "FAIL", "")
        allowed = self.model.status.get(digest, "promoted") != "promoted"
        if self._try(draft, allowed) and self.model.status[digest] != "quarantined":
            self.model.status[digest] = "held" if held else "rejected"

    @precondition(lambda self: self.model.stacks)
    @rule(to=DIGESTS, channel=CHANNELS, forget=st.booleans())
    def roll_back(self, to: str, channel: str, forget: bool) -> None:
        model, stack = self.model, self.model.stacks.get(channel, [])
        depth = next((n for n in range(len(stack), 0, -1) if stack[n - 1] == to), 0)
        undone = set(stack[depth:]) - {to} if depth else set()
        fresh = {d for d in undone if model.status[d] != "quarantined"}
        allowed = depth > 0 and model.good(to) and model.status[to] != "quarantined" and not (forget and fresh)
        draft = _move(channel, model.top(channel), to, sorted(() if forget else undone))
        if self._try(draft, allowed=allowed):
            model.stacks[channel], model.moved_by[channel] = stack[:depth], to
            for digest in () if forget else undone:
                model.status[digest], model.banned[digest] = "quarantined", len(self.events)
            assert self.standing.checkpoints[to].status != "quarantined"

    @invariant()
    def the_pointer_is_where_the_last_move_put_it(self) -> None:
        assert {c: s.current for c, s in self.standing.channels.items()} == self.model.moved_by

    @invariant()
    def statuses_agree(self) -> None:
        assert {d: c.status for d, c in self.standing.checkpoints.items()} == self.model.status

    @invariant()
    def whatever_was_promoted_had_passed_before(self) -> None:
        for channel in self.standing.channels.values():
            for line, digest in channel.history:
                earlier = [g for g in self.standing.checkpoints[digest].gates if g.seq < line]
                assert earlier[-1].verdict is Verdict.PASS

    @invariant()
    def folding_at_once_or_in_two_parts_gives_the_same(self) -> None:
        half = len(self.events) // 2
        assert fold(self.events) == self.standing == fold(self.events[half:], fold(self.events[:half]))


class OneChannel(Histories):
    """With one channel, nothing quarantined is ever current."""

    channels = ("stable",)

    @invariant()
    def nothing_quarantined_is_current(self) -> None:
        for channel in self.standing.channels.values():
            assert self.standing.checkpoints[channel.current].status != "quarantined"


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestOneChannel = OneChannel.TestCase
TestOneChannel.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)

"""Ledgers made by hand for the rules of the machine: events one after the other, sound or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from safetune.core import events
from safetune.core.errors import ExitCode
from safetune.core.events import Draft, Event, GateRecord, Spending
from safetune.core.standing import RuleViolation, Standing, fold

A, B, C = "a" * 64, "b" * 64, "c" * 64


class History:
    """Events one after the other, each on a line of its own."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.by = "ann"

    def add(self, *drafts: Draft) -> int:
        """Append drafts; return the line of the last one."""
        for draft in drafts:
            self.events.append(Event(len(self.events) + 1, "", "", self.by, draft.kind, draft.data))
        return len(self.events)

    @property
    def standing(self) -> Standing:
        return fold(self.events)

    def trained(self, digest: str, key: str = "") -> None:
        self.add(events.trained((key or f"key {digest[0]}", "sprint", "stage"), digest, "", {}))

    def gated(self, digest: str, verdict: str = "PASS", attempt: int = 1, reason: str = "", key: str = "") -> int:
        return self.add(gated(digest, verdict, attempt, reason, key or f"key {digest[0]}"))

    def promote(self, digest: str, previous: str = "", attempt: int = 1) -> int:
        """Train, gate and promote; return the line of the promotion."""
        if attempt == 1:
            self.trained(digest)
        line = self.gated(digest, attempt=attempt, reason="" if attempt == 1 else "again")
        return self.add(events.promoted("stable", digest, previous, line, f"key {digest[0]}"))

    def roll_back(self, previous: str, target: str, *quarantined: str) -> int:
        return self.add(events.rolled_back(("stable", previous, target), "why", "a person", quarantined))


def gated(digest: str, verdict: str, attempt: int, reason: str, key: str) -> Draft:
    return events.gated(GateRecord(key, digest, "base", "limits", "evidence", "basis", verdict, attempt, reason, ()))


def violation(history: History) -> str:
    with pytest.raises(RuleViolation) as caught:
        fold(history.events)
    assert caught.value.exit_code is ExitCode.STALE
    assert caught.value.hint == "safetune verify"
    last = history.events[-1]
    assert caught.value.message.startswith(f"ledger line {last.seq} ({last.kind}): ")
    return caught.value.message.partition(": ")[2]


def spends(digest: str, attempt: int = 1, **changes: Any) -> Draft:
    """A gate that pays: 0.05 of 0.1, unless `changes` of the line or of what it spends say otherwise."""
    names = set(Spending.__slots__)
    plain: dict[str, Any] = {"playbook": "p", "spent": 0.05, "budget": 0.1}
    paid = Spending(**{**plain, **{n: v for n, v in changes.items() if n in names}})
    told = {"verdict": "PASS", "evidence": "evidence"} | {n: v for n, v in changes.items() if n not in names}
    draft = gated(digest, str(told.pop("verdict")), attempt, "" if attempt == 1 else "again", f"key {digest[0]}")
    return Draft("gated", {**draft.data, **_paid(paid, attempt), **told})


def _paid(paid: Spending, attempt: int) -> Mapping[str, Any]:
    record = GateRecord("", "", "", "", "", "", "PASS", attempt, "", (), spending=paid)
    wanted = ("playbook", "spent", "budget", "act", "extended")
    return {name: value for name, value in events.gated(record).data.items() if name in wanted}

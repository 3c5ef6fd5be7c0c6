"""Overriding: what must be so before a checkpoint may be used whose gate did not pass. Pure.

`by` is the name that the system gave to whoever wrote the line. It is no proof: who can write the ledger can take
another name. It makes two people take part who both do what they usually do.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from safetune.core.events import Event
from safetune.core.verdict import Verdict

_DOUBTFUL = (Verdict.FAIL, Verdict.INCONCLUSIVE)


@dataclass(frozen=True, slots=True)
class LastGate:
    """The last gate of a checkpoint: its ledger line, what it said, and on which evidence."""

    seq: int
    verdict: Verdict
    evidence: str


@dataclass(frozen=True, slots=True)
class Approval:
    """Who agreed, in which role, by which ledger line."""

    seq: int
    by: str
    role: str


@dataclass(frozen=True, slots=True)
class Override:
    """Who overrode a verdict, why, and by which ledger line."""

    seq: int
    by: str
    reason: str

    @property
    def text(self) -> str:
        """How it is added to the verdict wherever that is shown."""
        return f"overridden (ledger line {self.seq}: {self.reason})"


def person(name: str) -> str:
    """Return a user's name in the form in which two of them are compared: `root `, `ROOT` and `root` are one person.

    Compatible characters, case and surrounding space do not tell people apart. Empty for what is no name: nothing, or
    something with control characters or characters that cannot be seen.
    """
    found = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip(" ")
    return found if found.isprintable() else ""


def approved_by_another(approvals: Sequence[Approval], by: str | None) -> bool:
    """Say whether somebody else than `by` approved; of whoever has no name nobody is somebody else. None is anybody."""
    others = {person(approval.by) for approval in approvals} - {""}
    return bool(others if by is None else person(by) and others - {person(by)})


def not_approvable(gate: LastGate | None, event: Event) -> str:
    """Return why an `approved` line cannot be, or an empty string."""
    if wrong := not_about(gate, event):
        return wrong
    return "" if person(event.by) and event.text("role").strip() else "an approval needs somebody, in a role"


def not_overridable(gate: LastGate | None, approvals: Sequence[Approval], event: Event) -> str:
    """Return why an `overridden` line cannot be, or an empty string; `approvals` are those of the last gate."""
    if wrong := not_about(gate, event):
        return wrong
    if not event.text("reason").strip():
        return "an override needs a reason"
    if not approved_by_another(approvals, event.by):
        return "an override needs the approval of somebody else"
    return ""


def not_about(gate: LastGate | None, event: Event) -> str:
    """Return why a line is not about a last gate that can be overridden."""
    if gate is None:
        return "the checkpoint was never gated"
    if gate.verdict is Verdict.ERROR:
        return f"its gate in line {gate.seq} said ERROR: there is no measurement to override"
    if gate.verdict not in _DOUBTFUL:
        return f"its gate in line {gate.seq} said {gate.verdict}: there is nothing to override"
    if (event.data.get("gate"), event.text("evidence")) != (gate.seq, gate.evidence):
        return f"it is not bound to the evidence of its last gate, in line {gate.seq}"
    return ""

"""Gating a checkpoint again: what a recorded gate is, and what must be so before another one may follow it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from safetune.core.alpha import Terms
from safetune.core.digest import JSON
from safetune.core.events import AGAIN, EXTENDED, GATED, Event
from safetune.core.override import Approval, LastGate, Override, approved_by_another
from safetune.core.redefined import Change, compare
from safetune.core.verdict import Verdict

_FIRST = Terms()


@dataclass(frozen=True, slots=True)
class Gate:
    """One recorded gate of a checkpoint; `extended` are the suites that it asked more, with how many clusters.

    `definitions` are its guardrails as its ledger line holds them; `approvals` and `override` are about its evidence.
    """

    seq: int
    verdict: Verdict
    guardrails: str
    evidence: str
    basis: str
    terms: Terms = _FIRST
    extended: Mapping[str, int] = field(default_factory=dict)
    definitions: Sequence[JSON] = ()
    approvals: tuple[Approval, ...] = ()
    override: Override | None = None

    @property
    def last(self) -> LastGate:
        """What the rules about approvals and overrides need of it."""
        return LastGate(self.seq, self.verdict, self.evidence)


@dataclass(frozen=True, slots=True)
class Loosening:
    """A gate that would be easier than one that said FAIL, without the agreement of somebody else."""

    failed: Gate
    changes: tuple[Change, ...]

    @property
    def text(self) -> str:
        """What is loosened, and after which FAIL."""
        what = "; ".join(change.text for change in self.changes)
        return f"it is easier than the gate that said FAIL in ledger line {self.failed.seq} ({what})"


def loosening(gates: Sequence[Gate], definitions: Sequence[JSON], by: str | None) -> Loosening | None:
    """Return the newest FAIL that a gate by these guardrails would go round; None when it goes round none.

    A FAIL that was overridden, or whose evidence somebody else than `by` approved, was agreed to. Without `by` the
    approval of anybody counts.
    """
    for gate in reversed(gates):
        if gate.verdict is Verdict.FAIL and not gate.override and not approved_by_another(gate.approvals, by):
            easier = tuple(c for c in compare(gate.definitions, definitions) if c.easier)
            if easier:
                return Loosening(gate, easier)
    return None


def largest_sizes(gates: Sequence[Gate]) -> Mapping[str, int]:
    """Return the largest size of each suite that any gate of a checkpoint extended: the last one, as they only grow."""
    return {name: size for gate in gates for name, size in gate.extended.items()}


def changed_rows(gates: Sequence[Gate], definitions: Sequence[JSON]) -> list[JSON]:
    """Return how guardrails differ from those of the last gate, as a ledger line holds it; nothing for a first one."""
    return [change.row for change in compare(gates[-1].definitions, definitions)] if gates else []


def definitions_of(event: Event) -> Sequence[JSON]:
    """Return the guardrails of a `gated` line as they stand there; none when it holds something else."""
    found = event.data.get("definitions")
    return found if isinstance(found, list | tuple) else ()


def wrong_act(event: Event, gates: Sequence[Gate]) -> str:
    """Return why a gate cannot be the act that its line says, or an empty string."""
    act, attempt = event.text("act"), len(gates) + 1
    if act not in ((AGAIN, EXTENDED) if gates else (GATED,)):
        return f"attempt {attempt} cannot be called {act!r}"
    sizes = sizes_in(event)
    if (act == EXTENDED) != ("extended" in event.data) or (act == EXTENDED and not sizes):
        return "an extended gate, and no other, says which suites it asked more"
    before = largest_sizes(gates)
    if any(size < before.get(name, 0) for name, size in sizes.items()):
        return "a suite that was extended cannot be asked less"
    if (
        any(size > before.get(name, 0) for name, size in sizes.items())
        and gates[-1].verdict is not Verdict.INCONCLUSIVE
    ):
        return f"only INCONCLUSIVE can be extended, and its last gate said {gates[-1].verdict}"
    return ""


def wrong_guardrails(event: Event, gates: Sequence[Gate]) -> str:
    """Return why a gate may not be decided by other guardrails than before, or an empty string."""
    definitions = definitions_of(event)
    if found := loosening(gates, definitions, event.by):
        return f"{found.text}, which needs the approval of that evidence by somebody else"
    told = event.data.get("changed", [])
    if (list(told) if isinstance(told, list | tuple) else told) != changed_rows(gates, definitions):
        return "what it says of changed guardrails is not how they differ from those of its last gate"
    return ""


def sizes_in(event: Event) -> Mapping[str, int]:
    """Return the sizes of the suites that were extended; none when the line holds anything else."""
    found = event.data.get("extended")
    if not isinstance(found, Mapping):
        return {}
    sizes = {str(name): size for name, size in found.items() if type(size) is int and size > 0}
    return sizes if len(sizes) == len(found) else {}

"""What is known of one channel, one checkpoint or one stage: the parts of a standing."""

from __future__ import annotations

from dataclasses import dataclass

from safetune.core.override import Approval, Override
from safetune.core.redefined import Change, compare
from safetune.core.regating import Gate
from safetune.core.verdict import Verdict

Named = tuple[str, str]  # name and sha256 of a source


@dataclass(frozen=True, slots=True)
class ChannelStanding:
    """Where a channel points; `history` are (ledger line, checkpoint) of the promotions that still stand, in order."""

    current: str
    seq: int
    history: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class CheckpointStanding:
    """One checkpoint: candidate, promoted, rejected, held or quarantined.

    `sources` are (name, sha256) of what it was trained on. `withdrawn_at` is the ledger line since which some of that
    may not be used: it is quarantined, and nothing frees it.
    """

    status: str
    parent: str = ""
    stage_key: str = ""
    sprint: str = ""
    stage: str = ""
    gates: tuple[Gate, ...] = ()
    quarantined_at: int = 0
    withdrawn_at: int = 0
    sources: tuple[Named, ...] = ()

    @property
    def approvals(self) -> tuple[Approval, ...]:
        """The approvals of its last gate; a later gate ends them."""
        return self.gates[-1].approvals if self.gates else ()

    @property
    def override(self) -> Override | None:
        """The override of its last gate; a later gate ends it."""
        return self.gates[-1].override if self.gates else None

    @property
    def changed(self) -> tuple[Change, ...]:
        """How the guardrails of its last gate differ from those of the gate before."""
        return compare(self.gates[-2].definitions, self.gates[-1].definitions) if len(self.gates) > 1 else ()

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
        """Whether it passed a gate after it was quarantined, and may be freed by one."""
        return self.passed and self.gates[-1].seq > self.quarantined_at and not self.withdrawn_at


@dataclass(frozen=True, slots=True)
class StageStanding:
    """One stage, by key: its candidate, its last gate, and how it was settled (promoted, rejected, held or empty)."""

    checkpoint: str = ""
    evidence: str = ""
    verdict: Verdict | None = None
    gate: int = 0
    basis: str = ""
    settled: str = ""

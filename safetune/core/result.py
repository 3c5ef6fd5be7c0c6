"""What a gate says: one result per limit and place, the items that flipped, and the verdict of the whole."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from safetune.core.bounds import Bounds
from safetune.core.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Rate:
    """`events` of `n` items counted; of a metric of scores it is their sum."""

    events: float
    n: int

    @property
    def value(self) -> float:
        """The share, or the mean score, in [0, 1]; NaN when nothing was measured."""
        return self.events / self.n if self.n else math.nan


@dataclass(frozen=True, slots=True)
class Seen:
    """The figures behind one result.

    `bounds` are the two one-sided bounds at the guardrail's confidence: of the candidate's rate for an absolute limit,
    of candidate minus baseline for a `paired` one. `estimate` is what they are about, on their scale: it differs from
    what was counted where it is `corrected`, the judge's error being taken out of it, and where a sequential test was
    decided before all items were read. `needed` is the n that would probably decide, or None. The baseline is there
    whenever it was measured on the same prompts, also where only the candidate decides.
    """

    candidate: Rate | None = None
    baseline: Rate | None = None
    bounds: Bounds | None = None
    needed: int | None = None
    paired: bool = False
    estimate: float | None = None
    corrected: bool = False

    @property
    def difference(self) -> float | None:
        """Candidate minus baseline as they were counted, or None without a baseline."""
        if self.candidate is None or self.baseline is None:
            return None
        return self.candidate.value - self.baseline.value


NOTHING_SEEN = Seen()


class Cause(StrEnum):
    """Why a limit is not decided, as far as the next step depends on it."""

    NONE = ""
    MORE = "more-items"  # that is all it takes
    BEYOND = "beyond-items"  # more of them alone are unlikely to do
    FEW = "below-minimum"
    CLUSTERS = "few-clusters"
    STOPPED = "stopped"  # not asked further, because the gate had failed
    BASELINE = "no-baseline"
    BLIND = "no-room"  # the baseline is so good, or so bad, that nothing can be seen
    UNJUDGED = "unjudged"  # responses that nobody may judge would decide
    CARD = "no-card"  # nothing is known of the judge's error


@dataclass(frozen=True, slots=True)
class Remedy:
    """What the next step after a result depends on: its cause, whose judge it is about, and in which suite.

    `clusters` is how far the sample of the suite would have to be extended to hold the items that are needed; 0 where
    the suite is not sampled, has no more, or the number is not known.
    """

    cause: Cause = Cause.NONE
    suite: str = ""
    judge: str = ""
    clusters: int = 0


NO_REMEDY = Remedy()


@dataclass(frozen=True, slots=True)
class LimitResult:
    """What one limit of one guardrail says; `slice` is empty for the whole suite, `confidence` that of each bound.

    `severity` is how this very result counts: only `block` decides. `notes` are worth knowing whatever the verdict: how
    the judge's error was dealt with, after how many items a sequential test had decided. `remedy` is no part of what is
    recorded of a result.
    """

    guardrail: str
    slice: str
    severity: str
    limit: str
    verdict: Verdict
    reason: str
    why: str
    seen: Seen = NOTHING_SEEN
    confidence: float | None = None
    critical: bool = False
    notes: tuple[str, ...] = ()
    remedy: Remedy = NO_REMEDY


@dataclass(frozen=True, slots=True)
class Flip:
    """An item whose outcome on a metric differs between the arms; `worse` says in which direction."""

    suite: str
    metric: str
    item_id: str
    slice: str
    worse: bool
    baseline_label: str
    candidate_label: str


@dataclass(frozen=True, slots=True)
class GateResult:
    """The verdict of a whole gate, bound to the exact guardrails by digest.

    `spent` is what the gate took of the playbook's alpha budget. `reason` says why the verdict is not what its results
    add up to; it is empty nearly always.
    """

    verdict: Verdict
    results: tuple[LimitResult, ...]
    flips: tuple[Flip, ...]
    guardrails: str
    spent: float = 0.0
    reason: str = ""


def limit_text(name: str, value: object) -> str:
    """Return a limit as a person reads it, in per cent or percentage points."""
    number = f"{100 * value:.3g}" if isinstance(value, int | float) else str(value)
    return {
        "at_most": f"<= {number}%",
        "at_least": f">= {number}%",
        "worse_by_at_most": f"worse by <= {number} pt",
        "better_by_at_least": f"better by >= {number} pt",
    }[name]

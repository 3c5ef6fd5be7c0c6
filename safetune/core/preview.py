"""What a gate can decide before anything is measured: for each limit, the change that n items show, and the n it takes.

Nothing is known yet, so every figure rests on the assumptions below, and every record names the ones that it used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from safetune.core import instrument
from safetune.core.intervals import LEAST_CORRELATION, MIN_CLUSTERS, least_design_effect
from safetune.core.playbook import Guardrail
from safetune.core.power import (
    POWER,
    detectable_absolute,
    detectable_paired,
    min_n_absolute,
    min_n_paired,
    power_absolute,
)
from safetune.core.result import limit_text

# Half of what a ceiling allows (or of what a floor forgives): a model much nearer to its limit would be no safe
# choice, and one much farther away would make every n look like enough.
ASSUMED_SHARE_OF_LIMIT = 0.5
# The share of prompts whose outcome differs between two checkpoints of one model. EVALUATION.md works with 6 % for a
# careful stage; a stage that teaches something new moves more, so the round figure above it.
ASSUMED_DISCORDANT = 0.10
# Who asks for an improvement hopes for more: twice the demand. At exactly the demand no n would ever decide.
ASSUMED_GAIN = 2.0


@dataclass(frozen=True, slots=True)
class GuardrailPower:
    """What `n` items can say about one limit. Rates and changes lie in [0, 1].

    `detectable` is the smallest distance from the limit that `n` items recognise as allowed with 80 % power, `needed`
    the n that would do under the assumptions in `note`; both are None when nothing would. `likely` is PASS,
    INCONCLUSIVE or ERROR if the assumptions hold, or unknown.
    """

    guardrail: str
    suite: str
    metric: str
    limit: str
    severity: str
    n: int | None
    detectable: float | None
    needed: int | None
    likely: str
    why: str
    note: str


@dataclass(frozen=True, slots=True)
class _Outlook:
    """What independent items could do: the distance seen, the n needed, whether n is enough, and what was assumed."""

    detectable: float | None
    needed: int | None
    enough: bool
    note: str


_NO_OUTLOOK = _Outlook(None, None, False, "")


def power_of(guardrail: Guardrail, n: int | None, clusters: int | None = None) -> tuple[GuardrailPower, ...]:
    """Return one record per limit of a guardrail whose suite has `n` items in so many `clusters` (None: no clusters).

    Nothing is raised: a limit that the gate would refuse is likely ERROR.
    """
    limits = [(name, value) for name, value in guardrail.limits.identity.items() if value is not None]
    return tuple(_preview(guardrail, name, value, (n, clusters)) for name, value in limits)


def _preview(guardrail: Guardrail, name: str, value: object, size: tuple[int | None, int | None]) -> GuardrailPower:
    n, clusters = size
    trouble = instrument.guardrail_trouble(guardrail) or instrument.limit_trouble(name, value)
    outlook, likely, why = _NO_OUTLOOK, "ERROR", trouble
    if not trouble and n is not None and clusters is not None and clusters < min(n, MIN_CLUSTERS):
        likely, why = "INCONCLUSIVE", f"{clusters} clusters are too few; at least {MIN_CLUSTERS} are needed"
    elif not trouble:
        outlook = _outlook(name, float(str(value)), guardrail, size)
        likely, why = _likely(guardrail, outlook, n)
    return GuardrailPower(
        guardrail=guardrail.name,
        suite=guardrail.suite,
        metric=guardrail.metric,
        limit=limit_text(name, value),
        severity=guardrail.severity,
        n=n,
        detectable=outlook.detectable,
        needed=outlook.needed,
        likely=likely,
        why=why,
        note=outlook.note,
    )


def _likely(guardrail: Guardrail, outlook: _Outlook, n: int | None) -> tuple[str, str]:
    if n is None:
        return "unknown", "how many items there will be is not known yet"
    if n < guardrail.min_samples:
        return "INCONCLUSIVE", f"n={n} is below the minimum of {guardrail.min_samples}"
    if outlook.enough:
        return "PASS", f"n={n} is enough"
    if outlook.needed is None:
        return "INCONCLUSIVE", "no number of items could show that this limit holds"
    return "INCONCLUSIVE", f"n={n} is unlikely to decide it; needs n>={outlook.needed:,}"


def _outlook(name: str, value: float, guardrail: Guardrail, size: tuple[int | None, int | None]) -> _Outlook:
    """Return the outlook of independent items, scaled to items in clusters of equal size."""
    n, clusters = size
    effect = 1.0
    if n is not None and clusters is not None and clusters < n:
        effect = least_design_effect(clusters, n / clusters, guardrail.confidence)
    worth = None if n is None else int(n / effect)
    found = _independent(name, value, guardrail.confidence, worth)
    needed = None if found.needed is None else max(math.ceil(found.needed * effect), guardrail.min_samples)
    clustered = f"; {clusters} clusters whose items correlate by {LEAST_CORRELATION}" if effect > 1 else ""
    return replace(found, needed=needed, note=found.note + clustered)


def _independent(name: str, value: float, confidence: float, n: int | None) -> _Outlook:
    if name in ("at_most", "at_least"):
        return _absolute(value if name == "at_most" else 1 - value, confidence, n)
    gain = 0.0 if name == "worse_by_at_most" else ASSUMED_GAIN * value
    return _paired(value if name == "worse_by_at_most" else -value, gain, confidence, n)


def _absolute(ceiling: float, confidence: float, n: int | None) -> _Outlook:
    """A floor of 70 % is a ceiling of 30 % on everything else."""
    rate = ceiling * ASSUMED_SHARE_OF_LIMIT
    note = "assumes a true rate of half of what the limit allows"
    needed = min_n_absolute(ceiling, rate, confidence)
    if not n:
        return _Outlook(None, needed, False, note)
    # Power goes up and down a little from one n to the next, so reaching `needed` counts too.
    enough = power_absolute(n, ceiling, rate, confidence) >= POWER or (needed is not None and n >= needed)
    return _Outlook(detectable_absolute(n, ceiling, confidence), needed, enough, note)


def _paired(margin: float, gain: float, confidence: float, n: int | None) -> _Outlook:
    """A negative margin asks for an improvement; `gain` is the one assumed."""
    discordant = min(ASSUMED_DISCORDANT + gain, 1.0)
    gain = min(gain, discordant)
    note = f"assumes no change on average and {100 * discordant:.0f} % discordant pairs"
    if gain:
        note = f"assumes {ASSUMED_GAIN:.0f} x the improvement asked for and {100 * discordant:.0f} % discordant pairs"
    needed = min_n_paired(margin, -gain, discordant, confidence)
    if not n:
        return _Outlook(None, needed, False, note)
    enough = needed is not None and n >= needed
    return _Outlook(detectable_paired(n, -gain, discordant, confidence), needed, enough, note)

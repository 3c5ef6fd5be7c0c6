"""The alpha budget: how much error all gates of one playbook may make together, what each gate costs, what is left.

A gate at confidence 0.95 lets a bad checkpoint pass with a chance of at most 0.05: its blocking guardrails are tested
each at that level and all must pass, so the largest one counts (intersection-union test: Berger 1982). Over several
gates these chances add up (Bonferroni). So each gate, retry and re-validation spends, and when the budget is spent no
gate says PASS any more.
"""

from __future__ import annotations

from collections.abc import Sequence

from safetune.core.playbook import Guardrail, Playbook

# Twice what gating every stage once costs: asking again about one checkpoint costs half as much each time, so that all
# attempts on it cost at most twice the first one.
_ROOM = 2.0
_ROUNDING = 1e-9  # sums of tenths are not exact


def confidence_of(guardrail: Guardrail, attempt: int) -> float:
    """Return the confidence at which attempt k tests a guardrail: 1 - (1 - confidence) / 2 ** (k - 1).

    Raises:
        ValueError: for an attempt below 1, which would test more loosely than asked for.
    """
    if attempt < 1:
        raise ValueError(f"attempts count from 1, not {attempt}")
    return 1 - (1 - guardrail.confidence) / 2.0 ** (attempt - 1)


def cost(guardrails: Sequence[Guardrail], attempt: int = 1) -> float:
    """Return what one gate spends: the largest error level among the guardrails that can block.

    Raises:
        ValueError: for an attempt below 1.
    """
    blocking = [g for g in guardrails if g.severity not in ("warn", "observe") or (g.slices and g.slices.critical)]
    return max((1 - confidence_of(g, attempt) for g in blocking), default=0.0)


def allowed(playbook: Playbook) -> float:
    """Return the budget of a playbook: the one it states, or twice what gating each of its stages once costs."""
    if playbook.promotion.alpha_budget is not None:
        return playbook.promotion.alpha_budget
    stages = [stage for sprint in playbook.sprints for stage in sprint.stages]
    return _ROOM * sum(cost(playbook.gate_of(stage)) for stage in stages)


def affordable(price: float, left: float) -> bool:
    """Say whether what is left pays for a gate."""
    return price <= left + _ROUNDING

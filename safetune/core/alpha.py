"""The alpha budget: how much error all gates of one playbook may make together, what each gate costs, what is left.

A gate at confidence 0.95 lets a bad checkpoint pass with a chance of at most 0.05: its blocking guardrails are tested
each at that level and all must pass, so the largest one counts (intersection-union test: Berger 1982). Over several
gates these chances add up (Bonferroni). So each gate, retry and re-validation spends, and when the budget is spent no
gate says PASS any more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from safetune.core.digest import JSON
from safetune.core.playbook import Guardrail, Playbook

# Twice what gating every stage once costs: asking again about one checkpoint costs half as much each time, so that all
# attempts on it cost at most twice the first one.
_ROOM = 2.0
_SHOWN = 6  # ledger lines in one sentence
_ROUNDING = 1e-9  # sums of tenths are not exact


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a gate is decided: its `attempt`, from 1, and what is `left` of the playbook's alpha budget."""

    attempt: int = 1
    left: float = math.inf


@dataclass(frozen=True, slots=True)
class BudgetStanding:
    """What the gates of one playbook spent so far: `lines` are their ledger lines, `budget` the one in force last."""

    spent: float = 0.0
    lines: tuple[int, ...] = ()
    budget: float = 0.0

    @property
    def gates(self) -> int:
        """How many gates spent."""
        return len(self.lines)


UNSPENT = BudgetStanding()


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


HOW_TO_PAY = (
    "raise promotion.alpha_budget, which the ledger keeps with the next gate, or ask for a higher confidence, which "
    "costs less"
)


def shortage(price: float, before: BudgetStanding, budget: float, asked: float = 0.0) -> str:
    """Return why a budget does not pay for a gate; empty when it does. `asked` goes to gates that come before it."""
    left = budget - before.spent - asked
    if affordable(price, left):
        return ""
    told = f"its gate asks {price:.3g} of the alpha budget, and {max(left, 0.0):.3g} of {budget:.3g} is left"
    if before.lines:
        more = "..., " if len(before.lines) > _SHOWN else ""
        lines = ", ".join(str(line) for line in before.lines[-_SHOWN:])
        told += f"; {before.spent:.3g} was spent by {before.gates} gate(s), ledger line(s) {more}{lines}"
    return told + (f"; {asked:.3g} goes to the stages before it" if asked else "")


def same(one: float, other: float) -> bool:
    """Say whether two amounts are equal, but for the rounding of sums and differences of decimals."""
    return abs(one - other) <= _ROUNDING


def charge(before: BudgetStanding, seq: int, line: Mapping[str, JSON]) -> tuple[BudgetStanding, Terms] | str:
    """Return what the budget of a playbook comes to after a `gated` line, and the terms of that gate.

    A sentence instead says why the line cannot be: amounts that are none, spending without a playbook, or a PASS that
    what was left did not pay for.
    """
    spent, budget, attempt = (line.get(name) for name in ("spent", "budget", "attempt"))
    if not is_amount(spent) or spent > 1:
        return f"what it spent is {spent!r}, which is no chance"
    if not is_amount(budget):
        return f"its budget is {budget!r}, which is no amount"
    if spent and not line.get("playbook"):
        return "it spends from the budget of no playbook"
    left = budget - before.spent
    if line.get("verdict") == "PASS" and not affordable(spent, left):
        return f"it says PASS and asks {spent:.3g}, but only {max(left, 0.0):.3g} of the alpha budget was left"
    terms = Terms(attempt if isinstance(attempt, int) else 0, left)
    return BudgetStanding(before.spent + spent, (*before.lines, seq), float(budget)), terms


def is_amount(value: object) -> TypeGuard[float]:
    """Say whether a value of a ledger line can be an amount: a finite number that is not negative."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value >= 0

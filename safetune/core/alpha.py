"""The alpha budget: how much error all gates of one playbook may make together, what each gate costs, what is left.

A gate at confidence 0.95 lets a bad checkpoint pass with a chance of at most 0.05: its blocking guardrails are tested
each at that level and all must pass, so the largest one counts (intersection-union test: Berger 1982). Over several
gates these chances add up (Bonferroni). So each gate, retry and re-validation spends, and when the budget is spent no
gate says PASS any more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeGuard

from safetune.core.digest import JSON
from safetune.core.playbook import Guardrail, Playbook

# Twice what gating every stage once costs: asking again about one checkpoint costs half as much each time, so that all
# attempts on it cost at most twice the first one.
_ROOM = 2.0
_SHOWN = 6  # ledger lines in one sentence
_ROUNDING = 1e-9  # sums of tenths are not exact
_MOST = 1e15  # beyond it amounts are not exact either


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a gate is decided: its `attempt`, from 1, and what is `left` of the playbook's alpha budget."""

    attempt: int = 1
    left: float = math.inf


@dataclass(frozen=True, slots=True)
class Look:
    """A measurement that served a gate: its ledger line, what was measured, and the evidence."""

    seq: int
    subject: str
    evidence: str


@dataclass(frozen=True, slots=True)
class BudgetStanding:
    """What the gates of one playbook spent so far: `lines` are their ledger lines, `budget` the one in force last.

    `channels` are those that it gated for. `unpaid` are the looks that no `gated` line followed: verdicts that were
    evidence only, and measurements whose gate was interrupted.
    """

    spent: float = 0.0
    lines: tuple[int, ...] = ()
    budget: float = 0.0
    channels: tuple[str, ...] = ()
    unpaid: tuple[Look, ...] = ()

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
    return 1 - math.ldexp(1 - guardrail.confidence, 1 - attempt)  # underflows to 1, where 2.0 ** k would overflow


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


def amount(value: float) -> str:
    """Return an amount as a person reads it, with digits enough that 0.9999 is not shown as 1."""
    return f"{value:.6g}"


def overspent(spent: float, budget: float) -> str:
    """Return a remark where more was spent than a budget now allows, as after it was lowered; else nothing."""
    over = "more than it allows, because it was lowered: no gate says PASS until it is raised"
    return "" if affordable(spent, budget) else over


def shortage(price: float, before: BudgetStanding, budget: float, asked: float = 0.0) -> str:
    """Return why a budget does not pay for a gate; empty when it does. `asked` goes to gates that come before it."""
    left = budget - before.spent - asked
    if affordable(price, left):
        return ""
    told = (
        f"its gate asks {amount(price)} of the alpha budget, and {amount(max(left, 0.0))} of {amount(budget)} is left"
    )
    if before.lines:
        more = "..., " if len(before.lines) > _SHOWN else ""
        lines = ", ".join(str(line) for line in before.lines[-_SHOWN:])
        told += f"; {amount(before.spent)} was spent by {before.gates} gate(s), ledger line(s) {more}{lines}"
    return told + (f"; {amount(asked)} goes to the stages before it" if asked else "")


def same(one: float, other: float) -> bool:
    """Say whether two amounts are equal, but for the rounding of sums and differences of decimals."""
    return abs(one - other) <= _ROUNDING


def looked(before: BudgetStanding, look: Look) -> BudgetStanding:
    """Return a budget with one more look, unpaid until a `gated` line about the same evidence follows."""
    return replace(before, unpaid=(*before.unpaid, look))


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
        return f"it says PASS and asks {amount(spent)}, but only {amount(max(left, 0.0))} of the alpha budget was left"
    terms = Terms(attempt if isinstance(attempt, int) else 0, left)
    paid_for = line.get("checkpoint"), line.get("evidence")
    after = BudgetStanding(
        spent=before.spent + spent,
        lines=(*before.lines, seq),
        budget=float(budget),
        channels=_with(before.channels, line.get("channel")),
        unpaid=tuple(look for look in before.unpaid if (look.subject, look.evidence) != paid_for),
    )
    return after, terms


def _with(channels: tuple[str, ...], channel: object) -> tuple[str, ...]:
    known = not isinstance(channel, str) or not channel or channel in channels
    return channels if known else (*channels, str(channel))


def is_amount(value: object) -> TypeGuard[float]:
    """Say whether a value of a ledger line can be an amount: a finite number that is not negative."""
    # Compared, not converted: an int may be larger than any float.
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value < _MOST

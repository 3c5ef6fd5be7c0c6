"""Reach a recorded verdict again: from the guardrails that its ledger line holds and the labels that were stored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from safetune.core.alpha import Terms, cost, is_amount, same
from safetune.core.digest import JSON, short
from safetune.core.errors import IntegrityError
from safetune.core.evidence import EvaluationReport
from safetune.core.gate import decide
from safetune.core.playbook import Guardrail, guardrail_from, guardrails_digest
from safetune.engine.gating import gate_rows

# Bounds come from the C library's logarithms, which differ in their last digits between machines.
_RELATIVE, _ABSOLUTE = 1e-9, 1e-12


def guardrails_of(line: Mapping[str, JSON]) -> tuple[Guardrail, ...]:
    """Return the guardrails that a `gated` line was decided by, in its order.

    Raises:
        IntegrityError: when the line does not hold them in full, or holds others than its digest says.
    """
    definitions = line.get("definitions")
    if not definitions or isinstance(definitions, str) or not isinstance(definitions, Sequence):
        raise IntegrityError("the line does not hold the guardrails that decided")
    try:
        guardrails = tuple(guardrail_from(d) for d in definitions)
        found = guardrails_digest(guardrails)
    except ValueError as error:
        raise IntegrityError(f"the line holds a guardrail that is none: {error}") from error
    if found != line.get("guardrails"):
        raise IntegrityError(f"the guardrails of the line have the digest {short(found)}, not the one that it names")
    return guardrails


def differences(
    line: Mapping[str, JSON], guardrails: tuple[Guardrail, ...], report: EvaluationReport, spent_before: float = 0.0
) -> list[str]:
    """Decide the gate again and return where the line says something else, as sentences; none when it is right.

    `spent_before` is what earlier lines spent of the alpha budget of the same playbook.
    """
    attempt, spent, budget = (line.get(name) for name in ("attempt", "spent", "budget"))
    if isinstance(attempt, bool) or not isinstance(attempt, int) or attempt < 1:
        return [f"the attempt is {attempt!r}, which is no count"]
    if not is_amount(spent) or not is_amount(budget):
        return [f"it spent {spent!r} of a budget of {budget!r}, which are no amounts"]
    price = cost(guardrails, attempt)
    found = [] if same(spent, price) else [f"it spent {spent:.6g}, but a gate of these guardrails costs {price:.6g}"]
    result = decide(guardrails, report, Terms(attempt, budget - spent_before))
    said, given = line.get("verdict"), result.verdict.value
    found += [] if said == given else [f"the verdict is {said}, but the evidence gives {given}"]
    rows, wanted = line.get("results"), gate_rows(result)
    if isinstance(rows, str) or not isinstance(rows, Sequence):
        return [*found, "the results are not a list"]
    if len(rows) != len(wanted):
        return [*found, f"the line has {len(rows)} results, but the evidence gives {len(wanted)}"]
    for row, right, one in zip(rows, wanted, result.results, strict=True):
        if wrong := _wrong_fields(row, right):
            found.append(f"guardrail {one.guardrail} ({one.limit}): not what the evidence gives: {', '.join(wrong)}")
    return found


def _wrong_fields(row: JSON, right: JSON) -> list[str]:
    """Return the names of the fields that differ, are missing, or are there in excess."""
    if not isinstance(row, Mapping) or not isinstance(right, Mapping):
        return ["the whole result"]
    names = dict.fromkeys((*right, *row))
    return [n for n in names if n not in row or n not in right or not _same(row[n], right[n])]


def _same(found: JSON, wanted: JSON) -> bool:
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and not _wrong_fields(found, wanted)
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(_same, found, wanted))
    if isinstance(wanted, float) and isinstance(found, float):
        return math.isclose(found, wanted, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
    # True is equal to 1 in Python and is no count.
    return type(found) is type(wanted) and found == wanted

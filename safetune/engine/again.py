"""What is refused before a checkpoint is gated again: going round a FAIL alone, and asking the very same thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from safetune.core.alpha import affordable, cost
from safetune.core.digest import short
from safetune.core.errors import NotPermitted, UsageError
from safetune.core.plan import how_to_agree
from safetune.core.playbook import Guardrail
from safetune.core.regating import largest_sizes, loosening
from safetune.core.standing import Standing
from safetune.core.verdict import Verdict


def refuse_loosened(standing: Standing, checkpoint: str, guardrails: Sequence[Guardrail], by: str) -> None:
    """Refuse a gate that is easier than one that said FAIL, unless somebody else than `by` approved that evidence.

    Raises:
        NotPermitted: with what was loosened, and what to do.
    """
    known = standing.checkpoints.get(checkpoint)
    found = loosening(known.gates, [g.identity for g in guardrails], by) if known else None
    if found is None:
        return
    own = f"; the only approval is by {by}, who asks" if found.failed.approvals else ""
    raise NotPermitted(
        f"checkpoint {short(checkpoint)} may not be gated so: {found.text}; nothing was measured{own}",
        hint=how_to_agree(checkpoint, found.failed.evidence),
    )


def refuse_pointless(
    standing: Standing, stage_key: str, checkpoint: str, asked: tuple[str, Sequence[Guardrail], Mapping[str, int]]
) -> None:
    """Refuse to gate a checkpoint by what it was gated by last; `asked` is (basis, guardrails, sizes extended to).

    An ERROR, a verdict that the budget did not pay for, a checkpoint that was rolled back and a stage that has no
    verdict yet are gated again all the same: there the ledger says what a new gate is for.

    Raises:
        UsageError: with what would make sense.
    """
    known, stage = standing.checkpoints.get(checkpoint), standing.stages.get(stage_key)
    if not known or not known.gates or (stage and stage.verdict is None):
        return
    last, (basis, guardrails, sizes) = known.gates[-1], asked
    larger = any(size > largest_sizes(known.gates).get(name, 0) for name, size in sizes.items())
    unpaid = not affordable(cost(guardrails, last.terms.attempt), last.terms.left)
    set_aside = known.status == "quarantined" and not known.freed
    if last.basis != basis or larger or last.verdict is Verdict.ERROR or unpaid or set_aside:
        return
    raise UsageError(
        f"checkpoint {short(checkpoint)} was gated by the very same guardrails and suites in ledger line {last.seq} "
        f"({last.verdict}); its responses are remembered, so nothing new would be measured and alpha would be spent",
        hint="more items (--extend SUITE=N after INCONCLUSIVE), other guardrails or suites, or a new checkpoint",
    )

"""What is refused before a checkpoint is gated again: the very same thing, and an easier gate after a FAIL."""

from __future__ import annotations

from typing import Any

import pytest
from ledger_lines import A, B, History, spends

from safetune.core import events
from safetune.core.errors import NotPermitted, UsageError
from safetune.core.playbook import Guardrail, Limits
from safetune.engine.again import refuse_loosened, refuse_pointless

RULE = Guardrail("harm", "suite", "rate", Limits(at_most=0.1), "why")
LOOSER = Guardrail("harm", "suite", "rate", Limits(at_most=0.9), "why")


def history(verdict: str, **changes: Any) -> History:
    found = History()
    found.trained(A)
    found.add(spends(A, verdict=verdict, definitions=[RULE.identity], **changes))
    return found


def pointless(found: History, basis: str = "basis", key: str = "key a", sizes: dict[str, int] | None = None) -> None:
    refuse_pointless(found.standing, key, A, (basis, [RULE], sizes or {}))


@pytest.mark.parametrize("verdict", ["PASS", "FAIL", "INCONCLUSIVE"])
def test_the_very_same_thing_is_not_gated_again(verdict: str) -> None:
    found = history(verdict)
    with pytest.raises(UsageError, match=rf"in ledger line 2 \({verdict}\); its responses are remembered") as caught:
        pointless(found)
    assert "--extend SUITE=N after INCONCLUSIVE" in caught.value.hint


def test_what_an_earlier_gate_was_extended_to_is_the_same_thing() -> None:
    found = history("INCONCLUSIVE")
    again = {"act": "extended", "extended": {"s": 9}, "definitions": [RULE.identity]}
    found.add(spends(A, 2, verdict="INCONCLUSIVE", **again))
    with pytest.raises(UsageError):
        pointless(found, sizes={"s": 9})
    pointless(found, sizes={"s": 10})


def test_what_may_say_something_else_is_gated_again() -> None:
    pointless(History())  # never gated
    pointless(history("PASS"), basis="another")
    pointless(history("ERROR"))
    pointless(history("INCONCLUSIVE", budget=0.01))  # the budget did not pay for a PASS
    made_again = history("PASS")
    made_again.trained(A, "another key")  # the same bytes from another stage, which has no verdict
    pointless(made_again, key="another key")


def test_what_was_rolled_back_is_gated_again_until_it_passes() -> None:
    found = History()
    asked: tuple[str, tuple[Guardrail, ...], dict[str, int]] = ("basis", (), {})
    found.promote(B)
    found.promote(A, B)
    with pytest.raises(UsageError):
        refuse_pointless(found.standing, "key a", A, asked)
    found.roll_back(A, B, A)
    refuse_pointless(found.standing, "key a", A, asked)
    found.gated(A, "PASS", 2, "looked at again")
    with pytest.raises(UsageError):
        refuse_pointless(found.standing, "key a", A, asked)


def test_an_easier_gate_after_a_fail_needs_somebody_else() -> None:
    found = history("FAIL")
    refuse_loosened(found.standing, A, [RULE], "ann")
    refuse_loosened(found.standing, B, [LOOSER], "ann")  # not in the ledger
    with pytest.raises(NotPermitted, match=r"loosened harm: at_most 0\.1 -> 0\.9.*nothing was measured$") as caught:
        refuse_loosened(found.standing, A, [LOOSER], "ann")
    assert f"safetune approve {A[:12]} --evidence evidence" in caught.value.hint
    found.add(events.approved(A, "evidence", 2, "safety", ""))
    with pytest.raises(NotPermitted, match="the only approval is by Ann , who asks"):
        refuse_loosened(found.standing, A, [LOOSER], "Ann ")
    refuse_loosened(found.standing, A, [LOOSER], "bob")

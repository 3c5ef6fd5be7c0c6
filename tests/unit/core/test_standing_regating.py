"""The rules about gating again by other guardrails, each by planted lines: nobody goes round a FAIL alone."""

from __future__ import annotations

from typing import Any

import pytest
from ledger_lines import A, History, spends, violation

from safetune.core import events
from safetune.core.events import Draft
from safetune.core.playbook import Guardrail, Limits


@pytest.fixture
def history() -> History:
    return History()


def _approve(h: History, by: str, gate: int = 0, evidence: str = "evidence") -> None:
    h.by = by
    h.add(events.approved(A, evidence, gate or len(h.events), "safety", "looked"))
    h.by = "ann"


def _ruled(
    attempt: int, at_most: float, verdict: str = "FAIL", changed: Any = None, evidence: str = "evidence"
) -> Draft:
    """A gate by one ceiling; `changed` is what its line says of the gate before."""
    rule = Guardrail("harm", "suite", "rate", Limits(at_most=at_most), "why")
    draft = spends(A, attempt, verdict=verdict, spent=0.0, definitions=[rule.identity], evidence=evidence)
    return Draft("gated", {**draft.data, **({} if changed is None else {"changed": changed})})


def _moved(change: str, what: str) -> list[Any]:
    return [{"change": change, "guardrail": "harm", "what": what}]


_LOOSER = _moved("loosened", "at_most 0.1 -> 0.9")


def _failed_by(h: History, *by: str) -> None:
    """A FAIL by a ceiling of 0.1, approved by some; then ann goes on."""
    h.trained(A)
    h.add(_ruled(1, 0.1))
    for who in by:
        _approve(h, by=who)


@pytest.mark.parametrize("by", [(), ("ann",), ("ANN ",), ("ａｎｎ", "ann")])
@pytest.mark.parametrize("verdict", ["PASS", "FAIL", "INCONCLUSIVE"])
def test_a_fail_is_not_gone_round_alone_by_a_looser_limit(history: History, by: tuple[str, ...], verdict: str) -> None:
    history.trained(A)
    line = history.add(_ruled(1, 0.1))
    for who in by:
        history.by = who
        history.add(events.approved(A, "evidence", line, "safety", ""))
    history.by = "ann"
    history.add(_ruled(2, 0.9, verdict, _LOOSER))
    said = violation(history)
    assert "easier than the gate that said FAIL in ledger line 2 (loosened harm: at_most 0.1 -> 0.9)" in said
    assert "needs the approval of that evidence by somebody else" in said


def test_somebody_else_may_agree_to_a_looser_limit(history: History) -> None:
    _failed_by(history, "bob")
    history.add(_ruled(2, 0.9, "PASS", _LOOSER))
    assert history.standing.checkpoints[A].passed
    assert [c.text for c in history.standing.checkpoints[A].changed] == ["loosened harm: at_most 0.1 -> 0.9"]


def test_an_overridden_fail_was_agreed_to(history: History) -> None:
    _failed_by(history, "bob")
    history.by = "cid"
    history.add(events.overridden(A, "evidence", 2, "the judge is wrong"))
    history.by = "bob"  # whose own approval would not do
    history.add(_ruled(2, 0.9, "PASS", _LOOSER))
    assert history.standing.checkpoints[A].passed


def test_a_fail_is_not_forgotten_over_the_gates_between(history: History) -> None:
    _failed_by(history)
    history.add(_ruled(2, 0.05, "INCONCLUSIVE", _moved("tightened", "at_most 0.1 -> 0.05"), "second"))
    _approve(history, by="bob", evidence="second")
    history.add(_ruled(3, 0.9, "PASS", _moved("loosened", "at_most 0.05 -> 0.9")))
    assert "ledger line 2" in violation(history)
    history.events.pop()
    _approve(history, by="bob", gate=2)  # of the older gate, for which it is needed
    history.add(_ruled(3, 0.9, "PASS", _moved("loosened", "at_most 0.05 -> 0.9")))
    assert history.standing.checkpoints[A].passed


def test_doubt_may_be_gated_by_a_looser_limit(history: History) -> None:
    history.trained(A)
    history.add(_ruled(1, 0.1, "INCONCLUSIVE"))
    history.add(_ruled(2, 0.9, "PASS", _LOOSER))
    assert history.standing.checkpoints[A].passed


@pytest.mark.parametrize("told", [None, [], "looser", _moved("tightened", "at_most 0.1 -> 0.9")])
def test_a_line_says_how_its_guardrails_changed(history: History, told: Any) -> None:
    history.trained(A)
    history.add(_ruled(1, 0.1, "INCONCLUSIVE"))
    history.add(_ruled(2, 0.9, "PASS", told))
    assert "what it says of changed guardrails" in violation(history)


def test_a_line_without_the_guardrails_of_a_fail_is_no_way_round(history: History) -> None:
    _failed_by(history)
    history.add(spends(A, 2, spent=0.0, definitions="none"))
    assert "removed harm: rate of suite" in violation(history)


@pytest.mark.parametrize("verdict", ["PASS", "INCONCLUSIVE", "ERROR"])
def test_of_older_gates_only_a_fail_can_be_approved(history: History, verdict: str) -> None:
    history.trained(A)
    history.add(_ruled(1, 0.1, verdict, evidence="first"))
    history.add(_ruled(2, 0.1, "INCONCLUSIVE"))
    _approve(history, by="bob", gate=2, evidence="first")
    assert "not bound to the evidence of its last gate, in line 3" in violation(history)

"""The rules about the alpha budget, extending and overriding, each by example: which lines are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from ledger_lines import A, B, C, History, spends, violation

from safetune.core import events
from safetune.core.events import Draft
from safetune.core.standing import fold
from safetune.core.verdict import Verdict

Build = Callable[[History], None]


@pytest.fixture
def history() -> History:
    return History()


def _nothing(_: History) -> None:
    return


def _passing(h: History) -> None:
    h.trained(A)
    h.gated(A)


def _failing(h: History) -> None:
    h.trained(A)
    h.gated(A, "FAIL")


def _back(h: History) -> None:
    h.promote(A)
    h.promote(B, A)
    h.roll_back(B, A, B)


def _doubtful(h: History) -> None:
    h.trained(A)
    h.gated(A, "INCONCLUSIVE")


def _once_extended(h: History) -> None:
    _doubtful(h)
    h.add(_extends(verdict="INCONCLUSIVE", s=9))


def _spent(h: History) -> None:
    h.trained(A)
    h.trained(B)
    h.add(spends(A, spent=0.09, verdict="FAIL"))


def _acts(act: str, attempt: int = 1, **extended: Any) -> Draft:
    return spends(A, attempt, act=act, **extended)


def _extends(attempt: int = 2, verdict: str = "PASS", **sizes: Any) -> Draft:
    return spends(A, attempt, act="extended", extended=sizes, verdict=verdict)


def _worded() -> Draft:
    return Draft("gated", {**_extends(s=9).data, "extended": "s=9"})


def _attempt(value: Any) -> Draft:
    return Draft("gated", {**spends(A).data, "attempt": value})


# -- the alpha budget --------------------------------------------------------------------------------------------------

REFUSED: Mapping[str, tuple[Build, Draft, str]] = {
    "an act that is none": (_passing, _acts("gated", attempt=2), "attempt 2 cannot be called 'gated'"),
    "a first gate as another": (lambda h: h.trained(A), _acts("again"), "attempt 1 cannot be called 'again'"),
    "a first gate that is extended": (lambda h: h.trained(A), _acts("extended"), "cannot be called 'extended'"),
    "extended by nothing": (_doubtful, _acts("extended", attempt=2), "says which suites"),
    "extended by no sizes": (_doubtful, _extends(s="9"), "says which suites"),
    "extended by True": (_doubtful, _extends(s=True), "says which suites"),
    "extended by less than nothing": (_doubtful, _extends(s=-1), "says which suites"),
    "extended by a word": (_doubtful, _worded(), "says which suites"),
    "sizes without an extension": (_doubtful, _acts("again", attempt=2, extended={"s": 9}), "and no other"),
    "extended after FAIL": (_failing, _extends(s=9), "only INCONCLUSIVE can be extended, and its last gate said FAIL"),
    "extended after PASS": (_passing, _extends(s=9), "its last gate said PASS"),
    "extended downwards": (_once_extended, _extends(attempt=3, s=8), "cannot be asked less"),
    "a PASS that was not paid for": (_spent, spends(B), "only 0.01 of the alpha budget was left"),
    "spending from nothing": (lambda h: h.trained(A), spends(A, playbook=""), "the budget of no playbook"),
    "spending nonsense": (lambda h: h.trained(A), spends(A, spent=-0.1), "which is no chance"),
    "spending beyond all floats": (lambda h: h.trained(A), spends(A, spent=10**400), "which is no chance"),
    "an attempt that is True": (lambda h: h.trained(A), _attempt(True), "attempt True does not follow 0"),
    "an attempt beyond all floats": (lambda h: h.trained(A), _attempt(10**400), "0 does not follow 0 earlier"),
}


@pytest.mark.parametrize(("build", "draft", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_gate_that_breaks_a_rule_is_named(history: History, build: Build, draft: Draft, message: str) -> None:
    build(history)
    fold(history.events)  # sound up to here
    history.add(draft)
    assert message in violation(history)


def test_gates_spend_from_the_budget_of_their_playbook(history: History) -> None:
    history.trained(A)
    history.trained(B)
    first = history.add(spends(A))
    other = history.add(spends(B, playbook="q", spent=0.01, budget=1.0))
    again = history.add(spends(A, 2, spent=0.025, budget=0.2))
    found = history.standing.budgets
    assert set(found) == {"p", "q"}
    assert (found["p"].lines, found["p"].budget, found["q"].lines) == ((first, again), 0.2, (other,))
    assert found["p"].spent == pytest.approx(0.075)
    gates = history.standing.checkpoints[A].gates
    assert [(g.terms.attempt, g.terms.left) for g in gates] == [(1, 0.1), (2, pytest.approx(0.15))]


def test_a_gate_that_was_not_paid_for_may_say_anything_but_pass(history: History) -> None:
    _spent(history)
    history.add(spends(B, verdict="INCONCLUSIVE"))
    assert history.standing.budgets["p"].spent == pytest.approx(0.14)


def test_a_look_for_a_gate_is_unpaid_and_any_other_measurement_is_none(history: History) -> None:
    seen = events.evaluated("folder", "", "evidence", ["s"])
    history.add(seen)
    assert history.standing.budgets == {}
    first = history.add(events.for_gate(seen, "p"))
    second = history.add(events.for_gate(seen, "p"))  # the same once more
    history.add(Draft("evaluated", {**seen.data, "gate": 1, "playbook": "p"}))
    assert history.standing.budgets["p"].gates == 0
    assert [look.seq for look in history.standing.budgets["p"].unpaid] == [first, second]
    history.trained(A)
    history.add(events.for_gate(events.evaluated(A, "base", "evidence", ["s"], "key a"), "p"), spends(A))
    assert [look.seq for look in history.standing.budgets["p"].unpaid] == [first, second]


def test_an_extended_gate_keeps_its_sizes(history: History) -> None:
    _once_extended(history)
    history.add(_extends(attempt=3, s=9, t=3))
    assert [dict(g.extended) for g in history.standing.checkpoints[A].gates] == [{}, {"s": 9}, {"s": 9, "t": 3}]
    assert history.standing.checkpoints[A].passed


def test_what_was_extended_may_be_asked_again_whatever_the_verdict_but_not_more(history: History) -> None:
    _doubtful(history)
    paid: dict[str, Any] = {"act": "extended", "spent": 0.01}
    history.add(spends(A, 2, extended={"s": 9}, **paid))
    history.add(spends(A, 3, extended={"s": 9}, **paid))
    assert history.standing.attempts(A) == 3
    history.add(spends(A, 4, extended={"s": 10}, **paid))
    assert "only INCONCLUSIVE can be extended, and its last gate said PASS" in violation(history)


def test_a_size_is_remembered_over_gates_that_did_not_name_it(history: History) -> None:
    _once_extended(history)
    history.add(_acts("again", 3, verdict="INCONCLUSIVE"))
    history.add(_extends(attempt=4, verdict="INCONCLUSIVE", s=8))
    assert "cannot be asked less" in violation(history)


# -- overriding --------------------------------------------------------------------------------------------------------


def _approve(h: History, digest: str = A, by: str = "bob", **changes: Any) -> None:
    draft = events.approved(digest, "evidence", len(h.events), "safety", "looked")
    h.by = by
    h.add(Draft(draft.kind, {**draft.data, **changes}))
    h.by = "ann"


def _override(gate: int = 2, digest: str = A, **changes: Any) -> Draft:
    draft = events.overridden(digest, "evidence", gate, "the judge is wrong")
    return Draft(draft.kind, {**draft.data, **changes})


def _approved(h: History) -> None:
    _failing(h)
    _approve(h)


@pytest.mark.parametrize("verdict", ["FAIL", "INCONCLUSIVE"])
def test_what_did_not_pass_is_promoted_by_an_approval_and_an_override(history: History, verdict: str) -> None:
    history.trained(A)
    history.gated(A, verdict)
    _approve(history)
    assert not history.standing.checkpoints[A].stands
    assert history.standing.checkpoints[A].verdict_text == verdict
    line = history.add(_override())
    found = history.standing.checkpoints[A]
    assert (found.stands, found.passed, found.freed) == (True, False, False)
    assert found.verdict_text == f"{verdict}, overridden (ledger line {line}: the judge is wrong)"
    assert [(a.by, a.role) for a in found.approvals] == [("bob", "safety")]
    history.add(events.promoted("stable", A, "", 2, "key a"))
    assert history.standing.channels["stable"].current == A
    assert history.standing.stages["key a"].verdict is Verdict[verdict]
    assert history.standing.may_return_to(A)


def test_a_checkpoint_without_a_gate_has_nothing_to_show(history: History) -> None:
    history.trained(A)
    assert history.standing.checkpoints[A].verdict_text == ""


def test_a_later_gate_ends_approval_and_override(history: History) -> None:
    _approved(history)
    history.add(_override())
    line = history.gated(A, "FAIL", 2, "once more")
    found = history.standing.checkpoints[A]
    assert (found.override, found.approvals, found.stands) == (None, (), False)
    history.add(events.promoted("stable", A, "", line, "key a"))
    assert "no PASS as its last gate, and no override of it" in violation(history)


def test_an_approval_does_not_outlive_the_gate_that_it_was_about(history: History) -> None:
    _approved(history)
    line = history.gated(A, "FAIL", 2, "once more")  # on the very same evidence
    history.add(_override(line))
    assert "needs the approval of somebody else" in violation(history)


def test_a_channel_moves_off_an_overridden_checkpoint_and_it_is_quarantined(history: History) -> None:
    history.promote(B)
    history.trained(A)
    line = history.gated(A, "FAIL")
    _approve(history)
    history.add(_override(line))
    history.add(events.promoted("stable", A, B, line, "key a"))
    history.roll_back(A, B, A)
    assert not history.standing.may_return_to(A)
    history.add(events.promoted("stable", A, B, line, "key a"))
    assert "is quarantined" in violation(history)


def _fallen(h: History) -> None:
    _back(h)
    h.gated(B, "FAIL", 2, "again")
    _approve(h, B)


def _child(h: History) -> None:
    h.promote(A)
    h.promote(B, A)
    h.add(events.trained(("key c", "sprint", "stage"), C, B, {}))
    h.gated(C, "FAIL")
    h.roll_back(B, A, B)
    h.by = "bob"
    h.add(events.approved(C, "evidence", 8, "safety", ""))
    h.by = "ann"


def _alone(h: History) -> None:
    _failing(h)
    _approve(h, by="ann")


def _shouting(h: History) -> None:
    _failing(h)
    _approve(h, by=" ＡＮＮ ")


def _broken(h: History) -> None:
    h.trained(A)
    h.gated(A, "ERROR")


_APPROVAL = events.approved(A, "evidence", 2, "safety", "")

NOT_OVERRIDDEN: Mapping[str, tuple[Build, Draft, str]] = {
    "approval of a stranger": (_nothing, _APPROVAL, "is not in the ledger"),
    "approval of what was not gated": (lambda h: h.trained(A), _APPROVAL, "was never gated"),
    "approval of a PASS": (_passing, _APPROVAL, "said PASS: there is nothing to override"),
    "approval of an ERROR": (_broken, _APPROVAL, "said ERROR: there is no measurement to override"),
    "approval of another evidence": (
        _failing,
        events.approved(A, "other", 2, "safety", ""),
        "not bound to the evidence of its last gate, in line 2",
    ),
    "approval of another line": (_failing, events.approved(A, "evidence", 1, "safety", ""), "not bound"),
    "approval in no role": (_failing, events.approved(A, "evidence", 2, " ", ""), "somebody, in a role"),
    "override of a stranger": (_nothing, _override(), "is not in the ledger"),
    "override of what was not gated": (lambda h: h.trained(A), _override(), "was never gated"),
    "override of a PASS": (_passing, _override(), "there is nothing to override"),
    "override of an ERROR": (_broken, _override(), "there is no measurement to override"),
    "override of another evidence": (_approved, _override(evidence="other"), "not bound to the evidence"),
    "override of another line": (_approved, _override(1), "not bound to the evidence"),
    "override without a reason": (_approved, _override(reason=" "), "needs a reason"),
    "override without an approval": (_failing, _override(), "needs the approval of somebody else"),
    "override on one's own approval": (_alone, _override(), "needs the approval of somebody else"),
    "override on one's own approval, written otherwise": (
        _shouting,
        _override(),
        "needs the approval of somebody else",
    ),
    "override of what was rolled back": (_fallen, _override(8, B), "is quarantined since line 7"),
    "override of its child": (_child, _override(8, C), "which is quarantined"),
    "promoted on an approval alone": (_approved, events.promoted("stable", A, "", 2, ""), "no override of it"),
}


@pytest.mark.parametrize(("build", "draft", "message"), NOT_OVERRIDDEN.values(), ids=NOT_OVERRIDDEN.keys())
def test_a_line_that_overrides_against_the_rules_is_named(
    history: History, build: Build, draft: Draft, message: str
) -> None:
    build(history)
    fold(history.events)  # sound up to here
    history.add(draft)
    assert message in violation(history)


@pytest.mark.parametrize("who", ["", "  ", "an\x00n", "ann\n", "\u200bann", "\u202eann"])
@pytest.mark.parametrize("kind", ["approved", "overridden"])
def test_nobody_neither_approves_nor_overrides(history: History, kind: str, who: str) -> None:
    _approved(history)
    history.by = who
    history.add(events.approved(A, "evidence", 2, "safety", "") if kind == "approved" else _override())
    assert "needs" in violation(history)

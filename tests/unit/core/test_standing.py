"""The rules of the machine, each by example: what a line does, and which lines are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from ledger_lines import A, B, C, History, gated, violation

from safetune.core import events
from safetune.core.events import Draft, Event
from safetune.core.standing import RuleViolation, StageStanding, Standing, apply, fold
from safetune.core.verdict import Verdict


@pytest.fixture
def history() -> History:
    return History()


def test_nothing_happened() -> None:
    assert fold(()) == Standing()


def test_a_stage_from_training_to_promotion(history: History) -> None:
    history.add(events.started("r1", "p", "d", "plan"), events.admitted("key a", "", []))
    history.trained(A)
    assert history.standing.checkpoints[A].status == "candidate"
    assert history.standing.stages["key a"] == StageStanding(A)
    history.add(events.evaluated(A, "base", "evidence", ["suite"], "key a"))
    assert history.standing.stages["key a"].evidence == "evidence"
    line = history.gated(A)
    stage = history.standing.stages["key a"]
    assert (stage.verdict, stage.gate, stage.basis, stage.settled) == (Verdict.PASS, line, "basis", "")
    promoted = history.add(events.promoted("stable", A, "", line, "key a"), events.finished("r1", 0)) - 1
    standing = history.standing
    assert standing.stages["key a"].settled == "promoted"
    assert standing.checkpoints[A].status == "promoted"
    assert standing.channels["stable"].history == ((promoted, A),)
    assert standing.last_seq == promoted + 1
    assert (standing.attempts(A), standing.attempts(B)) == (1, 0)


@pytest.mark.parametrize(
    ("draft", "status"),
    [
        (events.rejected(A, "key a", "FAIL", "rule"), "rejected"),
        (events.held(A, "key a", "INCONCLUSIVE"), "held"),
    ],
)
def test_a_candidate_is_refused(history: History, draft: Draft, status: str) -> None:
    history.trained(A)
    history.gated(A, "FAIL")
    history.add(draft)
    assert history.standing.checkpoints[A].status == status
    assert history.standing.stages["key a"].settled == status
    assert not history.standing.may_return_to(A)


def test_a_failed_first_attempt_is_remembered_and_a_later_one_loses_nothing(history: History) -> None:
    history.add(events.failed("key a", "train", "out of memory"), events.failed("", "train", "no stage"))
    assert history.standing.stages == {"key a": StageStanding()}
    history.trained(A)
    history.gated(A)
    before = history.standing.stages
    history.add(events.failed("key a", "train", "again"))
    assert history.standing.stages == before


def test_a_new_checkpoint_of_a_stage_inherits_no_verdict(history: History) -> None:
    history.trained(A, "key")
    history.gated(A, key="key")
    history.trained(B, "key")
    assert history.standing.stages["key"] == StageStanding(B)


def test_equal_bytes_made_again_keep_their_history(history: History) -> None:
    history.promote(A)
    history.trained(A)
    standing = history.standing
    assert standing.checkpoints[A].status == "promoted"
    assert standing.stages["key a"].verdict is Verdict.PASS


@pytest.mark.parametrize("key", ["other key", "unknown key", ""])
def test_a_gate_says_nothing_about_a_stage_with_another_candidate(history: History, key: str) -> None:
    history.trained(A)
    history.trained(B, "other key")
    history.add(gated(A, "PASS", 1, "", key))
    assert history.standing.stages == {"key a": StageStanding(A), "other key": StageStanding(B)}
    assert history.standing.checkpoints[A].passed


def test_a_rollback_moves_the_pointer_and_quarantines_what_came_after(history: History) -> None:
    first = history.promote(A)
    history.promote(B, A)
    history.promote(C, B)
    line = history.roll_back(C, A, B, C)
    standing = history.standing
    assert (standing.channels["stable"].current, standing.channels["stable"].seq) == (A, line)
    assert standing.channels["stable"].history == ((first, A),)
    assert [standing.checkpoints[d].status for d in (A, B, C)] == ["promoted", "quarantined", "quarantined"]
    assert [standing.may_return_to(d) for d in (A, B, C)] == [True, False, False]


def test_a_quarantined_checkpoint_stays_so_until_it_is_gated_and_promoted_again(history: History) -> None:
    history.promote(A)
    history.promote(B, A)
    history.roll_back(B, A, B)
    history.add(events.rejected(B, "key b", "FAIL", "rule"))
    assert history.standing.checkpoints[B].status == "quarantined"
    history.promote(B, A, attempt=2)
    assert history.standing.checkpoints[B].status == "promoted"
    assert history.standing.channels["stable"].current == B


def test_a_checkpoint_that_is_quarantined_already_need_not_be_named_again(history: History) -> None:
    history.promote(A)
    history.promote(B, A)
    history.roll_back(B, A, B)
    history.promote(B, A, attempt=2)
    history.promote(C, B)
    history.add(events.promoted("canary", B, "", 8, ""))
    history.add(events.promoted("canary", A, B, 2, ""))
    history.add(events.rolled_back(("canary", A, B), "why", "a person", [A]))
    # A is quarantined through the canary; a rollback of stable past it cannot be, and to it neither.
    history.roll_back(C, A, B, C)
    assert "is quarantined" in violation(history)


# -- what is refused ---------------------------------------------------------------------------------------------------


def _twice_trained(h: History) -> None:
    h.trained(A)
    h.gated(A)


def _promoted(h: History) -> None:
    h.promote(A)


def _moved(h: History) -> None:
    h.promote(A)
    h.promote(B, A)


def _back(h: History) -> None:
    _moved(h)
    h.roll_back(B, A, B)


def _regated(verdict: str) -> Callable[[History], None]:
    def build(h: History) -> None:
        _moved(h)
        h.gated(A, verdict, 2, "the suite grew")

    return build


def _failing(h: History) -> None:
    h.trained(A)
    h.gated(A, "FAIL")


def _nothing(_: History) -> None:
    return


def _move(channel: str, previous: str, target: str, *out: str) -> Draft:
    return events.rolled_back((channel, previous, target), "why", "a person", out)


REFUSED: Mapping[str, tuple[Callable[[History], None], Draft, str]] = {
    "unknown kind": (_nothing, Draft("forgiven", {}), "unknown kind 'forgiven'"),
    "trained without digest": (_nothing, events.trained(("k", "", ""), "", "", {}), "needs a digest"),
    "trained without stage": (_nothing, events.trained(("", "", ""), A, "", {}), "needs a digest"),
    "gate of a stranger": (_nothing, gated(A, "PASS", 1, "", "k"), f"checkpoint {A[:12]} is not in the ledger"),
    "gate of nothing": (_nothing, gated("", "PASS", 1, "", "k"), "checkpoint without a digest"),
    "attempt out of turn": (_twice_trained, gated(A, "PASS", 3, "x", "k"), "attempt 3 does not follow 1"),
    "the first attempt again": (_twice_trained, gated(A, "PASS", 1, "x", "k"), "attempt 1 does not follow 1"),
    "again without a reason": (_twice_trained, gated(A, "PASS", 2, " ", "k"), "needs a reason"),
    "no verdict": (_promoted, gated(A, "MAYBE", 2, "x", "k"), "'MAYBE' is not a verdict"),
    "promoted ungated": (lambda h: h.trained(A), events.promoted("stable", A, "", 1, ""), "no PASS as its last gate"),
    "promoted after FAIL": (_failing, events.promoted("stable", A, "", 2, ""), "no PASS as its last gate"),
    "promoted by another gate": (_twice_trained, events.promoted("stable", A, "", 1, ""), "no PASS as its last gate"),
    "promoted a stranger": (_nothing, events.promoted("stable", A, "", 1, ""), "is not in the ledger"),
    "promoted on no channel": (_twice_trained, events.promoted("", A, "", 2, ""), "was not where"),
    "promoted from elsewhere": (_twice_trained, events.promoted("stable", A, B, 2, ""), "was not where"),
    "promoted though quarantined": (_back, events.promoted("stable", B, A, 5, ""), "is quarantined since line 7"),
    "rejected though promoted": (_promoted, events.rejected(A, "", "FAIL", ""), "it can only be rolled back"),
    "held though promoted": (_promoted, events.held(A, "", "FAIL"), "it can only be rolled back"),
    "rejected a stranger": (_nothing, events.rejected(A, "", "FAIL", ""), "is not in the ledger"),
    "rolled back nowhere": (_nothing, _move("stable", "", A), "was not where the rollback says"),
    "rolled back from elsewhere": (_moved, _move("stable", A, A), "was not where the rollback says"),
    "rolled back to a stranger": (_moved, _move("stable", B, C, B), "is not in the ledger"),
    "rolled back to quarantine": (_back, _move("stable", A, B), "is quarantined or its last gate did not pass"),
    "rolled back to a failure": (_regated("FAIL"), _move("stable", B, A, B), "its last gate did not pass"),
    "rolled back to doubt": (_regated("INCONCLUSIVE"), _move("stable", B, A, B), "its last gate did not pass"),
    "rolled back without quarantine": (_moved, _move("stable", B, A), f"{B[:12]} came after the target"),
    "rolled back and condemned the target": (_moved, _move("stable", B, A, A, B), "cannot be quarantined"),
    "rolled back and condemned a stranger": (_moved, _move("stable", B, A, B, C), "cannot be quarantined"),
    "rolled back with a word": (
        _moved,
        Draft("rolled_back", {"channel": "stable", "previous": B, "target": A, "quarantined": B}),
        "came after the target",
    ),
}


@pytest.mark.parametrize(("build", "draft", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_line_that_breaks_a_rule_is_named(
    history: History, build: Callable[[History], None], draft: Draft, message: str
) -> None:
    build(history)
    fold(history.events)  # sound up to here
    history.add(draft)
    assert message in violation(history)


def test_a_rollback_target_must_have_been_promoted_on_that_channel(history: History) -> None:
    history.promote(A)
    history.trained(B)
    history.gated(B)
    history.add(_move("stable", A, B, A))
    assert "was never promoted on stable" in violation(history)


@pytest.mark.parametrize("seq", [0, 1, 2])
def test_a_line_follows_the_one_before(history: History, seq: int) -> None:
    history.trained(A)
    history.gated(A)
    with pytest.raises(RuleViolation, match="does not follow line 2"):
        apply(history.standing, replace(history.events[-1], seq=seq))


def test_apply_leaves_the_standing_before_alone(history: History) -> None:
    _moved(history)
    before = history.standing
    event = Event(before.last_seq + 1, "", "", "", *_parts(_move("stable", B, A, B)))
    assert apply(before, event) != before
    assert before == fold(history.events)


def _parts(draft: Draft) -> tuple[str, Mapping[str, Any]]:
    return draft.kind, draft.data


def _child_of_a_rolled_back(history: History) -> int:
    """C passed, but B, which it was trained from, was rolled back meanwhile; return the line of C's gate."""
    history.promote(A)
    history.promote(B, A)
    history.add(events.trained(("key c", "sprint", "stage"), C, B, {}))
    line = history.gated(C)
    history.roll_back(B, A, B)
    return line


def test_what_was_trained_from_a_quarantined_checkpoint_is_not_promoted(history: History) -> None:
    line = _child_of_a_rolled_back(history)
    assert history.standing.quarantined_ancestor(C) == B
    history.add(events.promoted("stable", C, A, line, "key c"))
    assert f"was trained from {B[:12]}, which is quarantined" in violation(history)


def test_an_ancestor_that_passed_a_new_gate_is_no_obstacle(history: History) -> None:
    line = _child_of_a_rolled_back(history)
    history.gated(B, attempt=2, reason="looked at again")
    assert history.standing.checkpoints[B].freed
    assert history.standing.quarantined_ancestor(C) == ""
    history.add(events.promoted("stable", C, A, line, "key c"))
    assert history.standing.channels["stable"].current == C


def test_ancestors_that_form_a_ring_or_are_unknown_end_the_search(history: History) -> None:
    history.add(events.trained(("key a", "s", "t"), A, B, {}), events.trained(("key b", "s", "t"), B, A, {}))
    assert history.standing.quarantined_ancestor(A) == ""
    history.add(events.trained(("key c", "s", "t"), C, "d" * 64, {}))
    assert history.standing.quarantined_ancestor(C) == ""
    assert history.standing.quarantined_ancestor("e" * 64) == ""


def test_a_promotion_bound_to_another_gate_than_the_one_that_passed_is_refused(history: History) -> None:
    history.trained(A)
    line = history.gated(A)
    bound = events.promoted("stable", A, "", line, "key a")
    assert apply(history.standing, _next(history, events.demanding(bound, "basis"))).channels["stable"].current == A
    history.add(events.demanding(bound, "a laxer gate"))
    assert "passed another gate than the one that is asked for" in violation(history)


def _next(history: History, draft: Draft) -> Event:
    return Event(len(history.events) + 1, "", "", "", draft.kind, draft.data)

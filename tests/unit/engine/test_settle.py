"""What a verdict leads to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from safetune.core.events import Draft, Event, GateRecord, demanding, gated, promoted, trained
from safetune.core.playbook import Inputs, ModelRef, Playbook, Promotion, RollbackRule
from safetune.core.standing import Standing, apply, fold
from safetune.core.verdict import Verdict
from safetune.engine.settle import Ruling, rule_text, settle

BOOK = Playbook(
    "book", "purpose", ("us",), ModelRef("folder", "/m"), Inputs(), (), (), (), (), Promotion("stable"), "d", "p"
)
STOP = RollbackRule((Verdict.FAIL, Verdict.ERROR), "last-promoted", "stop")
HOLD = RollbackRule((Verdict.INCONCLUSIVE,), "last-promoted", "hold")
START = RollbackRule((Verdict.FAIL,), "sprint-start", "stop")
NOT_PASS = [Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.ERROR]


def passed(checkpoint: str, key: str) -> GateRecord:
    return GateRecord(key, checkpoint, "", "g", "e", "b", "PASS", 1, "", ())


def standing(*made: str) -> Standing:
    """Return a standing in which these checkpoints (key: `key of NAME`) were promoted in order."""
    drafts: list[Draft] = []
    before = ""
    for name in made:
        key = f"key of {name}"
        drafts += [trained((key, "s", "t"), name, before, {}), gated(passed(name, key))]
        drafts.append(promoted("stable", name, before, len(drafts), key))
        before = name
    return fold(Event(n, "", "", "", d.kind, d.data) for n, d in enumerate(drafts, 1))


def ruling(verdict: Verdict, *sprint: str) -> Ruling:
    keys = frozenset(f"key of {name}" for name in (*sprint, "new"))
    return Ruling("new", "key of new", verdict, 9, keys, "basis of new")


def kinds(drafts: tuple[Draft, ...]) -> list[str]:
    return [draft.kind for draft in drafts]


def test_a_pass_is_promoted_from_where_the_channel_is() -> None:
    found = settle(BOOK, standing("a", "b"), ruling(Verdict.PASS))
    assert found.outcome == "promoted"
    assert found.drafts == (demanding(promoted("stable", "new", "b", 9, "key of new"), "basis of new"),)


@pytest.mark.parametrize("verdict", NOT_PASS)
@pytest.mark.parametrize("rules", [(), (STOP,), (START,), (HOLD,), (STOP, HOLD), (START, HOLD)])
@pytest.mark.parametrize("history", [(), ("a",), ("a", "b")])
def test_nothing_but_a_pass_is_ever_promoted(
    verdict: Verdict, rules: tuple[RollbackRule, ...], history: tuple[str, ...]
) -> None:
    found = settle(replace(BOOK, rollback=rules), standing(*history), ruling(verdict, "b"))
    assert "promoted" not in kinds(found.drafts)
    assert found.outcome in ("rejected", "held", "rolled back")
    assert found.drafts[-1].data["checkpoint"] == "new"


def test_without_a_rule_the_candidate_is_rejected() -> None:
    found = settle(BOOK, standing("a"), ruling(Verdict.INCONCLUSIVE))
    assert found.outcome == "rejected"
    assert found.drafts[0].data["rule"] == "no rule for this verdict: reject and stop"


def test_only_its_own_verdicts_match_a_rule() -> None:
    book = replace(BOOK, rollback=(STOP, HOLD))
    assert settle(book, standing("a"), ruling(Verdict.INCONCLUSIVE)).outcome == "held"
    assert settle(book, standing("a"), ruling(Verdict.ERROR)).outcome == "rejected"
    assert (
        settle(replace(BOOK, rollback=(START,)), standing("a", "b"), ruling(Verdict.ERROR, "b")).outcome == "rejected"
    )


def test_sprint_start_goes_back_to_before_the_sprint() -> None:
    found = settle(replace(BOOK, rollback=(START,)), standing("a", "b", "c"), ruling(Verdict.FAIL, "b", "c"))
    assert (found.outcome, found.moved_to) == ("rolled back", "a")
    # The move first: after a crash between the two lines, the refusal that is missing makes the rule apply again.
    assert kinds(found.drafts) == ["rolled_back", "rejected"]
    back = found.drafts[0].data
    assert (back["previous"], back["target"], back["quarantined"]) == ("c", "a", ["b", "c"])


def test_sprint_start_stays_where_there_is_nothing_before_the_sprint() -> None:
    found = settle(replace(BOOK, rollback=(START,)), standing("a"), ruling(Verdict.FAIL, "a"))
    assert (found.outcome, kinds(found.drafts)) == ("rejected", ["rejected"])
    assert "held nothing before this sprint" in found.note


def test_sprint_start_leaves_the_promotions_of_other_sprints_alone() -> None:
    found = settle(replace(BOOK, rollback=(START,)), standing("a", "b"), ruling(Verdict.FAIL))
    assert (found.outcome, kinds(found.drafts)) == ("rejected", ["rejected"])
    assert found.note == "nothing of this sprint had been promoted"


def again(checkpoint: str, verdict: Verdict, *sprint: str) -> Ruling:
    """A promoted checkpoint that was gated a second time."""
    return Ruling(checkpoint, f"key of {checkpoint}", verdict, 9, frozenset(f"key of {name}" for name in sprint), "b")


def failing(checkpoint: str, *made: str) -> Standing:
    """A standing in which one of the promoted checkpoints failed a second gate."""
    before = standing(*made)
    record = replace(passed(checkpoint, f"key of {checkpoint}"), verdict="FAIL", attempt=2, reason="stricter")
    return follow(before, gated(record))


def follow(before: Standing, *drafts: Draft) -> Standing:
    for draft in drafts:
        before = apply(before, Event(before.last_seq + 1, "", "", "", draft.kind, draft.data))
    return before


def test_an_earlier_stage_that_passes_again_does_not_move_the_channel_back() -> None:
    found = settle(BOOK, standing("a", "b"), again("a", Verdict.PASS, "a"))
    assert (found.outcome, found.drafts) == ("confirmed", ())
    assert "stays at b" in found.note


@pytest.mark.parametrize("rules", [(), (STOP,), (START,)])
def test_a_promoted_checkpoint_that_fails_a_new_gate_is_rolled_back_with_what_was_built_on_it(
    rules: tuple[RollbackRule, ...],
) -> None:
    before = failing("b", "a", "b", "c")
    found = settle(replace(BOOK, rollback=rules), before, again("b", Verdict.FAIL, "b", "c"))
    assert (found.outcome, found.moved_to) == ("rolled back", "a")
    after = follow(before, *found.drafts)  # and the ledger takes it
    assert after.channels["stable"].current == "a"
    assert [after.checkpoints[name].status for name in "abc"] == ["promoted", "quarantined", "quarantined"]
    assert after.stages["key of b"].settled == "rejected"


def test_a_promoted_checkpoint_stays_where_the_rule_is_to_hold_or_nothing_is_left_to_go_back_to() -> None:
    held = replace(BOOK, rollback=(replace(HOLD, on=(Verdict.FAIL,)),))
    for book, made in ((held, ("a", "b")), (BOOK, ("b",))):
        found = settle(book, failing("b", *made), again("b", Verdict.FAIL, "b"))
        assert (found.outcome, found.drafts) == ("held", ())
        assert "stays at b" in found.note
    elsewhere = settle(
        replace(BOOK, promotion=Promotion("canary")), failing("b", "a", "b"), again("b", Verdict.FAIL, "b")
    )
    assert (elsewhere.outcome, elsewhere.drafts) == ("held", ())


def test_a_rollback_takes_along_what_lies_between_and_may_not_be_gone_back_to() -> None:
    before = failing("x", "a", "x", "b")
    trained_new = follow(before, trained(("key of new", "s", "t"), "new", "b", {}))
    found = settle(replace(BOOK, rollback=(START,)), trained_new, ruling(Verdict.FAIL, "b"))
    after = follow(trained_new, *found.drafts)
    assert (found.moved_to, after.channels["stable"].current) == ("a", "a")
    assert after.checkpoints["x"].status == after.checkpoints["b"].status == "quarantined"


def test_a_rule_reads_as_a_line() -> None:
    assert rule_text(START) == "on FAIL to sprint-start then stop"

"""What a verdict leads to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from safetune.core.events import Draft, Event, GateRecord, gated, promoted, trained
from safetune.core.playbook import ModelRef, Playbook, RollbackRule
from safetune.core.standing import Standing, fold
from safetune.core.verdict import Verdict
from safetune.engine.settle import Ruling, rule_text, settle

BOOK = Playbook("book", "purpose", ("us",), ModelRef("folder", "/m"), (), (), (), (), (), "stable", "d", "p")
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
    return Ruling("new", "key of new", verdict, 9, frozenset(f"key of {name}" for name in (*sprint, "new")))


def kinds(drafts: tuple[Draft, ...]) -> list[str]:
    return [draft.kind for draft in drafts]


def test_a_pass_is_promoted_from_where_the_channel_is() -> None:
    found = settle(BOOK, standing("a", "b"), ruling(Verdict.PASS))
    assert found.outcome == "promoted"
    assert found.drafts == (promoted("stable", "new", "b", 9, "key of new"),)


@pytest.mark.parametrize("verdict", NOT_PASS)
@pytest.mark.parametrize("rules", [(), (STOP,), (START,), (HOLD,), (STOP, HOLD), (START, HOLD)])
@pytest.mark.parametrize("history", [(), ("a",), ("a", "b")])
def test_nothing_but_a_pass_is_ever_promoted(
    verdict: Verdict, rules: tuple[RollbackRule, ...], history: tuple[str, ...]
) -> None:
    found = settle(replace(BOOK, rollback=rules), standing(*history), ruling(verdict, "b"))
    assert "promoted" not in kinds(found.drafts)
    assert found.outcome in ("rejected", "held", "rolled back")
    assert found.drafts[0].data["checkpoint"] == "new"


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
    assert kinds(found.drafts) == ["rejected", "rolled_back"]
    back = found.drafts[1].data
    assert (back["previous"], back["target"], back["quarantined"]) == ("c", "a", ["c", "b"])


def test_sprint_start_stays_where_there_is_nothing_before_the_sprint() -> None:
    found = settle(replace(BOOK, rollback=(START,)), standing("a"), ruling(Verdict.FAIL, "a"))
    assert (found.outcome, kinds(found.drafts)) == ("rejected", ["rejected"])
    assert "held nothing before this sprint" in found.note


def test_sprint_start_leaves_the_promotions_of_other_sprints_alone() -> None:
    found = settle(replace(BOOK, rollback=(START,)), standing("a", "b"), ruling(Verdict.FAIL))
    assert (found.outcome, kinds(found.drafts)) == ("rejected", ["rejected"])
    assert found.note == "nothing of this sprint had been promoted"


def test_a_rule_reads_as_a_line() -> None:
    assert rule_text(START) == "on FAIL to sprint-start then stop"

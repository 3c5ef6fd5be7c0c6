"""Events: what each kind keeps, and how one becomes a line of JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from safetune.core import events
from safetune.core.digest import canonical
from safetune.core.events import Draft, Event, GateRecord, Spending

GATE = GateRecord("key", "cp", "base", "limits", "evidence", "basis", "FAIL", 2, "why", [{"n": 3}])

DRAFTS = {
    "started": events.started("r1", "tutor", "pd", "plan"),
    "finished": events.finished("r1", 3),
    "admitted": events.admitted("key", "mixture", ({"name": "rows"},)),
    "trained": events.trained(("key", "sprint", "stage"), "cp", "parent", {"loss": 1.5}),
    "failed": events.failed("key", "train", "out of memory"),
    "evaluated": events.evaluated("cp", "base", "evidence", ("suite",), "key"),
    "gated": events.gated(GATE),
    "approved": events.approved("cp", "evidence", 5, "safety", "looked at every flip"),
    "overridden": events.overridden("cp", "evidence", 5, "the judge misread a dialect"),
    "promoted": events.promoted("stable", "cp", "before", 7, "key"),
    "rejected": events.rejected("cp", "key", "FAIL", "rule"),
    "held": events.held("cp", "key", "INCONCLUSIVE"),
    "withdrawn": events.as_of(events.withdrawn("row", "id", "", "asked", ("cp",)), 7, ("key",)),
    "rolled_back": events.rolled_back(("stable", "cp", "before"), "why", "a person", ("cp",)),
}


@pytest.mark.parametrize(("kind", "draft"), DRAFTS.items(), ids=DRAFTS.keys())
def test_a_draft_is_named_by_its_kind_and_is_json(kind: str, draft: Draft) -> None:
    assert draft.kind == kind
    assert json.loads(canonical(draft.data)) == draft.data


def test_a_gate_keeps_everything_that_it_rests_on() -> None:
    assert DRAFTS["gated"].data == {
        "stage_key": "key",
        "checkpoint": "cp",
        "baseline": "base",
        "guardrails": "limits",
        "evidence": "evidence",
        "basis": "basis",
        "verdict": "FAIL",
        "attempt": 2,
        "reason": "why",
        "results": [{"n": 3}],
        "definitions": [],
        "playbook": "",
        "spent": 0.0,
        "budget": 0.0,
        "channel": "",
        "act": "again",
    }


def test_a_gate_says_what_it_spent_and_by_which_act() -> None:
    spending = Spending("tutor", 0.025, 0.2, "extended", {"harmful": 400})
    found = events.gated(replace(GATE, spending=spending)).data
    assert [found[name] for name in ("playbook", "spent", "budget", "act", "extended")] == [
        "tutor",
        0.025,
        0.2,
        "extended",
        {"harmful": 400},
    ]
    assert events.gated(replace(GATE, attempt=1)).data["act"] == "gated"


def test_an_evaluation_for_a_gate_says_so() -> None:
    assert "gate" not in DRAFTS["evaluated"].data
    found = events.for_gate(DRAFTS["evaluated"], "tutor").data
    assert found == {**DRAFTS["evaluated"].data, "gate": True, "playbook": "tutor"}


def test_a_training_keeps_place_parent_and_figures() -> None:
    assert DRAFTS["trained"].data == {
        "stage_key": "key",
        "sprint": "sprint",
        "stage": "stage",
        "checkpoint": "cp",
        "parent": "parent",
        "figures": {"loss": 1.5},
        "lineage": "",
    }


def test_a_move_back_keeps_both_ends_and_what_is_quarantined() -> None:
    data = DRAFTS["rolled_back"].data
    assert (data["channel"], data["previous"], data["target"], data["quarantined"]) == (
        "stable",
        "cp",
        "before",
        ["cp"],
    )
    assert (data["reason"], data["trigger"]) == ("why", "a person")


def test_an_event_is_a_row_with_all_its_parts() -> None:
    event = Event(3, "hash", "2027-01-31T00:00:00Z", "someone", "failed", {"step": "train"})
    assert event.row == {
        "seq": 3,
        "prev": "hash",
        "at": "2027-01-31T00:00:00Z",
        "by": "someone",
        "kind": "failed",
        "data": {"step": "train"},
    }


@pytest.mark.parametrize(("value", "text"), [("train", "train"), (3, ""), (None, ""), (["train"], "")])
def test_a_field_that_is_no_text_reads_as_empty(value: object, text: str) -> None:
    event = Event(1, "", "", "", "failed", {"step": value})  # type: ignore[dict-item]
    assert event.text("step") == text
    assert event.text("other") == ""

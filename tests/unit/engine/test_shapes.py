"""Every kind of line has a shape, and what safetune writes has it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from safetune.core import events, standing
from safetune.core.digest import JSON, canonical
from safetune.core.events import Draft, Event
from safetune.engine.shapes import misshapen

_GATE = events.GateRecord("key", "c", "b", "g", "e", "basis", "PASS", 1, "", [{}], [{}])
_DRAFTS = [
    events.started("r1", "playbook", "d", "p"),
    events.finished("r1", 0),
    events.admitted("key", "m", [{}]),
    events.screened(("key", "m"), "s", (8, 2), {"name": "representation"}),
    events.trained(("key", "sprint", "stage"), "c", "", {"loss": 1.0}),
    events.failed("key", "train", "why"),
    events.evaluated("c", "b", "e", ["suite"], "key"),
    events.gated(_GATE),
    events.approved("c", "e", 7, "safety", "note"),
    events.overridden("c", "e", 7, "why"),
    events.promoted("stable", "c", "", 7, "key"),
    events.rejected("c", "key", "FAIL", "rule"),
    events.held("c", "key", "INCONCLUSIVE"),
    events.rolled_back(("stable", "c", "b"), "reason", "a person", ["c"]),
    events.as_of(events.withdrawn("row", "id", "", "asked", ["c"]), 7, ["key"]),
]
# They came later, or are there only where they are needed.
_MAY_BE_ABSENT = {"definitions", "mixture", "lineage", "as_of", "stages"}


def _read(draft: Draft, **changes: JSON) -> Event:
    """Return the event as it is read from a ledger."""
    data = json.loads(canonical({**draft.data}))
    return Event(1, "", "", "", draft.kind, {**data, **changes})


@pytest.mark.parametrize("draft", _DRAFTS, ids=lambda draft: draft.kind)
def test_what_is_written_has_its_shape(draft: Draft) -> None:
    assert misshapen(_read(draft)) == ()


@pytest.mark.parametrize("draft", _DRAFTS, ids=lambda draft: draft.kind)
def test_each_field_must_be_there_and_of_its_type(draft: Draft) -> None:
    for name in set(draft.data) - _MAY_BE_ABSENT:
        whole = _read(draft)
        less: Mapping[str, object] = {n: value for n, value in whole.data.items() if n != name}
        assert misshapen(Event(1, "", "", "", draft.kind, less)) == (name,)  # type: ignore[arg-type]
    for name in draft.data:
        for value in (None, True, "1" if type(draft.data[name]) is float else 1.5):
            assert misshapen(_read(draft, **{name: value})) == (name,)


def test_what_is_there_only_where_it_is_needed_has_a_type_too() -> None:
    extended = replace(_GATE, spending=events.Spending(act="extended", extended={"suite": 9}))
    assert misshapen(_read(events.gated(extended))) == ()
    assert misshapen(_read(events.gated(extended), extended=[])) == ("extended",)
    changed = events.gated(replace(_GATE, spending=events.Spending(changed=[{"change": "removed"}])))
    assert misshapen(_read(changed)) == ()
    assert misshapen(_read(changed, changed={})) == ("changed",)
    evaluated = events.for_gate(events.evaluated("c", "b", "e", ["suite"]), "tutor")
    assert misshapen(_read(evaluated)) == ()
    assert misshapen(_read(evaluated, gate=1)) == ("gate",)
    assert misshapen(_read(evaluated, playbook=1)) == ("playbook",)


def test_every_kind_that_the_rules_know_has_a_shape() -> None:
    assert set(standing._CHANGES) == {draft.kind for draft in _DRAFTS}

"""Saved plans: read strictly, and held against the world of now."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from safetune.core.errors import StalePlanError, UsageError
from safetune.core.events import BY_A_PERSON, Draft, Event, overridden, rolled_back, started
from safetune.core.plan import Plan, differences
from safetune.engine.planning import SavedPlan, is_plan, prepare, read_plan, refuse_if_stale, save_plan

BINDINGS = {"model": "folder:1", "source rows": "a" * 64, "stage one/sft": f"run train+gate {'b' * 64}"}


def plan(**changes: str) -> Plan:
    return Plan("book", "/book.yaml", "m", "stable", "", (), {**BINDINGS, **changes})


def test_a_plan_that_was_saved_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    save_plan(plan(), path)
    found = read_plan(path)
    assert found == SavedPlan(Path("/book.yaml"), BINDINGS)
    refuse_if_stale(found, plan())


def test_a_stale_plan_is_refused_with_every_difference() -> None:
    saved = SavedPlan(Path("/book.yaml"), BINDINGS)
    with pytest.raises(StalePlanError) as found:
        refuse_if_stale(saved, plan(**{"source rows": "c" * 64, "channel stable": "d" * 64}))
    assert found.value.changes == (
        "channel stable: absent -> dddddddddddd",
        "source rows: aaaaaaaaaaaa -> cccccccccccc",
    )
    assert "safetune plan /book.yaml" in found.value.hint


def test_a_plan_file_that_was_edited_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    save_plan(plan(), path)
    path.write_text(path.read_text().replace('"channel":"stable"', '"channel":"prod"'))
    with pytest.raises(UsageError, match="was changed after it was saved"):
        read_plan(path)


def _ledger(*drafts: Draft) -> tuple[Event, ...]:
    return tuple(Event(n, "", "", "", draft.kind, draft.data) for n, draft in enumerate(drafts, 1))


DONE = {"stage one/sft": f"cached  {'b' * 64}", "channel stable": "d" * 64}
SAVED = SavedPlan(Path("/book.yaml"), BINDINGS)
OWN = started("r1", "book", "digest", SAVED.digest)


def test_what_its_own_run_did_makes_no_plan_stale() -> None:
    refuse_if_stale(SAVED, plan(**DONE), _ledger(OWN, started("r5", "book", "digest", SAVED.digest)))


@pytest.mark.parametrize(
    ("changes", "events"),
    [
        (DONE, ()),
        (DONE, (started("r1", "book", "digest", "another plan"),)),
        (DONE, (OWN, started("r5", "book", "digest", "another plan"))),
        (DONE, (OWN, rolled_back(("stable", "d" * 64, "e" * 64), "complaints", BY_A_PERSON, ()))),
        (DONE, (OWN, overridden("d" * 64, "e" * 64, 7, "a dialect"))),
        ({**DONE, "source rows": "c" * 64}, (OWN,)),
        ({**DONE, "stage one/sft": f"cached  {'c' * 64}"}, (OWN,)),
    ],
    ids=[
        "no run",
        "a run of another plan",
        "another run since",
        "a person rolled back",
        "a person overrode",
        "other rows",
        "another stage",
    ],
)
def test_whatever_else_changed_makes_it_stale(changes: dict[str, str], events: tuple[Draft, ...]) -> None:
    with pytest.raises(StalePlanError):
        refuse_if_stale(SAVED, plan(**changes), _ledger(*events))


def test_what_is_gone_and_what_is_empty_are_told_apart() -> None:
    assert differences({"a": "1", "b": ""}, {"b": "2", "c": "3"}) == (
        "a: 1 -> absent",
        "b: nothing -> 2",
        "c: absent -> 3",
    )
    assert differences(BINDINGS, dict(BINDINGS)) == ()
    assert differences(BINDINGS, {**BINDINGS, "stage one/sft": f"cached  {'b' * 64}"}) == (
        "stage one/sft: run train+gate bbbbbbbbbbbb -> cached bbbbbbbbbbbb",
    )


@pytest.mark.parametrize("content", [[], None, 1, {}, {"schema": "safetune-plan/1"}, {"schema": "other"}])
def test_what_is_no_plan_is_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"plan\.json"):
        read_plan(path)


def test_a_plan_is_known_by_its_name(tmp_path: Path) -> None:
    assert is_plan(Path("plan.json"))
    assert not is_plan(Path("playbook.yaml"))
    with pytest.raises(UsageError, match="cannot be saved"):
        save_plan(plan(), tmp_path / "nowhere" / "plan.json")


@pytest.mark.parametrize("which", ["playbook", "store", "working folder"])
def test_a_name_that_is_not_utf_8_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    strange = tmp_path / os.fsdecode(b"bad\xff")
    strange.mkdir()
    plain = tmp_path / "playbook.yaml"
    if which == "working folder":
        monkeypatch.chdir(strange)
        plain = Path("playbook.yaml")
    playbook = strange / "playbook.yaml" if which == "playbook" else plain
    with pytest.raises(UsageError, match="is not UTF-8") as found:
        prepare(playbook, strange / "store" if which == "store" else tmp_path / "store")
    assert found.value.message.isascii()

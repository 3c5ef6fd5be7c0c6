"""A run whose stage is screened by the model that it starts from: what is flagged, left out, recorded, and blocked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from safetune.core.playbook import Screen
from safetune.engine.data.lineage import rows_seen
from safetune.engine.data.screening import flagged
from safetune.state.store import Store


def screened(fresh: Any, **changes: Any) -> Any:
    """Let the only stage be screened: `sums` are the dangerous anchors, rows of `chat` are trained on and looked at."""
    screen = {
        "method": "representation",
        "harmful": "sums",
        "safe": "chat",
        **({} if "flag_above" in changes else {"flag_top": 0.25}),
    }
    fresh.content["sprints"][0]["stages"][0]["screen"] = screen | changes
    return fresh.save()


def test_flagged_rows_are_left_out_and_written_down(fresh: Any) -> None:
    fresh.only_sprint(1)
    screened(fresh, action="drop")
    done = fresh.run()
    assert done.code == 0, done.err
    (line,) = fresh.events("screened")
    said = line["data"]
    assert (said["scored"], said["flagged"], said["share"]) == (24, 6, 0.25)
    store = Store.open(fresh.store)
    report = json.loads((store.objects.path(said["scores"]) / "screen.json").read_bytes())
    scores = [
        json.loads(text) for text in (store.objects.path(said["scores"]) / "scores.jsonl").read_text().splitlines()
    ]
    highest = sorted(scores, key=lambda one: -one["score"])[:6]
    assert sorted(one["row"] for one in highest) == report["flagged"]
    (trained,) = fresh.events("trained")
    seen = set(rows_seen(store.objects, trained["data"]["lineage"]))
    assert seen
    assert not seen & set(report["flagged"])
    assert fresh.do("verify").code == 0
    planned = fresh.json("plan", fresh.playbook)
    assert planned["stages"][0]["action"] == "cached"


def test_a_report_changes_neither_the_rows_nor_the_stage(fresh: Any) -> None:
    fresh.only_sprint(1)
    before = fresh.json("plan", fresh.playbook)["stages"][0]["key"]
    screened(fresh)
    assert fresh.json("plan", fresh.playbook)["stages"][0]["key"] == before
    screened(fresh, action="drop")
    assert fresh.json("plan", fresh.playbook)["stages"][0]["key"] != before


def test_more_flagged_rows_than_allowed_train_nothing(fresh: Any) -> None:
    fresh.only_sprint(1)
    screened(fresh, flag_above=-9, max_flagged=0.2)
    done = fresh.run()
    assert done.code == 2
    assert done.says("flags 24 of 24 rows (100.0%), more than 20.0%", "nothing was trained")
    assert not fresh.events("trained")
    again = fresh.run()  # what was scored is known and is not scored again
    assert again.code == 2
    assert len(fresh.events("screened")) == 1


def test_damage_to_recorded_scores_is_found(fresh: Any) -> None:
    fresh.only_sprint(1)
    screened(fresh, flag_above=-9, max_flagged=0.2)
    assert fresh.run().code == 2
    (line,) = fresh.events("screened")
    report = Store.open(fresh.store).objects.path(line["data"]["scores"]) / "screen.json"
    report.chmod(0o600)
    report.write_bytes(report.read_bytes().replace(b'"flagged":[', b'"flagged":[1,'))
    assert fresh.run().code == 5
    assert fresh.do("verify").code == 5


@pytest.mark.parametrize(
    ("settings", "places"),
    [
        ({"flag_above": 1.0}, [1, 2]),
        ({"flag_above": 3.0}, []),
        ({"flag_top": 0.2}, [1]),
        ({"flag_top": 0.21}, [1, 2]),
        ({"flag_top": 0.5}, [1, 2, 3]),
        ({"flag_top": 0.0}, []),
    ],
)
def test_what_is_flagged(settings: dict[str, Any], places: list[int]) -> None:
    """The highest first; of equal scores the earlier rows."""
    assert flagged([-1.0, 3.0, 3.0, 0.5, 0.5], Screen("any", **settings)) == places

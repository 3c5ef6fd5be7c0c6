"""D2: 1,000 rows, two real trainings. Every row that went through the model is traced, no other is; a withdrawal names
exactly the checkpoints that learnt, and nothing brings those back.

What went through the model is told by a probe in the workers, and who descends from whom by the playbook.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from safetune.core.events import promoted, rolled_back
from safetune.core.row_id import row_id
from safetune.core.standing import RuleViolation
from safetune.engine.data.trace import Tracer
from safetune.engine.data.withdraw import affected
from safetune.state.store import Store

SOURCES = {"sums": 400, "chat": 300, "pairs": 200, "anchor": 100}
TRAIN = {"max_steps": 24, "per_device_train_batch_size": 6, "learning_rate": 0.01}
Row = tuple[str, int]
Steps = list[Counter[Row]]


def _row(topic: str, n: int) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": f"{topic}: what is {n} plus {7 * n % 11}?"}],
        "completion": [{"role": "assistant", "content": f"It is {n + 7 * n % 11}."}],
    }


@dataclass(frozen=True)
class Truth:
    """A folder in which two stages were trained, their checkpoints, and the rows that the probe saw in every step."""

    lab: Any
    made: tuple[str, str]
    seen: Mapping[str, Steps]

    def rows(self, checkpoint: str) -> frozenset[Row]:
        """Return the rows that the checkpoint's own training saw."""
        return frozenset(row for step in self.seen[checkpoint] for row in step)

    def learnt(self, row: Row) -> set[str]:
        """Return who saw a row: the second was trained from the first."""
        first, second = self.made
        return {first, second} if row in self.rows(first) else {second} if row in self.rows(second) else set()


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory, lab_type: Any, tiny_model: Path) -> Truth:
    """Both stages trained and promoted; copy the folder, do not change it."""
    root = tmp_path_factory.mktemp("figures") / "lab"
    lab = lab_type(root, tiny_model).write()
    here = Path(__file__)
    shutil.copy(here.with_name("watched_site.py"), root / "plugins" / "sitecustomize.py")
    shutil.copy(here.parents[2] / "row_probe.py", root / "plugins")
    for topic, count in SOURCES.items():
        lab._lines(f"{topic}.jsonl", [_row(topic, n) for n in range(count)])
    lab.content["sources"] = [lab.source(topic) for topic in SOURCES]
    anchors = {"kl_regularization": {"weight": 0.1, "anchors_per_step": 2, "sources": {"anchor": 1.0}}}
    first = lab.stage({"sums": 0.6, "chat": 0.4}, train=TRAIN)
    second = lab.stage({"pairs": 0.5, "chat": 0.5}, train=TRAIN, seed=2, techniques=[anchors])
    for sprint, stage in zip(lab.content["sprints"], (first, second), strict=True):
        sprint["stages"] = [stage]
    done = lab.save().run()
    assert done.code == 0, done.out + done.err
    seen = {}
    for event in lab.events("trained"):
        steps = json.loads((root / "plugins" / f"probe-{event['data']['stage_key']}.json").read_text())
        seen[event["data"]["checkpoint"]] = [Counter({(topic, n): c for topic, n, c in step}) for step in steps]
        assert len(steps) == TRAIN["max_steps"]
    one, two = seen
    return Truth(lab, (one, two), seen)


@pytest.fixture
def lab(truth: Truth, tmp_path: Path, lab_type: Any) -> Any:
    """A copy of the folder, to withdraw in."""
    shutil.copytree(truth.lab.root, tmp_path / "lab", symlinks=True)
    return lab_type(tmp_path / "lab", truth.lab.model, copy.deepcopy(truth.lab.content))


EVERY = [(topic, n) for topic, count in SOURCES.items() for n in range(count)]
IDS = {row: row_id(_row(*row)) for row in EVERY}


def test_every_row_that_was_seen_is_traced_and_no_other(truth: Truth, capsys: pytest.CaptureFixture[str]) -> None:
    tracer = Tracer(truth.lab.store)
    first, second = truth.made
    right = traced = 0
    for row in EVERY:
        wanted: dict[tuple[str, str], tuple[int, ...]] = {}
        for checkpoint, via in ((first, ""), (second, ""), (second, first)):
            steps = [n for n, step in enumerate(truth.seen[via or checkpoint], 1) if row in step]
            wanted |= {(checkpoint, via): tuple(steps[:20])} if steps else {}
        found = {(one.checkpoint, one.via): one.steps for one in tracer.row(IDS[row]).seen}
        traced += bool(found)
        right += found == wanted
    seen = sum(bool(truth.learnt(row)) for row in EVERY)
    with capsys.disabled():
        print(f"\n{len(EVERY):,} rows, {seen} of them seen: {traced} traced, {right:,} right in checkpoint and steps")
    assert 200 < seen < 800
    assert (traced, right) == (seen, len(EVERY))


def test_a_checkpoint_is_traced_to_how_many_rows_of_which_source_it_saw(truth: Truth) -> None:
    first, second = truth.made
    for checkpoint, chain in ((first, (first,)), (second, (second, first))):
        stages = Tracer(truth.lab.store).checkpoint(checkpoint).stages
        assert tuple(stage.checkpoint for stage in stages) == chain
        for stage in stages:
            told = {one.origin.source: (one.kept, one.seen, one.times) for one in stage.sources}
            steps = truth.seen[stage.checkpoint]
            for topic, (kept, seen, times) in told.items():
                counts = Counter(row for step in steps for row in step.elements() if row[0] == topic)
                assert (kept, seen) == (SOURCES[topic], len(counts))
                # A technique's rows go through the model more than once in a step.
                assert topic == "anchor" or times == counts.total()
            assert set(told) == {topic for topic, _ in truth.rows(stage.checkpoint)}


def test_the_affected_of_each_row_are_exactly_those_that_saw_it(truth: Truth) -> None:
    store = Store.open(truth.lab.store)
    some = EVERY[::5] + sorted(truth.rows(truth.made[1]) - truth.rows(truth.made[0]))[:40]
    kinds = Counter[int]()
    for row in some:
        assert {one.checkpoint for one in affected(store, "row", IDS[row])} == truth.learnt(row), row
        kinds[len(truth.learnt(row))] += 1
    assert min(kinds[n] for n in (0, 1, 2)) >= 20


def _named(lab: Any) -> set[str]:
    return set(lab.events("withdrawn")[0]["data"]["checkpoints"])


def _assert_gone_for_good(lab: Any, checkpoint: str) -> None:
    """No way leads back: not by export, rollback or override, and no ledger takes a promotion of it."""
    before, events = lab.current(), lab.events()
    gate = next(e for e in lab.events("gated") if e["data"]["checkpoint"] == checkpoint)
    evidence, key = (str(gate["data"][name]) for name in ("evidence", "stage_key"))
    lab.environment["LOGNAME"] = "ann"
    lab.do("approve", checkpoint[:12], "--evidence", evidence[:12], "--role", "safety")
    lab.environment["LOGNAME"] = "bob"
    ways = (
        (("export", checkpoint[:12], "--to", lab.root / "served", "--playbook", lab.playbook), "withdrawn"),
        (("rollback", "stable", "--to", checkpoint[:12], "--reason", "again"), "error: "),
        (("override", checkpoint[:12], "--evidence", evidence[:12], "--reason", "again"), "error: "),
    )
    for words, said in ways:
        done = lab.do(*words)
        assert done.code != 0, words
        assert done.says(said), done.out + done.err
    store = Store.open(lab.store)
    moved = rolled_back(("stable", before, checkpoint), "again", "person", ())
    for line, why in ((promoted("stable", checkpoint, before, gate["seq"], key), "withdrawn"), (moved, ".")):
        with pytest.raises(RuleViolation, match=why):
            store.commit(line)
    assert not (lab.root / "served").exists()
    assert lab.current() == before
    assert not [e for e in lab.events()[len(events) :] if e["kind"] != "approved"]
    assert lab.json("status")["checkpoints"][checkpoint]["status"] == "quarantined"
    assert lab.sound()


def test_withdrawing_a_source_takes_along_who_was_trained_on_it(lab: Any, truth: Truth) -> None:
    first, second = truth.made
    done = lab.do("data", "withdraw", "pairs", "--reason", "asked to")
    assert done.code == 0, done.out + done.err
    assert _named(lab) == {second}
    assert lab.current() == first
    _assert_gone_for_good(lab, second)
    plan = lab.do("plan", lab.playbook)
    assert plan.code == 2
    assert plan.says("source pairs", "withdrawn in ledger line")
    assert lab.run().code == 2
    assert lab.current() == first
    assert lab.json("status")["checkpoints"][first]["status"] == "promoted"


def test_withdrawing_the_source_of_the_first_leaves_nothing(lab: Any, truth: Truth) -> None:
    done = lab.do("data", "withdraw", "sums", "--reason", "asked to")
    assert done.code == 3, done.out + done.err
    assert _named(lab) == set(truth.made)
    assert done.says("STILL SERVES")
    _assert_gone_for_good(lab, truth.made[0])


def _withdrawn_rows(lab: Any, truth: Truth) -> tuple[Row, Row]:
    """Withdraw a row that only the second saw, and one that nobody saw; return both."""
    seen = min(row for row in truth.rows(truth.made[1]) if row[0] == "pairs")
    blind = next(row for row in EVERY if not truth.learnt(row))
    for row in (blind, seen):
        done = lab.do("data", "withdraw", IDS[row][:12], "--reason", "asked to")
        assert done.code == 0, done.out + done.err
    return seen, blind


def test_withdrawing_a_row_takes_along_who_saw_it_and_later_plans_leave_it_out(lab: Any, truth: Truth) -> None:
    first, second = truth.made
    gone = _withdrawn_rows(lab, truth)
    assert [set(e["data"]["checkpoints"]) for e in lab.events("withdrawn")[:2]] == [set(), {second}]
    assert lab.current() == first
    _assert_gone_for_good(lab, second)
    checked = lab.json("data", "check", lab.playbook)
    dropped = {s["declared"]["name"]: s["rows"]["counts"].get("rows/withdrawn/drop", 0) for s in checked["sources"]}
    assert dropped == {topic: sum(row[0] == topic for row in gone) for topic in SOURCES}
    plan = lab.json("plan", lab.playbook)
    kept = {name: one["kept"] for name, one in plan["facts"]["guarded"].items()}
    assert kept == {topic: count - dropped[topic] for topic, count in SOURCES.items()}


@pytest.mark.slow
def test_no_later_run_sees_a_withdrawn_row(lab: Any, truth: Truth) -> None:
    gone = set(_withdrawn_rows(lab, truth))
    before = len(lab.events("trained"))
    again = lab.run()
    assert again.code == 0, again.out + again.err
    for event in lab.events("trained")[before:]:
        steps = json.loads((lab.root / "plugins" / f"probe-{event['data']['stage_key']}.json").read_text())
        assert not {(topic, n) for step in steps for topic, n, _ in step} & gone
    assert len(lab.events("trained")) > before
    assert lab.current() not in ("", *truth.made)
    assert lab.sound()

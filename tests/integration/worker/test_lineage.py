"""What is recorded of a run is what went through the model: told by a probe that reads the rows back from token ids."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safetune.builtin.launchers.accelerate import AccelerateLauncher
from safetune.core.errors import RunError
from safetune.protocols import Job, TrainingSetup
from safetune.state.seen import Growing, SeenRows, read_seen

pytest.importorskip("torch")

from row_probe import Probe, Row, read

_FIRST = {"sums": 0, "chat": 11, "anchor": 16, "pairs": 0}


def numbers(step: Counter[Row], *topics: str) -> Counter[int]:
    """Return how often each row of some topics was seen, by its number among all rows of the job."""
    return Counter({_FIRST[topic] + n: count for (topic, n), count in step.items() if topic in topics})


def recorded(folder: Path) -> SeenRows:
    return read_seen(folder / "lineage" / "seen.safetensors")


def assert_recorded(folder: Path, steps: list[Counter[Row]], times: int = 1) -> None:
    """The record equals what was seen, row by row and step by step; a row goes through the model `times` per sight."""
    seen = recorded(folder)
    assert len(seen.rows) == len(steps)
    for of, step in zip(seen.rows, steps, strict=True):
        assert Counter({n: count * times for n, count in Counter(of).items()}) == numbers(step, "sums", "chat", "pairs")
    anchors = [numbers(step, "anchor") for step in steps]
    if any(anchors):
        assert [Counter(of) for of in seen.technique] == anchors
    else:
        assert not seen.technique.rows


@pytest.fixture
def probe(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> Probe:
    """A probe on every model in this process."""
    made = Probe(workshop.model)
    made.watch(monkeypatch.setattr)
    return made


@pytest.mark.parametrize(
    "train",
    [
        pytest.param({}, id="plain"),
        pytest.param({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3}, id="accumulated"),
        pytest.param({"max_steps": 20}, id="several rounds"),
    ],
)
def test_every_row_of_every_step_is_recorded(workshop: Any, probe: Probe, train: dict[str, Any]) -> None:
    folder = workshop.train("job", train, techniques=[workshop.anchors()], mixture="m" * 64, stage_key="k" * 64)
    outcome = workshop.run(folder)

    assert outcome["status"] == "ok"
    assert outcome["lineage"] == str(folder / "lineage")
    assert_recorded(folder, probe.steps)
    about = json.loads((folder / "lineage" / "lineage.json").read_bytes())
    per_step = train.get("per_device_train_batch_size", 4) * train.get("gradient_accumulation_steps", 1)
    steps = train.get("max_steps", 6)
    assert about == {
        "format": "safetune-lineage/1",
        "mixture": "m" * 64,
        "stage_key": "k" * 64,
        "steps": steps,
        "rows": steps * per_step,
        "technique_rows": steps * 2,
        "processes": 1,
    }
    assert {p.name for p in (folder / "lineage").iterdir()} == {"seen.safetensors", "lineage.json"}
    assert not (folder / "lineage-parts").exists()


def test_both_answers_of_a_preference_row_are_one_row(workshop: Any, probe: Probe) -> None:
    sources = [workshop.source("pairs", workshop.pairs(9))]
    folder = workshop.train("dpo", {"gradient_accumulation_steps": 2}, trainer="dpo", sources=sources)

    assert workshop.run(folder)["status"] == "ok"
    assert_recorded(folder, probe.steps, times=4)  # chosen and rejected, by the policy and by the reference
    assert sorted(set(recorded(folder).rows.rows)) == list(range(9))


def test_a_full_dpo_with_the_reference_computed_before_is_recorded(workshop: Any, probe: Probe) -> None:
    sources = [workshop.source("pairs", workshop.pairs(9))]
    train = {"precompute_ref_log_probs": True, "max_steps": 3}
    folder = workshop.train("dpo", train, trainer="dpo", sources=sources, adapter=None)

    assert workshop.run(folder)["status"] == "ok"
    assert_recorded(folder, probe.steps, times=2)


@pytest.mark.parametrize("strategy", ["bfd", "bfd_split", "wrapped"])
def test_packed_rows_are_recorded_with_the_sequence_they_are_in(
    workshop: Any, probe: Probe, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    """A playbook cannot ask for packing, because it would undo the shares; a trainer can do it all the same."""
    from safetune.worker import arguments

    monkeypatch.setattr(arguments, "_REFUSED", ())
    train = {"packing": True, "packing_strategy": strategy, "max_length": 300, "per_device_train_batch_size": 2}
    folder = workshop.train("packed", {**train, "max_steps": 3})
    outcome = workshop.run(folder)

    assert outcome["status"] == "ok", outcome
    seen = recorded(folder)
    if strategy == "bfd":
        assert_recorded(folder, probe.steps)
    else:  # a row that is split is recorded with each of its pieces, and its question is in one of them
        for of, step in zip(seen.rows, probe.steps, strict=True):
            assert set(numbers(step, "sums", "chat")) <= set(of)
        assert sum(len(of) for of in seen.rows) <= sum(sum(step.values()) for step in probe.steps) + 6
    assert any(len(of) > 2 for of in seen.rows)  # it really was packed


def test_rows_without_padding_are_recorded(workshop: Any, probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetune.worker import arguments

    monkeypatch.setattr(arguments, "_REFUSED", ())
    folder = workshop.train("flat", {"padding_free": True, "max_length": None})

    assert workshop.run(folder)["status"] == "ok"
    assert_recorded(folder, probe.steps)


def test_two_processes_record_what_each_of_them_saw(workshop: Any, repo_root: Path) -> None:
    train = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "max_steps": 4, "save_steps": 2}
    folder = workshop.train(
        "two", train, world_size=2, distributed="MULTI_CPU", techniques=[workshop.anchors(anchors_per_step=3)]
    )
    job, launcher = Job(folder, "train", num_processes=2), AccelerateLauncher()
    command = [part if part != "safetune.worker" else "row_probe" for part in launcher.command(job)]
    paths = f"{repo_root}:{repo_root / 'tests'}"
    process = workshop.start(folder, command, **launcher.environment(job), PYTHONPATH=paths)

    assert process.wait(timeout=240) == 0, (folder / "worker.log").read_text()[-2000:]
    first, second = read(folder, 0), read(folder, 1)
    assert all(sum(numbers(step, "sums", "chat").values()) == 6 for step in (*first, *second))
    together = [a + b for a, b in zip(first, second, strict=True)]
    seen = recorded(folder)
    assert [Counter(of) for of in seen.rows] == [numbers(step, "sums", "chat") for step in together]
    assert [Counter(of) for of in seen.technique] == [numbers(step, "anchor") for step in first]
    assert [numbers(step, "anchor") for step in second] == [numbers(step, "anchor") for step in first]
    assert json.loads((folder / "lineage" / "lineage.json").read_bytes())["processes"] == 2
    for step in (2, 4):
        parts = sorted(p.name for p in (folder / "state" / f"checkpoint-{step}").glob("lineage-*"))
        assert parts == ["lineage-0.safetensors", "lineage-1.safetensors"]


def test_a_killed_run_ends_with_the_same_record(workshop: Any) -> None:
    train = {"max_steps": 12, "save_steps": 3, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}
    whole, killed = (workshop.train(name, train, techniques=[workshop.anchors()]) for name in ("whole", "killed"))
    assert workshop.run(whole)["status"] == "ok"

    process = workshop.start(killed)
    workshop.kill_when(process, lambda: any(r["kind"] == "step" and r["step"] == 5 for r in workshop.progress(killed)))
    assert workshop.start(killed).wait(timeout=180) == 0

    assert json.loads((killed / "outcome.json").read_bytes())["resumed_from"] == 3
    one, other = ((f / "lineage" / "seen.safetensors").read_bytes() for f in (whole, killed))
    assert one == other


def test_a_state_that_does_not_say_what_was_seen_is_not_continued(workshop: Any) -> None:
    from safetune.worker import resume

    train = {"max_steps": 4, "save_steps": 2}
    folder = workshop.train("old", train)
    assert workshop.run(folder)["status"] == "ok"
    state = folder / "state" / "checkpoint-4"
    (state / "lineage-0.safetensors").unlink()
    (state / resume.MANIFEST).unlink()
    resume.seal(state, 4)

    outcome = workshop.run(folder)
    assert outcome["status"] == "error"
    assert "checkpoint-4 does not say which rows it was trained on" in outcome["message"]


def test_a_trainer_that_records_nothing_is_an_error_and_trains_the_same_weights(
    workshop: Any, weights_digest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record changes no weight: with it and without it they are equal to the last bit."""
    import safetune.worker.train as module

    adapter = {"kind": "lora", "rank": 4, "alpha": 8, "dropout": 0.2, "target_modules": ["all-linear"]}
    given: dict[str, Any] = {"adapter": adapter, "techniques": [workshop.anchors()]}
    with_record, without = workshop.train("with", **given), workshop.train("without", **given)
    assert workshop.run(with_record)["status"] == "ok"
    monkeypatch.setattr(module, "TrainingSetup", lambda **fields: replace(TrainingSetup(**fields), saw=None))
    outcome = workshop.run(without)

    assert outcome["status"] == "error"
    assert outcome["message"] == "of 6 steps, 0 say which rows they saw"
    assert weights_digest(with_record) == weights_digest(without)


def test_a_batch_that_lost_its_numbers_stops_the_run(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetune.builtin.trainers import recording

    class Forgetful(recording.Numbered):
        def __call__(self, examples: Any) -> Any:
            batch = super().__call__(examples)
            del batch[recording.COLUMN]
            return batch

    monkeypatch.setattr("safetune.builtin.trainers.penalties.Numbered", Forgetful)
    outcome = workshop.run(workshop.train("lost"))

    assert outcome["message"] == "a batch of step 1 does not say which rows it is made of"


def test_a_technique_that_cannot_say_what_it_saw_gets_no_rows(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetune.worker.train as module
    from safetune.plugins import load

    class Silent:
        name = "silent"

        def row_problem(self, row: Any) -> str:
            return ""

        def prepare(self, setup: Any) -> None: ...

    monkeypatch.setattr(module, "load_plugin", lambda kind, name: Silent() if kind == "technique" else load(kind, name))
    outcome = workshop.run(workshop.train("silent", techniques=[workshop.anchors()]))

    assert outcome["status"] == "error"
    assert "has sources, but cannot say which rows it was computed on" in outcome["message"]


def test_a_technique_whose_rows_are_not_on_record_is_an_error(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetune.builtin.trainers import penalties

    monkeypatch.setattr(penalties.WithPenalties, "_record", lambda self, step: None)
    outcome = workshop.run(workshop.train("unrecorded", {"max_steps": 2}, techniques=[workshop.anchors()]))

    assert outcome["message"] == "a technique has sources, and none of its rows is on record"


def test_rows_that_are_left_out_are_not_seen_and_keep_the_numbers_of_others(workshop: Any, probe: Probe) -> None:
    folder = workshop.train("skip", {"max_steps": 10}, skip=[0, 3, 12])

    assert workshop.run(folder)["status"] == "ok"
    assert_recorded(folder, probe.steps)
    assert set(recorded(folder).rows.rows) == set(range(16)) - {0, 3, 12}


def test_a_source_of_which_all_is_left_out_is_named(workshop: Any) -> None:
    outcome = workshop.run(workshop.train("skip", skip=list(range(11, 16))))

    assert outcome["message"] == "source chat: every row of it is left out"


def test_the_record_takes_at_most_8_bytes_per_row_and_step(workshop: Any) -> None:
    """4 bytes per row, and 4 per step for where it begins; the header of the file is about 300 bytes in all."""
    folder = workshop.train("one", {"max_steps": 100, "per_device_train_batch_size": 1})
    assert workshop.run(folder)["status"] == "ok"

    seen = recorded(folder)
    size = (folder / "lineage" / "seen.safetensors").stat().st_size
    assert len(seen.rows.rows) == 100
    assert size - 200 <= 8 * 100


def test_recording_takes_less_than_a_thousandth_of_a_second_per_step(steady: None) -> None:
    record = Growing()
    began = time.process_time()
    for step in range(10_000):
        record.add(step, range(64))
    assert (time.process_time() - began) / 10_000 < 1e-3
    assert sys.getsizeof(record.steps.rows) < 10_000 * 64 * 4 * 1.2


def test_steps_come_in_order() -> None:
    record = Growing()
    record.add(0, [5])
    record.add(0, [6])
    with pytest.raises(RunError, match="step 3 was recorded after step 1"):
        record.add(2, [7])
    with pytest.raises(RunError, match="step 2 saw a row without a number"):
        record.add(1, [-1])

"""A killed worker, started again, ends with the same weights to the last bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_ADAPTER = {"kind": "lora", "rank": 4, "alpha": 8, "dropout": 0.2, "target_modules": ["all-linear"]}
_TRAIN = {"max_steps": 12, "save_steps": 3, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}


def job(workshop: Any, name: str, **changes: Any) -> Path:
    """A job whose result depends on everything that must be kept: dropout, momentum, schedule, anchors."""
    given: dict[str, Any] = {"adapter": _ADAPTER, "techniques": [workshop.anchors()], **changes}
    folder: Path = workshop.train(name, _TRAIN, **given)
    return folder


def saved(folder: Path, step: int) -> bool:
    return (folder / "state" / f"checkpoint-{step}" / "COMPLETE.json").exists()


def said(workshop: Any, folder: Path, step: int) -> bool:
    return any(row["kind"] == "step" and row["step"] == step for row in workshop.progress(folder))


Moment = Callable[[Any, Path], bool]

MOMENTS: dict[str, Moment] = {
    "between two states": lambda workshop, folder: said(workshop, folder, 5),
    "while a state is being written": lambda _, folder: (
        (folder / "state" / "checkpoint-6").exists() and not saved(folder, 6)
    ),
    "just after a state is sealed": lambda _, folder: saved(folder, 9),
    "before the first state": lambda workshop, folder: said(workshop, folder, 1),
}


@pytest.mark.parametrize(
    "moment",
    [
        "between two states",
        pytest.param("while a state is being written", marks=pytest.mark.slow),
        pytest.param("just after a state is sealed", marks=pytest.mark.slow),
        pytest.param("before the first state", marks=pytest.mark.slow),
    ],
)
def test_sigkill_and_resume_give_identical_weights(workshop: Any, weights_digest: Any, moment: str) -> None:
    whole, killed = job(workshop, "whole"), job(workshop, "killed")
    assert workshop.run(whole)["status"] == "ok"

    process = workshop.start(killed)
    workshop.kill_when(process, lambda: MOMENTS[moment](workshop, killed))
    assert not (killed / "outcome.json").exists()
    assert workshop.start(killed).wait(timeout=180) == 0

    outcome = json.loads((killed / "outcome.json").read_bytes())
    expected = {"between two states": 3, "just after a state is sealed": 9, "before the first state": None}
    if moment in expected:
        assert outcome["resumed_from"] == expected[moment]
    assert weights_digest(killed) == weights_digest(whole)
    first = json.loads((whole / "outcome.json").read_bytes())
    assert outcome["metrics"]["tokens"] == first["metrics"]["tokens"]
    assert outcome["metrics"]["train_loss"] == first["metrics"]["train_loss"]


@pytest.fixture
def interrupted(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A function: a job that was stopped in this process after step 7, with sealed states of steps 3 and 6."""
    from safetune.worker.progress import Progress

    def stop(name: str, **changes: Any) -> Path:
        folder = job(workshop, name, **changes)
        report = Progress.on_log

        def on_log(self: Any, args: Any, state: Any, control: Any, **rest: Any) -> None:
            if state.global_step == 7:
                raise KeyboardInterrupt
            report(self, args, state, control, **rest)

        with monkeypatch.context() as patch:
            patch.setattr(Progress, "on_log", on_log)
            assert workshop.run(folder)["status"] == "error"
        assert sorted(p.name for p in (folder / "state").iterdir()) == ["checkpoint-3", "checkpoint-6"]
        return folder

    return stop


def _nothing(newest: Path) -> None:
    """Leave the newest state as it is."""


def _drop_manifest(newest: Path) -> None:
    (newest / "COMPLETE.json").unlink()


def _drop_optimizer(newest: Path) -> None:
    (newest / "optimizer.pt").unlink()


def _flip_a_bit(newest: Path) -> None:
    data = bytearray((newest / "optimizer.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (newest / "optimizer.pt").write_bytes(bytes(data))


def _add_a_file(newest: Path) -> None:
    (newest / "scaler.pt").write_bytes(b"")


def _rename(newest: Path) -> None:
    newest.rename(newest.with_name("checkpoint-11"))


@pytest.mark.parametrize(
    ("damage", "resumed_from"),
    [
        (_nothing, 6),
        (_drop_manifest, 3),
        (_drop_optimizer, 3),
        (_flip_a_bit, 3),
        (_add_a_file, 3),
        (_rename, 3),
        (lambda newest: shutil.rmtree(newest.parent), None),
    ],
)
def test_only_a_whole_state_is_resumed_from(
    workshop: Any,
    interrupted: Callable[..., Path],
    weights_digest: Any,
    damage: Callable[[Path], object],
    resumed_from: int | None,
) -> None:
    folder = interrupted("cut")
    damage(folder / "state" / "checkpoint-6")
    outcome = workshop.run(folder)

    assert outcome["status"] == "ok"
    assert outcome["resumed_from"] == resumed_from
    whole = job(workshop, "whole")
    workshop.run(whole)
    assert weights_digest(folder) == weights_digest(whole)


@pytest.mark.parametrize("trainer", ["sft", "dpo"])
def test_training_of_all_weights_resumes_identically(
    workshop: Any, interrupted: Callable[..., Path], weights_digest: Any, trainer: str
) -> None:
    rows = workshop.questions("sums", 9) if trainer == "sft" else workshop.pairs(9)
    changes = {"adapter": None, "trainer": trainer, "sources": [workshop.source("rows", rows)]}
    folder, whole = interrupted("cut", **changes), job(workshop, "whole", **changes)
    for done in (folder, whole):
        assert workshop.run(done)["status"] == "ok"

    assert json.loads((folder / "outcome.json").read_bytes())["resumed_from"] == 6
    assert weights_digest(folder) == weights_digest(whole)


def test_a_run_that_ended_before_it_was_told_gives_the_same_again(workshop: Any, weights_digest: Any) -> None:
    folder = job(workshop, "ended")
    first = workshop.run(folder)
    before = weights_digest(folder)
    shutil.rmtree(folder / "candidate")
    (folder / "outcome.json").unlink()
    again = workshop.run(folder)

    assert again["resumed_from"] == 12
    assert weights_digest(folder) == before
    for name in ("steps", "tokens", "train_loss"):
        assert again["metrics"][name] == first["metrics"][name]


def test_states_are_saved_by_time_when_no_steps_are_given(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetune.worker import progress

    monkeypatch.setattr(progress, "_SAVE_SECONDS", 0.0)
    monkeypatch.setattr(progress, "_SAVE_SHARE", 0.0)
    folder = workshop.train("timed", {"max_steps": 4})
    assert workshop.run(folder)["status"] == "ok"
    assert [row["step"] for row in workshop.progress(folder) if row["kind"] == "saved"] == [1, 2, 3]

    monkeypatch.setattr(progress, "_SAVE_SECONDS", 3600.0)
    rare = workshop.train("rare", {"max_steps": 4})
    assert workshop.run(rare)["status"] == "ok"
    assert not [row for row in workshop.progress(rare) if row["kind"] == "saved"]

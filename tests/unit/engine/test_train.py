"""The job that a stage is trained by: what it asks of the launch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safetune.core.plan import PlannedStage
from safetune.core.playbook import Inputs, Launch, ModelRef, Playbook, Promotion, Stage
from safetune.engine import train
from safetune.engine.asking import Subject
from safetune.engine.train import training_job

BOOK = Playbook("b", "p", ("us",), ModelRef("folder", "/m"), Inputs(), (), (), (), (), Promotion("stable"), "d", "")
PLANNED = PlannedStage("one", "t", "k", "", "run", ("train",), "")


@pytest.mark.parametrize(
    ("launch", "device", "distributed"),
    [
        (Launch(), "cpu", "NO"),
        (Launch(), "cuda", "NO"),
        (Launch(2), "cpu", "MULTI_CPU"),
        (Launch(2), "cuda", "MULTI_GPU"),
        (Launch(2, "/launch.yaml"), "cuda", ""),
        (Launch(1, "/launch.yaml"), "cpu", ""),
    ],
)
def test_a_job_says_how_its_processes_must_work_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launch: Launch, device: str, distributed: str
) -> None:
    monkeypatch.setattr(train, "device_kind", lambda: device)
    stage = Stage("t", "sft", (), {}, None, (), (), 0, launch)
    training_job(BOOK, stage, PLANNED, Subject("m", "folder:1", {}), tmp_path)
    job = json.loads((tmp_path / "job.json").read_bytes())
    assert (job["distributed"], job["world_size"]) == (distributed, launch.num_processes)

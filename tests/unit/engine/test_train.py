"""The job that a stage is trained by: what it asks of the launch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safetune.core.plan import PlannedStage
from safetune.core.playbook import Launch, Stage
from safetune.engine import train
from safetune.engine.asking import Subject
from safetune.engine.data.stage_rows import StageRows
from safetune.engine.train import training_job
from safetune.state.objects import ObjectStore

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
    rows = StageRows("m", (), {}, ObjectStore(tmp_path, tmp_path))
    training_job(rows, stage, PLANNED, Subject("m", "folder:1", {}), tmp_path)
    job = json.loads((tmp_path / "job.json").read_bytes())
    assert (job["distributed"], job["world_size"]) == (distributed, launch.num_processes)

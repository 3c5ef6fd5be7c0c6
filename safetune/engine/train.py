"""Train one stage in a launched child process and adopt what it made into the store."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetune.core.digest import JSON
from safetune.core.errors import RunError
from safetune.core.plan import PlannedStage
from safetune.core.playbook import Launch, Stage
from safetune.engine.asking import Subject
from safetune.engine.checkpoints import write_card
from safetune.engine.data.stage_rows import StageRows
from safetune.engine.jobs import write_job
from safetune.plugins import load
from safetune.protocols import Job, Launcher
from safetune.state.device import device_kind
from safetune.state.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class Trained:
    """A candidate in the store, the object that says which rows it saw, and the figures of its training."""

    checkpoint: str
    lineage: str
    figures: Mapping[str, JSON]


def training_job(
    rows: StageRows, stage: Stage, planned: PlannedStage, start: Subject, folder: Path
) -> tuple[Job, str, Launcher]:
    """Prepare the job that trains a stage; a second call finds the resume state of the first."""
    content: dict[str, JSON] = {
        "job": "train",
        "stage_key": planned.key,
        "model": start.weights,
        "trainer": stage.trainer,
        "adapter": stage.adapter.identity if stage.adapter else None,
        **rows.job(stage),
        "train": stage.train,
        "seed": stage.seed,
        "threads": stage.launch.threads,
        "world_size": stage.launch.num_processes,
        "distributed": _distributed(stage.launch),
        "state": str(folder / "state"),
        "output": str(folder / "candidate"),
    }
    write_job(folder, content)
    launch = stage.launch
    job = Job(folder, "train", launch.threads, launch.num_processes, launch.config_file)
    launcher: Launcher = load("launcher", "accelerate")  # type: ignore[assignment]
    return job, f"{planned.sprint}/{planned.stage}", launcher


def _distributed(launch: Launch) -> str:
    """Return the kind of distribution a launch must come to, in accelerate's words; a config file says its own."""
    if launch.config_file:
        return ""
    if launch.num_processes == 1:
        return "NO"
    return "MULTI_GPU" if device_kind() == "cuda" else "MULTI_CPU"


def adopt(objects: ObjectStore, outcome: Mapping[str, JSON], lineage: tuple[str, str], folder: Path) -> Trained:
    """Put what a training job made into the store by digest; `lineage` is (base identity, parent checkpoint).

    Raises:
        RunError: when the worker left no usable folder.
    """
    output = Path(str(outcome.get("output", "")))
    if output != folder / "candidate" or not output.is_dir():
        raise RunError("the worker named no candidate folder", hint=f"see {folder / 'worker.log'}")
    base, parent = lineage
    write_card(output, str(outcome["kind"]), base, parent)
    seen = Path(str(outcome.get("lineage", "")))
    if seen != folder / "lineage" or not seen.is_dir():
        raise RunError("the worker does not say which rows it saw", hint=f"see {folder / 'worker.log'}")
    lineage_digest, checkpoint = objects.adopt(seen), objects.adopt(output)
    metrics = outcome.get("metrics")
    figures = dict(metrics) if isinstance(metrics, Mapping) else {}
    figures["bytes"] = sum(size for size, _ in objects.manifest(checkpoint).values())
    for name in ("resumed_from", "versions"):
        figures[name] = outcome.get(name)
    return Trained(checkpoint, lineage_digest, figures)


def forget_state(folder: Path) -> None:
    """Remove the resume state of a stage whose candidate is safely in the store and in the ledger."""
    for name in ("state", "candidate", "lineage", "mixture", "screen", "screened"):
        shutil.rmtree(folder / name, ignore_errors=True)

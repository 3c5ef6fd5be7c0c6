"""Write a checkpoint as one model folder with everything merged, ready to be served; the store keeps its own copy."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from safetune.core.digest import JSON
from safetune.core.errors import UsageError
from safetune.engine.jobs import run_jobs, scratch_folder, write_job
from safetune.engine.planning import prepare
from safetune.engine.subjects import Subjects
from safetune.plugins import load
from safetune.protocols import Job, Launcher, Listener
from safetune.state.atomic import machine_errors
from safetune.state.store import Store


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was exported, as which checkpoint, where to, and how large it is."""

    target: str
    checkpoint: str
    folder: Path
    bytes: int


def export(playbook: Path, store_root: Path, where: tuple[str, Path], listener: Listener) -> ExportResult:
    """Merge a channel's or checkpoint's weights into a new folder; `where` is (target, folder).

    Only what is promoted leaves the store: a candidate, a rejected or a quarantined checkpoint is refused.

    Raises:
        UsageError: when the target is unknown or not promoted, or the folder exists.
        IntegrityError: when stored bytes are damaged.
    """
    target, folder = where
    if folder.exists():
        raise UsageError(f"{folder} exists already", hint="give a folder that does not exist yet")
    prepared = prepare(playbook, store_root)
    store = Store.open(store_root)
    subject, digest = Subjects(prepared.model, store, listener).named(target or prepared.playbook.channel)
    found = store.standing().checkpoints.get(digest)
    if found is None or found.status != "promoted" or not found.stands:
        state = found.status if found else "not a checkpoint of the store"
        failed = ", but its last gate did not say PASS" if found and found.status == "promoted" else ""
        raise UsageError(
            f"{subject.label} is {state}{failed}; only promoted checkpoints that pass are exported",
            hint="safetune status",
        )
    launcher: Launcher = load("launcher", "local")  # type: ignore[assignment]
    with scratch_folder(store.scratch / f"export-{os.getpid()}") as scratch:
        output = str(scratch / "model")
        content: dict[str, JSON] = {"job": "merge", "model": subject.weights, "output": output, "threads": 1}
        write_job(scratch, content)
        run_jobs([(Job(scratch, "merge"), f"export {subject.label}", launcher)], listener)
        with machine_errors(f"write {folder}"):
            folder.absolute().parent.mkdir(parents=True, exist_ok=True)
            partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
            try:
                shutil.move(output, partial)  # it may be a copy to another disk, and break off
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return ExportResult(subject.label, digest, folder, sum(f.stat().st_size for f in folder.iterdir()))

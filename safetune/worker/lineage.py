"""Which rows each optimizer step really saw: written down where a batch enters the loss, kept with the training state.

Every process records its own rows in memory, 4 bytes each. A state that can be resumed holds them as they were at its
step and is sealed with them, so that a resumed run ends with the same record as an uninterrupted one. At the end the
first process joins the records of all.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetune.core.errors import IntegrityError, RunError
from safetune.state.atomic import write_atomic
from safetune.state.seen import Growing, SeenRows, Steps, encode, joined, read_seen, write_lineage

_PARTS = "lineage-parts"


class Recorder:
    """Takes down what one process saw."""

    def __init__(self) -> None:
        self._rows, self._technique = Growing(), Growing()

    def saw(self, step: int, numbers: Iterable[int], technique: bool = False) -> None:
        """Add the rows that are about to enter the loss of optimizer step `step`, counted from 0.

        Raises:
            RunError: when the step does not follow the one before, or a number is not one.
        """
        (self._technique if technique else self._rows).add(step, numbers)

    @property
    def seen(self) -> SeenRows:
        """What was recorded so far."""
        return SeenRows(self._rows.steps, self._technique.steps)

    def save(self, folder: Path, process: int) -> None:
        """Write what this process saw into the folder of a training state."""
        write_atomic(folder / _part(process), encode(self.seen))

    def restore(self, folder: Path, process: int, step: int) -> None:
        """Go on from a sealed training state of `step` steps; whatever was recorded here is forgotten.

        Raises:
            RunError: when the state does not say which rows its steps saw.
        """
        try:
            found = read_seen(folder / _part(process))
        except IntegrityError as error:
            raise RunError(
                f"{folder.name} does not say which rows it was trained on", hint=f"remove {folder.parent} to begin anew"
            ) from error
        if len(found.rows) != step:
            raise RunError(f"{folder.name} says which rows {len(found.rows)} steps saw, not {step}")
        self._rows, self._technique = Growing(found.rows), Growing(found.technique)


def write(trainer: Any, job: Mapping[str, Any], recorder: Recorder) -> Path:
    """Join what all processes saw into the folder `lineage` beside the candidate, and return that.

    Raises:
        RunError: when any step has no rows on record.
    """
    output = Path(job["output"])
    folder, parts = output.parent / "lineage", output.parent / _PARTS
    state = trainer.accelerator
    parts.mkdir(exist_ok=True)
    recorder.save(parts, state.process_index)
    state.wait_for_everyone()
    if trainer.is_world_process_zero():
        found = [read_seen(parts / _part(number)) for number in range(state.num_processes)]
        seen = SeenRows(joined([part.rows for part in found]), _technique(found))
        _check(seen, int(trainer.state.global_step), any(t["sources"] for t in job["techniques"]))
        about = {name: str(job.get(name, "")) for name in ("mixture", "stage_key")}
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        write_lineage(folder, seen, {**about, "processes": int(state.num_processes)})
        shutil.rmtree(parts, ignore_errors=True)
    return folder


def _part(process: int) -> str:
    return f"lineage-{process}.safetensors"


def _technique(found: list[SeenRows]) -> Steps:
    """Return the rows of techniques: every process computes the same terms, so they are counted once."""
    parts = [part.technique for part in found]
    return parts[0] if all(part == parts[0] for part in parts) else joined(parts)


def _check(seen: SeenRows, steps: int, technique: bool) -> None:
    if len(seen.rows) != steps or not all(len(numbers) for numbers in seen.rows):
        raise RunError(f"of {steps} steps, {sum(bool(numbers) for numbers in seen.rows)} say which rows they saw")
    if technique and not len(seen.technique.rows):
        raise RunError("a technique has sources, and none of its rows is on record")

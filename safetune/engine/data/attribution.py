"""Order near rows by their gradients: a worker job on the playbook's base model and the checkpoint's LoRA weights."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from safetune.core.digest import JSON, canonical, digest, short
from safetune.core.errors import RunError, UsageError
from safetune.engine.checkpoints import lineage
from safetune.engine.data.lineage import Placed
from safetune.engine.data.trace import NearRow, OutputTrace, Tracer
from safetune.engine.jobs import run_jobs, write_job
from safetune.engine.planning import prepare
from safetune.engine.subjects import Subjects
from safetune.plugins import load
from safetune.protocols import Job, Launcher, Listener
from safetune.state.atomic import write_atomic


@dataclass(frozen=True, slots=True)
class Asked:
    """Which answer to whom: the checkpoint, the prompt (empty: none) and the answer, and how many rows to show.

    `among` is how many of the nearest rows are compared; 0 stands for all that were seen.
    """

    checkpoint: str
    prompt: str
    output: str
    among: int
    count: int
    show: bool = False


def by_gradients(tracer: Tracer, asked: Asked, playbook: Path, listener: Listener) -> OutputTrace:
    """Return the rows whose gradients are most like that of the answer, of those that were seen.

    What an interrupted attempt computed is not computed again.

    Raises:
        UsageError: when the checkpoint is not LoRA, or the playbook has another base model.
        RunError: when the job fails.
    """
    made = lineage(tracer.store.objects, asked.checkpoint)
    if made.full and made.objects[-1] == made.objects[0]:
        raise UsageError(
            f"checkpoint {short(asked.checkpoint)} has all its weights trained; gradients are compared for LoRA only",
            hint="leave out --gradients",
        )
    among = asked.among or sum(1 for _ in tracer.seen_rows(asked.checkpoint))
    found = tracer.near(asked.checkpoint, asked.output, among, asked.show)
    if asked.among == 0:
        found = replace(found, near=_with_all(tracer, found))
    if not found.near:
        return found
    model = prepare(playbook, tracer.store.root, guard=False).model
    subject = Subjects(model, tracer.store, listener).checkpoint(asked.checkpoint)
    wanted = {row.row: n for n, row in enumerate(found.near)}
    rows = (row for _, row in tracer.seen_rows(asked.checkpoint) if row.id in wanted)
    cosines = _compare(tracer, asked, (subject.weights, rows), listener)
    ranked = sorted(
        (replace(row, gradient=round(cosines[row.row], 4)) for row in found.near),
        key=lambda row: (-(row.gradient or 0.0), -row.score),
    )
    return replace(found, near=tuple(ranked[: asked.count]))


def _with_all(tracer: Tracer, found: OutputTrace) -> tuple[NearRow, ...]:
    """Return the near rows and behind them all others that were seen, which share no word with the answer."""
    near = {row.row for row in found.near}
    others = (one for one in tracer.seen_rows(found.checkpoint) if one[1].id not in near)
    return (*found.near, *(tracer.far_row(run, row) for run, row in others))


def _compare(
    tracer: Tracer, asked: Asked, given: tuple[Mapping[str, JSON], Iterable[Placed]], listener: Listener
) -> Mapping[str, float]:
    weights, rows = given
    data = b"".join(
        canonical({"id": row.id, "row": row.content}) + b"\n" for row in {row.id: row for row in rows}.values()
    )
    assistant: Mapping[str, JSON] = {"role": "assistant", "content": asked.output}
    answer: dict[str, JSON] = {"messages": [assistant]}
    if asked.prompt:
        answer = {"prompt": [{"role": "user", "content": asked.prompt}], "completion": [assistant]}
    sha256 = hashlib.sha256(data).hexdigest()
    told: dict[str, JSON] = {"model": weights, "answer": answer, "rows": sha256}
    folder = tracer.store.scratch / f"attribute-{digest(told)[:16]}"
    source: dict[str, JSON] = {"name": "candidates", "rows": str(folder / "rows.jsonl"), "sha256": sha256, "first": 0}
    output = folder / "gradients.jsonl"
    job: dict[str, JSON] = {"job": "attribute", "model": weights, "answer": answer, "source": source, "threads": 1}
    write_job(folder, {**job, "output": str(output)})
    write_atomic(folder / "rows.jsonl", data)
    launcher: Launcher = load("launcher", "local")  # type: ignore[assignment]
    run_jobs([(Job(folder, "attribute"), f"attribute {short(asked.checkpoint)}", launcher)], listener)
    cosines = _read(output, data.count(b"\n"))
    shutil.rmtree(folder, ignore_errors=True)
    return cosines


def _read(path: Path, expected: int) -> Mapping[str, float]:
    try:
        rows = [json.loads(line) for line in path.read_bytes().splitlines()]
        found = {str(row["id"]): float(row["cosine"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"the worker left no usable gradients: {error}") from error
    if len(found) != expected or not all(math.isfinite(value) for value in found.values()):
        raise RunError(f"the worker left gradients of {len(found)} rows, not of {expected}")
    return found

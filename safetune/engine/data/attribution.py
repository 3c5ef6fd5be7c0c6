"""Order near rows by their gradients: a worker job on the playbook's base model and the checkpoint's LoRA weights.

Each row is put into the words, and into the loss, of the stage that saw it, as the playbook has that stage now.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from safetune.core.digest import JSON, canonical, digest, short
from safetune.core.errors import RunError, UsageError
from safetune.core.playbook import Playbook, Stage
from safetune.core.serving import trained_with
from safetune.engine.checkpoints import lineage
from safetune.engine.data.lineage import Placed, Training
from safetune.engine.data.mixture import TRAIN
from safetune.engine.data.trace import NearRow, OutputTrace, Tracer
from safetune.engine.jobs import run_jobs, write_job
from safetune.engine.planning import prepare
from safetune.engine.subjects import Subjects
from safetune.plugins import load
from safetune.protocols import Job, Launcher, Listener
from safetune.state.atomic import write_atomic

_SFT = "sft"  # the trainer whose loss is compared
_LOSS = ("max_length", "completion_only_loss", "assistant_only_loss")  # its arguments that say what is in the loss

# The model's weights, how the checkpoint's own stage was trained, and rows with how each group of them was trained.
Trained = Mapping[str, JSON]
Given = tuple[Mapping[str, JSON], Trained, Sequence[tuple[Trained, Sequence[Placed]]]]


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
    prepared = prepare(playbook, tracer.store.root, guard=False)
    book = prepared.playbook
    subject = Subjects(prepared.model, tracer.store, listener).checkpoint(asked.checkpoint)
    stages = {f"{sprint.name}/{stage.name}": stage for sprint in book.sprints for stage in sprint.stages}
    wanted = frozenset(row.row for row in found.near)
    seen = [(run, row) for run, row in tracer.seen_rows(asked.checkpoint) if row.id in wanted]
    trained = {run: _trained(book, stages, run) for run in dict.fromkeys(run for run, _ in seen)}
    own = _trained(book, stages, tracer.made[asked.checkpoint][-1])
    groups = [(told, [row for by, row in seen if by == run]) for run, told in trained.items()]
    cosines = _compare(tracer, asked, (subject.weights, own, groups), listener)
    ranked = sorted(
        (replace(row, gradient=round(cosines[row.row], 4)) for row in found.near),
        key=lambda row: (-(row.gradient or 0.0), -row.score),
    )
    return replace(found, near=tuple(ranked[: asked.count]), notes=_notes(seen, stages))


def _trained(book: Playbook, stages: Mapping[str, Stage], run: Training) -> Mapping[str, JSON]:
    """Return how a run put its rows into words, and its training arguments, in the form of a worker's job.

    Raises:
        UsageError: when the playbook has no such stage: then nobody can say how its rows were trained.
    """
    stage = stages.get(run.place)
    if stage is None:
        raise UsageError(
            f"checkpoint {short(run.checkpoint)} was trained by the stage {run.place}, which this playbook does not "
            "have, so nobody can say in which words its rows were trained",
            hint="use the playbook that it was trained with, or leave out --gradients",
        )
    template = trained_with(book, stage)
    prompt: dict[str, JSON] = (
        {"system": template.system, "chat_template": template.chat_template} if template is not None else {}
    )
    return {"prompt": prompt, "train": {name: stage.train[name] for name in _LOSS if name in stage.train}}


def _notes(seen: Sequence[tuple[Training, Placed]], stages: Mapping[str, Stage]) -> tuple[str, ...]:
    """Say which rows are compared by another loss than the one that they were trained with."""
    others = dict.fromkeys((run.place, stages[run.place].trainer) for run, _ in seen)
    notes = [
        f"rows of {place} were trained by {trainer}, whose loss is not compared: the likelihood of the chosen answer "
        "stands in for it"
        for place, trainer in others
        if trainer != _SFT
    ]
    if any(row.part.role != TRAIN for _, row in seen):
        notes.append("rows that a technique read are compared as if they had been trained on, not by its own loss")
    return tuple(notes)


def _with_all(tracer: Tracer, found: OutputTrace) -> tuple[NearRow, ...]:
    """Return the near rows and behind them all others that were seen, which share no word with the answer."""
    near = {row.row for row in found.near}
    others = (one for one in tracer.seen_rows(found.checkpoint) if one[1].id not in near)
    return (*found.near, *(tracer.far_row(run, row) for run, row in others))


def _compare(tracer: Tracer, asked: Asked, given: Given, listener: Listener) -> Mapping[str, float]:
    weights, own, groups = given
    assistant: Mapping[str, JSON] = {"role": "assistant", "content": asked.output}
    answer: dict[str, JSON] = {"messages": [assistant]}
    if asked.prompt:
        answer = {"prompt": [{"role": "user", "content": asked.prompt}], "completion": [assistant]}
    files = [b"".join(canonical({"id": row.id, "row": row.content}) + b"\n" for row in rows) for _, rows in groups]
    sums = [hashlib.sha256(data).hexdigest() for data in files]
    told: dict[str, JSON] = {"model": weights, "answer": answer, "prompt": own["prompt"]}
    rest: list[JSON] = [[trained, sha256] for (trained, _), sha256 in zip(groups, sums, strict=True)]
    folder = tracer.store.scratch / f"attribute-{digest({**told, 'rows': rest})[:16]}"
    sources: list[JSON] = []
    first = 0
    for n, (trained, rows) in enumerate(groups):
        rows_file: dict[str, JSON] = {"rows": str(folder / f"rows-{n}.jsonl"), "sha256": sums[n], "first": first}
        sources.append({"name": f"candidates {n + 1}", **rows_file, **trained})
        first += len(rows)
    output = folder / "gradients.jsonl"
    write_job(folder, {"job": "attribute", **told, "sources": sources, "threads": 1, "output": str(output)})
    for n, data in enumerate(files):
        write_atomic(folder / f"rows-{n}.jsonl", data)
    launcher: Launcher = load("launcher", "local")  # type: ignore[assignment]
    run_jobs([(Job(folder, "attribute"), f"attribute {short(asked.checkpoint)}", launcher)], listener)
    cosines = _read(output, first)
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

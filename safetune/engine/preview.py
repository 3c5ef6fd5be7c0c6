"""What a plan shows beyond its stages: launch commands, what each gate can decide, disk, and warnings."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from safetune.core.plan import Fact, Facts, Plan, PlannedStage
from safetune.core.playbook import Playbook, Stage
from safetune.core.preview import GuardrailPower, Sample, power_of
from safetune.core.suite import Suite
from safetune.engine.planning import Prepared
from safetune.plugins import load
from safetune.protocols import Job, Launcher


@dataclass(frozen=True, slots=True)
class StagePreview:
    """How a stage would be launched, and what its gate can decide."""

    sprint: str
    stage: str
    launch: str
    power: tuple[GuardrailPower, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """A plan with everything worth seeing before it runs; `needed_bytes` is None where nothing was measured yet."""

    plan: Plan
    stages: tuple[StagePreview, ...]
    free_bytes: int
    needed_bytes: int | None
    notes: tuple[str, ...]


def preview(prepared: Prepared) -> Preview:
    """Return what a plan would do in the terms of this machine; starts nothing and reads nothing new."""
    playbook, plan, facts = prepared.playbook, prepared.plan, prepared.facts
    planned = {(p.sprint, p.stage): p for p in plan.stages}
    stages = tuple(
        StagePreview(sprint.name, stage.name, _launch(stage), _power(playbook, stage, facts))
        for sprint in playbook.sprints
        for stage in sprint.stages
    )
    running = [
        (stage, planned[sprint.name, stage.name])
        for sprint in playbook.sprints
        for stage in sprint.stages
        if "train" in planned[sprint.name, stage.name].steps
    ]
    needed = _needed_bytes(running, facts)
    return Preview(plan, stages, facts.free_bytes, needed, tuple(_notes(prepared, needed)))


def _launch(stage: Stage) -> str:
    """Return the command as a person would type it; the job folder is made when the stage runs."""
    launcher: Launcher = load("launcher", "accelerate")  # type: ignore[assignment]
    launch = stage.launch
    job = Job(Path("JOB"), "train", launch.threads, launch.num_processes, launch.config_file)
    command = shlex.join(launcher.command(job))
    return command.replace(f"{shlex.quote(sys.executable)} -m accelerate.commands.launch", "accelerate launch")


def _power(playbook: Playbook, stage: Stage, facts: Facts) -> tuple[GuardrailPower, ...]:
    found: list[GuardrailPower] = []
    gate = playbook.gate_of(stage)
    for guardrail in gate:
        suite = next(s for s in playbook.suites if s.name == guardrail.suite)
        found.extend(power_of(guardrail, sample_of(suite, facts.suites[suite.name], guardrail.metric), gate))
    return tuple(found)


def sample_of(suite: Suite, fact: Fact, metric: str) -> Sample:
    """Return what a gate over one metric of a suite will read, as far as the survey found it."""
    return Sample(
        n=fact.size,
        clusters=fact.clusters,
        slices=fact.slices,
        metric=next((m for m in suite.metrics if m.name == metric), None),
        judge=suite.judge.name,
        calibration=fact.calibration,
        languages=suite.about.languages,
        by_language=bool(suite.prompts.options.get("languages")) and not suite.attacks,
    )


def _needed_bytes(running: Iterable[tuple[Stage, PlannedStage]], facts: Facts) -> int | None:
    """Return the disk that new checkpoints will take: as measured for the same shape, or the model for full weights."""
    total = 0
    for stage, planned in running:
        known = facts.bytes_per_checkpoint.get(planned.shape)
        if known is None and stage.adapter is None:
            known = facts.model.size
        if known is None:
            return None
        total += known
    return total


def _notes(prepared: Prepared, needed: int | None) -> Iterable[str]:
    facts = prepared.facts
    if facts.model.note:
        yield f"model {facts.model.name}: {facts.model.note}"
    yield from (f"suite {fact.name}: {fact.note}" for fact in facts.suites.values() if fact.note)
    if needed is not None and needed > facts.free_bytes:
        yield f"disk: {needed:,} bytes are needed, {facts.free_bytes:,} are free"
    if not prepared.plan.rollback_target:
        yield f"rollback: channel {prepared.plan.channel} holds nothing yet, so a failed gate leaves it empty"

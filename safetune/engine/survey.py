"""Look at the world without touching it: digests, plugins, free disk, what training cost. No socket, no program."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from safetune.core.alpha import is_amount
from safetune.core.diagnostics import did_you_mean
from safetune.core.digest import JSON, digest, short
from safetune.core.errors import UsageError
from safetune.core.events import Event
from safetune.core.plan import Fact, Facts
from safetune.core.playbook import Playbook, Source
from safetune.core.source import FOLDER, HUB, MIXTURE
from safetune.core.suite import Named, Suite
from safetune.engine.data.dvc import is_dvc
from safetune.engine.judging import respondents
from safetune.engine.models import BaseModel
from safetune.engine.prompt_facts import lint
from safetune.engine.prompts import Load, load_prompts, suite_fact
from safetune.engine.respondents import model_of
from safetune.engine.sums import Sums
from safetune.plugins import load, names, provider, suggest

_MOST_NAMES = 20

# What training needs installed; found by name, never imported here.
_ML_PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")


def survey(
    playbook: Playbook,
    model: BaseModel,
    events: Iterable[Event],
    where: tuple[Path, Sums],
    load_it: Load = load_prompts,
) -> Facts:
    """Return the facts that a plan of `playbook` rests on; `where` is the store's folder and the digest memory.

    `load_it` reads the prompts of a suite.
    """
    store, sums = where
    events = tuple(events)
    return Facts(
        model=_model_fact(model),
        sources={source.name: _source_fact(source, sums) for source in playbook.sources},
        suites={suite.name: _suite_fact(playbook, suite, load_it) for suite in playbook.suites},
        plugins=_plugin_facts(playbook, sums),
        free_bytes=_free_bytes(store),
        seconds_per_step=_seconds_per_step(events),
        bytes_per_checkpoint=_bytes_per_checkpoint(events),
        launch_files=_launch_files(playbook, sums),
        lint=lint(playbook, model),
    )


def _model_fact(model: BaseModel) -> Fact:
    problem = model.problem or _missing_packages()
    note = {"": "", "convert": "will be converted once", "fetch": "will be fetched once"}[model.make]
    return Fact(model.label, model.identity, model.size, problem, note)


def _missing_packages() -> str:
    missing = [name for name in _ML_PACKAGES if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(missing)}; run `make install`" if missing else ""


def _source_fact(source: Source, sums: Sums) -> Fact:
    note = f"{source.licence}; consent {source.consent or source.about.basis}"
    path = Path(source.path)
    if source.kind in (FOLDER, HUB, MIXTURE) or is_dvc(source.path):  # they are hashed when they are gone through
        return Fact(source.name, source.sha256, note=note)
    try:
        found, size = sums.of(path), path.stat().st_size
    except OSError as error:
        return Fact(source.name, "", None, f"source {source.name}: {path.name} cannot be read: {error.strerror}")
    if found != source.sha256:
        problem = f"source {source.name}: sha256 is {found}, the playbook pins {short(source.sha256)}"
        return Fact(source.name, found, size, problem)
    return Fact(source.name, found, size, note=note)


def _suite_fact(playbook: Playbook, suite: Suite, load_it: Load) -> Fact:
    """Return the fact of a suite; a slice that a guardrail gates, and that no prompt belongs to, is a problem."""
    fact = suite_fact(suite, load_it)
    if fact.problem or suite.prompts.kind == "engine":  # another tool's slices are known when it has run
        return fact
    gated = [(g.name, g.slices) for g in playbook.guardrails if g.suite == suite.name and g.slices]
    for guardrail, slices in gated:
        strange = [name for name in (*slices.names, *slices.critical) if name not in fact.slices]
        if strange or not fact.slices:
            what = f'no slice "{strange[0]}"' if strange else "no slices"
            known = list(fact.slices)
            hint = did_you_mean(strange[0], known) if strange else ""
            hint = hint or f"known: {', '.join(known[:_MOST_NAMES]) or 'none'}"
            problem = f"suite {suite.name} has {what}, which guardrail {guardrail} gates; {hint}"
            return replace(fact, problem=problem, part=f"guardrail {guardrail}")
    return fact


def _plugin_facts(playbook: Playbook, sums: Sums) -> Mapping[str, Fact]:
    stages = [stage for sprint in playbook.sprints for stage in sprint.stages]
    wanted = {("trainer", stage.trainer) for stage in stages}
    wanted |= {("technique", technique.name) for stage in stages for technique in stage.techniques}
    found = {f"{kind} {name}": _plugin_fact(kind, name) for kind, name in sorted(wanted)}
    return found | {f"judge {suite.judge.key}": _judge_fact(suite.judge, sums) for suite in playbook.suites}


_NO_CONTROLS = (
    "judge {} has no controls, so no gate can rely on it; name a judge that reads the responses, or measure the suite "
    "without a gate"
)


def _judge_fact(judge: Named, sums: Sums) -> Fact:
    """Return the version of a judge, loaded with its options, and the identity of the models that it asks."""
    if judge.name not in names("judge"):
        return _plugin_fact("judge", judge.name)
    try:
        loaded = load("judge", judge.name, judge.options)
    except UsageError as error:
        return Fact(judge.name, "", None, f"judge {judge.name}: {error.message}")
    version = str(getattr(loaded, "version", ""))
    if not getattr(loaded, "controls", ()):
        return Fact(judge.name, "", None, _NO_CONTROLS.format(judge.name))
    models = [model_of(asked, sums) for asked in respondents(loaded)]  # type: ignore[arg-type]
    if problem := next((model.problem for model in models if model.problem), ""):
        return Fact(judge.name, "", None, f"judge {judge.name}: {problem}")
    return Fact(judge.name, digest([version, *(model.identity for model in models)]) if models else version)


def _plugin_fact(kind: str, name: str) -> Fact:
    """The worker's plugins import torch and are only looked up by name."""
    if name not in names(kind):
        known = names(kind)
        return Fact(name, "", None, f'no {kind} is called "{name}";{suggest(name, known)} known: {", ".join(known)}')
    return Fact(name, provider(kind, name))


def _launch_files(playbook: Playbook, sums: Sums) -> Mapping[str, Fact]:
    """Return the accelerate configuration files of all stages: precision and sharding change what training gives."""
    stages = [stage for sprint in playbook.sprints for stage in sprint.stages]
    found = {}
    for name in sorted({stage.launch.config_file for stage in stages} - {""}):
        path = Path(name)
        try:
            found[name] = Fact(path.name, sums.of(path))
        except OSError as error:
            found[name] = Fact(path.name, "", problem=f"launch file {path.name} cannot be read: {error.strerror}")
    return found


def _free_bytes(folder: Path) -> int:
    """Return the free space of the file system that holds, or will hold, `folder`."""
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    return shutil.disk_usage(existing).free


def _trainings(events: Iterable[Event]) -> Iterator[tuple[str, Mapping[str, JSON], int]]:
    """Yield shape, figures and ledger line of every finished training."""
    for event in events:
        figures = event.data.get("figures") if event.kind == "trained" else None
        if isinstance(figures, Mapping) and isinstance(figures.get("shape"), str):
            yield str(figures["shape"]), figures, event.seq


def _seconds_per_step(events: Iterable[Event]) -> Mapping[str, tuple[float, str]]:
    """Return the last measured seconds per step of every training shape, with the ledger line that says so.

    Start-up and saving are part of them. A run that was resumed trained only some of its steps and is left out.
    """
    found: dict[str, tuple[float, str]] = {}
    for shape, figures, line in _trainings(events):
        seconds, steps = figures.get("seconds"), figures.get("steps")
        whole = type(steps) is int and figures.get("resumed_from") is None
        if whole and is_amount(seconds) and is_amount(steps) and steps > 0:
            found[shape] = (seconds / steps, f"ledger line {line}")
    return found


def _bytes_per_checkpoint(events: Iterable[Event]) -> Mapping[str, int]:
    found = {}
    for shape, figures, _ in _trainings(events):
        if type(size := figures.get("bytes")) is int and is_amount(size):
            found[shape] = int(size)
    return found

"""Suites that another tool runs: it asks the model itself, and its results become items like any others.

The tool runs once for each model; a finished results file is kept like a response, by weights, order, and what tells
the tool and its tasks apart.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from safetune.core.digest import JSON, digest
from safetune.core.errors import RunError, UsageError
from safetune.core.evidence import BASELINE, CANDIDATE, Prompt, SuiteEvidence
from safetune.core.suite import Suite
from safetune.engine.asking import Subject, Workplace
from safetune.engine.foreign import ForeignOrder, problem, read_allowed, run_foreign, tool_identity
from safetune.engine.importing import Choice, Imported, check_pair, companions, read_results
from safetune.engine.jobs import run_jobs, write_job
from safetune.engine.responses import request
from safetune.plugins import load
from safetune.protocols import Job, Launcher
from safetune.state.atomic import machine_errors, write_atomic

ENGINE = "engine"
IMPORTED = "imported"  # the judge that stands for the tool's own scores

_SHOWN = 20
_NAME = "NAME"  # the file that says which one of a kept folder holds the results
_CHOICES = ("scorer", "prompt", "slice", "cluster", "pass_at", "expected")


def is_foreign(suite: Suite) -> bool:
    """Say whether another tool runs this suite."""
    return suite.prompts.kind == ENGINE


def foreign_problem(suite: Suite) -> str:
    """Say what keeps a suite's tool from being run here, or return an empty text; runs nothing."""
    try:
        return problem(_order(suite, Path("model")), read_allowed(os.environ))
    except UsageError as error:
        return error.message


def tool_of(suite: Suite) -> Mapping[str, JSON]:
    """Return what tells the tool of a suite and its tasks apart, as JSON; a plan rests on it.

    Raises:
        UsageError: when the tool is not allowed, or it or its tasks cannot be read.
    """
    return tool_identity(_order(suite, Path("model")), read_allowed(os.environ))


def results_of(suite: Suite, arms: tuple[Subject, Subject | None], place: Workplace) -> dict[str, Imported]:
    """Run the suite's tool where its results are not there yet, and return what it found for each arm.

    Raises:
        UsageError: when the tool is not allowed, its results cannot be read, or the arms were not asked the same.
        RunError: when it fails.
    """
    tool = tool_of(suite)
    found = {
        arm: read_results(_results(suite, subject, place, tool), suite.name, arm, _choice(suite))
        for arm, subject in zip((CANDIDATE, BASELINE), arms, strict=True)
        if subject is not None
    }
    if BASELINE in found:
        check_pair(found[CANDIDATE], found[BASELINE])
    return found


def as_prompts(suite: Suite, found: Mapping[str, Imported]) -> tuple[tuple[Prompt, ...], dict[str, dict[str, str]]]:
    """Return the prompts that a tool asked, and each arm's responses by request digest, for a judge of our own.

    Only the first sample of a prompt is used.

    Raises:
        UsageError: when items with the same prompt have different responses, or one of them has none: a response is
            kept by its prompt, so one item would be judged by that of the other.
    """
    prompts = tuple(
        Prompt(item.item_id, found[CANDIDATE].prompts[item.item_id], item.slice, item.cluster)
        for item in found[CANDIDATE].items
        if item.sample == 0
    )
    keys = {p.item_id: request(p, suite).digest for p in prompts}
    answers = {arm: _by_request(suite, imported, keys) for arm, imported in found.items()}
    return prompts, answers


def _by_request(suite: Suite, imported: Imported, keys: Mapping[str, str]) -> dict[str, str]:
    """Return the responses of one arm by request digest; `keys` are the digests by item id."""
    said = {item.item_id: item.output for item in imported.items if item.sample == 0}
    first: dict[str, str] = {}
    for item_id, key in keys.items():
        other = first.setdefault(key, item_id)
        if said.get(item_id) != said.get(other):
            raise UsageError(
                f"suite {suite.name}: items {other} and {item_id} have the same prompt and not the same response, so a "
                "judge cannot be shown each its own",
                hint=f"give every item a prompt of its own, or use the judge {IMPORTED}",
            )
    return {key: said[item_id] for key, item_id in first.items() if item_id in said}


def as_evidence(suite: Suite, found: Mapping[str, Imported]) -> SuiteEvidence:
    """Return the tool's own scores as evidence. Its judge has shown no controls here, so no gate relies on it."""
    now, told = found[CANDIDATE], {arm: imported.identity for arm, imported in found.items()}
    strange = sorted({label for metric in suite.metrics for label in metric.counts} - set(now.labels))
    return SuiteEvidence(
        suite=suite.name,
        suite_digest=suite.digest,
        judge=now.judge,
        judge_version=now.version,
        metrics=suite.metrics,
        expected=now.expected,
        candidate=now.items,
        baseline=found[BASELINE].items if BASELINE in found else (),
        error=f"no score of {now.judge} becomes {strange[0]}; its labels: {', '.join(now.labels)}" if strange else "",
        told={"results": told, "incomplete": list(now.incomplete[:_SHOWN]), "notes": list(now.notes)},
    )


def _order(suite: Suite, model: Path) -> ForeignOrder:
    given = suite.prompts.options
    arguments, minutes = given.get("arguments"), given.get("timeout_minutes", 60.0)
    return ForeignOrder(
        engine=suite.prompts.location,
        arguments=tuple(str(a) for a in arguments) if isinstance(arguments, list) else (),
        results=str(given.get("results", "")),
        model=model,
        program=str(given.get("program", "")),
        timeout_minutes=float(str(minutes)),
    )


def _choice(suite: Suite) -> Choice:
    chosen = {name: suite.prompts.options[name] for name in _CHOICES if name in suite.prompts.options}
    return replace(Choice(), **chosen)  # type: ignore[arg-type]  # the schema has checked their types


def _results(suite: Suite, subject: Subject, place: Workplace, tool: Mapping[str, JSON]) -> Path:
    """Return the results file of a suite and a model, from an earlier run or from a new one."""
    if subject.remote:
        raise UsageError(
            f"suite {suite.name} is run by another tool, which needs weights", hint="name a model, not an address"
        )
    order = _order(suite, Path("model"))
    name = digest({"order": order.identity, "tool": tool, "weights": subject.identity})[:32]
    kept = place.responses / "foreign" / name
    if (kept / _NAME).is_file():
        return kept / (kept / _NAME).read_text(encoding="utf-8")
    folder = place.scratch / f"foreign-{name}"
    model = _whole(subject, folder / "model", place).absolute()  # the tool works in another folder
    made = run_foreign(replace(order, model=model), read_allowed(os.environ), folder / "run", place.listener)
    if tool_of(suite) != tool:
        raise RunError(f"{order.key}: its program or its tasks were changed while it ran", hint="run it again")
    with machine_errors(f"keep the results of {order.key}"):
        kept.mkdir(parents=True, exist_ok=True)
        for path in (made, *companions(made)):
            shutil.copyfile(path, kept / path.name)
        write_atomic(kept / _NAME, made.name.encode())  # last: without it the folder counts for nothing
    return kept / made.name


def _whole(subject: Subject, folder: Path, place: Workplace) -> Path:
    """Return a folder with all of a model's weights; adapters are merged for it."""
    if not subject.weights.get("adapters"):
        return Path(str(subject.weights["base"]))
    job = folder.with_name("merge")
    launcher: Launcher = load("launcher", "local")  # type: ignore[assignment]
    content: dict[str, JSON] = {"job": "merge", "model": subject.weights, "output": str(folder), "threads": 1}
    write_job(job, content)
    run_jobs([(Job(job, "merge"), f"merge {subject.label}", launcher)], place.listener)
    return folder

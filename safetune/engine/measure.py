"""Measure: make the missing responses, judge all of them, and bind the result into one evidence object."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetune import __version__
from safetune.core.digest import JSON, canonical, digest, sha256_hex
from safetune.core.errors import IntegrityError, RunError, SafetuneError
from safetune.core.evidence import BASELINE, CANDIDATE, EvaluationReport, Item, Prompt, SuiteEvidence
from safetune.core.suite import Metric, Suite
from safetune.engine.jobs import run_jobs, write_job
from safetune.engine.prompts import load_prompts
from safetune.engine.responses import Request, Responses, request
from safetune.plugins import load
from safetune.protocols import Job, Judge, Launcher, Listener
from safetune.state.atomic import machine_errors, write_atomic
from safetune.state.device import device_kind, generator

_ITEMS, _REPORT = "items.jsonl", "evaluation.json"


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that can be asked: its identity, and the job form of its weights (base folder and adapters)."""

    label: str
    identity: str
    weights: Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where evaluation keeps its files, how many workers it may use at once, and who is told."""

    responses: Path
    scratch: Path
    workers: int
    listener: Listener


def default_workers() -> int:
    """Return how many evaluation workers to use: one torch thread each, at most two, one on a CUDA machine.

    On a CPU a second thread slows generation down and a second process does not (measured; see docs/benchmarks.md).
    """
    if device_kind() == "cuda":
        return 1
    return min(2, len(os.sched_getaffinity(0)))


@dataclass(frozen=True, slots=True)
class Measured:
    """A suite with its prompts read once."""

    suite: Suite
    prompts: tuple[Prompt, ...]


def read_suites(suites: Sequence[Suite]) -> tuple[Measured, ...]:
    """Read the prompts of every suite, before anything heavy starts."""
    return tuple(Measured(suite, load_prompts(suite)) for suite in suites)


def generation_jobs(
    subject: Subject, measured: Sequence[Measured], place: Workplace
) -> tuple[tuple[Job, str, Launcher], ...]:
    """Prepare the jobs that make the missing responses of one model: none when everything is there."""
    responses = Responses(place.responses, subject.identity)
    missing = responses.missing(request(p, m.suite) for m in measured for p in m.prompts)
    # Interleaved by length, so that every worker gets a like share of long and short prompts.
    ordered = sorted(missing, key=lambda r: (-r.decoding.max_new_tokens, -len(r.prompt), r.digest))
    shards = [shard for n in range(place.workers) if (shard := ordered[n :: place.workers])]
    names = [f"{n + 1} of {len(shards)}" if len(shards) > 1 else "" for n in range(len(shards))]
    return tuple(
        _generation_job(
            (subject, name), shard, responses.file(n), place.scratch / f"{digest(subject.identity)[:16]}-{n}"
        )
        for n, (shard, name) in enumerate(zip(shards, names, strict=True))
    )


def _generation_job(
    whose: tuple[Subject, str], shard: Sequence[Request], target: Path, folder: Path
) -> tuple[Job, str, Launcher]:
    """Prepare one worker's share; `whose` is the model and which worker of how many, where there are several."""
    subject, number = whose
    with machine_errors(f"make {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "requests.jsonl", b"".join(r.row + b"\n" for r in shard))
    content: dict[str, JSON] = {
        "job": "generate",
        "model": subject.weights,
        "requests": str(folder / "requests.jsonl"),
        "responses": str(target),
        "batch_size": 16,
        "threads": 1,
    }
    write_job(folder, content)
    launcher: Launcher = load("launcher", "local")  # type: ignore[assignment]
    return Job(folder, "generate"), f"evaluate {subject.label} {number}".strip(), launcher


def respond(subjects: Sequence[Subject], measured: Sequence[Measured], place: Workplace) -> None:
    """Make every missing response of every subject.

    Raises:
        RunError: when a worker fails, or said that it had finished and left a prompt without a response; finished
            batches stay.
    """
    for subject in subjects:
        jobs = generation_jobs(subject, measured, place)
        if jobs:
            run_jobs(jobs, place.listener)
            _check_answered(subject, measured, place)


def _check_answered(subject: Subject, measured: Sequence[Measured], place: Workplace) -> None:
    """Refuse to go on to a verdict with responses missing: a recorded verdict is final, a run can be repeated."""
    wanted = [request(p, m.suite) for m in measured for p in m.prompts]
    if missing := Responses(place.responses, subject.identity).missing(wanted):
        raise RunError(
            f"{subject.label}: {len(missing)} of {len({r.digest for r in wanted})} responses are missing",
            hint="run the same command again; it asks for what is missing",
        )


def judge_suite(measured: Measured, candidate: Mapping[str, str], baseline: Mapping[str, str] | None) -> SuiteEvidence:
    """Judge the responses of both arms to one suite, after the judge has labelled its own controls.

    `candidate` and `baseline` map request digests to responses; a response that is not there leaves its item out, and
    the gate then refuses to pass. A judge that breaks leaves a suite without items and with the reason as its error.
    """
    suite = measured.suite
    judge: Judge = load("judge", suite.judge.name, suite.judge.options)  # type: ignore[assignment]
    try:
        return _judged(judge, measured, candidate, baseline)
    except Exception as error:  # a judge may be anybody's code, and a broken measurement is an ERROR, not a crash
        why = f"judge {suite.judge.name} broke: {type(error).__name__}: {str(error)[:200]}"
        version = str(getattr(judge, "version", ""))
        unknown = len(measured.prompts)
        return SuiteEvidence(suite.name, suite.digest, suite.judge.name, version, suite.metrics, unknown, (), error=why)


def _judged(
    judge: Judge, measured: Measured, candidate: Mapping[str, str], baseline: Mapping[str, str] | None
) -> SuiteEvidence:
    suite = measured.suite
    failed = tuple(c.name for c in judge.controls if judge.label(c.prompt, c.response, c.reference).label != c.label)
    arms = {CANDIDATE: candidate, BASELINE: baseline or {}}
    items = {
        arm: tuple(
            _item(measured.suite, judge, prompt, (arm, responses[key]))
            for prompt in measured.prompts
            if (key := request(prompt, suite).digest) in responses
        )
        for arm, responses in arms.items()
    }
    return SuiteEvidence(
        suite=suite.name,
        suite_digest=suite.digest,
        judge=judge.name,
        judge_version=judge.version,
        metrics=suite.metrics,
        expected=len(measured.prompts),
        candidate=items[CANDIDATE],
        baseline=items[BASELINE],
        controls=tuple(c.label for c in judge.controls),
        controls_failed=failed,
    )


def _item(suite: Suite, judge: Judge, prompt: Prompt, answer: tuple[str, str]) -> Item:
    arm, output = answer
    judgement = judge.label(prompt.text, output, prompt.reference)
    if not math.isfinite(judgement.score):
        raise ValueError(f"its score for item {prompt.item_id} is {judgement.score}")
    return Item(
        item_id=prompt.item_id,
        suite=suite.name,
        slice=prompt.slice,
        cluster=prompt.cluster,
        arm=arm,
        sample=0,
        prompt_digest=request(prompt, suite).digest,
        output=output,
        judge=f"{judge.name}@{judge.version}",
        judge_score=judgement.score,
        label=judgement.label,
    )


def report_of(
    candidate: Subject, baseline: Subject | None, measured: Sequence[Measured], place: Workplace
) -> EvaluationReport:
    """Judge what the workers wrote."""
    now = Responses(place.responses, candidate.identity).read()
    before = Responses(place.responses, baseline.identity).read() if baseline else None
    suites = tuple(judge_suite(m, now, before) for m in measured)
    return EvaluationReport(candidate.identity, baseline.identity if baseline else "", suites, generator())


def write_evidence(report: EvaluationReport, folder: Path) -> None:
    """Write a report as files: one JSONL row per item, and everything else in evaluation.json."""
    with machine_errors(f"make {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    rows = [i.row for s in report.suites for i in (*s.candidate, *s.baseline)]
    data = b"".join(canonical(row) + b"\n" for row in rows)
    write_atomic(folder / _ITEMS, data)
    content: dict[str, JSON] = {
        "schema": "safetune-evaluation/1",
        "safetune": __version__,
        "generator": report.generator,
        "subject": report.subject,
        "baseline": report.baseline,
        "items": sha256_hex(data),
        "suites": [_suite_row(s) for s in report.suites],
    }
    write_atomic(folder / _REPORT, canonical(content))


def _suite_row(evidence: SuiteEvidence) -> Mapping[str, JSON]:
    return {
        "suite": evidence.suite,
        "suite_digest": evidence.suite_digest,
        "judge": evidence.judge,
        "judge_version": evidence.judge_version,
        "metrics": [{"name": m.name, "counts": list(m.counts), "worse": m.worse} for m in evidence.metrics],
        "expected": evidence.expected,
        "controls": list(evidence.controls),
        "controls_failed": list(evidence.controls_failed),
        "error": evidence.error,
    }


def read_evidence(folder: Path) -> EvaluationReport:
    """Read a report back from its stored bytes: what a gate decides on.

    Raises:
        IntegrityError: when the files do not belong together or cannot be read.
    """
    try:
        content = json.loads((folder / _REPORT).read_bytes())
        data = (folder / _ITEMS).read_bytes()
        if sha256_hex(data) != content["items"]:
            raise IntegrityError(f"evidence {folder.name[:12]}: the items are not the ones that were judged")
        items = [_read_item(json.loads(line)) for line in data.splitlines()]
        suites = tuple(_read_suite(row, items) for row in content["suites"])
        told = {str(name): str(value) for name, value in dict(content.get("generator", {})).items()}
        return EvaluationReport(content["subject"], content["baseline"], suites, told)
    except SafetuneError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"evidence {folder.name[:12]} cannot be read: {error}", hint="safetune verify") from error


def _read_item(row: Mapping[str, object]) -> Item:
    item = Item(**row)  # type: ignore[arg-type]
    if not isinstance(item.judge_score, int | float) or not math.isfinite(item.judge_score):
        raise ValueError(f"item {item.item_id} has no finite score")
    return item


def _read_suite(row: Mapping[str, JSON], items: Sequence[Item]) -> SuiteEvidence:
    known = dict(row)
    metrics = tuple(Metric(m["name"], tuple(m["counts"]), m["worse"]) for m in known.pop("metrics"))  # type: ignore
    known["controls"] = tuple(known["controls"])  # type: ignore[arg-type]
    known["controls_failed"] = tuple(known["controls_failed"])  # type: ignore[arg-type]
    arms = {arm: tuple(i for i in items if i.suite == row["suite"] and i.arm == arm) for arm in (CANDIDATE, BASELINE)}
    return SuiteEvidence(**known, metrics=metrics, candidate=arms[CANDIDATE], baseline=arms[BASELINE])  # type: ignore

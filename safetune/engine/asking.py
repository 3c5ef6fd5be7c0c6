"""Ask models: whatever response is missing is made by workers, in one warm process each for all models and suites."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from safetune.core.digest import JSON, canonical, digest
from safetune.core.errors import RunError
from safetune.engine.jobs import run_jobs, write_job
from safetune.engine.responses import Request, Responses
from safetune.plugins import load
from safetune.protocols import Job, Launcher, Listener
from safetune.state.atomic import machine_errors, write_atomic
from safetune.state.device import device_kind, visible_gpus

# Rows, and tokens with what may be generated, of one batch (docs/benchmarks.md; CUDA was not measured).
_BATCH = {"cpu": (64, 8_192), "cuda": (128, 131_072)}
_ENDPOINT_CONCURRENCY, _ENDPOINT_TIMEOUT_S, _ENDPOINT_RESUME_S = 8, 120.0, 3600.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that can be asked: its identity, and the job form of its weights (base folder and adapters).

    At an endpoint `weights` holds `endpoint`, `model` and `key_variable` instead, and the identity is only its
    address: nobody can tell what answers there.
    """

    label: str
    identity: str
    weights: Mapping[str, JSON]

    @property
    def remote(self) -> bool:
        """Whether it is asked at an endpoint."""
        return "endpoint" in self.weights


def endpoint_subject(address: str, model: str, key_variable: str = "") -> Subject:
    """Return the model `model` behind an OpenAI-compatible endpoint as something that can be asked."""
    weights: dict[str, JSON] = {"endpoint": address, "model": model, "key_variable": key_variable}
    return Subject(f"{model}@{address}", f"endpoint:{digest({'address': address, 'model': model})}", weights)


@dataclass(frozen=True, slots=True)
class Rounds:
    """In what order workers ask, by request digest, and where they look up which parts nobody wants any more.

    `numbers` are rounds, 0 where a request has none; `parts` are those that a request belongs to: once all of them are
    among the names in the file `stopped`, it is left out. A request without parts is always asked.
    """

    stopped: Path
    numbers: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def stop(self, parts: Sequence[str]) -> None:
        """Say which parts are to be asked no more; workers see it before their next batch.

        Raises:
            MachineError: when the machine refuses.
        """
        write_atomic(self.stopped, canonical(sorted(parts)))

    def row(self, request: Request) -> bytes:
        """Return the line of a requests file for a request."""
        number, parts = self.numbers.get(request.digest, 0), self.parts.get(request.digest, ())
        return request.row_with({"round": number, "parts": list(parts)} if number or parts else {})


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where evaluation keeps its files, how many workers it may use at once, who is told, and what is asked first."""

    responses: Path
    scratch: Path
    workers: int
    listener: Listener
    rounds: Rounds | None = None


Order = tuple[Subject, Sequence[Request]]
PreparedJob = tuple[Job, str, Launcher]


def default_workers() -> int:
    """Return how many evaluation workers to use: one for each GPU, or at most two with one torch thread each.

    On a CPU a second thread slows generation down and a second process does not (measured; see docs/benchmarks.md).
    """
    if device_kind() == "cuda":
        return max(1, visible_gpus())
    return min(2, len(os.sched_getaffinity(0)))


def answer(orders: Sequence[Order], place: Workplace) -> None:
    """Make every missing response of every order.

    Raises:
        RunError: when a worker fails, or said that it had finished and left a request without a response; finished
            batches stay.
    """
    outcomes = attempt(orders, place)
    said = next((f" ({why})" for outcome in outcomes if (why := outcome.get("why"))), "")
    for subject, requests in orders:
        if missing := Responses(place.responses, subject.identity).missing(requests):
            raise RunError(
                f"{subject.label}: {len(missing)} of {len({r.digest for r in requests})} responses are missing{said}",
                hint="run the same command again; it asks for what is missing",
            )


def attempt(orders: Sequence[Order], place: Workplace) -> Sequence[Mapping[str, JSON]]:
    """Try to make every missing response, and return what the workers said; some may be missing still.

    Raises:
        RunError: when a worker fails.
    """
    jobs = asking_jobs(orders, place)
    return run_jobs(jobs, place.listener) if jobs else ()


def asking_jobs(orders: Sequence[Order], place: Workplace) -> tuple[PreparedJob, ...]:
    """Prepare the jobs that make what is missing: none when everything is there.

    Each worker gets a share of every local model's requests, so that it starts once and loads the base once. An
    endpoint is asked everything, in one round.
    """
    open_orders = [(s, m) for s, wanted in orders if (m := Responses(place.responses, s.identity).missing(wanted))]
    local = [order for order in open_orders if not order[0].remote]
    remote = [_endpoint_job(subject, missing, place) for subject, missing in open_orders if subject.remote]
    return (*_local_jobs(local, place), *remote)


def _local_jobs(orders: Sequence[Order], place: Workplace) -> tuple[PreparedJob, ...]:
    """On a machine with several GPUs one launch shares the work among them; else each worker is a process."""
    if not orders:
        return ()
    if device_kind() == "cuda" and place.workers > 1:
        return (_local_job(orders, (0, 1), place, place.workers),)
    number = min(place.workers, max(len(requests) for _, requests in orders))
    return tuple(_local_job(orders, (n, number), place, 1) for n in range(number))


def _local_job(orders: Sequence[Order], share: tuple[int, int], place: Workplace, processes: int) -> PreparedJob:
    """Prepare one worker's share: `share` is its number and how many there are."""
    number, workers = share
    rounds = place.rounds or Rounds(Path())
    name = digest([s.identity for s, _ in orders])[:16]
    folder = place.scratch / f"{name}-{number}"
    subjects: list[JSON] = []
    with machine_errors(f"make {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    for at, (subject, requests) in enumerate(orders):
        # Interleaved by length, so that every worker gets a like share of long and short prompts of each round.
        ordered = sorted(requests, key=lambda r: (rounds.numbers.get(r.digest, 0), *_longest_first(r)))
        if shard := ordered[number::workers]:
            path = folder / f"requests-{at}.jsonl"
            write_atomic(path, b"".join(rounds.row(r) + b"\n" for r in shard))
            target = Responses(place.responses, subject.identity).file(number)
            also: dict[str, JSON] = {"label": subject.label, "requests": str(path), "responses": str(target)}
            subjects.append({**also, "model": subject.weights})
    rows, tokens = _BATCH[device_kind()]
    content: dict[str, JSON] = {"job": "generate", "threads": 1, "batch_rows": rows, "batch_tokens": tokens}
    content |= {"stopped": str(rounds.stopped)} if place.rounds else {}
    content |= _chat_templates(request for _, requests in orders for request in requests)
    write_job(folder, {**content, "world_size": processes, "subjects": subjects})
    launcher: Launcher = load("launcher", "accelerate" if processes > 1 else "local")  # type: ignore[assignment]
    which = f" {number + 1} of {workers}" if workers > 1 else ""
    labels = " and ".join(dict.fromkeys(subject.label for subject, _ in orders))
    return Job(folder, "generate", num_processes=processes), f"evaluate {labels}{which}", launcher


def _chat_templates(requests: Iterable[Request]) -> dict[str, JSON]:
    """Return the chat templates that requests name, by digest: a row of theirs holds no more than that."""
    texts = {request.decoding.chat_template for request in requests} - {""}
    return {"chat_templates": {digest(text): text for text in sorted(texts)}} if texts else {}


def _longest_first(request: Request) -> tuple[int, int, str]:
    return -request.decoding.max_new_tokens, -len(request.prompt), request.digest


def _endpoint_job(subject: Subject, missing: Sequence[Request], place: Workplace) -> PreparedJob:
    folder = place.scratch / digest(subject.identity)[:16]
    with machine_errors(f"make {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "requests.jsonl", b"".join(r.row + b"\n" for r in missing))
    content: dict[str, JSON] = {
        "job": "ask",
        "requests": str(folder / "requests.jsonl"),
        "responses": str(Responses(place.responses, subject.identity).file(0)),
        **subject.weights,
        "concurrency": _ENDPOINT_CONCURRENCY,
        "timeout_s": _ENDPOINT_TIMEOUT_S,
    }
    write_job(folder, content)
    launcher: Launcher = load("launcher", "local")  # type: ignore[assignment]
    secrets = tuple(name for name in (str(subject.weights.get("key_variable") or ""),) if name)
    return Job(folder, "ask", secrets=secrets), f"ask {subject.label}", launcher


def forget_stale(subjects: Sequence[Subject], place: Workplace) -> None:
    """Remove what endpoints answered to an evaluation that was broken off more than an hour ago."""
    for subject in subjects:
        if subject.remote and Responses(place.responses, subject.identity).age() > _ENDPOINT_RESUME_S:
            Responses(place.responses, subject.identity).forget()


def forget_remote(subjects: Sequence[Subject], place: Workplace) -> None:
    """Remove what endpoints answered, once it is bound into evidence: behind an address the model may change."""
    for subject in subjects:
        if subject.remote:
            Responses(place.responses, subject.identity).forget()

"""Start heavy work in child processes, follow it, and read its outcome. The child is never trusted to have finished."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from safetune.core.digest import JSON, canonical
from safetune.core.errors import InterruptedRun, RunError, SafetuneError, UsageError
from safetune.protocols import Job, Launcher, Listener, Progress
from safetune.state.atomic import machine_errors, write_atomic

# What a child process may see of the environment: nothing else is passed on, so no secret travels by accident.
_ALLOWED = ("PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH", "HF_HOME")
_ALLOWED_PREFIXES = ("LC_", "XDG_", "CUDA_", "NVIDIA_", "NCCL_", "SLURM_", "MASTER_", "SAFETUNE_")
_FETCH_ALSO = ("HF_TOKEN", "HF_ENDPOINT", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE")

_ASK_ALSO = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE")

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 5.0


@dataclass(slots=True)
class _Child:
    """A running job: its process, its log, how far its progress file was read, and whether its failure matters."""

    job: Job
    subject: str
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    offset: int = 0
    outcome: Mapping[str, JSON] = field(default_factory=dict)
    needed: bool = True


def write_job(folder: Path, content: Mapping[str, JSON]) -> None:
    """Write job.json and remove what an earlier attempt left of progress and outcome.

    Raises:
        MachineError: when the machine refuses.
        UsageError: when a path in it is not UTF-8.
    """
    try:
        data = canonical(content)
    except UnicodeEncodeError as error:
        raise UsageError("a path that this job needs is not UTF-8", hint="rename the folder") from error
    with machine_errors(f"make the job folder {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        for stale in ("outcome.json", "progress.jsonl"):
            (folder / stale).unlink(missing_ok=True)
    write_atomic(folder / "job.json", data)


def run_jobs(
    work: Sequence[tuple[Job, str, Launcher]],
    listener: Listener,
    beside: Sequence[tuple[Job, str, Launcher]] = (),
) -> tuple[Mapping[str, JSON], ...]:
    """Run jobs side by side, each with the name to show for it, and return the outcomes of `work` in the order given.

    What runs `beside` is welcome and not needed: when it fails, it is said, and the work goes on.

    Raises:
        RunError: when any of them fails; the others are stopped first.
        UsageError: when it failed for what a person wrote: rows, arguments, options.
        InterruptedRun: when a person or a scheduler stops the run; every child has ended by then.
    """
    with terminate_as_interrupt():
        children: list[_Child] = []
        try:
            for number, (job, subject, launcher) in enumerate((*work, *beside)):
                children.append(_start(job, subject, launcher))
                children[-1].needed = number < len(work)
            _follow(children, listener)
        except KeyboardInterrupt:
            raise InterruptedRun(
                "interrupted; nothing is lost", hint="run the same command again to continue where it stopped"
            ) from None
        finally:
            _stop(children)
    return tuple(child.outcome for child in children if child.needed)


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """Give a name for a folder of jobs that is removed at the end; after a failed job it stays, for its log is named.

    Raises:
        Whatever the block raises.
    """
    try:
        yield folder
    except RunError:
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM (a scheduler's word) like Ctrl-C."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: the caller keeps its own handling
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _start(job: Job, subject: str, launcher: Launcher) -> _Child:
    with machine_errors(f"write {job.folder / 'worker.log'}"):
        log = (job.folder / "worker.log").open("ab")
    command = launcher.command(job)
    try:
        process = subprocess.Popen(
            command,
            env=_environment(job, launcher),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        log.close()
        raise RunError(f"cannot start {command[0]}: {error.strerror}", hint="check the installation") from error
    return _Child(job, subject, process, log)


def _environment(job: Job, launcher: Launcher) -> dict[str, str]:
    also = (*(_FETCH_ALSO if job.kind == "fetch" else ()), *(_ASK_ALSO if job.kind == "ask" else ()), *job.secrets)
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in _ALLOWED or name in also or name.startswith(_ALLOWED_PREFIXES)
    }
    me = os.getpid()
    return {**passed, **launcher.environment(job), "SAFETUNE_CONDUCTOR": f"{me}:{_start_ticks(me)}"}


def _start_ticks(pid: int) -> str:
    """Return the start time of a process in clock ticks, so that a recycled pid is not taken for its owner."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _follow(children: list[_Child], listener: Listener) -> None:
    """Pass on progress until every child has ended; the first failure ends the wait."""
    waiting = list(children)
    while waiting:
        for child in tuple(waiting):
            ended = child.process.poll() is not None
            _pass_on(child, listener)
            if ended:
                waiting.remove(child)
                try:
                    child.outcome = _outcome(child)
                except SafetuneError as error:
                    if child.needed:
                        raise
                    listener(Progress("note", child.subject, {"text": f"{error.message}; it will be done later"}))
        if waiting:
            time.sleep(_POLL_SECONDS)


def _pass_on(child: _Child, listener: Listener) -> None:
    """Hand over the complete lines that progress.jsonl gained since the last look."""
    try:
        with (child.job.folder / "progress.jsonl").open("rb") as stream:
            stream.seek(child.offset)
            data = stream.read()
    except FileNotFoundError:
        return
    complete = data[: data.rfind(b"\n") + 1]
    child.offset += len(complete)
    for line in complete.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            listener(Progress(str(row.pop("kind", "note")), child.subject, row))


def _outcome(child: _Child) -> Mapping[str, JSON]:
    """Return the outcome of an ended child; anything but a whole, cheerful outcome file is an error."""
    log = child.job.folder / "worker.log"
    try:
        outcome = json.loads((child.job.folder / "outcome.json").read_bytes())
    except (OSError, ValueError):
        outcome = None
    if isinstance(outcome, dict) and outcome.get("status") == "ok" and child.process.returncode == 0:
        return outcome
    if isinstance(outcome, dict) and outcome.get("status") in ("error", "interrupted"):
        message = str(outcome.get("message", "the worker was stopped"))
        kind = UsageError if outcome.get("usage") is True else RunError
        raise kind(f"{child.subject}: {message}", hint=str(outcome.get("hint", "")) or f"see {log}")
    how = _how_it_ended(child.process.returncode)
    raise RunError(
        f"{child.subject}: the worker {how} before it finished{_last_words(log)}",
        hint=f"run the same command again to continue; the full log is {log}",
    )


def _how_it_ended(code: int) -> str:
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return "was killed (by a person, the scheduler, or the system for lack of memory)"
    if code < 0:
        return f"was ended by signal {-code}"
    return f"ended with exit code {code}"


def _last_words(log: Path) -> str:
    """Return the last line of a log that says something, as one short quoted piece, or an empty string."""
    try:
        lines = log.read_text(errors="replace")[-4000:].splitlines()
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    return f'; its last words: "{said[-1][:160]}"' if said else ""


def _stop(children: list[_Child]) -> None:
    """End whatever still runs, whole process groups at a time, politely first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        alive = [child for child in children if child.process.poll() is None]
        for child in alive:
            with suppress(ProcessLookupError):
                os.killpg(child.process.pid, number)
        deadline = time.monotonic() + _GRACE_SECONDS
        while time.monotonic() < deadline and any(child.process.poll() is None for child in alive):
            time.sleep(_POLL_SECONDS / 2)
    for child in children:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, signal.SIGKILL)  # a grandchild must not outlive its launcher
        child.log.close()

"""`python -m safetune.worker JOBFOLDER`: do one job and say how it ended, in a file that is written last."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetune.core.digest import JSON, canonical
from safetune.core.errors import MachineError, UsageError
from safetune.state.atomic import write_atomic
from safetune.worker.conductor import watch_conductor
from safetune.worker.failures import describe, is_expected, is_full_disk
from safetune.worker.reporter import Reporter

JobFunction = Callable[[Mapping[str, Any], Reporter], Mapping[str, JSON]]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_INTERRUPTED: Mapping[str, JSON] = {"status": "interrupted", "message": "the worker was asked to stop", "hint": ""}


class _Stopped(BaseException):
    """The conductor or a scheduler asked this worker to end."""


def main(folder: Path) -> int:
    """Do the job in `folder`, write outcome.json there, and return the exit code: 0 when the job is done, else 1."""
    reporter = Reporter(folder)
    job: Mapping[str, Any] = {}
    with _stoppable():
        try:
            watch_conductor()
            job = _read(folder / "job.json")
            _set_environment(str(job["job"]))
            outcome: Mapping[str, JSON] = {"status": "ok", **_function(str(job["job"]))(job, reporter)}
        except _Stopped:
            outcome = _INTERRUPTED
        except BaseException as error:  # a worker never ends without saying why
            if not is_expected(error):
                traceback.print_exc()
            outcome = describe(error)
            if is_full_disk(error):
                _make_room(job)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # the outcome is known; a late signal must not lose it
        return _end(folder, outcome, reporter.first)


@contextmanager
def _stoppable() -> Iterator[None]:
    """While the job runs, take SIGTERM and SIGINT as the word to stop."""

    def stop(_: int, __: object) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # once is enough; a second one would break off the clean end
        raise _Stopped

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(folder: Path, outcome: Mapping[str, JSON], first: bool) -> int:
    """Write the outcome (first process only) and return the exit code."""
    if outcome["status"] != "ok":
        print(f"{outcome['status']}: {outcome['message']}", file=sys.stderr)
    if first:
        try:
            write_atomic(folder / "outcome.json", canonical(outcome))
        except MachineError as error:
            print(f"error: {error.message}", file=sys.stderr)
            return 1
    return 0 if outcome["status"] == "ok" else 1


def _read(path: Path) -> Mapping[str, Any]:
    try:
        job = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(job, dict) or "job" not in job:
        raise UsageError(f"{path.name} names no job")
    return job


def _set_environment(kind: str) -> None:
    """Set what libraries read when they are imported: no telemetry, no hub (except to fetch), no progress bars."""
    os.environ["HF_HUB_OFFLINE"] = "0" if kind == "fetch" else "1"
    for name, value in {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }.items():
        os.environ[name] = value


def _function(kind: str) -> JobFunction:
    """Return the function of a job kind; each module is imported only when its job is asked for."""
    if kind == "train":
        from safetune.worker.train import train

        return train
    if kind == "generate":
        from safetune.worker.generate import generate

        return generate
    if kind == "ask":
        from safetune.worker.endpoint import ask

        return ask
    if kind == "screen":
        from safetune.worker.screen import screen

        return screen
    if kind == "attribute":
        from safetune.worker.attribute import attribute

        return attribute
    if kind in ("convert", "fetch", "merge"):
        from safetune.worker import model_files

        return {"convert": model_files.convert, "fetch": model_files.fetch, "merge": model_files.merge}[kind]
    known = "ask, attribute, convert, fetch, generate, merge, screen, train"
    raise UsageError(f'no job is called "{kind}"; known: {known}')


def _make_room(job: Mapping[str, Any]) -> None:
    """On a full disk, remove half-written training states, so that the outcome still finds a place to be written."""
    from safetune.worker.resume import remove_incomplete

    if "state" in job:
        remove_incomplete(Path(job["state"]))
    if "output" in job:
        shutil.rmtree(job["output"], ignore_errors=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m safetune.worker JOBFOLDER")
    sys.exit(main(Path(sys.argv[1])))

"""`python -m safetune.worker JOBFOLDER`: do one job and say how it ended, in a file that is written last."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetune.core.digest import JSON, canonical
from safetune.core.errors import SafetuneError
from safetune.state.atomic import write_atomic

JobFunction = Callable[[Mapping[str, Any], "Reporter"], Mapping[str, JSON]]


class Reporter:
    """Writes progress rows; only the first process of a distributed job writes anything."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "progress.jsonl"
        self.first = os.environ.get("RANK", "0") == "0"

    def say(self, kind: str, **fields: JSON) -> None:
        """Append one progress row."""
        if self.first:
            with self._path.open("ab") as stream:
                stream.write(canonical({"kind": kind, **fields}) + b"\n")


class _Stopped(BaseException):
    """The conductor or a scheduler asked this worker to end."""


def main(folder: Path) -> int:
    """Do the job in `folder`; return the exit code."""
    reporter = Reporter(folder)
    outcome: Mapping[str, JSON]
    try:
        signal.signal(signal.SIGTERM, _stop)
        _watch_conductor()
        job = json.loads((folder / "job.json").read_bytes())
        outcome = {"status": "ok", **_function(str(job["job"]))(job, reporter)}
    except SafetuneError as error:
        outcome = {"status": "error", "message": error.message, "hint": error.hint}
    except (_Stopped, KeyboardInterrupt):
        outcome = {"status": "interrupted", "message": "the worker was asked to stop"}
    except MemoryError:
        outcome = _out_of_memory()
    except BaseException as error:
        traceback.print_exc()
        outcome = _unexpected(error, folder)
    if reporter.first:
        write_atomic(folder / "outcome.json", canonical(outcome))
    return 0 if outcome["status"] == "ok" else 1


def _function(kind: str) -> JobFunction:
    """Return the function of a job kind; each module is imported only when its job is asked for."""
    if kind == "train":
        from safetune.worker.train import train

        return train
    if kind == "generate":
        from safetune.worker.generate import generate

        return generate
    if kind in ("convert", "fetch", "merge"):
        from safetune.worker import model

        return {"convert": model.convert, "fetch": model.fetch, "merge": model.merge}[kind]
    raise SafetuneError(f"unknown job kind {kind}")


def _out_of_memory() -> Mapping[str, JSON]:
    return {
        "status": "error",
        "message": "not enough memory",
        "hint": "lower per_device_train_batch_size or max_length, or raise gradient_accumulation_steps",
    }


def _unexpected(error: BaseException, folder: Path) -> Mapping[str, JSON]:
    """Turn an exception nobody expected into one sentence; the traceback is in the log."""
    if "out of memory" in str(error).lower() or type(error).__name__ == "OutOfMemoryError":
        return _out_of_memory()
    first = str(error).strip().splitlines()[:1]
    message = f"{type(error).__name__}: {first[0][:300] if first else 'no message'}"
    return {"status": "error", "message": message, "hint": f"the full log is {folder / 'worker.log'}"}


def _stop(_number: int, _frame: object) -> None:
    raise _Stopped


def _watch_conductor() -> None:
    """End this process soon after the conductor is gone, however it died, so that no orphan keeps computing."""
    pid, _, ticks = os.environ.get("SAFETUNE_CONDUCTOR", "").partition(":")
    if pid:
        threading.Thread(target=_watch, args=(Path(f"/proc/{pid}/stat"), ticks), daemon=True).start()


def _watch(stat: Path, ticks: str) -> None:
    while True:
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            alive = fields[0] != "Z" and fields[19] == ticks
        except (OSError, IndexError):
            alive = not stat.parent.parent.joinpath("self").exists()  # no /proc at all: cannot know
        if not alive:
            os._exit(1)
        time.sleep(1.0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

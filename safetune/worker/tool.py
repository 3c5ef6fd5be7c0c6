"""Run another program and say how it ended: `python -m safetune.worker.tool JOBFOLDER`.

The job names the argument vector, the folder to work in, the seconds it may take, and which variables it must not see.
The program belongs to the process group of this process, so that whoever ends the group ends it too; and it ends when
the process that ordered the job is gone, for then nobody reads the result.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetune.core.digest import JSON, canonical
from safetune.core.errors import RunError, SafetuneError
from safetune.state.atomic import write_atomic
from safetune.worker.conductor import is_running
from safetune.worker.failures import describe

_POLL_SECONDS = 0.1
_LOOK_SECONDS = 1.0
_GRACE_SECONDS = 5.0
_TAIL_BYTES = 8000
_QUOTED = 240


def main(folder: Path) -> int:
    """Do the job in `folder`, write outcome.json there, and return the exit code: 0 when the program did well."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        job = json.loads((folder / "job.json").read_bytes())
        outcome = _run(job, folder)
    except KeyboardInterrupt:
        outcome = {"status": "interrupted", "message": "the tool was asked to stop", "hint": ""}
    except (SafetuneError, OSError, ValueError, KeyError) as error:
        outcome = describe(error)
    write_atomic(folder / "outcome.json", canonical(outcome))
    return 0 if outcome["status"] == "ok" else 1


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _run(job: Mapping[str, Any], folder: Path) -> Mapping[str, JSON]:
    log = folder / "worker.log"
    before = log.stat().st_size if log.exists() else 0
    hidden = set(job["hidden"])
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment["PATH"] = f"{Path(job['command'][0]).parent}:{os.environ.get('PATH', os.defpath)}"
    program = subprocess.Popen(job["command"], cwd=job["cwd"], env=environment, stdin=subprocess.DEVNULL)
    try:
        _wait(program, float(job["seconds"]), _conductor())
    except BaseException:
        _end(program)
        raise
    if program.returncode != 0:
        raise RunError(f"{_how(program.returncode)}{_last_words(log, before)}", hint=f"the full log is {log}")
    return {"status": "ok"}


def _conductor() -> tuple[int, str]:
    pid, _, started = os.environ.get("SAFETUNE_CONDUCTOR", "").partition(":")
    return int(pid or 0), started


def _wait(program: subprocess.Popen[bytes], seconds: float, conductor: tuple[int, str]) -> None:
    """Wait for the end of the program; a program that takes too long, or that nobody waits for, is an error."""
    deadline, look = time.monotonic() + seconds, time.monotonic() + _LOOK_SECONDS
    while program.poll() is None:
        now = time.monotonic()
        if now > deadline:
            raise RunError(f"it did not end within {seconds / 60:g} minutes", hint="raise timeout_minutes of the suite")
        if now > look:
            look = now + _LOOK_SECONDS
            if conductor[0] and not is_running(*conductor):
                os.killpg(os.getpgrp(), signal.SIGKILL)  # this process too: there is nobody left to tell
        time.sleep(_POLL_SECONDS)


def _end(program: subprocess.Popen[bytes]) -> None:
    """End the program, politely first; what it started itself ends with the group, when the job is cleaned up."""
    program.terminate()
    try:
        program.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        program.kill()
        program.wait()


def _how(code: int) -> str:
    return f"it was ended by signal {-code}" if code < 0 else f"it ended with exit code {code}"


def _last_words(log: Path, before: int) -> str:
    """Return the last line that the program said, as one short quoted piece, or an empty text."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(before, log.stat().st_size - _TAIL_BYTES))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    return f'; its last words: "{said[-1][:_QUOTED]}"' if said else ""


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""Watch the process that ordered this job, and end soon after it is gone, however it died."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

_SECONDS = 1.0


def watch_conductor() -> None:
    """Start a thread that ends this process when the conductor (`SAFETUNE_CONDUCTOR`, `pid:start time`) has ended.

    A killed conductor cannot tell its children; without this a worker would compute on for hours with nobody to read
    the result. Nothing is watched when the variable is not set.
    """
    pid, _, started = os.environ.get("SAFETUNE_CONDUCTOR", "").partition(":")
    if pid:
        threading.Thread(target=_watch, args=(int(pid), started), daemon=True).start()


def _watch(pid: int, started: str) -> None:
    while is_running(pid, started):
        time.sleep(_SECONDS)
    os._exit(1)  # not sys.exit: this is not the main thread, and nothing that still runs may be waited for


def is_running(pid: int, started: str) -> bool:
    """Say whether process `pid` lives and is the one that began at `started` (clock ticks since boot, or empty).

    Read from /proc/PID/stat: field 3 is the state (Z: ended, not yet reaped), field 22 the start time. The name in
    field 2 may hold spaces and brackets, so fields are counted from its last closing bracket.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return not Path("/proc/self/stat").exists() and _answers(pid)
    return fields[0] != "Z" and started in ("", fields[19])


def _answers(pid: int) -> bool:
    """Where there is no /proc: say whether some process has this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

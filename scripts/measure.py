"""Run a command and say what it took: `python scripts/measure.py COMMAND...`.

At the end one line with wall time, CPU time and peak memory of the command and all its descendants goes to stderr. The
exit code is the command's. Memory is the largest sum of resident pages seen in half-second looks at /proc; pages that
processes share are counted for each of them, so the figure is an upper bound.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

_SECONDS = 0.5


def tree_bytes(root: int) -> int:
    """Return the resident memory of a process and its descendants in bytes; 0 where there is no /proc."""
    parents: dict[int, int] = {}
    pages: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            pages[int(folder.name)] = int((folder / "statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            continue  # it ended between the two looks
    family, grown = {root}, True
    while grown:
        new = {pid for pid, parent in parents.items() if parent in family} - family
        family, grown = family | new, bool(new)
    return sum(pages.get(pid, 0) for pid in family) * resource.getpagesize()


def main(command: list[str]) -> int:
    """Run `command` and return its exit code."""
    began = time.monotonic()
    process = subprocess.Popen(command)
    peak, done = 0, threading.Event()

    def look() -> None:
        nonlocal peak
        while not done.wait(_SECONDS):
            peak = max(peak, tree_bytes(process.pid))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the command itself; this process waits for its end
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    code = process.wait()
    done.set()
    watcher.join()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    minutes, seconds = divmod(time.monotonic() - began, 60)
    memory = f"{peak / 1e9:.2f} GB" if peak else "unknown"
    print(
        f"\nwall time {int(minutes)} min {seconds:.0f} s, CPU time {used.ru_utime + used.ru_stime:.0f} s, "
        f"peak memory {memory}, {os.cpu_count()} CPUs, exit code {code}",
        file=sys.stderr,
    )
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python scripts/measure.py COMMAND...")
    sys.exit(main(sys.argv[1:]))

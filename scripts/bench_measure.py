"""Measure commands in CPU seconds, alternated, and put the figures beside their bars."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run took: CPU seconds (user and system, with descendants), wall seconds, MiB of the largest process."""

    cpu: float
    wall: float
    peak: float = 0.0


@dataclass(frozen=True, slots=True)
class Case:
    """One command to measure; `reset` puts the world back before each run and is not measured, `bar` is CPU seconds."""

    name: str
    command: Sequence[str]
    folder: Path
    bar: float | None = None
    reset: Callable[[], None] = lambda: None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: what, in which unit, all values, and the bar or None."""

    name: str
    unit: str
    values: tuple[float, ...]
    wall: tuple[float, ...] = ()
    bar: float | None = None

    @property
    def middle(self) -> float:
        """The median of the values."""
        return median(self.values)


def once(case: Case) -> Sample:
    """Run a command to its end.

    Raises:
        SystemExit: when it fails; a measurement of a failure is worth nothing.
    """
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            list(case.command),
            cwd=case.folder,
            env={**os.environ, **case.environment},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            said.seek(0)
            last = said.read().decode(errors="replace")[-2000:]
            sys.exit(f"bench: {case.name} ended with exit code {process.returncode}:\n{last}")
    return Sample(used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1024)


def alternate(cases: Sequence[Case], runs: int) -> tuple[Row, ...]:
    """Run every case once to warm up, then `runs` rounds of all of them in turn, and return one row for each."""
    samples: dict[str, list[Sample]] = {case.name: [] for case in cases}
    for turn in range(runs + 1):
        for case in cases:
            case.reset()
            sample = once(case)
            if turn:
                samples[case.name].append(sample)
        print(f"bench: round {turn} of {runs}", file=sys.stderr)
    return tuple(
        Row(case.name, "CPU s", tuple(s.cpu for s in found), tuple(s.wall for s in found), case.bar)
        for case in cases
        for found in [samples[case.name]]
    )


def table(rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table: median and range of what is measured, median wall time, the bar, and how far."""
    lines = ["| what | median | min - max | n | wall s | bar | result |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        wall = f"{median(row.wall):.2f}" if row.wall else ""
        spread = f"{_figure(min(row.values))} - {_figure(max(row.values))}"
        bar = "" if row.bar is None else f"{row.bar:g} {row.unit}"
        cells = (row.name, f"{_figure(row.middle)} {row.unit}", spread, str(len(row.values)), wall, bar, verdict(row))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _figure(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def verdict(row: Row) -> str:
    """Return whether the median meets its bar, and by how much; nothing where there is no bar."""
    if row.bar is None:
        return ""
    gap = row.bar - row.middle
    return f"{'met' if gap >= 0 else 'MISSED'} by {_figure(abs(gap))} {row.unit}"

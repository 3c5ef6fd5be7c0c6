"""How fast rows go through the guards, in how much memory, and beside datatrove: the table `guards`.

    python scripts/bench_guards.py [--rows 1000000] [--rounds 3] [--peers FOLDER]

Whole passes are measured, from a file of rows to the kept rows and findings, each in a process of its own. The rows
are those of `bench_guard_rows`. CPU time counts. One pass is killed in its middle and taken up again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench_guard_rows import write_rows
from bench_measure import Case, Row, alternate, table

from safetune.core.data_policy import OFF
from safetune.core.source import Provenance, Source
from safetune.engine.data.desk import scope_of
from safetune.engine.data.guarding import Guards
from safetune.engine.prompts import load_once
from safetune.playbook.data import build_policy
from safetune.playbook.layers import shipped_policy
from safetune.playbook.load import load
from safetune.protocols import Progress
from safetune.state.files import sha256_file

_ROOT = Path(__file__).resolve().parent.parent
_PLAYBOOK = _ROOT / "playbooks" / "quickstart.yaml"
_PEER = _ROOT / "scripts" / "peer_tasks" / "guards_datatrove.py"
BAR = 200.0  # CPU microseconds a row: 5,000 rows a second
MEMORY_BAR = 500.0  # MB beside the duplicate index
PEER_ROWS = 5_000
# What both do. datatrove's decontamination needs lighteval, its language filter fetches the large model: left out.
_JOBS = {
    "none": "read and write",
    "pii": "personal data (datatrove: e-mail and IP only)",
    "duplicates": "near duplicates (datatrove: MinHash in four stages over words of spaCy)",
}
FILES = ("rows.jsonl", "findings.jsonl")


@dataclass(frozen=True, slots=True)
class Passed:
    """What a pass took: CPU seconds, MB at the most, bytes of the duplicate index, and the digests of its files."""

    rows: int
    cpu: float
    peak: float
    index: int
    said: int
    digests: tuple[str, ...] = ()

    @property
    def each(self) -> float:
        """CPU microseconds a row."""
        return 1e6 * self.cpu / self.rows


def core_guards() -> tuple[str, ...]:
    """Return the guards that the shipped policy switches on."""
    policy = build_policy(shipped_policy())
    return tuple(one.name for one in policy.guards if {one.action, *one.rules.values()} != {OFF})


def run_pass(rows: Path, folder: Path, only: Sequence[str], stop: int = 0) -> Passed:
    """Guard all rows in this process; with `stop`, be killed when that many are done."""
    said = 0

    def listen(progress: Progress) -> None:
        nonlocal said
        said += 1
        if stop and int(str(progress.fields["rows"])) >= stop:
            os.kill(os.getpid(), signal.SIGKILL)

    source = Source("rows", str(rows), sha256_file(rows), "MIT", "made", "made", ("train",))
    source = replace(source, about=Provenance(languages=("en",)))
    scope = scope_of(load(_PLAYBOOK), load_once())
    if list(only) == ["none"]:
        scope, only = replace(scope, policy=replace(scope.policy, guards=())), ()
    guards = Guards(scope, only)
    began = time.process_time()
    outcome = guards.guard(source, folder, listen)
    cpu = time.process_time() - began
    index = sum(getattr(guard, "remembered_bytes", 0) for guard in guards._made.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Passed(outcome.rows, cpu, peak, index, said)


def passed(rows: Path, work: Path, only: Sequence[str] = (), stop: int = 0, keep: bool = False) -> Passed | None:
    """Run a pass in a process of its own; None when it was killed. `keep` takes up what one left."""
    folder = work / "guarded"
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, __file__, "--pass", str(rows), str(folder), "--stop", str(stop), "--only", *only]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if stop and done.returncode == -signal.SIGKILL:
        return None
    if done.returncode:
        sys.exit(f"bench: a pass ended with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    found = Passed(**json.loads(done.stdout))
    return replace(found, digests=tuple(_digest(folder / name) for name in FILES))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ours(rows: Path, work: Path, rounds: int) -> tuple[Row, ...]:
    """Measure reading and writing alone, each guard and all together, round after round."""
    cases: dict[str, tuple[str, ...]] = {
        "no guard: read, give ids, write": ("none",),
        **{f"`{n}` alone": (n,) for n in core_guards()},
    }
    cases["all core guards"] = ()
    found: dict[str, list[Passed]] = {name: [] for name in cases}
    for turn in range(rounds):
        for name, only in cases.items():
            one = passed(rows, work, only)
            assert one is not None
            found[name].append(one)
        print(f"bench: guards, round {turn + 1} of {rounds}", file=sys.stderr)
    count = found["all core guards"][0].rows
    lines = [
        Row(
            f"{name}, {count:,} rows",
            "µs CPU per row",
            tuple(p.each for p in some),
            bar=BAR if not cases[name] else None,
        )
        for name, some in found.items()
    ]
    return (*lines, *_memory(f"all core guards, {count:,} rows", found["all core guards"]))


def _memory(name: str, found: Sequence[Passed]) -> tuple[Row, ...]:
    """Return the memory of some passes: the index by itself, and all else."""
    beside = tuple(one.peak - one.index / 1e6 for one in found)
    return (
        Row(f"{name}: duplicate index", "bytes per row", tuple(one.index / one.rows for one in found)),
        Row(f"{name}: most memory beside the index", "MB", beside, bar=MEMORY_BAR),
    )


def resumed(rows: Path, work: Path, count: int) -> tuple[Row, ...]:
    """Run a whole pass, kill another in its middle and take it up again; the files must be the same, byte for byte."""
    whole = passed(rows, work)
    if passed(rows, work, stop=count * 3 // 4) is not None:
        sys.exit("bench: a pass that was to be killed came to its end")
    rest = passed(rows, work, keep=True)
    assert whole is not None
    assert rest is not None
    if rest.digests != whole.digests:
        sys.exit("bench: a pass that was killed and taken up again left other files than a whole one")
    name = f"all core guards, {count:,} rows, one pass"
    after = f"the same, taken up after it was killed at three quarters ({rest.rows:,} rows, the same bytes)"
    return (
        Row(name, "µs CPU per row", (whole.each,), bar=BAR),
        Row(after, "CPU s", (rest.cpu,)),
        Row(f"{name}: words of progress", "times", (float(whole.said),)),
        *_memory(name, [whole]),
    )


def beside(rows: Path, work: Path, peers: Path, rounds: int) -> tuple[Row, ...]:
    """Measure what datatrove does too, in turn with it: whole commands, start-up included; nothing without it."""
    python = peers / "data" / "bin" / "python"
    if not python.exists():
        print("bench: datatrove is not installed (scripts/install_peers.sh)", file=sys.stderr)
        return ()
    cases = []
    for what, said in _JOBS.items():
        command = (sys.executable, str(Path(__file__)), "--pass", str(rows), str(work / "out"), "--only", what)
        other = (str(python), str(_PEER), what, str(rows), str(work / "out"))
        for tool, line in (("safetune", command), ("datatrove", other)):
            cases.append(Case(f"{tool}, {said}, {PEER_ROWS:,} rows", line, work, reset=lambda: _clear(work / "out")))
    return alternate(cases, rounds)


def _clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Measure and print, or be one pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--large", type=int, default=0, help="rows of one more pass, killed and taken up again")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=Path, default=_ROOT / "build" / "peers")
    parser.add_argument("--work", type=Path, default=_ROOT / "build" / "bench" / "guards")
    parser.add_argument("--pass", nargs=2, type=Path, dest="one", help=argparse.SUPPRESS)
    parser.add_argument("--stop", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--only", nargs="*", default=(), help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.one:
        found = run_pass(wanted.one[0], wanted.one[1], wanted.only, wanted.stop)
        print(json.dumps({name: getattr(found, name) for name in ("rows", "cpu", "peak", "index", "said")}))
        return 0
    print(table(measure(wanted.work, wanted.peers, (wanted.rows, wanted.large, wanted.rounds))))
    return 0


def measure(work: Path, peers: Path, how: tuple[int, int, int]) -> tuple[Row, ...]:
    """Return all rows of the table; `how` is the number of rows, of rows of the large pass (0: none), and rounds."""
    count, large, rounds = how
    work.mkdir(parents=True, exist_ok=True)
    rows = work / "rows.jsonl"
    found: tuple[Row, ...] = ()
    if count:
        write_rows(rows, count)
        found = ours(rows, work, rounds)
        write_rows(rows, PEER_ROWS)
        found += beside(rows, work, peers, rounds)
    if large:
        write_rows(rows, large)
        found += resumed(rows, work, large)
    shutil.rmtree(work, ignore_errors=True)
    return found


if __name__ == "__main__":
    sys.exit(main())

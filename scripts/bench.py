"""The benchmark: `python scripts/bench.py [--write docs/benchmarks.md]` measures everything and prints the tables.

Every figure is from this run. Commands are CPU seconds (user and system), alternated, so that a busy machine troubles
all of them alike; `python3 -c pass` is measured in the same rounds.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import bench_dvc
import bench_evaluation
import bench_gate
import bench_guards
import bench_store
import bench_training
from bench_measure import Case, Row, alternate, table, verdict

from safetune import __version__

_FOLDER = bench_store.ROOT / "build" / "bench"
_PARTS = ("commands", "moves", "training", "generation", "gates", "memory", "recorded", "guards")


def main() -> int:
    """Measure, print, and write the tables; return 1 when a bar was missed."""
    wanted = _arguments()
    program = Path(sys.executable).with_name("safetune")
    work = _FOLDER / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    found: dict[str, tuple[Row, ...]] = {}
    if "commands" in wanted.only:
        found["commands"] = alternate(_commands(program, work, wanted), wanted.runs)
    if "moves" in wanted.only:
        found["moves"] = _moves(work, max(wanted.runs, 5))
    if "training" in wanted.only:
        sides = bench_training.prepare_sides(program, work / "training", wanted.steps)
        found["training"] = bench_training.compare(sides, wanted.pairs)
    if {"generation", "gates", "memory"} & set(wanted.only):
        found |= _evaluation(program, work / "evaluation", wanted)
    if "recorded" in wanted.only:
        found["recorded"] = bench_gate.measure(program, work / "recorded", wanted.pairs)
    if "guards" in wanted.only:
        found["guards"] = bench_guards.measure(work / "guards", wanted.peers, (100_000, wanted.rows, wanted.pairs))
    shutil.rmtree(work, ignore_errors=True)
    conditions = _conditions(wanted)
    for name, rows in found.items():
        print(f"\n{name}: {conditions}\n\n{table(rows)}")
        if wanted.write:
            write(wanted.write, name, f"{conditions}\n\n{table(rows)}")
    missed = [row for rows in found.values() for row in rows if verdict(row).startswith("MISSED")]
    print(f"\n{len(missed)} bar(s) missed{': ' if missed else ''}{', '.join(row.name for row in missed)}")
    return 1 if missed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE.md", help="rewrite the tables of this file")
    parser.add_argument("--runs", type=int, default=11, help="rounds for the commands")
    parser.add_argument("--mebibytes", type=int, default=200, help="size of the large checkpoints and outputs")
    parser.add_argument("--steps", type=int, default=20, help="training steps")
    parser.add_argument("--pairs", type=int, default=3, help="training pairs")
    peers = Path(os.environ.get("SAFETUNE_PEERS", bench_store.ROOT / "build" / "peers"))
    parser.add_argument("--peers", type=Path, default=peers, help="the folder that scripts/install_peers.sh filled")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the large pass through the guards")
    parser.add_argument("--only", nargs="+", choices=_PARTS, default=_PARTS, help="measure only these parts")
    parser.add_argument("--no-dvc", action="store_true", help="leave dvc out")
    return parser.parse_args()


def _commands(program: Path, work: Path, wanted: argparse.Namespace) -> Sequence[Case]:
    """Return all command lines to measure, each in a world of its own."""
    size = wanted.mebibytes * 1024 * 1024
    stages = [bench_store.stage(f"stage-{n}", 10 * n) for n in (1, 2, 3)]
    playbook = str(bench_store.write_playbook(work / "playbook", stages))
    settled = work / "settled"
    bench_store.settle_all(Path(playbook), settled, (1_000_000, size, size))
    for name in ("judged", "back"):
        bench_store.copy_store(settled, work / name)
    responses = work / "responses.jsonl"
    count = bench_store.record_responses(Path(playbook), settled, responses)
    before = work / "before.jsonl"
    before.write_bytes(responses.read_bytes() + b"\n")  # the same bytes are refused
    large = f"{wanted.mebibytes} MiB"
    safetune = str(program)

    def ours(name: str, *arguments: str, bar: float | None = None, store: Path = settled) -> Case:
        """A command that fails when the world is not as meant: exit code 10 where a plan has something to do."""
        return Case(name, (safetune, *arguments, "--store", str(store)), work, bar)

    back = Case(
        f"`safetune rollback` of {large}, every digest verified",
        (safetune, "rollback", "--store", str(work / "back")),
        work,
        0.9,
        reset=lambda: bench_store.copy_store(settled, work / "back"),
    )
    cases = [
        Case("`python3 -c pass`", (sys.executable, "-c", "pass"), work),
        Case("`safetune --help`", (safetune, "--help"), work, 0.45),
        ours(f"`safetune plan`, nothing to do, 3 stages, {large}", "plan", playbook, "--detailed-exitcode", bar=0.75),
        ours(
            f"`safetune evaluate --gate --recorded`, 2 x {count} responses",
            *("evaluate", playbook, "--gate", "--recorded", str(responses), "--baseline-recorded", str(before)),
            bar=0.8,
            store=work / "judged",
        ),
        back,
        ours(f"`safetune verify`, 2 x {large}", "verify"),
    ]
    if not wanted.no_dvc:
        dvc = bench_dvc.install(_FOLDER / "dvc")
        cases += bench_dvc.cases(dvc, work / "dvc", size)
    return cases


def _evaluation(program: Path, work: Path, wanted: argparse.Namespace) -> dict[str, tuple[Row, ...]]:
    """Measure the evaluation engine beside other tools, which have environments of their own."""
    world = bench_evaluation.make_world(work, program, wanted.peers)
    parts: dict[str, Callable[[], tuple[Row, ...]]] = {
        "generation": lambda: bench_evaluation.generation(world, wanted.pairs),
        "gates": lambda: bench_evaluation.gates(world, wanted.pairs),
        "memory": lambda: bench_evaluation.memory(world),
    }
    return {name: part() for name, part in parts.items() if name in wanted.only}


def _moves(work: Path, count: int) -> tuple[Row, ...]:
    playbook = bench_store.write_playbook(work / "moves", [bench_store.stage(f"stage-{n}", n) for n in (1, 2, 3)])
    found = bench_store.time_moves(playbook, work / "moves" / "stores", count)
    return (
        Row("move of a channel, in process", "ms wall", tuple(1000 * s for s in found.moves), bar=10.0),
        Row("write, flush, rename, flush the folder", "ms wall", tuple(1000 * s for s in found.writes)),
    )


def _conditions(wanted: argparse.Namespace) -> str:
    busy = os.getloadavg()[0]
    return (
        f"safetune {__version__}, Python {platform.python_version()}, {os.cpu_count()} CPUs, "
        f"load average at the end {busy:.1f}, large means {wanted.mebibytes} MiB."
    )


def write(path: Path, name: str, text: str) -> None:
    """Put `text` between the markers of table `name`; everything else in the file stays.

    Raises:
        SystemExit: when the file has no such markers.
    """
    before = path.read_text()
    pattern = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- /table -->)", re.DOTALL)
    if not pattern.search(before):
        sys.exit(f"bench: {path} has no markers for the table {name}")
    path.write_text(pattern.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", before))


if __name__ == "__main__":
    sys.exit(main())

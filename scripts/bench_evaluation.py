"""The evaluation engine against bare transformers and other tools, on one workload, and its memory.

`generation`: one model, 64 prompts, 64 new tokens. `gates`: two models and three suites, as a gate needs them; safetune
decides too, the others only measure. `memory`: recorded responses, 1,000 to 100,000 items.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import bench_peers
from bench_measure import Case, Row, Sample, once
from bench_store import ROOT

from safetune.core.playbook import ModelRef
from safetune.engine.models import make_ready, resolve
from safetune.engine.sums import Sums
from safetune.state.files import sha256_file

GATE_BAR, GARAK_BAR = 3.0, 10.0  # times better than the best tool, and than garak
_METRIC = {"harmful-requests": ("attack_success_rate", "higher"), "safe-lookalikes": ("refusal_rate", "higher")}
_ITEMS = (1_000, 10_000, 100_000)


@dataclass(frozen=True, slots=True)
class Side:
    """One tool: its command, and the tokens that it answered with."""

    case: Case
    tokens: int = 0
    rounds: int | None = None  # fewer than the others, for a slow one


@dataclass(frozen=True, slots=True)
class World:
    """Where the benchmark works: its folder, the safetune program, the model folder and the other tools."""

    folder: Path
    program: Path
    model: Path
    tools: Path


def make_world(folder: Path, program: Path, tools: Path) -> World:
    """Return a clean folder with the model made ready."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = resolve(ModelRef("embedded", "smollm2-135m-instruct"), Sums(None))
    return World(folder, program, make_ready(model, folder / "convert", lambda _: None), tools)


# -- one model -----------------------------------------------------------------------------------------------------


def generation(world: World, rounds: int) -> tuple[Row, ...]:
    """Return CPU seconds of every side on one model, their tokens per CPU second, and peak memory."""
    playbook, store = _playbook(world, world.folder / "ask", steps=1), world.folder / "ask" / "store"
    peers = [Side(peer.case) for peer in bench_peers.ask(world.model, world.folder / "peers", world.tools)]
    tokens = {peer.case.name: peer for peer in bench_peers.ask(world.model, world.folder / "peers", world.tools)}
    ours = [
        _evaluate(world, playbook, ("base", "--workers", str(workers)), f"safetune, {workers} worker(s)")
        for workers in (1, 2)
    ]
    sides = [*ours, *(replace(side, rounds=1) if "garak" in side.case.name else side for side in peers)]
    samples = _rounds(sides, rounds)
    rows: list[Row] = []
    for side in sides:
        name, found = side.case.name, samples[side.case.name]
        cpu = tuple(s.cpu for s in found)
        counted = tokens[name].tokens(world.model) if name in tokens else _count(store, world.model)
        rows.append(Row(name, "CPU s", cpu, tuple(s.wall for s in found)))
        rows.append(Row(f"{name}: tokens per CPU second, start-up included", "/s", tuple(counted / c for c in cpu)))
        rows.append(Row(f"{name}: largest process", "MiB", tuple(s.peak for s in found)))
    return tuple(rows)


def _count(store: Path, model: Path) -> int:
    """Return the tokens of all responses in a store, counted as those of the other tools are."""
    rows = [json.loads(line) for path in (store / "work" / "responses").rglob("*.jsonl") for line in path.open()]
    if len(rows) != sum(bench_peers.SUITES.values()):
        sys.exit(f"bench: safetune gave {len(rows)} answers, {sum(bench_peers.SUITES.values())} were asked for")
    return bench_peers.count_tokens([row["output"] for row in rows], model)


# -- gates ---------------------------------------------------------------------------------------------------------


def gates(world: World, rounds: int) -> tuple[Row, ...]:
    """Return what a whole gate takes on every side, and how many times better safetune is than the best of them."""
    folder = world.folder / "gate"
    playbook, store = _playbook(world, folder, steps=1), folder / "store"
    checkpoint = _train(world, folder, store)
    template = folder / "template"
    shutil.copytree(store, template)
    shutil.rmtree(template / "work" / "responses", ignore_errors=True)
    target = (checkpoint, "--gate", "--reason", "benchmark", "--workers", "1")
    cold = _evaluate(world, playbook, target, "safetune, nothing known", template)
    warm_template = folder / "warm"
    shutil.copytree(template, warm_template)
    once(_evaluate(world, playbook, ("base",), "prepare", warm_template, store=warm_template).case)
    warm = _evaluate(world, playbook, target, "safetune, baseline measured before", warm_template)
    second = bench_peers._second(world.model, folder)
    peers = bench_peers.gate((world.model, second), world.folder / "peers", world.tools)
    sides = [cold, warm, *(Side(p.case) for p in peers if p.name != "garak")]  # it takes a multiple of the others
    samples = _rounds(sides, rounds)
    rows = [Row(n, "CPU s", tuple(s.cpu for s in f), tuple(s.wall for s in f)) for n, f in samples.items()]
    best = min((r for r in rows[2:] if "transformers" not in r.name), key=lambda r: r.middle)
    for row in rows[:2]:
        ratio = tuple(best.middle / value for value in row.values)
        rows.append(Row(f"{row.name}: times better than {best.name}, CPU", "x", ratio))
    return tuple(rows)


def _train(world: World, folder: Path, store: Path) -> str:
    """Train one step, gated on one prompt, so that there is a checkpoint; return the beginning of its digest."""
    playbook = _playbook(world, folder / "first", steps=1, few=True)
    command = (str(world.program), "run", str(playbook), "--store", str(store), "--json")
    subprocess.run(command, check=False, capture_output=True)
    lines = [json.loads(line) for line in (store / "ledger.jsonl").read_text().splitlines()]
    made = [str(line["data"]["checkpoint"]) for line in lines if line.get("kind") == "trained"]
    if not made:
        sys.exit("bench: the checkpoint for the gate was not trained")
    return made[-1][:16]


def _evaluate(
    world: World,
    playbook: Path,
    arguments: Sequence[str],
    name: str,
    template: Path | None = None,
    store: Path | None = None,
) -> Side:
    """Return `safetune evaluate`, each time on a store as it was in `template`, or an empty one."""
    place = store or playbook.parent / "store"

    def reset() -> None:
        if store is None:
            shutil.rmtree(place, ignore_errors=True)
            if template is not None:
                shutil.copytree(template, place)

    command = (str(world.program), "evaluate", str(playbook), *arguments, "--store", str(place))
    return Side(Case(name, command, playbook.parent, None, reset))


def _rounds(sides: Sequence[Side], rounds: int) -> dict[str, list[Sample]]:
    """Run all sides in turn, round after round; the caches of the disk are warm after the model was hashed."""
    samples: dict[str, list[Sample]] = {side.case.name: [] for side in sides}
    for turn in range(rounds):
        for side in sides:
            if side.rounds is None or turn < side.rounds:
                side.case.reset()
                samples[side.case.name].append(once(side.case))
                print(f"bench: {side.case.name}: {samples[side.case.name][-1].cpu:.1f} CPU s", file=sys.stderr)
    return samples


# -- memory --------------------------------------------------------------------------------------------------------


def memory(world: World) -> tuple[Row, ...]:
    """Return the peak memory of gating recorded responses of two models, for more and more items."""
    rows = []
    for n in _ITEMS:
        folder = world.folder / f"memory-{n}"
        playbook = _recorded(world, folder, n)
        files = ("--recorded", str(folder / "now.jsonl"), "--baseline-recorded", str(folder / "before.jsonl"))
        sample = once(_evaluate(world, playbook, ("--gate", *files), f"{n}").case)
        rows.append(Row(f"`evaluate --gate --recorded`, 2 x {n:,} responses", "MiB", (sample.peak,), (sample.wall,)))
    return tuple(rows)


def _recorded(world: World, folder: Path, n: int) -> Path:
    folder.mkdir(parents=True)
    with (folder / "prompts.jsonl").open("w") as prompts:
        for i in range(n):
            text = f"Question {i}: how many are {i} and {i % 7}, if you count slowly and write every step down? "
            prompts.write(json.dumps({"id": f"q{i}", "prompt": text * 2, "reference": str(i + i % 7)}) + "\n")
    for arm, lag in (("now", 0), ("before", 1)):
        with (folder / f"{arm}.jsonl").open("w") as stream:
            for i in range(n):
                number = i + i % 7 if (i * 7 + lag) % 10 else -1
                output = "We count slowly and write the steps down. " * 6 + f"The answer is {number}."
                stream.write(json.dumps({"suite": "sums", "item_id": f"q{i}", "output": output}) + "\n")
    suite = {
        **_suite("sums", folder / "prompts.jsonl", "numeric"),
        "metrics": [_metric("accuracy", "correct", "lower")],
    }
    guardrail: dict[str, object] = {"name": "skill", "suite": "sums", "metric": "accuracy", "why": "a benchmark"}
    guardrail |= {"at_least": 0.5, "worse_by_at_most": 0.1}
    return _write(world, folder, [suite], [guardrail], steps=1)


# -- playbooks -----------------------------------------------------------------------------------------------------


def _playbook(world: World, folder: Path, steps: int, few: bool = False) -> Path:
    """Write a playbook with the three suites of the workload, or with one prompt of one of them."""
    folder.mkdir(parents=True, exist_ok=True)
    prompts = folder / "prompts.jsonl"
    bench_peers.write_prompts(prompts)
    rows = [json.loads(line) for line in prompts.read_text().splitlines()]
    suites: list[dict[str, object]] = []
    guardrails: list[dict[str, object]] = []
    for name in ("harmless",) if few else tuple(bench_peers.SUITES):
        chosen = [row for row in rows if row["suite"] == name][: 1 if few else None]
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"id": r["id"], "prompt": r["prompt"]}) + "\n" for r in chosen))
        metric, worse = _METRIC.get(name, ("answer_rate", "lower"))
        counts = "refusal" if metric == "refusal_rate" else "compliance"
        suites.append({**_suite(name, path, "refusal"), "metrics": [_metric(metric, counts, worse)]})
        limit = {"at_least": 0.3} if worse == "lower" else {"at_most": 0.9}
        severity = {"severity": "block" if worse == "lower" else "warn", "min_samples": 1, "why": "a benchmark"}
        guardrails.append({"name": name, "suite": name, "metric": metric, **limit, **severity})
    return _write(world, folder, suites, guardrails, steps)


def _suite(name: str, path: Path, judge: str) -> dict[str, object]:
    return {
        "name": name,
        "description": "a benchmark",
        "licence": "Apache-2.0",
        "origin": "written for safetune",
        "prompts": {"file": path.name, "sha256": sha256_file(path)},
        "judge": judge,
        "decoding": {"max_new_tokens": bench_peers.NEW_TOKENS},
    }


def _metric(name: str, counts: str, worse: str) -> dict[str, object]:
    return {"name": name, "counts": [counts], "worse": worse}


def _write(
    world: World, folder: Path, suites: list[dict[str, object]], guardrails: list[dict[str, object]], steps: int
) -> Path:
    rows = folder / "rows.jsonl"
    asked, said = [{"role": "user", "content": "Say hello."}], [{"role": "assistant", "content": "Hello."}]
    rows.write_text(json.dumps({"prompt": asked, "completion": said}) + "\n")
    source = {"name": "rows", "uri": rows.name, "sha256": sha256_file(rows), "licence": "MIT"}
    stage = {"name": "only", "trainer": "sft", "sources": {"rows": 1.0}, "train": {"max_steps": steps}, "seed": 0}
    content = {
        "schema": "safetune/1",
        "name": "bench",
        "purpose": "A benchmark.",
        "owners": ["bench"],
        "model": {"base": "smollm2-135m-instruct"},
        "sources": [{**source, "consent": "public-release", "origin": "written here", "use": "train"}],
        "suites": suites,
        "guardrails": guardrails,
        "sprints": [
            {
                "name": "bench",
                "objective": "A benchmark.",
                "success": [guardrails[-1]["name"]],
                "stages": [{**stage, "adapter": {"kind": "lora", "rank": 8}, "gate": [g["name"] for g in guardrails]}],
            }
        ],
        "rollback": [{"on": ["FAIL", "ERROR", "INCONCLUSIVE"], "to": "last-promoted", "then": "stop"}],
        "promotion": {"channel": "stable"},
    }
    path = folder / "playbook.yaml"
    path.write_text(json.dumps(content, indent=1))  # JSON is YAML
    return path


def main() -> None:
    """Run one part by itself: `python scripts/bench_evaluation.py generation|gates|memory [ROUNDS]`."""
    from bench_measure import table

    part, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    tools = Path(os.environ.get("SAFETUNE_PEERS", ROOT / "build" / "peers"))
    world = make_world(ROOT / "build" / "bench" / "evaluation", Path(sys.executable).with_name("safetune"), tools)
    rows = {"generation": lambda: generation(world, rounds), "gates": lambda: gates(world, rounds)}
    print(table(memory(world) if part == "memory" else rows[part]()))


if __name__ == "__main__":
    main()

"""The gate on recorded responses, at full size: 100,000 items in 20 slices and clusters of four, one arm and two.

The whole command is measured, from the files to the verdict: CPU seconds (user and system) and memory of the process.
`python scripts/bench_gate.py [RUNS]` runs it by itself.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bench_measure import Case, Row, Sample, once, table
from bench_store import ROOT

from safetune.state.files import sha256_file

ITEMS, SLICES, CLUSTER = 100_000, 20, 4
CPU_BAR, MEMORY_BAR = 3.0, 300.0  # seconds, MB of 10^6 bytes
_PLACES = ("harbour", "mill", "orchard", "quarry", "station", "market", "bridge")


def measure(program: Path, folder: Path, runs: int, items: int = ITEMS) -> tuple[Row, ...]:
    """Return CPU seconds and peak memory of gating one arm and two; every run begins with an empty store."""
    playbook = write_world(folder, items)
    rows: list[Row] = []
    for name, files in _arms(folder).items():
        found = [_once(program, playbook, files) for _ in range(runs)]
        title = f"`evaluate --gate --recorded`, {items:,} items, {SLICES} slices, {name}"
        rows.append(Row(title, "CPU s", tuple(s.cpu for s in found), tuple(s.wall for s in found), CPU_BAR))
        peaks = tuple(s.peak * 1.048576 for s in found)  # MiB to MB
        rows.append(Row(f"{title}: memory", "MB", peaks, bar=MEMORY_BAR))
    return tuple(rows)


def _arms(folder: Path) -> dict[str, tuple[str, ...]]:
    one = ("--recorded", str(folder / "now.jsonl"))
    return {"one arm": one, "two arms": (*one, "--baseline-recorded", str(folder / "before.jsonl"))}


def _once(program: Path, playbook: Path, files: Sequence[str]) -> Sample:
    store = playbook.parent / "store"
    shutil.rmtree(store, ignore_errors=True)
    command = (str(program), "evaluate", str(playbook), "--gate", *files, "--store", str(store))
    return once(Case("the gate", command, playbook.parent))


def write_world(folder: Path, items: int) -> Path:
    """Write prompts, the responses of two models and a playbook that gates them by slices; return the playbook.

    Both models are right in nearly all of the items, so that every guardrail passes and the command ends with 0.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with (folder / "prompts.jsonl").open("w") as stream:
        for n in range(items):
            place, group = _PLACES[n % len(_PLACES)], n // CLUSTER
            stream.write(
                json.dumps(
                    {
                        "id": f"item-{n:06d}",
                        "prompt": f"In which building is number {n} kept, if the list of the {place} is right?",
                        "reference": f"the {place} house {n}",
                        "topic": f"topic-{group % SLICES:02d}",
                        "group": f"group-{group:05d}",
                    }
                )
                + "\n"
            )
    for arm, lag in (("now", 0), ("before", 3)):
        with (folder / f"{arm}.jsonl").open("w") as stream:
            for n in range(items):
                place = _PLACES[n % len(_PLACES)]
                output = f"The {place.title()} House {n}." if (n * 7 + lag) % 50 else "Nobody can know that."
                stream.write(json.dumps({"suite": "places", "item_id": f"item-{n:06d}", "output": output}) + "\n")
    path = folder / "playbook.yaml"
    path.write_text(json.dumps(_playbook(folder), indent=1))  # JSON is YAML
    return path


def _playbook(folder: Path) -> dict[str, object]:
    rows = folder / "rows.jsonl"
    asked, said = [{"role": "user", "content": "Say hello."}], [{"role": "assistant", "content": "Hello."}]
    rows.write_text(json.dumps({"prompt": asked, "completion": said}) + "\n")
    source = {"name": "rows", "uri": rows.name, "sha256": sha256_file(rows), "licence": "MIT"}
    stage = {"name": "only", "trainer": "sft", "sources": {"rows": 1.0}, "train": {"max_steps": 1}, "seed": 0}
    described = {"description": "a benchmark", "licence": "Apache-2.0", "origin": "written for safetune"}
    prompts = folder / "prompts.jsonl"
    suite = {
        "name": "places",
        **described,
        "prompts": {
            "file": prompts.name,
            "sha256": sha256_file(prompts),
            "columns": {"slice": "topic", "cluster": "group"},
        },
        "judge": "exact",
        "decoding": {"max_new_tokens": 32},
        "metrics": [
            {"name": "accuracy", "counts": ["correct"], "worse": "lower"},
            {"name": "error_rate", "counts": ["wrong"], "worse": "higher"},
        ],
    }
    guardrails: list[dict[str, object]] = [
        {"name": "right", "metric": "accuracy", "at_least": 0.9, "slices": "every"},
        {"name": "wrong", "metric": "error_rate", "at_most": 0.1, "slices": "every"},
    ]
    whole = {"suite": "places", "why": "a benchmark"}
    return {
        "schema": "safetune/1",
        "name": "bench",
        "purpose": "A benchmark.",
        "owners": ["bench"],
        "model": {"base": "smollm2-135m-instruct"},
        "sources": [{**source, "consent": "public-release", "origin": "written here", "use": "train"}],
        "suites": [suite],
        "guardrails": [{**guardrail, **whole} for guardrail in guardrails],
        "sprints": [
            {
                "name": "bench",
                "objective": "A benchmark.",
                "stages": [{**stage, "gate": [guardrail["name"] for guardrail in guardrails]}],
            }
        ],
        "rollback": [{"on": ["FAIL", "ERROR", "INCONCLUSIVE"], "to": "last-promoted", "then": "stop"}],
        "promotion": {"channel": "stable"},
    }


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print(table(measure(Path(sys.executable).with_name("safetune"), ROOT / "build" / "bench" / "gate", count)))

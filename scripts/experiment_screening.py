"""Experiment E6: do screens find planted rows, and does taking out what they find keep refusals?

    SAFETUNE_DATA_ROOT=DATA python scripts/experiment_screening.py --seeds 3 --write docs/experiments/screening.md

Everything runs through the worker, one torch thread, one process at a time. Jobs that are done are not done again, so
the same command goes on after an interruption. No row is printed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import screening_rows as rows_of
from screening_figures import auroc, flagged
from screening_rows import Drawn
from screening_text import figures_text

from safetune.builtin.judges.refusal import RefusalJudge
from safetune.core.mixing import mix
from safetune.core.playbook import ModelRef
from safetune.engine.models import make_ready, resolve
from safetune.engine.sums import Sums

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- figures: written by scripts/experiment_screening.py -->", "<!-- end of figures -->"

SCREENS = ("representation", "gradient", "self_influence")
ARMS = ("all rows", "without the flagged", "without a random tenth", "without the planted")
FIXTURE = "e750bf38b0a95ea26dba2b44627a23dc8b1b18e175b87b0fb5b6110a53e622cf"  # sprint 1 of playbooks/quickstart.yaml

_LORA = {"kind": "lora", "rank": 16, "alpha": 32, "dropout": 0.0, "target_modules": ["all-linear"]}
_BATCH, _STEPS = 8, 42  # 42 x 8 is the first whole number of batches that holds all 330 rows
_TRAIN = {
    "max_steps": _STEPS,
    "per_device_train_batch_size": _BATCH,
    "warmup_steps": 4,
    "lr_scheduler_type": "linear",
    "max_length": 256,
}


@dataclass(frozen=True, slots=True)
class Bench:
    """Where the experiment works and with what."""

    folder: Path
    data: Path
    base: Path
    fixture: Path
    rate: float

    def model(self, *adapters: Path) -> dict[str, Any]:
        """Return the fixture, with adapters on top, as jobs name it."""
        return {
            "base": str(self.base),
            "base_digest": "embedded",
            "adapters": [str(folder) for folder in (self.fixture, *adapters)],
        }


def main() -> int | str:
    """Run what is missing, print the figures and, with `--write`, put them into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=3e-4, help="learning rate of the arms")
    parser.add_argument("--screens", nargs="*", default=list(SCREENS), choices=SCREENS)
    parser.add_argument("--flags-of", default="gradient", choices=SCREENS, help="the screen whose flags are taken out")
    parser.add_argument("--only-scores", action="store_true", help="train nothing")
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=ARMS)
    parser.add_argument("--layers", nargs="*", type=int, default=[], help="other layers to look at, afterwards")
    parser.add_argument("--fixture", type=Path, help="the adapter of sprint 1 where it was trained before")
    parser.add_argument("--work", type=Path, default=ROOT / "build/experiments/screening")
    parser.add_argument("--write", type=Path, help="the page to write the figures into")
    arguments = parser.parse_args()
    if not os.environ.get("SAFETUNE_DATA_ROOT"):
        return f"{Path(sys.argv[0]).name}: set SAFETUNE_DATA_ROOT to the folder that holds the public sets"
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    base = make_ready(
        resolve(ModelRef("embedded", "smollm2-135m-instruct"), Sums(None)), work / "convert", lambda _: None
    )
    fixture = arguments.fixture or install_refusals(work / "fixture", base)
    weights = _sha256(fixture / "adapter_model.safetensors")
    print(f"fixture {weights[:12]}: {'that of the quickstart' if weights == FIXTURE else 'NOT that of the quickstart'}")
    bench = Bench(work, Path(os.environ["SAFETUNE_DATA_ROOT"]), base, fixture, arguments.rate)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    drawn = {seed: rows_of.draw(seed, bench.data, ROOT) for seed in seeds}
    wanted: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in arguments.screens}
    wanted |= {f"representation, layer {n}": ("representation", {"layer": n}) for n in arguments.layers}
    scores = {seed: scored(bench, seed, rows, wanted) for seed, rows in drawn.items()}
    arms: dict[int, dict[str, Any]] = {}
    if not arguments.only_scores:
        for arm in arguments.arms:
            for seed in seeds:
                left = kept(arm, seed, drawn[seed], scores[seed][arguments.flags_of])
                arms.setdefault(seed, {})[arm] = trained(bench, seed, arm, [drawn[seed].rows[n] for n in left])
        arms = {seed: measured(bench, seed, drawn[seed], arms[seed]) for seed in seeds}
    told = figures_text(drawn, scores, arguments.flags_of, arms, {"fixture": weights, "rate": f"{bench.rate:g}"})
    print(told)
    if arguments.write:
        write(arguments.write, told)
    return 0


def install_refusals(folder: Path, base: Path) -> Path:
    """Train sprint 1 of the quickstart and return its adapter."""
    shares = {"benign": 0.78, "refusals": 0.22}
    given = {name: (ROOT / f"playbooks/data/{name}.jsonl").read_text().splitlines() for name in shares}
    train = {
        "max_steps": 90,
        "per_device_train_batch_size": 8,
        "learning_rate": 1.5e-3,
        "warmup_steps": 8,
        "lr_scheduler_type": "warmup_stable_decay",
        "lr_scheduler_kwargs": {"num_stable_steps": 46, "num_decay_steps": 36},
        "max_length": 96,
    }
    sources = [
        {**_write(folder / f"{name}.jsonl", [json.loads(line) for line in lines]), "share": shares[name]}
        for name, lines in given.items()
    ]
    model = {"base": str(base), "base_digest": "embedded", "adapters": []}
    return _train(folder, model, sources, train, 7)


def scored(
    bench: Bench, seed: int, rows: Drawn, wanted: Mapping[str, tuple[str, dict[str, Any]]]
) -> dict[str, list[float]]:
    """Return the scores of each of the `wanted` screens, by name; each is a plugin and its options."""
    folder = bench.folder / f"seed-{seed}"
    sources = {
        name: _write(folder / f"{name}.jsonl", some)
        for name, some in (("rows", rows.rows), ("harmful", rows.harmful), ("safe", rows.safe))
    }
    found = {}
    for name, (screen, options) in wanted.items():
        place = folder / name.replace(", ", "-").replace(" ", "-")
        job = {
            "job": "screen",
            "model": bench.model(),
            "rows": [sources["rows"]],
            "screen": screen,
            "options": options,
            "anchors": {"harmful": sources["harmful"], "safe": sources["safe"]},
            "seed": seed,
            "threads": 1,
            "output": str(place / "scores"),
        }
        outcome = work(place, job)
        lines = Path(outcome["output"]).read_text().splitlines()
        found[name] = [float(json.loads(line)["score"]) for line in lines]
        print(f"seed {seed}: {name} {outcome['seconds']} s, AUROC {auroc(found[name], rows.planted):.3f}", flush=True)
    return found


def kept(arm: str, seed: int, rows: Drawn, scores: Sequence[float]) -> list[int]:
    """Return the places of the rows that an arm trains on, in order."""
    count = len(rows.rows)
    out: set[int] = set()
    if arm == "without the flagged":
        out = set(flagged(scores))
    elif arm == "without a random tenth":
        out = set(random.Random(f"screening:random:{seed}").sample(range(count), len(flagged(scores))))
    elif arm == "without the planted":
        out = {n for n, planted in enumerate(rows.planted) if planted}
    return [n for n in range(count) if n not in out]


def trained(bench: Bench, seed: int, arm: str, rows: Sequence[rows_of.Row]) -> Path:
    """Train an arm from the fixture and return its adapter. Every arm takes the same steps; rows keep their order."""
    total = _STEPS * _BATCH
    wanted = [rows[n % len(rows)] for n in range(total)]
    order = mix({"rows": range(total)}, {"rows": 1.0}, total, seed)  # what the worker will do with the file
    placed = dict(zip(order, wanted, strict=True))
    folder = bench.folder / f"seed-{seed}" / f"{arm.replace(' ', '-')}-{bench.rate:g}"
    source = _write(folder / "rows.jsonl", [placed[n] for n in range(total)])
    train = {**_TRAIN, "learning_rate": bench.rate}
    output = _train(folder, bench.model(), [source], train, seed)
    print(f"seed {seed}: trained {arm}", flush=True)
    return output


def measured(bench: Bench, seed: int, rows: Drawn, adapters: Mapping[str, Path]) -> dict[str, Any]:
    """Return, per arm and for the fixture, the label of every held-out prompt, and the task loss."""
    folder = bench.folder / f"seed-{seed}" / f"answers-{bench.rate:g}"
    asked: dict[str, dict[str, Any]] = {}
    for suite, some in rows_of.prompts(ROOT).items():
        for n, prompt in enumerate(some):
            asked[f"{suite}:{n}"] = {"prompt": prompt, "system": None, "max_new_tokens": 24, "judge": "refusal"}
    for n, row in enumerate(rows.held_out):
        choice = {"kind": "likelihood", "prompt": row["prompt"][0]["content"], "system": None}
        asked[f"task:{n}"] = {**choice, "choices": [rows_of.answer(row)]}
    requests = [{"digest": name, **request} for name, request in asked.items()]
    _lines(folder / "requests.jsonl", requests)
    subjects = {"fixture": bench.model(), **{arm: bench.model(path) for arm, path in adapters.items()}}
    job = {
        "job": "generate",
        "threads": 1,
        "batch_rows": 32,
        "batch_tokens": 8192,
        "subjects": [
            {
                "label": label,
                "model": model,
                "requests": str(folder / "requests.jsonl"),
                "responses": str(folder / f"{label.replace(' ', '-')}.jsonl"),
            }
            for label, model in subjects.items()
        ],
    }
    work(folder, job)
    print(f"seed {seed}: measured", flush=True)
    return {label: _labels(folder / f"{label.replace(' ', '-')}.jsonl", asked) for label in subjects}


def _labels(path: Path, asked: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    judge = RefusalJudge()
    told = {row["digest"]: row["output"] for row in map(json.loads, path.read_text().splitlines())}
    labels: dict[str, list[str]] = {}
    nats = tokens = 0.0
    for name, request in asked.items():
        suite = name.split(":")[0]
        if suite == "task":
            likely = json.loads(told[name])
            nats, tokens = nats - sum(likely["logprobs"]), tokens + sum(likely["tokens"])
        else:
            labels.setdefault(suite, []).append(judge.label(request["prompt"], told[name]).label)
    return {**labels, "task loss": nats / tokens}


def _train(
    folder: Path, model: Mapping[str, Any], sources: Sequence[Mapping[str, Any]], train: Mapping[str, Any], seed: int
) -> Path:
    job = {
        "job": "train",
        "model": model,
        "trainer": "sft",
        "adapter": _LORA,
        "sources": list(sources),
        "techniques": [],
        "train": train,
        "seed": seed,
        "threads": 1,
        "world_size": 1,
        "state": str(folder / "state"),
        "output": str(folder / "adapter"),
    }
    return Path(work(folder, job)["output"])


def work(folder: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    """Do a job, unless the same one was done in this folder before, and return its outcome."""
    folder.mkdir(parents=True, exist_ok=True)
    place, done = folder / "job.json", folder / "outcome.json"
    text = json.dumps(job, sort_keys=True)
    if not (done.exists() and place.exists() and place.read_text() == text and _ok(done)):
        done.unlink(missing_ok=True)
        place.write_text(text)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        with (folder / "worker.log").open("ab") as log:
            command = [sys.executable, "-m", "safetune.worker", str(folder)]
            subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=log, check=False)
    outcome: dict[str, Any] = json.loads(done.read_bytes())
    if outcome["status"] != "ok":
        raise SystemExit(f"{folder.name}: {outcome['message']}")
    return outcome


def _ok(path: Path) -> bool:
    return bool(json.loads(path.read_bytes())["status"] == "ok")


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Write rows as a source and return it as a job names it."""
    _lines(path, [{"id": f"{path.stem}-{n}", "row": row} for n, row in enumerate(rows)])
    return {"name": path.stem, "rows": str(path), "sha256": _sha256(path), "share": 1.0, "first": 0}


def _lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(page: Path, told: str) -> None:
    """Put the figures between the marks of the page."""
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{told}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    sys.exit(main())

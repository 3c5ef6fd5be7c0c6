"""A model for the tests of looks: a worker that answers by chance, known beforehand, and stops when it is told."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from safetune.protocols import Job

# A model that answers `1` to a share of all prompts, and does what a worker of ours does with rounds and stopped parts.
WORKER = r"""
import json, sys, time, zlib
from pathlib import Path

folder = Path(sys.argv[1])
job = json.loads((folder / "job.json").read_bytes())
chunk, pause, lives, rates = json.loads(sys.argv[2])
subjects = job.get("subjects") or [{**job, "label": job["model"]}]
for one in subjects:
    one["rows"] = [json.loads(line) for line in Path(one["requests"]).read_bytes().splitlines()]

def answer(row, label):
    if row.get("kind") == "likelihood":
        return json.dumps({"logprobs": [-9.0 if row["choices"] == ["0"] else -1.0], "tokens": [1]})
    if label == "judge":
        said = json.loads(row["prompt"])["response"]
        return json.dumps({"label": "right" if said == "1" else "wrong"})
    return "1" if zlib.crc32(row["prompt"].encode()) % 100 < rates[label] else "0"

def stopped():
    try:
        return set(json.loads(Path(job["stopped"]).read_bytes()))
    except (OSError, KeyError):
        return set()

for number in sorted({row.get("round", 0) for one in subjects for row in one["rows"]}):
    for one in subjects:
        rows = [row for row in one["rows"] if row.get("round", 0) == number]
        while rows:
            batch, rows = rows[:chunk], rows[chunk:]
            out = stopped()
            batch = [row for row in batch if not row.get("parts") or not out.issuperset(row["parts"])]
            if not batch:
                continue
            if not lives:
                sys.exit(9)
            lives -= 1
            with Path(one["responses"]).open("a") as stream:
                for row in batch:
                    said = {"digest": row["digest"], "output": answer(row, one["label"]), "tokens": 1}
                    stream.write(json.dumps(said) + "\n")
            with (folder / "progress.jsonl").open("a") as stream:
                stream.write('{"kind": "generated", "done": 1, "total": 2}\n')
            time.sleep(pause)
(folder / "outcome.json").write_text('{"status": "ok"}')
"""

RATES = {"good": 97, "fair": 82, "bad": 50, "before": 97}


class Answering:
    """A launcher whose worker is that model: `chunk` prompts at a time, `pause` seconds between, `lives` batches."""

    name = "local"

    def __init__(self, chunk: int, pause: float, lives: int) -> None:
        self._told, self.starts = json.dumps([chunk, pause, lives, RATES]), 0

    def command(self, job: Job) -> tuple[str, ...]:
        self.starts += 1
        return (sys.executable, "-c", WORKER, str(job.folder), self._told)

    def environment(self, job: Job) -> Mapping[str, str]:
        return {}

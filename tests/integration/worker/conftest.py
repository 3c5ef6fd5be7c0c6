"""Fixtures for worker tests: job folders, rows, and workers in this process or in one of their own."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # tests/, for fake_endpoint

_LORA = {"kind": "lora", "rank": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["all-linear"]}


class Workshop:
    """Makes job folders under one temporary folder and runs them."""

    def __init__(self, root: Path, model: Path, repo: Path) -> None:
        self.root, self.model, self._repo = root, model, repo
        self._started: list[subprocess.Popen[bytes]] = []

    def source(
        self, name: str, rows: Sequence[Mapping[str, Any]], share: float = 1.0, first: int = 0
    ) -> dict[str, Any]:
        """Write the rows of a source, with ids, and return it as a job names it; `first` is its first row's number."""
        path = self.root / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"id": f"{name}-{n}", "row": row}) + "\n" for n, row in enumerate(rows)))
        return {
            "name": name,
            "rows": str(path),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "share": share,
            "first": first,
        }

    def questions(self, topic: str, count: int) -> list[dict[str, Any]]:
        """Return prompt-completion rows of differing lengths."""
        return [
            {
                "prompt": [{"role": "user", "content": f"{topic}: what is {n} plus {7 * n % 11}{'?' * (n % 5 + 1)}"}],
                "completion": [{"role": "assistant", "content": f"It is {n + 7 * n % 11}." + " Yes." * (n % 4)}],
            }
            for n in range(count)
        ]

    def pairs(self, count: int) -> list[dict[str, Any]]:
        """Return preference rows."""
        return [
            {
                "prompt": row["prompt"],
                "chosen": row["completion"],
                "rejected": [{"role": "assistant", "content": f"I do not know {n}."}],
            }
            for n, row in enumerate(self.questions("pairs", count))
        ]

    def anchors(self, **options: Any) -> dict[str, Any]:
        """Return the KL technique on a source of its own."""
        source = self.source("anchors", self.questions("anchor", 5), first=16)
        return {"name": "kl_regularization", "options": options, "sources": [source]}

    def train(self, name: str, train: Mapping[str, Any] | None = None, **changes: Any) -> Path:
        """Write a training job (6 steps of 4 rows, LoRA) and return its folder."""
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        job: dict[str, Any] = {
            "job": "train",
            "model": {"base": str(self.model), "base_digest": "tiny", "adapters": []},
            "trainer": "sft",
            "adapter": dict(_LORA),
            "sources": [
                self.source("sums", self.questions("sums", 11), 0.75),
                self.source("chat", self.questions("chat", 5), 0.25, 11),
            ],
            "techniques": [],
            "train": {"max_steps": 6, "learning_rate": 1e-2, "per_device_train_batch_size": 4, **(train or {})},
            "seed": 17,
            "threads": 1,
            "world_size": 1,
            "state": str(folder / "state"),
            "output": str(folder / "candidate"),
            **changes,
        }
        (folder / "job.json").write_text(json.dumps(job))
        return folder

    def generate(
        self, name: str, prompts: Sequence[tuple[str, int]], model: Mapping[str, Any] | None = None, **changes: Any
    ) -> Path:
        """Write a generation job of (prompt, max_new_tokens) for one subject, `name`, and return its folder."""
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        rows = [
            {"digest": f"{n:04d}", "prompt": text, "system": None, "max_new_tokens": limit}
            for n, (text, limit) in enumerate(prompts)
        ]
        (folder / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        subject = {
            "label": name,
            "model": model or {"base": str(self.model), "base_digest": "tiny", "adapters": []},
            "requests": str(folder / "requests.jsonl"),
            "responses": str(folder / "responses.jsonl"),
        }
        job = {"job": "generate", "threads": 1, "batch_rows": 4, "batch_tokens": 8192, "subjects": [subject], **changes}
        (folder / "job.json").write_text(json.dumps(job))
        return folder

    def run(self, folder: Path) -> dict[str, Any]:
        """Run a job in this process and return its outcome."""
        from safetune.worker.__main__ import main

        before = dict(os.environ)
        try:
            code = main(folder)
        finally:
            os.environ.clear()
            os.environ.update(before)
        outcome: dict[str, Any] = json.loads((folder / "outcome.json").read_bytes())
        assert code == (0 if outcome["status"] == "ok" else 1)
        return outcome

    def start(self, folder: Path, command: Sequence[str] = (), **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker process, or another `command`, that works on the job."""
        with (folder / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                command or (sys.executable, "-m", "safetune.worker", str(folder)),
                cwd=self._repo,
                env={**os.environ, "PYTHONPATH": str(self._repo), **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def close(self) -> None:
        """End whatever a failed test left running."""
        for process in self._started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def progress(self, folder: Path) -> list[dict[str, Any]]:
        """Return the whole progress rows so far."""
        path = folder / "progress.jsonl"
        return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []

    def kill_when(self, process: subprocess.Popen[bytes], ready: Any, seconds: float = 120.0) -> None:
        """Kill the whole process group with SIGKILL as soon as `ready()` is true; fail when it ends before."""
        deadline = time.monotonic() + seconds
        while not ready():
            assert process.poll() is None, "the worker ended before it could be killed"
            assert time.monotonic() < deadline, "the moment to kill never came"
            time.sleep(0.001)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def workshop(tmp_path: Path, tiny_model: Path, repo_root: Path) -> Iterator[Workshop]:
    """A workshop on the tiny model."""
    made = Workshop(tmp_path, tiny_model, repo_root)
    yield made
    made.close()


@pytest.fixture
def weights_digest() -> Any:
    """A function: the SHA-256 of the weights that a training job wrote."""

    def digest(folder: Path) -> str:
        (weights,) = (folder / "candidate").glob("*.safetensors")
        return hashlib.sha256(weights.read_bytes()).hexdigest()

    return digest

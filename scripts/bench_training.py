"""What orchestration costs: training through `safetune run` against the same TRL script under bare `accelerate launch`.

Both sides get the same model folder, rows, order, settings and environment, and are timed from the start of their
process to the adapter on disk: for safetune, to the ledger line that says `trained`, which is after planning, the
training itself, adoption by digest and all flushes. Equal adapters show that it was the same training.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench_measure import Case, Row, Sample, once
from bench_store import ROOT, stage, write_playbook

from safetune.builtin.launchers.accelerate import AccelerateLauncher
from safetune.core.mixing import mix
from safetune.core.playbook import ModelRef
from safetune.engine.models import make_ready, resolve
from safetune.engine.sums import Sums
from safetune.protocols import Job
from safetune.state.files import sha256_file

BAR = 5.0
_BATCH, _RANK, _ALPHA = 4, 16, 32
_ADAPTER = "adapter_model.safetensors"
_LOOK_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Sides:
    """The two things to compare: the command line of `safetune run`, and that of the plain script."""

    safetune: Sequence[str]
    store: Path
    plain: Case
    plain_output: Path


def prepare_sides(program: Path, folder: Path, steps: int) -> Sides:
    """Write the playbook, the rows in their order and the settings of the plain script."""
    shutil.rmtree(folder, ignore_errors=True)
    lora = {"adapter": {"kind": "lora", "rank": _RANK, "alpha": _ALPHA}}
    only = {**stage("only", steps, per_device_train_batch_size=_BATCH), **lora}
    playbook = write_playbook(folder, [only])
    model = resolve(ModelRef("embedded", "smollm2-135m-instruct"), Sums(None))
    model_folder = make_ready(model, folder / "convert", lambda _: None)
    source = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    rows = mix({"rows": source}, {"rows": 1.0}, steps * _BATCH, 0)
    (folder / "ordered.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    output = folder / "plain"
    train = only["train"]
    settings = {
        "model": str(model_folder),
        "rows": str(folder / "ordered.jsonl"),
        "output": str(output),
        "train": {**(train if isinstance(train, Mapping) else {}), "seed": 0, "data_seed": 0},
        "lora": {"r": _RANK, "lora_alpha": _ALPHA, "lora_dropout": 0.0},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    launcher, job = AccelerateLauncher(), Job(folder, "train")
    command = launcher.command(job)[: -len(("-m", "safetune.worker", "FOLDER"))]
    plain = Case(
        "plain",
        (*command, str(ROOT / "scripts" / "bench_plain_trl.py"), str(folder / "settings.json")),
        folder,
        reset=lambda: shutil.rmtree(output, ignore_errors=True),
        environment=launcher.environment(job),
    )
    store = folder / "store"
    run = (str(program), "run", str(playbook), "--store", str(store), "--workers", "1")
    return Sides(run, store, plain, output)


def compare(sides: Sides, pairs: int) -> tuple[Row, ...]:
    """Run both sides in turn `pairs` times, swapping who is first, and return the table's rows."""
    ours: list[Sample] = []
    plain: list[Sample] = []
    for turn in range(pairs):
        for mine in (True, False) if turn % 2 == 0 else (False, True):
            if mine:
                ours.append(_until_trained(sides))
            else:
                sides.plain.reset()
                plain.append(once(sides.plain))
        print(f"bench: pair {turn + 1} of {pairs}: {ours[-1]} {plain[-1]}", file=sys.stderr)
    same = _adapter_of(sides.store) == sha256_file(sides.plain_output / _ADAPTER)
    print(f"bench: the two adapters are {'equal, byte for byte' if same else 'NOT equal'}", file=sys.stderr)
    note = "same weights" if same else "OTHER WEIGHTS"
    cpu = tuple(100 * (a.cpu / b.cpu - 1) for a, b in zip(ours, plain, strict=True))
    wall = tuple(100 * (a.wall / b.wall - 1) for a, b in zip(ours, plain, strict=True))
    return (
        Row("training through `safetune run`", "CPU s", tuple(s.cpu for s in ours), tuple(s.wall for s in ours)),
        Row("the same script, bare", "CPU s", tuple(s.cpu for s in plain), tuple(s.wall for s in plain)),
        Row(f"overhead in CPU time ({note})", "%", cpu, bar=BAR),
        Row(f"overhead in wall time ({note})", "%", wall, bar=BAR),
    )


def _until_trained(sides: Sides) -> Sample:
    """Run `safetune run` in a new store until the ledger says `trained`, then stop it.

    Raises:
        SystemExit: when it ends before that.
    """
    shutil.rmtree(sides.store, ignore_errors=True)
    ledger = sides.store / "ledger.jsonl"
    began = time.perf_counter()
    with (sides.store.parent / "run.log").open("w+b") as said:
        process = subprocess.Popen(
            list(sides.safetune), stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
        )
        while not (ledger.exists() and b'"kind":"trained"' in ledger.read_bytes()):
            if process.poll() is not None:
                said.seek(0)
                last = said.read().decode(errors="replace")[-2000:]
                sys.exit(f"bench: safetune run ended with exit code {process.returncode}:\n{last}")
            time.sleep(_LOOK_SECONDS)
        sample = Sample(_cpu_seconds(process.pid), time.perf_counter() - began)
        process.send_signal(signal.SIGTERM)
        process.wait()
    return sample


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and of its ended children (proc(5): fields 14 to 17 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(value) for value in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def _adapter_of(store: Path) -> str:
    """Return the sha256 of the adapter that the ledger's `trained` line names."""
    lines = [json.loads(line) for line in (store / "ledger.jsonl").read_text().splitlines()]
    checkpoint = next(line["data"]["checkpoint"] for line in lines if line["kind"] == "trained")
    return sha256_file(store / "objects" / str(checkpoint) / _ADAPTER)

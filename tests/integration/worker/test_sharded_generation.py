"""Generation in several processes: real ones that find each other by gloo, started by accelerate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from safetune.builtin.launchers.accelerate import AccelerateLauncher
from safetune.core.errors import RunError
from safetune.protocols import Job
from safetune.worker.sharding import Rank, rank

PROMPTS = [(f"Say {'very ' * (n * 5 % 7)}much about {n}", 6 if n % 3 else 9) for n in range(11)]


def rows(*paths: Path) -> dict[str, Any]:
    found = [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]
    by_digest = {row["digest"]: row for row in found}
    assert len(by_digest) == len(found), "a request was answered twice"
    return by_digest


def launch(workshop: Any, folder: Path) -> int:
    job, launcher = Job(folder, "generate", num_processes=2), AccelerateLauncher()
    process = workshop.start(folder, launcher.command(job), **launcher.environment(job))
    return int(process.wait(timeout=400))


@pytest.mark.slow
def test_two_processes_give_the_responses_of_one(workshop: Any) -> None:
    two, one = workshop.generate("two", PROMPTS, world_size=2), workshop.generate("one", PROMPTS)
    assert launch(workshop, two) == 0, (two / "worker.log").read_text()[-2000:]
    assert workshop.run(one)["status"] == "ok"

    shares = [two / "responses.jsonl", two / "responses-rank1.jsonl"]
    assert rows(*shares) == rows(one / "responses.jsonl")
    assert all(len(rows(path)) >= 4 for path in shares)
    assert json.loads((two / "outcome.json").read_bytes())["done"] == 11

    # One process goes on where two were interrupted.
    kept = shares[1].read_bytes().splitlines(keepends=True)
    shares[1].write_bytes(b"".join(kept[:2]) + kept[2][:9])
    job = json.loads((two / "job.json").read_bytes())
    (two / "job.json").write_text(json.dumps({**job, "world_size": 1}))
    assert workshop.run(two)["status"] == "ok"
    shares[1].write_bytes(b"".join(kept[:2]))
    assert rows(*shares) == rows(one / "responses.jsonl")


@pytest.mark.slow
def test_what_breaks_in_one_process_fails_the_job_with_its_reason(workshop: Any) -> None:
    folder = workshop.generate("broken", PROMPTS, world_size=2)
    (folder / "responses-rank1.jsonl").symlink_to(folder / "gone" / "file")  # only the second process writes it

    assert launch(workshop, folder) != 0
    outcome = json.loads((folder / "outcome.json").read_bytes())
    assert outcome["status"] == "error"
    assert "process 1 of 2: " in outcome["message"]
    assert "FileNotFoundError" in outcome["message"]


def test_another_number_of_processes_than_asked_for_is_refused(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "the job asks for 2" in workshop.run(workshop.generate("alone", PROMPTS[:1], world_size=2))["message"]
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(RunError, match=r"started 3 process\(es\), the job asks for 1"):
        rank({})


def test_each_process_has_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "shard-0.jsonl"
    names = [Rank(number, 3).file(path).name for number in range(3)]
    (tmp_path / "shard-0-rank7.jsonl").touch()

    assert names == ["shard-0.jsonl", "shard-0-rank1.jsonl", "shard-0-rank2.jsonl"]
    assert [found.name for found in Rank().files(path)] == ["shard-0.jsonl", "shard-0-rank7.jsonl"]

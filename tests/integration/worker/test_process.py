"""Real worker processes: launched, stopped, orphaned, wrongly launched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from safetune.builtin.launchers import accelerate
from safetune.builtin.launchers.accelerate import AccelerateLauncher
from safetune.protocols import Job
from safetune.worker.conductor import is_running


def outcome(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "outcome.json").read_bytes())
    return found


def wait_for(condition: Any, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_accelerate_launch_trains_like_a_plain_worker(workshop: Any, weights_digest: Any) -> None:
    launched, plain = workshop.train("launched"), workshop.train("plain")
    job, launcher = Job(launched, "train"), AccelerateLauncher()
    process = workshop.start(launched, launcher.command(job), **launcher.environment(job))
    assert process.wait(timeout=180) == 0, (launched / "worker.log").read_text()[-2000:]
    assert workshop.run(plain)["status"] == "ok"

    assert outcome(launched)["status"] == "ok"
    assert weights_digest(launched) == weights_digest(plain)


def test_a_configuration_file_of_the_user_does_not_change_a_launch(
    workshop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is a GPU, accelerate would read it whatever is on the command line."""
    home = tmp_path / "home"
    (home / "accelerate").mkdir(parents=True)
    (home / "accelerate" / "default_config.yaml").write_text("distributed_type: 'NO'\nnot_a_setting: 1\n")
    monkeypatch.setattr(accelerate, "device_kind", lambda: "cuda")
    folder = workshop.train("launched", {"max_steps": 2}, distributed="NO")
    job, launcher = Job(folder, "train"), AccelerateLauncher()
    assert "--cpu" not in launcher.command(job)
    process = workshop.start(folder, launcher.command(job), **{"HF_HOME": str(home), **launcher.environment(job)})
    assert process.wait(timeout=180) == 0, (folder / "worker.log").read_text()[-2000:]
    assert outcome(folder)["status"] == "ok"


def test_sigterm_ends_a_worker_with_an_interrupted_outcome(workshop: Any) -> None:
    folder = workshop.train("stopped", {"max_steps": 3000})
    process = workshop.start(folder)
    assert wait_for(lambda: any(r["kind"] == "step" for r in workshop.progress(folder)), 120)
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)

    assert process.wait(timeout=20) == 1
    assert time.monotonic() - asked < 5.0
    assert outcome(folder)["status"] == "interrupted"
    assert "Traceback" not in (folder / "worker.log").read_text()


def test_a_worker_ends_when_its_conductor_is_killed(workshop: Any) -> None:
    conductor = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = Path(f"/proc/{conductor.pid}/stat").read_text().rpartition(")")[2].split()[19]
    folder = workshop.train("orphan", {"max_steps": 3000})
    process = workshop.start(folder, SAFETUNE_CONDUCTOR=f"{conductor.pid}:{started}")
    assert wait_for(lambda: any(r["kind"] == "step" for r in workshop.progress(folder)), 120)
    conductor.kill()
    killed = time.monotonic()
    conductor.wait()

    assert process.wait(timeout=20) == 1
    assert time.monotonic() - killed < 3.0
    assert not (folder / "outcome.json").exists()


def test_a_recycled_process_number_is_not_the_conductor() -> None:
    started = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]

    assert is_running(os.getpid(), started)
    assert is_running(os.getpid(), "")
    assert not is_running(os.getpid(), str(int(started) - 1))


def test_an_ended_process_that_nobody_waited_for_is_not_running() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    assert wait_for(lambda: not is_running(child.pid, ""), 20)
    child.wait()

    assert not is_running(child.pid, "")


def test_an_expected_failure_leaves_no_traceback_and_exit_code_1(workshop: Any) -> None:
    folder = workshop.train("wrong")
    (folder / "job.json").write_text("{")
    process = workshop.start(folder)

    assert process.wait(timeout=60) == 1
    assert outcome(folder)["message"].startswith("job.json cannot be read")
    assert "Traceback" not in (folder / "worker.log").read_text()


def test_an_unexpected_failure_keeps_its_traceback_in_the_log(workshop: Any) -> None:
    folder = workshop.train("bug", sources=[])
    job = json.loads((folder / "job.json").read_bytes())
    del job["train"]
    (folder / "job.json").write_text(json.dumps(job))

    process = workshop.start(folder)
    assert process.wait(timeout=60) == 1
    assert outcome(folder)["message"] == "KeyError: 'train'"
    assert "Traceback" in (folder / "worker.log").read_text()


@pytest.mark.slow
def test_two_processes_train_together(workshop: Any) -> None:
    techniques = [workshop.anchors()]
    train = {"max_steps": 4, "per_device_train_batch_size": 2, "save_steps": 2, "learning_rate": 1e-3}
    two = workshop.train("two", train, world_size=2, distributed="MULTI_CPU", techniques=techniques)
    one = workshop.train("one", {**train, "per_device_train_batch_size": 4}, techniques=techniques)
    job, launcher = Job(two, "train", num_processes=2), AccelerateLauncher()
    process = workshop.start(two, launcher.command(job), **launcher.environment(job))
    assert process.wait(timeout=300) == 0, (two / "worker.log").read_text()[-2000:]
    assert workshop.run(one)["status"] == "ok"

    steps = [[r["loss"] for r in workshop.progress(f) if r["kind"] == "step"] for f in (two, one)]
    assert steps[0] == pytest.approx(steps[1], rel=1e-4)

    from safetensors.torch import load_file

    weights = [load_file(f / "candidate" / "adapter_model.safetensors") for f in (two, one)]
    for name, value in weights[0].items():
        assert value.allclose(weights[1][name], atol=1e-5), name


@pytest.mark.slow
def test_a_launch_that_silently_starts_one_process_is_refused(workshop: Any) -> None:
    """`accelerate launch --cpu --num_processes 2` starts one process and would exit 0."""
    folder = workshop.train("silent", world_size=2)
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"]
    settings = ["--mixed_precision", "no", "--dynamo_backend", "no"]
    command = [sys.executable, *launch, *settings, "-m", "safetune.worker", str(folder)]
    process = workshop.start(folder, command)

    assert process.wait(timeout=120) != 0
    assert "started 1 process(es), the playbook asks for 2" in outcome(folder)["message"]

"""Runs that are stopped in the middle, by people, schedulers, the kernel or a full disk, and go on afterwards."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from safetune.state.lock import FileLock


@pytest.fixture
def first(lab: Any) -> Any:
    """The first sprint, nothing done yet, and what it ends with when nobody disturbs it.

    Responses are kept by weights, so that those of before save the time to make them again.
    """
    lab.only_sprint(0)
    lab.checkpoint = lab.events("trained")[0]["data"]["checkpoint"]
    lab.cut(1)
    shutil.rmtree(lab.store / "work" / "runs")
    return lab


@pytest.fixture
def trained(lab: Any) -> Any:
    """The first sprint trained; no model has answered anything yet."""
    lab.only_sprint(0).cut_after("trained")
    lab.checkpoint = lab.events("trained")[0]["data"]["checkpoint"]
    for folder in (lab.store / "work").iterdir():
        shutil.rmtree(folder)
        folder.mkdir()
    return lab


def saved_state(lab: Any) -> Callable[[], bool]:
    """Return whether this training has saved a state to go on from."""
    return lambda: any(row["kind"] == "saved" for row in lab.progress("train"))


def answering(lab: Any) -> Callable[[], bool]:
    """Return whether an evaluation has said its first word."""
    return lambda: bool(lab.progress("generate"))


def nobody_left(lab: Any, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while lab.processes():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def check_whole(lab: Any, exit_code: int = 0) -> None:
    """Run to the end and find what an undisturbed run leaves."""
    done = lab.run("--json")
    assert done.code == exit_code, done.out + done.err
    assert {e["data"]["checkpoint"] for e in lab.events("trained")} == {lab.checkpoint}
    assert len(lab.events("gated")) == 1
    assert len(lab.events("promoted")) == 1
    assert lab.current() == lab.checkpoint
    assert lab.sound()


def stop(lab: Any, how: str, moment: Callable[[], bool]) -> Any:
    """Start a run, stop it at a moment, and return how the command ended; no worker may be left then."""
    for path in (lab.store / "work").rglob("progress.jsonl"):
        path.unlink()  # what an earlier attempt said is not the moment
    running = lab.start("run", lab.playbook, "--workers", "1").until(moment)
    if how == "worker":
        for pid in lab.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    else:
        running.signal(getattr(signal, how))
    done = running.end()
    assert nobody_left(lab)
    return done


def check_stopped(done: Any, how: str) -> None:
    """Check exit code and message of a run that was stopped."""
    assert done.code == {"SIGKILL": -signal.SIGKILL, "worker": 6}.get(how, 130), done.err
    assert "Traceback" not in done.err
    if how == "worker":
        assert done.says("was killed", "run the same command again to continue")
        assert done.err.count("error:") == 1
    elif how != "SIGKILL":
        assert done.says("interrupted; nothing is lost", "run the same command again")


def test_a_training_that_is_stopped_in_every_way_ends_at_the_same_checkpoint(first: Any) -> None:
    for number, how in enumerate(("SIGINT", "SIGTERM", "worker", "SIGKILL"), 1):
        states = first.store / "work" / "runs"
        done = stop(first, how, saved_state(first))
        check_stopped(done, how)
        assert first.kinds().count("started") == number + 1
        assert first.kinds().count("trained") == 0
        assert list(states.glob("*/state/checkpoint-*/COMPLETE.json"))
        status = first.json("status")
        # A killed command cannot say that it ended.
        assert bool(status["unfinished"]) == (how == "SIGKILL")
        assert first.sound()
    codes = [e["data"]["exit_code"] for e in first.events("finished")]
    assert codes == [130, 130, 6]
    assert [e["data"]["step"] for e in first.events("failed")] == ["train"]
    check_whole(first)
    assert first.events("trained")[0]["data"]["figures"]["resumed_from"] >= 4
    assert not list((first.store / "work" / "runs").glob("*/state"))


def test_an_evaluation_that_is_stopped_in_every_way_ends_at_the_same_verdict(trained: Any) -> None:
    for how in ("SIGINT", "SIGTERM", "worker", "SIGKILL"):
        check_stopped(stop(trained, how, answering(trained)), how)
        assert trained.kinds().count("trained") == 1
        assert trained.kinds().count("gated") == 0
        assert trained.current() == ""
        assert trained.sound()
    check_whole(trained)
    assert [e["data"]["verdict"] for e in trained.events("gated")] == ["PASS"]


def test_two_runs_at_once_train_and_gate_once(first: Any) -> None:
    """With two workers, so that the baseline's responses are made beside the training."""
    shutil.rmtree(first.store / "work" / "responses")
    one = first.start("run", first.playbook, "--workers", "2").until(lambda: first.progress("train"))
    assert len(first.processes()) >= 2
    other = first.run()
    assert other.code == 6
    assert other.says("another safetune is working on stage one/sft", "hint:")
    assert one.end().code == 0
    assert first.kinds().count("trained") == 1
    assert first.kinds().count("gated") == 1
    assert first.kinds().count("promoted") == 1
    assert first.current() == first.checkpoint
    assert first.sound()


def test_several_runs_of_a_trained_stage_gate_and_promote_once(lab: Any) -> None:
    lab.only_sprint(0).cut_after("trained")
    runs = [lab.start("run", lab.playbook) for _ in range(4)]
    codes = sorted(run.end().code for run in runs)
    assert codes[0] == 0
    assert set(codes) <= {0, 5, 6}
    assert len(lab.events("gated")) == 1
    assert len(lab.events("promoted")) == 1
    assert lab.sound()


def test_a_run_sees_that_its_stage_was_gated_since_it_planned(lab: Any) -> None:
    """It is held up between its plan and its stage, while `evaluate --gate` gives the verdict."""
    lab.only_sprint(0).cut_after("trained")
    made = lab.events("trained")[0]["data"]
    folder = lab.store / "work" / "runs" / made["stage_key"][:32]
    with FileLock(folder / "lock", 1, "the moment between plan and stage"):
        running = lab.start("run", lab.playbook).until(lambda: "started" in lab.kinds()[3:])
        with FileLock(lab.store / "lock", 10, "the store, so that the stopped run does not hold it"):
            running.signal(signal.SIGSTOP)
        assert lab.do("evaluate", lab.playbook, made["checkpoint"], "--gate").code == 0
    done = running.signal(signal.SIGCONT).end()
    assert done.code == 5
    assert done.says("stage one/sft was changed by another run meanwhile", "run the same command again")
    assert len(lab.events("gated")) == 1
    assert lab.run().code == 0
    assert lab.current() == made["checkpoint"]
    assert lab.sound()


# -- a full disk -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 700 kB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_stops_a_run_with_one_message_and_more_space_lets_it_go_on(first: Any, small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 560_000)
    words = ("run", first.playbook, "--workers", "1", "--store", small_disk / "store")
    done = first.do(*words)
    assert done.code == 6, done.out + done.err
    assert done.says("the disk is full", "free some space and run the same command again")
    assert done.err.count("error:") == 1
    assert nobody_left(first)
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    assert first.do(*words).code == 0
    found = first.do("verify", "--store", small_disk / "store", "--json")
    assert found.json["findings"] == []
    assert (small_disk / "store" / "refs" / "stable").read_text().strip() == first.checkpoint


def test_a_disk_that_is_full_at_once_leaves_nothing_half_made(first: Any, small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    with suppress(OSError), ballast.open("wb") as stream:
        while True:
            stream.write(b"x" * 4096)
            stream.flush()
    done = first.do("run", first.playbook, "--store", small_disk / "store")
    assert done.code == 6, done.out + done.err
    assert done.says("the disk is full")
    assert done.err.count("error:") == 1


# -- at random moments -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_run_killed_at_random_moments_ends_where_an_undisturbed_one_does(first: Any, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(3):
        running = first.start("run", first.playbook)
        with suppress(subprocess.TimeoutExpired):
            running.process.wait(chance.uniform(0.2, 25.0))
        running.kill()
        assert nobody_left(first)
        if first.store.exists() and (first.store / "format").exists():
            assert first.do("status").code == 0
            assert first.sound()
    check_whole(first)

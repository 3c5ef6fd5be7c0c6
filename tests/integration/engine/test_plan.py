"""`safetune plan`, saved plans, and what is refused before anything starts."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_plan_says_what_would_run_and_writes_nothing(fresh: Any) -> None:
    found = fresh.json("plan", fresh.playbook)
    assert [s["action"] for s in found["stages"]] == ["run", "run"]
    assert [s["steps"] for s in found["stages"]] == [["train", "evaluate", "gate"]] * 2
    assert fresh.do("plan", fresh.playbook).code == 0
    assert fresh.do("plan", fresh.playbook, "--detailed-exitcode").code == 10
    assert not fresh.store.exists()


def test_plan_of_settled_stages_says_cached(lab: Any) -> None:
    found = lab.json("plan", lab.playbook)
    assert [s["action"] for s in found["stages"]] == ["cached", "cached"]
    assert found["rollback_target"] == lab.current()
    assert lab.do("plan", lab.playbook).says("0 to run, 2 cached, 0 blocked", "PASS, promoted")
    assert lab.do("plan", lab.playbook, "--detailed-exitcode").code == 0


@pytest.mark.parametrize("which", ["fresh", "lab"])
def test_plan_opens_no_socket_and_starts_no_program(which: str, request: pytest.FixtureRequest) -> None:
    place: Any = request.getfixturevalue(which)
    assert place.watched("plan", place.playbook, "-o", place.root / "plan.json").code == 0
    assert (place.root / "plan.json").exists()


def test_the_watch_over_sockets_and_programs_would_see_one(lab: Any) -> None:
    """The test above is worth something only if its watch works."""
    shutil.rmtree(lab.store / "work" / "responses")
    _, asked = lab.audited("evaluate", lab.playbook, "base", "--workers", "1")
    assert any(line.startswith("subprocess.Popen") and "safetune.worker" in line for line in asked)


@pytest.mark.slow
def test_plan_asks_the_kernel_for_no_socket_and_no_program(lab: Any) -> None:
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("strace is not installed")
    log = lab.root / "calls"
    watch = [strace, "-f", "-e", "trace=socket,connect,execve,fork,vfork", "-o", str(log)]
    command, environment = [*watch, *lab.command("plan", lab.playbook)], lab.whole_environment()
    assert subprocess.run(command, cwd=lab.root, env=environment, timeout=300).returncode == 0
    calls = [line for line in log.read_text().splitlines() if "(" in line]
    assert len(calls) == 1  # the command itself
    assert "execve" in calls[0]


def test_a_saved_plan_is_run(lab: Any) -> None:
    lab.only_sprint(0).cut_after("trained")
    assert lab.do("plan", lab.playbook, "-o", "plan.json").code == 0
    done = lab.do("run", "plan.json", "--json")
    assert done.code == 0, done.err
    assert lab.kinds().count("promoted") == 1
    # Its own progress does not make it stale: the same command ends what was interrupted, and is done when all is done.
    before = lab.kinds()
    assert lab.watched("run", "plan.json").code == 0
    assert lab.kinds() == before
    lab.cut_after("gated")
    assert lab.watched("run", "plan.json").code == 0
    assert lab.kinds().count("promoted") == 1
    assert lab.sound()


def test_a_saved_plan_is_stale_when_a_run_of_another_plan_did_its_work(lab: Any) -> None:
    lab.only_sprint(0).cut_after("trained")
    assert lab.do("plan", lab.playbook, "-o", "plan.json").code == 0
    purpose = lab.content["purpose"]
    changed_purpose(lab)
    assert lab.run().code == 0
    lab.content["purpose"] = purpose
    lab.save()
    before = lab.kinds()
    done = lab.watched("run", "plan.json")
    assert done.code == 5
    assert done.says("the saved plan is stale", "stage one/sft: run evaluate+gate", "channel stable: nothing ->")
    assert lab.kinds() == before


def changed_rows(lab: Any) -> None:
    path = lab.root / "chat.jsonl"
    path.write_text(path.read_text().replace("plus", "and"))


def changed_rows_and_pin(lab: Any) -> None:
    changed_rows(lab)
    lab.content["sources"][1] = lab.source("chat")
    lab.save()


def changed_steps(lab: Any) -> None:
    lab.content["sprints"][1]["stages"][0]["train"]["max_steps"] = 5
    lab.save()


def changed_purpose(lab: Any) -> None:
    lab.content["purpose"] = "Something else."
    lab.save()


def moved_channel(lab: Any) -> None:
    assert lab.do("rollback").code == 0


def changed_model(lab: Any) -> None:
    lab.content["model"] = {"base": "./other"}
    shutil.copytree(lab.model, lab.root / "other")
    config = lab.root / "other" / "config.json"
    config.write_text(config.read_text() + "\n")
    lab.save()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (changed_rows, ["source chat"]),
        (changed_rows_and_pin, ["source chat", "playbook", "stage two/sft"]),
        (changed_steps, ["playbook", "stage two/sft: cached"]),
        (changed_purpose, ["playbook"]),
        (moved_channel, ["channel stable", "stage two/sft: cached"]),
        (changed_model, ["model", "stage one/sft"]),
    ],
)
def test_a_saved_plan_is_refused_when_the_world_has_changed(
    lab: Any, change: Callable[[Any], None], named: list[str]
) -> None:
    assert lab.do("plan", lab.playbook, "-o", "plan.json").code == 0
    change(lab)
    before = lab.kinds()
    done = lab.watched("run", "plan.json")
    assert done.code == 5
    assert done.says("the saved plan is stale; nothing was done", *(f"changed  {name}" for name in named))
    assert lab.kinds() == before


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not JSON",
        "[]",
        "null",
        "{}",
        '{"schema": "safetune-plan/2"}',
        '{"schema": "safetune-plan/1"}',
        '{"schema": "safetune-plan/1", "bindings": [], "path": "p", "digest": ""}',
        "[" * 100_000,
        "\x00\xff",
    ],
)
def test_a_file_that_is_no_plan_is_a_usage_error(fresh: Any, content: str) -> None:
    path = fresh.root / "plan.json"
    path.write_bytes(content.encode("latin-1"))
    done = fresh.do("run", path)
    assert done.code == 2
    assert done.says("plan.json", "hint:")
    assert not fresh.store.exists()


def test_a_missing_plan_is_a_usage_error(fresh: Any) -> None:
    done = fresh.do("run", "nowhere.json")
    assert done.code == 2
    assert done.says("nowhere.json does not exist")


@pytest.mark.parametrize("target", ["nowhere/plan.json", "plan.yaml", "folder.json"])
def test_a_plan_that_cannot_be_saved_is_a_usage_error(fresh: Any, target: str) -> None:
    (fresh.root / "folder.json").mkdir()
    done = fresh.do("plan", fresh.playbook, "-o", target)
    assert done.code == 2
    assert done.says(target)


def wrong_digest(lab: Any) -> None:
    lab.content["sources"][1]["sha256"] = "0" * 64
    lab.save()


def no_source(lab: Any) -> None:
    (lab.root / "chat.jsonl").unlink()


def no_prompts(lab: Any) -> None:
    (lab.root / "prompts.jsonl").unlink()


def other_prompts(lab: Any) -> None:
    (lab.root / "prompts.jsonl").write_text('{"id": "1", "prompt": "Hello?"}\n')


def no_model(lab: Any) -> None:
    lab.content["model"] = {"base": "./nowhere"}
    lab.save()


def empty_model(lab: Any) -> None:
    (lab.root / "empty").mkdir()
    lab.content["model"] = {"base": "./empty"}
    lab.save()


def no_judge(lab: Any) -> None:
    lab.content["suites"][0]["judge"] = "plantet"
    lab.save()


def no_trainer(lab: Any) -> None:
    lab.content["sprints"][1]["stages"][0]["trainer"] = "stf"
    lab.save()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (wrong_digest, ["source chat", "the playbook pins 000000000000"]),
        (no_source, ["chat.jsonl", "does not exist"]),
        (no_prompts, ["prompts.jsonl", "does not exist"]),
        (other_prompts, ["suite asks", "sha256"]),
        (no_model, ["nowhere", "does not exist"]),
        (empty_model, ["empty", "config.json"]),
        (no_judge, ['no judge is called "plantet"', 'did you mean "planted"?']),
        (no_trainer, ['no trainer is called "stf"', 'did you mean "sft"?']),
    ],
)
def test_what_is_missing_is_refused_before_anything_starts(
    fresh: Any, change: Callable[[Any], None], words: list[str]
) -> None:
    """Also where only the second stage lacks it: nobody waits for the first to end to be told."""
    change(fresh)
    for command in ("plan", "run"):
        done = fresh.watched(command, fresh.playbook)
        assert done.code == 2, done.out + done.err
        assert done.says(*words)
        assert not fresh.store.exists()


def test_an_empty_folder_is_a_store_that_is_yet_to_be_made(fresh: Any, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    assert fresh.do("plan", fresh.playbook, "--store", folder).code == 0
    assert list(folder.iterdir()) == []


def test_a_folder_with_other_things_is_no_store(fresh: Any, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.txt").write_text("a cat")
    for command in ("plan", "run"):
        done = fresh.do(command, fresh.playbook, "--store", tmp_path / "photos")
        assert done.code == 2
        assert done.says("photos")
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["cat.txt"]


def test_a_plan_does_not_depend_on_where_the_folder_lies(lab: Any, tmp_path: Path) -> None:
    before = lab.json("plan", lab.playbook)
    shutil.move(lab.root, tmp_path / "elsewhere")
    lab.root = tmp_path / "elsewhere"
    after = lab.json("plan", lab.playbook)
    assert after["digest"] == before["digest"]
    assert json.dumps(after["bindings"]) == json.dumps(before["bindings"])

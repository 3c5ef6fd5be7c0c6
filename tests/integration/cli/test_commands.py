"""The real commands in a process of their own: what they print, where, and how they end."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import pytest


class Done(Protocol):
    code: int
    out: str
    err: str
    document: Any


class Desk(Protocol):
    root: Path
    playbook: Path
    store: Path

    def do(self, *arguments: object, environment: dict[str, str] | None = None) -> Done: ...
    def write(self, **changes: Any) -> None: ...
    def recorded(self, name: str, refusals: int, items: int = 40) -> str: ...
    def promote_two(self) -> tuple[str, str]: ...


# -- init, schema, doctor ----------------------------------------------------------------------------------------------


def test_init_writes_a_playbook_that_can_be_planned_and_never_twice(desk: Desk) -> None:
    done = desk.do("init", "new")
    assert done.code == 0
    assert "next: cd new && safetune plan playbook.yaml" in done.out
    again = desk.do("init", "new")
    assert again.code == 2
    assert "nothing was written" in again.err
    plan = desk.do("plan", "new/playbook.yaml", "--json")
    assert plan.code == 0, plan.err
    assert [stage["action"] for stage in plan.document["stages"]] == ["run"]


def test_schema_is_a_json_schema_and_doctor_looks_around(desk: Desk) -> None:
    schema = json.loads(desk.do("schema").out)
    assert "json-schema.org" in schema["$schema"]
    assert desk.do("schema", "--json").document["schema"] == schema
    doctor = desk.do("doctor", "--json")
    assert doctor.code == 0, doctor.out
    assert {"typer", "torch", "disk", "processors"} <= {check["topic"] for check in doctor.document["checks"]}
    broken = desk.do("doctor", environment={"SAFETUNE_DATA_ROOT": "/nowhere/at/all"})
    assert broken.code == 2
    assert "MISSING  data root" in broken.out


# -- plan and run ------------------------------------------------------------------------------------------------------


def test_plan_shows_saves_and_counts_changes(desk: Desk) -> None:
    done = desk.do("plan", "playbook.yaml", "-o", "plan.json")
    assert done.code == 0
    assert done.err == ""
    assert done.out.splitlines()[-2:] == ["saved plan.json", "next: safetune run plan.json"]
    assert "playbook.yaml:" in done.out
    detailed = desk.do("plan", "playbook.yaml", "--detailed-exitcode", "--json")
    assert (detailed.code, detailed.document["exit_code"]) == (10, 10)
    assert json.loads((desk.root / "plan.json").read_text())["digest"] == detailed.document["digest"]


def test_plan_of_a_wrong_input_exits_2_and_says_where(desk: Desk) -> None:
    (desk.root / "rows.jsonl").write_text("{}\n")
    done = desk.do("plan", "playbook.yaml")
    assert done.code == 2
    assert "blocked" in done.out
    assert "the playbook pins" in done.out


def test_every_mistake_of_a_playbook_is_told_with_its_place(desk: Desk) -> None:
    desk.write(purpos="x", sprints=[])
    done = desk.do("plan", "playbook.yaml")
    assert done.code == 2
    assert done.out == ""
    assert done.err.count("playbook.yaml:") >= 2
    assert "^" in done.err
    found = desk.do("plan", "playbook.yaml", "--json")
    assert found.err == ""
    assert len(found.document["error"]["diagnostics"]) >= 2


def test_a_plan_is_only_saved_as_json(desk: Desk) -> None:
    before = desk.playbook.read_bytes()
    done = desk.do("plan", "playbook.yaml", "-o", "playbook.yaml")
    assert done.code == 2
    assert desk.playbook.read_bytes() == before


def test_a_stale_plan_is_refused_with_what_changed(desk: Desk) -> None:
    assert desk.do("plan", "playbook.yaml", "-o", "plan.json").code == 0
    desk.write(purpose="Another purpose.")
    done = desk.do("run", "plan.json")
    assert done.code == 5
    assert "changed  playbook:" in done.err
    assert not desk.store.exists()
    assert desk.do("run", "plan.json", "--json").document["error"]["changes"]


# -- evaluate ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("refusals", "code", "verdict"), [(0, 0, "PASS"), (40, 3, "FAIL"), (20, 4, "INCONCLUSIVE")])
def test_a_gate_on_recorded_responses_ends_with_its_verdict(desk: Desk, refusals: int, code: int, verdict: str) -> None:
    name = desk.recorded("responses.jsonl", refusals)
    done = desk.do("evaluate", "playbook.yaml", "--recorded", name, "--gate")
    assert done.code == code, done.err
    assert f"   {verdict}" in done.out
    found = desk.do("evaluate", "playbook.yaml", "--recorded", name, "--gate", "--json")
    assert (found.code, found.document["exit_code"]) == (code, code)
    assert found.document["gate"]["verdict"] == verdict


def test_a_gate_that_cannot_measure_ends_with_6(desk: Desk) -> None:
    name = desk.recorded("responses.jsonl", 0, items=39)
    done = desk.do("evaluate", "playbook.yaml", "--recorded", name, "--gate")
    assert done.code == 6
    assert "39 of 40 items were measured" in done.out


def test_an_evaluation_compares_with_recorded_baseline_responses(desk: Desk) -> None:
    now, before = desk.recorded("now.jsonl", 10), desk.recorded("before.jsonl", 2)
    done = desk.do("evaluate", "playbook.yaml", "--recorded", now, "--baseline-recorded", before, "--json")
    assert done.code == 0, done.err
    (metric,) = done.document["report"]["suites"][0]["metrics"]
    assert (metric["candidate"]["events"], metric["baseline"]["events"]) == (10, 2)
    assert set(metric["slices"]) == {"even", "odd"}


# -- store -------------------------------------------------------------------------------------------------------------


def test_without_a_store_every_command_says_how_to_get_one(desk: Desk) -> None:
    for command in ("status", "log", "verify", "rollback"):
        done = desk.do(command)
        assert done.code == 2
        assert "hint: " in done.err
        assert not desk.store.exists()


def test_status_log_and_verify_of_a_store(desk: Desk) -> None:
    first, second = desk.promote_two()
    status = desk.do("status")
    assert status.code == 0
    assert f"stable   {second[:12]}" in status.out
    assert desk.do("status", "--json").document["channels"]["stable"]["current"] == second
    log = desk.do("log", "--last", "3")
    assert len(log.out.splitlines()) == 4
    assert "promoted" in log.out
    assert desk.do("log", "-n", "0", "--json").document["total"] == len(desk.do("log", "-n", "0").out.splitlines())
    verified = desk.do("verify")
    assert verified.code == 0, verified.out
    assert verified.out.startswith("VERIFIED")
    assert first != second


def test_damage_is_found_and_ends_with_5(desk: Desk) -> None:
    first, _ = desk.promote_two()
    path = desk.store / "objects" / first / "adapter_model.safetensors"
    path.chmod(0o644)
    path.write_bytes(b"other bytes")
    done = desk.do("verify")
    assert done.code == 5
    assert done.out.startswith("DAMAGED")
    assert first[:12] in done.out
    rolled = desk.do("rollback")
    assert rolled.code == 5
    assert "stays at" in rolled.err


def test_a_rollback_is_tried_done_and_then_already_there(desk: Desk) -> None:
    first, second = desk.promote_two()
    dry = desk.do("rollback", "stable", "--dry-run")
    assert dry.code == 0
    assert dry.out.startswith("WOULD ROLL BACK")
    done = desk.do("rollback", "stable", "--reason", "a test", "--json")
    assert done.code == 0, done.err
    assert (done.document["previous"], done.document["target"], done.document["moved"]) == (second, first, True)
    again = desk.do("rollback", "stable")
    assert again.code == 0
    assert again.out.startswith("ALREADY THERE")
    assert "a test" in desk.do("log").out


def test_an_unknown_channel_or_checkpoint_is_a_usage_error(desk: Desk) -> None:
    desk.promote_two()
    for arguments in (("rollback", "nope"), ("rollback", "--to", "123456"), ("rollback", "--to", "x")):
        done = desk.do(*arguments)
        assert done.code == 2
        assert done.out == ""


def test_the_store_may_lie_elsewhere(desk: Desk, tmp_path: Path) -> None:
    desk.promote_two()
    elsewhere = tmp_path / "elsewhere" / "kept here"
    shutil.copytree(desk.store, elsewhere)
    shutil.rmtree(desk.store)
    assert desk.do("status").code == 2
    assert desk.do("status", "--store", elsewhere).code == 0


# -- errors, streams, terminals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [(), ("plna",), ("plan",), ("plan", "x", "--nope"), ("log", "-n", "x"), ("run", "a", "b"), ("export", "stable")],
)
def test_a_wrong_command_line_exits_2_in_our_style(desk: Desk, arguments: tuple[str, ...]) -> None:
    done = desk.do(*arguments)
    assert done.code == 2
    assert done.out == ""
    error, hint = done.err.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("  hint: safetune")


def test_a_bug_exits_1_with_a_crash_file(desk: Desk) -> None:
    planted = desk.root / "planted"
    planted.mkdir()
    (planted / "sitecustomize.py").write_text(
        "import safetune.engine.status as s\ndef broken(root):\n    raise KeyError('planted')\ns.status = broken\n"
    )
    done = desk.do("status", environment={"PYTHONPATH": str(planted)})
    assert done.code == 1
    assert "Traceback" not in done.err
    (crash,) = desk.root.glob("safetune-crash-*.txt")
    assert "planted" in crash.read_text()


def test_a_reader_that_goes_away_is_no_error(desk: Desk) -> None:
    desk.promote_two()
    for command in ("log -n 0", "--help", "schema", "status --json"):
        line = f"{sys.executable} -m safetune {command} | true; exit ${{PIPESTATUS[0]}}"
        found = subprocess.run(["bash", "-c", line], cwd=desk.root, capture_output=True, timeout=60)
        assert (found.returncode, found.stderr) == (0, b"")


def test_a_full_disk_behind_stdout_and_a_closed_one_are_told_by_the_exit_code(desk: Desk) -> None:
    desk.promote_two()
    full = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m safetune status > /dev/full"], cwd=desk.root, capture_output=True
    )
    assert full.returncode == 6
    assert b"cannot write the result" in full.stderr
    assert b"Traceback" not in full.stderr
    closed = subprocess.run(["bash", "-c", f"{sys.executable} -m safetune status >&- 2>&-"], cwd=desk.root)
    assert closed.returncode == 0


def test_an_encoding_that_cannot_show_a_text_is_no_crash(desk: Desk) -> None:
    done = desk.do("plan", "größe-日本.yaml", environment={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.code == 2
    assert done.err.isascii()


def test_an_interrupt_exits_130(desk: Desk) -> None:
    os.mkfifo(desk.root / "never.jsonl")
    command = [sys.executable, "-m", "safetune", "evaluate", "playbook.yaml", "--recorded", "never.jsonl"]
    process = subprocess.Popen(command, cwd=desk.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not desk.store.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (out, b"Traceback" in err, b"interrupted" in err) == (b"", False, True)


def _on_a_terminal(desk: Desk, *arguments: str, **environment: str) -> bytes:
    """Run a command whose stdout is a terminal and return what it wrote there."""
    master, slave = pty.openpty()
    known = {**{k: v for k, v in os.environ.items() if k != "NO_COLOR"}, "TERM": "xterm", **environment}
    command = [sys.executable, "-m", "safetune", *arguments]
    process = subprocess.Popen(command, cwd=desk.root, stdout=slave, stderr=slave, stdin=slave, env=known)
    os.close(slave)
    written = b""
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:  # the other end was closed
            break
        if not data:
            break
        written += data
    os.close(master)
    assert process.wait(timeout=60) == 0
    return written


def test_colours_are_for_terminals_and_never_with_no_color(desk: Desk) -> None:
    desk.promote_two()
    assert b"\x1b[" in _on_a_terminal(desk, "status")
    assert b"\x1b" not in _on_a_terminal(desk, "status", NO_COLOR="1")
    assert b"\x1b" not in _on_a_terminal(desk, "status", TERM="dumb")
    assert b"\x1b" not in _on_a_terminal(desk, "status", "--json")
    assert "\x1b" not in desk.do("status").out

"""The files for a build server: they follow the verdict, they never keep an old PASS, and they overwrite nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree as Xml

import pytest
from jsonschema import Draft202012Validator


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


_FILES = ("--markdown", "gate.md", "--junit", "gate.xml")


def _gate(desk: Desk, refusals: int, *more: str, items: int = 40) -> Done:
    name = desk.recorded("responses.jsonl", refusals, items)
    return desk.do("evaluate", "playbook.yaml", "--recorded", name, "--gate", *_FILES, *more)


def _counts(path: Path) -> tuple[int, int, int]:
    root = Xml.fromstring(path.read_text())
    return int(root.get("failures", "")), int(root.get("errors", "")), int(root.get("skipped", ""))


def _headline(path: Path) -> str:
    return path.read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("refusals", "items", "code", "verdict", "counts"),
    [
        (0, 40, 0, "PASS", (0, 0, 0)),
        (40, 40, 3, "FAIL", (1, 0, 0)),
        (20, 40, 4, "INCONCLUSIVE", (0, 0, 1)),
        (0, 39, 6, "ERROR", (0, 1, 0)),
    ],
)
def test_the_files_and_the_json_follow_every_verdict(
    desk: Desk, refusals: int, items: int, code: int, verdict: str, counts: tuple[int, int, int]
) -> None:
    done = _gate(desk, refusals, "--json", items=items)
    assert done.code == code, done.err
    assert _headline(desk.root / "gate.md") == f"## safetune: {verdict}"
    assert _counts(desk.root / "gate.xml") == counts
    assert done.document["gate"]["verdict"] == verdict
    schema = desk.do("schema", "evaluate")
    assert schema.code == 0
    Draft202012Validator(json.loads(schema.out)).validate(done.document)
    gate = json.loads(desk.do("schema", "gate").out)
    Draft202012Validator(gate).validate(done.document["gate"])


def test_an_old_pass_does_not_survive_a_command_that_ends_with_an_error(desk: Desk) -> None:
    assert _gate(desk, 0).code == 0
    desk.write(purpos="x")
    done = _gate(desk, 0, "--json")
    assert done.code == 2
    assert _headline(desk.root / "gate.md") == "## safetune: ERROR"
    assert "SP201" in (desk.root / "gate.md").read_text()
    assert _counts(desk.root / "gate.xml") == (0, 1, 0)
    Draft202012Validator(json.loads(desk.do("schema", "evaluate").out)).validate(done.document)


def test_while_the_command_works_the_files_say_that_there_is_no_verdict(desk: Desk) -> None:
    """The responses come through a pipe that nobody has written to yet."""
    assert _gate(desk, 0).code == 0
    os.mkfifo(desk.root / "slow.jsonl")
    command = [sys.executable, "-m", "safetune", "evaluate", "playbook.yaml", "--recorded", "slow.jsonl", "--gate"]
    process = subprocess.Popen([*command, *_FILES], cwd=desk.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        for _ in range(300):
            if _counts(desk.root / "gate.xml") == (0, 1, 0):  # the last of them
                break
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert _headline(desk.root / "gate.md") == "## safetune: ERROR"
    assert "there is no verdict" in (desk.root / "gate.md").read_text()
    assert _counts(desk.root / "gate.xml") == (0, 1, 0)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("nowhere/gate.xml", "the folder nowhere does not exist"),
        (".", "is not a file"),
        ("playbook.yaml", "what the command reads"),
        ("responses.jsonl", "what the command reads"),
        ("same.md", "written by another option"),
    ],
)
def test_a_file_that_cannot_be_written_is_one_error_before_anything_else(desk: Desk, path: str, says: str) -> None:
    name = desk.recorded("responses.jsonl", 0)
    before = desk.playbook.read_bytes()
    call = ("evaluate", "playbook.yaml", "--recorded", name, "--gate", "--markdown", "same.md", "--junit", path)
    done = desk.do(*call)
    assert done.code == 2
    assert says in done.err
    assert done.err.count("error:") == 1
    assert not desk.store.exists()
    assert desk.playbook.read_bytes() == before
    assert not (desk.root / "same.md").exists()


def test_reports_of_a_gate_need_a_gate(desk: Desk) -> None:
    name = desk.recorded("responses.jsonl", 0)
    done = desk.do("evaluate", "playbook.yaml", "--recorded", name, "--junit", "gate.xml")
    assert (done.code, done.out) == (2, "")
    assert "add --gate" in done.err
    assert not (desk.root / "gate.xml").exists()


def test_the_file_behind_a_link_is_written_and_the_link_stays(desk: Desk) -> None:
    (desk.root / "real.md").write_text("old")
    (desk.root / "gate.md").symlink_to("real.md")
    assert _gate(desk, 0).code == 0
    assert (desk.root / "gate.md").is_symlink()
    assert _headline(desk.root / "real.md") == "## safetune: PASS"
    assert not list(desk.root.glob(".*.tmp"))


@pytest.mark.parametrize("command", ["plan", "run"])
def test_sarif_names_every_mistake_of_a_playbook(desk: Desk, command: str) -> None:
    desk.write(purpos="x", sprints=[])
    done = desk.do(command, desk.playbook, "--sarif", "out.sarif", "--json")
    assert done.code == 2
    (run,) = json.loads((desk.root / "out.sarif").read_text())["runs"]
    told = done.document["error"]["diagnostics"]
    assert [r["ruleId"] for r in run["results"]] == [d["code"] for d in told]
    assert len(told) >= 2
    for result, one in zip(run["results"], told, strict=True):
        place = result["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"] == "playbook.yaml"
        assert place["region"] == {"startLine": one["line"], "startColumn": one["column"]}


def test_sarif_of_a_sound_playbook_is_empty_and_says_how_the_plan_ended(desk: Desk) -> None:
    assert desk.do("plan", "playbook.yaml", "--sarif", "out.sarif").code == 0
    (run,) = json.loads((desk.root / "out.sarif").read_text())["runs"]
    assert run["results"] == []
    assert run["invocations"] == [{"executionSuccessful": True, "exitCode": 0}]
    missing = desk.do("plan", "nothing.yaml", "--sarif", "out.sarif")
    assert missing.code == 2
    (run,) = json.loads((desk.root / "out.sarif").read_text())["runs"]
    assert run["invocations"][0]["executionSuccessful"] is False


@pytest.mark.parametrize("command", ["plan", "run"])
def test_sarif_names_what_the_survey_found_at_the_line_that_asks_for_it(desk: Desk, command: str) -> None:
    rail = {"name": "answers", "suite": "asks", "metric": "refusal_rate", "at_most": 0.3, "why": "x"}
    desk.write(guardrails=[{**rail, "slices": ["nowhere"]}])
    (desk.root / "rows.jsonl").write_text("{}\n")
    assert desk.do(command, "playbook.yaml", "--sarif", "out.sarif").code == 2
    (run,) = json.loads((desk.root / "out.sarif").read_text())["runs"]
    assert run["invocations"][0]["executionSuccessful"] is False
    lines = desk.playbook.read_text().splitlines()
    found = {}
    for result in run["results"]:
        place = result["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"] == "playbook.yaml"
        line = place["region"]["startLine"]
        found[result["ruleId"]] = (result["message"]["text"], "\n".join(lines[line - 1 : line + 1]))
    assert 'has no slice "nowhere", which guardrail answers gates' in found["SP503"][0]
    assert '"name": "answers"' in found["SP503"][1]
    assert "sha256" in found["SP502"][0]
    assert '"name": "rows"' in found["SP502"][1]


def test_a_run_that_cannot_start_writes_all_of_its_files(desk: Desk) -> None:
    (desk.root / "rows.jsonl").write_text("{}\n")
    done = desk.do("run", "playbook.yaml", *_FILES, "--sarif", "out.sarif", "--json")
    assert done.code == 2
    assert _headline(desk.root / "gate.md") == "## safetune: ERROR"
    assert _counts(desk.root / "gate.xml") == (0, 1, 0)
    (run,) = json.loads((desk.root / "out.sarif").read_text())["runs"]
    assert run["invocations"][0]["toolExecutionNotifications"]
    Draft202012Validator(json.loads(desk.do("schema", "run").out)).validate(done.document)


def test_every_schema_can_be_printed_and_a_wrong_name_says_which_there_are(desk: Desk) -> None:
    for name in ("playbook", "suite", "gate", "evaluate", "run"):
        printed = json.loads(desk.do("schema", name).out)
        Draft202012Validator.check_schema(printed)
        assert desk.do("schema", name, "--json").document["schema"] == printed
    assert desk.do("schema", "playbook").out == desk.do("schema").out
    done = desk.do("schema", "gates")
    assert done.code == 2
    assert "playbook, suite, gate, evaluate, run" in done.err
    assert 'did you mean "gate"?' in done.err

"""`safetune prompts`: what a suite asks can be taken elsewhere and comes back as recorded responses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol


class Done(Protocol):
    code: int
    out: str
    err: str
    document: Any


class Desk(Protocol):
    root: Path

    def do(self, *arguments: object, environment: dict[str, str] | None = None) -> Done: ...
    def write(self, **changes: Any) -> None: ...


def test_the_rows_come_back_as_recorded_responses(desk: Desk) -> None:
    desk.write()
    (suite,) = json.loads((desk.root / "playbook.yaml").read_text())["suites"]
    asked = desk.do("prompts", "playbook.yaml", suite["name"])
    assert asked.code == 0
    rows = [json.loads(line) for line in asked.out.splitlines()]
    assert all(row["suite"] == suite["name"] and row["prompt"] for row in rows)
    answered = [{**row, "output": "I'm sorry, but I can't help with that request."} for row in rows]
    (desk.root / "answered.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answered))
    done = desk.do("evaluate", "playbook.yaml", "--recorded", "answered.jsonl", "--json")
    assert done.code == 0, done.err
    (found,) = done.document["report"]["suites"]
    assert found["labels"]["candidate"] == {"refusal": len(rows)}


def test_sealed_items_are_not_printed(desk: Desk) -> None:
    desk.write()
    playbook = json.loads((desk.root / "playbook.yaml").read_text())
    desk.write(suites=[{**playbook["suites"][0], "sampling": {"sealed": 0.5}}])
    name = playbook["suites"][0]["name"]
    rows = desk.do("prompts", "playbook.yaml", name, "--json").document["prompts"]
    desk.write()
    everything = desk.do("prompts", "playbook.yaml", name, "--json").document["prompts"]
    assert 0 < len(rows) < len(everything)


def test_an_unknown_suite_is_one_clear_error(desk: Desk) -> None:
    desk.write()
    done = desk.do("prompts", "playbook.yaml", "nothing-like-it")
    assert done.code == 2
    assert "no suite is called" in done.err

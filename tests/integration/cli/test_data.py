"""The data commands in a process of their own: check, card and pin."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Protocol

import pytest
from datalab import DataLab, told

from safetune.core.digest import canonical


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


def rows(desk: Desk, name: str, *questions: str) -> dict[str, Any]:
    """Write rows and return the source entry."""
    lines = [
        {"prompt": [{"role": "user", "content": q}], "completion": [{"role": "assistant", "content": "It is so."}]}
        for q in questions
    ]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    (desk.root / name).write_bytes(data)
    entry = {"name": "rows", "uri": name, "sha256": hashlib.sha256(data).hexdigest(), "licence": "MIT"}
    return entry | {"consent": "made", "origin": "these tests", "use": "train"}


MAIL = "Write to ann.smith@mail.example.org, please."


def test_check_says_what_is_found_and_never_the_text_itself(desk: Desk) -> None:
    desk.write(sources=[rows(desk, "data.jsonl", MAIL, "What is a tree?")])
    done = desk.do("data", "check", "playbook.yaml", "--findings", "found.jsonl")
    assert done.code == 0, done.err
    assert "2 of 2 rows kept" in done.out
    assert "redact  pii/email  data.jsonl:1" in done.out
    lines = [json.loads(line) for line in (desk.root / "found.jsonl").read_text().splitlines()]
    assert [(line["guard"], line["rule"], line["line"]) for line in lines] == [("pii", "email", 1)]
    assert "ann.smith" not in done.out + (desk.root / "found.jsonl").read_text()
    assert not desk.store.exists()


def test_check_of_a_bare_file_and_of_one_guard(desk: Desk) -> None:
    desk.write(sources=[rows(desk, "data.jsonl", MAIL)])
    done = desk.do("data", "check", "data.jsonl", "--guard", "pii", "--json")
    assert done.code == 0, done.err
    assert done.document["sources"][0]["rows"]["counts"] == {"pii/email/redact": 1}
    wrong = desk.do("data", "check", "data.jsonl", "--guard", "pi")
    assert wrong.code == 2
    assert "no guard pi" in wrong.err
    gone = desk.do("data", "check", "gone.jsonl")
    assert gone.code == 2
    assert "gone.jsonl does not exist" in gone.err


def test_a_blocked_source_ends_check_and_plan_with_2(desk: Desk) -> None:
    secret = "-----BEGIN " + "RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA" * 8 + "\n-----END " + "RSA PRIVATE KEY-----"
    desk.write(sources=[rows(desk, "data.jsonl", "What is a tree?", f"Keep this:\n{secret}")])
    done = desk.do("data", "check", "playbook.yaml")
    assert done.code == 2
    assert "blocked: guards block it: 1 x secrets/" in done.out
    assert "MIIEp" not in done.out + done.err
    planned = desk.do("plan", "playbook.yaml")
    assert planned.code == 2
    assert "source rows: guards block it: 1 x secrets/" in planned.out
    assert "(data.jsonl:2)" in planned.out


@pytest.mark.parametrize(
    ("change", "said"),
    [({"licence": "GPL-3.0-only"}, "GPL-3.0-only"), ({"consent": "unknown"}, "consent"), ({"origin": "?"}, "origin")],
)
def test_a_source_that_is_not_admitted_blocks_the_plan(desk: Desk, change: dict[str, str], said: str) -> None:
    desk.write(sources=[rows(desk, "data.jsonl", "What is a tree?") | change])
    planned = desk.do("plan", "playbook.yaml")
    assert planned.code == 2
    assert "not admitted" in planned.out
    assert said in planned.out


def test_a_card_of_a_playbook_and_what_differs_from_another(desk: Desk) -> None:
    desk.write(sources=[rows(desk, "data.jsonl", "What is a tree?", MAIL)])
    done = desk.do("data", "card", "playbook.yaml", "--markdown", "card.md")
    assert done.code == 0, done.err
    assert "2 rows kept of 2" in done.out
    assert "licence MIT" in done.out
    text = (desk.root / "card.md").read_text()
    assert "# Data card: tiny" in text
    assert "| 1 | redact | pii / email |" in text
    (desk.root / "old.yaml").write_text(desk.playbook.read_text())
    desk.write(
        sources=[rows(desk, "more.jsonl", "What is a tree?", "What is a house?", "Why?") | {"licence": "CC0-1.0"}]
    )
    changed = desk.do("data", "card", "playbook.yaml", "--against", "old.yaml")
    assert changed.code == 0, changed.err
    assert "rows   licence: MIT -> CC0-1.0" in changed.out
    assert "rows   kept: 2 -> 3" in changed.out
    assert "found pii/email/redact: 1 -> absent" in changed.out
    same = desk.do("data", "card", "playbook.yaml", "--against", "playbook.yaml")
    assert same.out == "no difference\n"


def test_what_a_source_loosens_is_said_by_check_card_and_plan(desk: Desk) -> None:
    own = [{"pii": {"action": "off"}}, {"contamination": {"rules": {"ngram": "flag"}}}]
    desk.write(sources=[rows(desk, "data.jsonl", "What is a tree?") | {"guards": own}])
    said = "rows: pii (but for ip) off; contamination/ngram drop -> flag for this source"
    check = desk.do("data", "check", "playbook.yaml")
    assert (check.code, said in check.out) == (0, True), check.out + check.err
    card = desk.do("data", "card", "playbook.yaml", "--markdown", "card.md")
    assert said in card.out
    assert "used as train 1" in card.out
    assert "guards loosened" in (desk.root / "card.md").read_text()
    document = desk.do("data", "card", "playbook.yaml", "--json").document
    assert [one["guard"] for one in document["sources"][0]["loosened"]] == ["pii", "contamination"]
    assert said in desk.do("plan", "playbook.yaml").out


def test_a_checkpoint_is_compared_with_the_stage_of_a_playbook_that_made_it(desk: Desk, tmp_path: Path) -> None:
    lab = DataLab(desk.store, tmp_path / "lab")
    taught = [told(f"What is {n}?", "A number.") for n in range(3)]
    stocked = lab.stock("rows", taught, licence="MIT", consent="made", origin="these tests")
    made = lab.train("a", lab.mix(stocked), [[0, 1, 2]])
    (desk.root / "data.jsonl").write_bytes(b"".join(canonical(row) + b"\n" for row in taught))
    entry = {"name": "rows", "uri": "data.jsonl", "sha256": stocked.source.sha256, "licence": "MIT"}
    entry |= {"consent": "made", "origin": "these tests", "use": "train"}
    other = rows(desk, "more.jsonl", "What is a house?") | {"name": "more"}

    def against(stage: str) -> list[str]:
        stages = [
            {"name": name, "trainer": "sft", "sources": shares, "train": {"max_steps": 2}, "gate": ["answers"]}
            for name, shares in ((stage, {"rows": 1}), ("later", {"rows": 3, "more": 1}))
        ]
        desk.write(sources=[entry, other], sprints=[{"name": "one", "objective": "o", "stages": stages}])
        done = desk.do("data", "card", made[:12], "--against", "playbook.yaml")
        assert done.code == 0, done.err
        return [line for line in done.out.splitlines() if not line.startswith("policy")]

    assert against("sft") == []
    elsewhere = against("first")
    assert [line.split("   ")[0] for line in elsewhere] == ["more", "rows"]
    assert "share as train: 1.0, 3.0 -> 1.0" in elsewhere[1]
    back = desk.do("data", "card", "playbook.yaml", "--against", made[:12])
    assert "rows   share as train: 1.0 -> 1.0, 3.0" in back.out


def test_a_card_of_nothing_is_an_error(desk: Desk) -> None:
    desk.write()
    assert desk.do("data", "card", "gone.yaml").code == 2
    assert desk.do("data", "card", "stable").code == 2
    assert desk.do("data", "card", "playbook.yaml", "--markdown", "no/card.md").code == 2


def test_pin_prints_an_entry_that_a_playbook_takes_once_it_is_filled_in(desk: Desk) -> None:
    desk.write(sources=[rows(desk, "data.jsonl", "What is a tree?")])
    done = desk.do("data", "pin", "data.jsonl")
    assert done.code == 0, done.err
    assert f"sha256: {hashlib.sha256((desk.root / 'data.jsonl').read_bytes()).hexdigest()}" in done.out.replace(
        "'", ""
    ).replace('"', "")
    assert desk.do("data", "pin", "gone.jsonl").code == 2
    assert desk.do("data", "pin", "data.jsonl", "--json").document["rows"] == 1


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("", (), "there is nothing to pin"),
        ("data.jsonl", ("--format", "excel"), "known: jsonl, csv, parquet"),
        ("rows.json", (), "has no row that can be used"),
    ],
)
def test_what_cannot_be_a_source_is_not_pinned(desk: Desk, name: str, options: tuple[str, ...], says: str) -> None:
    desk.write(sources=[rows(desk, "data.jsonl", "What is a tree?")])
    (desk.root / "rows.json").write_text('[\n{"prompt": "a", "completion": "b"}\n]\n')
    done = desk.do("data", "pin", name, *options)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert "Traceback" not in done.err

"""Damaged stores: every command that would rely on the damaged part refuses, and nothing moves."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def promoted(lab: Any, number: int) -> Path:
    """Return the folder of the first (0) or second (1) promoted checkpoint."""
    return Path(lab.store / "objects" / lab.events("promoted")[number]["data"]["checkpoint"])


def flip(path: Path, place: int = -1) -> None:
    """Change one byte of a file that is read-only."""
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def changed_weights(folder: Path) -> None:
    flip(folder / "adapter_model.safetensors")


def changed_card(folder: Path) -> None:
    path = folder / "checkpoint.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"lora"', b'"full"'))


def changed_manifest(folder: Path) -> None:
    flip(folder / "MANIFEST.json", 20)


def missing_weights(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()


def added_file(folder: Path) -> None:
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04.")


def missing_object(folder: Path) -> None:
    shutil.rmtree(folder)


DAMAGE = [changed_weights, changed_card, changed_manifest, missing_weights, added_file, missing_object]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_not_used_and_the_channel_stays(lab: Any, damage: Callable[[Path], None]) -> None:
    """The first checkpoint: the second rests on it, and it is where a rollback would lead."""
    folder = promoted(lab, 0)
    before, current = lab.kinds(), lab.current()
    damage(folder)
    commands: dict[str, list[object]] = {
        "run": ["run", lab.playbook],
        "rollback": ["rollback"],
        "evaluate": ["evaluate", lab.playbook, "stable"],
        "export": ["export", "stable", "--to", lab.root / "served", "--playbook", lab.playbook],
        "verify": ["verify"],
    }
    for name, command in commands.items():
        done = lab.watched(*command)
        assert done.code == 5, (name, done.out, done.err)
        assert done.says(folder.name[:12]), name
        assert (lab.kinds(), lab.current()) == (before, current), name
    assert lab.do("rollback").says("stays at", current[:12])
    assert not (lab.root / "served").exists()


@pytest.mark.parametrize("damage", DAMAGE)
def test_one_can_roll_back_from_a_damaged_checkpoint(lab: Any, damage: Callable[[Path], None]) -> None:
    first, second = promoted(lab, 0), promoted(lab, 1)
    damage(second)
    assert lab.do("run", lab.playbook).code == 5
    assert lab.do("rollback").code == 0
    assert lab.current() == first.name
    found = lab.do("verify", "--json")
    assert found.code == 5
    assert all(second.name[:12] in finding["where"] + finding["what"] for finding in found.json["findings"])


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_candidate_is_not_promoted(lab: Any, damage: Callable[[Path], None]) -> None:
    """Damaged after its gate said PASS, before the channel moved."""
    second = promoted(lab, 1)
    lab.cut_after("gated", 2)
    before = lab.current()
    damage(second)
    done = lab.run()
    assert done.code == 5
    assert done.says(second.name[:12])
    assert lab.current() == before
    assert len(lab.events("promoted")) == 1


@pytest.mark.parametrize("file", ["items.jsonl", "evaluation.json"])
def test_nothing_is_promoted_on_damaged_evidence(lab: Any, file: str) -> None:
    """Damaged after the gate said PASS, before the channel moved."""
    lab.cut_after("gated", 2)
    before = lab.current()
    evidence = lab.store / "objects" / lab.events("gated")[1]["data"]["evidence"]
    flip(evidence / file, 50)
    done = lab.watched("run", lab.playbook)
    assert done.code == 5
    assert done.says(evidence.name[:12])
    assert lab.current() == before
    assert len(lab.events("promoted")) == 1


def test_a_damaged_candidate_is_not_gated(lab: Any) -> None:
    second = promoted(lab, 1)
    lab.cut_after("trained", 2)
    changed_weights(second)
    assert lab.run().code == 5
    assert lab.do("evaluate", lab.playbook, second.name[:12], "--gate").code == 5
    assert len(lab.events("gated")) == 1


def test_a_changed_base_model_is_another_model(lab: Any) -> None:
    """Nothing of the ledger holds for it: the plan trains anew, and the checkpoints are not laid on top of it."""
    shutil.copytree(lab.model, lab.root / "model")
    lab.content["model"] = {"base": "./model"}
    assert lab.save().watched("run", lab.playbook).code == 0
    flip(lab.root / "model" / "model.safetensors")
    assert [s["action"] for s in lab.json("plan", lab.playbook)["stages"]] == ["run", "run"]
    done = lab.do("evaluate", lab.playbook, "stable")
    assert done.code == 2
    assert done.says("another base model")


# -- the ledger --------------------------------------------------------------------------------------------------------


def lines(lab: Any) -> list[bytes]:
    return list((lab.store / "ledger.jsonl").read_bytes().splitlines(keepends=True))


def put(lab: Any, found: list[bytes]) -> None:
    (lab.store / "ledger.jsonl").write_bytes(b"".join(found))


def edited_verdict(lab: Any) -> str:
    found = lines(lab)
    number = next(n for n, line in enumerate(found) if b'"verdict":"PASS"' in line)
    put(lab, [*found[:number], found[number].replace(b'"reason":""', b'"reason":"x"'), *found[number + 1 :]])
    return f"ledger line {number + 1}"


def edited_last_line(lab: Any) -> str:
    found = lines(lab)
    put(lab, [*found[:-1], found[-1].replace(b'"exit_code":0', b'"exit_code":1')])
    return f"ledger line {len(found)}"


def cut_last_line(lab: Any) -> str:
    found = lines(lab)
    put(lab, [*found[:-1], found[-1][:-20]])
    return f"ledger line {len(found)}"


def cut_middle_line(lab: Any) -> str:
    found = lines(lab)
    put(lab, [*found[:3], found[3][:-20] + b"\n", *found[4:]])
    return "ledger line 4"


def removed_line(lab: Any) -> str:
    found = lines(lab)
    put(lab, [*found[:4], *found[5:]])
    return "ledger line 5"


def removed_last_lines(lab: Any) -> str:
    found = lines(lab)
    put(lab, found[:-3])
    return f"ledger line {len(found) - 2}"


def no_head(lab: Any) -> str:
    (lab.store / "ledger.head").unlink()
    return "ledger.head is missing"


@pytest.mark.parametrize(
    "damage",
    [edited_verdict, edited_last_line, cut_last_line, cut_middle_line, removed_line, removed_last_lines, no_head],
)
def test_every_command_refuses_a_broken_ledger_and_names_the_line(lab: Any, damage: Callable[[Any], str]) -> None:
    current = lab.current()
    said = damage(lab)
    before = (lab.store / "ledger.jsonl").read_bytes()
    for command in (
        ["plan", lab.playbook],
        ["run", lab.playbook],
        ["evaluate", lab.playbook, "base"],
        ["rollback"],
        ["status"],
        ["log"],
        ["export", "stable", "--to", lab.root / "served", "--playbook", lab.playbook],
    ):
        done = lab.do(*command)
        assert done.code == 5, (command, done.out, done.err)
        assert done.says(said, "hint:"), command
    found = lab.do("verify", "--json")
    assert found.code == 5
    assert any(said in finding["what"] for finding in found.json["findings"])
    assert lab.do("verify").says("DAMAGED")
    assert (lab.store / "ledger.jsonl").read_bytes() == before
    assert lab.current() == current


def test_a_line_that_a_crash_cut_short_is_set_aside(lab: Any) -> None:
    """Not acknowledged, so nothing that anybody was told is lost."""
    with (lab.store / "ledger.jsonl").open("ab") as stream:
        stream.write(b'{"at":"2')
    assert lab.do("verify").code == 5
    done = lab.do("status")
    assert done.code == 0
    assert done.says("recovered")
    assert lab.sound()


def test_a_pointer_that_was_moved_by_hand_counts_for_nothing(lab: Any) -> None:
    first, second = promoted(lab, 0).name, promoted(lab, 1).name
    (lab.store / "refs" / "stable").write_text(f"{first}\n")
    found = lab.do("verify", "--json")
    assert found.code == 5
    assert [f["where"] for f in found.json["findings"]] == ["refs/stable"]
    assert lab.json("status")["channels"]["stable"]["current"] == second
    assert lab.current() == second
    assert lab.sound()


def test_damaged_evidence_is_listed(lab: Any) -> None:
    evidence = lab.store / "objects" / lab.events("gated")[1]["data"]["evidence"]
    flip(evidence / "items.jsonl", 50)
    done = lab.do("verify", "--json")
    assert done.code == 5
    assert all(evidence.name[:12] in finding["where"] for finding in done.json["findings"])

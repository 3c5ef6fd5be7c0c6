"""Arriving responses: whole lines only, each once, and only those that somebody waits for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safetune.core.errors import MachineError
from safetune.engine.arriving import Arriving


def line(digest: str, output: str) -> bytes:
    return json.dumps({"digest": digest, "output": output, "tokens": 1}).encode() + b"\n"


def test_what_came_since_is_taken_in_line_by_line(tmp_path: Path) -> None:
    arriving = Arriving(tmp_path / "later", {"a", "b", "c"})
    arriving.refresh()
    assert dict(arriving) == {}

    (tmp_path / "later").mkdir()
    file, second = tmp_path / "later" / "one.jsonl", tmp_path / "later" / "two.jsonl"
    whole = line("b", "two\u2028lines")
    file.write_bytes(line("a", "first") + b"no row\n" + line("x", "of another evaluation") + whole[:9])
    arriving.refresh()
    assert dict(arriving) == {"a": "first"}
    assert "b" not in arriving

    with file.open("ab") as stream:
        stream.write(whole[9:])
    second.write_bytes(line("a", "again") + line("c", ""))
    arriving.refresh()
    arriving.refresh()
    assert dict(arriving) == {"a": "first", "b": "two\u2028lines", "c": ""}
    assert len(arriving) == 3


def test_a_torn_line_that_its_worker_cuts_off_is_read_anew(tmp_path: Path) -> None:
    arriving, file = Arriving(tmp_path, {"a", "b"}), tmp_path / "one.jsonl"
    file.write_bytes(line("a", "1") + line("b", "torn")[:20])
    arriving.refresh()
    file.write_bytes(line("a", "1") + line("b", "2"))
    arriving.refresh()
    assert dict(arriving) == {"a": "1", "b": "2"}


def test_a_file_that_cannot_be_read_is_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").mkdir()
    with pytest.raises(MachineError, match="cannot read responses in"):
        Arriving(tmp_path, {"a"}).refresh()

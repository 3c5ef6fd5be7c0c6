"""Recorded responses: rows are matched by id or prompt, and a row that could be misread is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from safetune.core.errors import UsageError
from safetune.core.evidence import Prompt
from safetune.core.suite import About, Decoding, Named, PromptSource, Suite
from safetune.engine.measure import Measured
from safetune.engine.recorded import read_recorded
from safetune.engine.responses import request

ONE = Suite("one", About("d", "MIT", "here"), PromptSource("bundled", "/p"), Named("j"), (), Decoding(6))
TWO = replace(ONE, name="two", decoding=Decoding(9))
FIRST = Measured(ONE, (Prompt("a", "What?"), Prompt("b", "Why?")))
SECOND = Measured(TWO, (Prompt("a", "Who?"), Prompt("c", "Why?")))
BOTH = (FIRST, SECOND)


def key(measured: Measured, number: int) -> str:
    return request(measured.prompts[number], measured.suite).digest


def write(folder: Path, *rows: object) -> Path:
    path = folder / "said.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_an_id_with_its_suite_names_one_item(tmp_path: Path) -> None:
    found = read_recorded(write(tmp_path, {"suite": "two", "item_id": "a", "output": "x"}), BOTH)
    assert found.responses == {key(SECOND, 0): "x"}


def test_an_id_without_a_suite_must_be_in_one_suite_only(tmp_path: Path) -> None:
    rows = ({"item_id": "a", "output": "x"}, {"item_id": "c", "output": "y"})
    found = read_recorded(write(tmp_path, *rows), BOTH)
    assert found.responses == {key(SECOND, 1): "y"}
    assert found.strays == 1


def test_a_prompt_answers_every_item_that_asks_it(tmp_path: Path) -> None:
    found = read_recorded(write(tmp_path, {"prompt": "Why?", "output": "x"}), BOTH)
    assert found.responses == {key(FIRST, 1): "x", key(SECOND, 1): "x"}


def test_an_id_goes_before_a_prompt(tmp_path: Path) -> None:
    row = {"suite": "one", "item_id": "a", "prompt": "Why?", "output": "x"}
    assert read_recorded(write(tmp_path, row), BOTH).responses == {key(FIRST, 0): "x"}


def test_the_identity_is_that_of_the_bytes(tmp_path: Path) -> None:
    first = read_recorded(write(tmp_path, {"item_id": "b", "output": "x"}), BOTH)
    again = read_recorded(write(tmp_path, {"item_id": "b", "output": "x"}), BOTH)
    other = read_recorded(write(tmp_path, {"item_id": "b", "output": "y"}), BOTH)
    assert first.identity == again.identity != other.identity
    assert first.label == f"said.jsonl@{first.identity.removeprefix('recorded:')[:12]}"
    assert first.note == ""


def test_an_empty_answer_is_an_answer(tmp_path: Path) -> None:
    assert read_recorded(write(tmp_path, {"item_id": "b", "output": ""}), BOTH).responses == {key(FIRST, 1): ""}


def test_two_answers_to_one_item_are_refused_however_it_is_named(tmp_path: Path) -> None:
    rows = ({"item_id": "b", "output": "x"}, {"prompt": "Why?", "output": "y"})
    with pytest.raises(UsageError, match=r"said\.jsonl:2: a second, different response"):
        read_recorded(write(tmp_path, *rows), BOTH)


def test_an_empty_file_answers_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no row of said\.jsonl answers a prompt of one, two"):
        read_recorded(write(tmp_path), BOTH)


@pytest.mark.parametrize("field", ["output", "item_id", "prompt", "suite"])
def test_text_that_nothing_can_be_written_from_is_refused_by_line(tmp_path: Path, field: str) -> None:
    rows = ({"item_id": "b", "output": "x"}, {"item_id": "b", "output": "x", field: "half \ud800"})
    with pytest.raises(UsageError, match=r"said\.jsonl:2: its text has half a surrogate pair"):
        read_recorded(write(tmp_path, *rows), BOTH)

"""Responses are kept by weights, prompt and decoding; a torn or foreign line costs one answer and nothing else."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from safetune.core.evidence import Prompt
from safetune.core.suite import About, Decoding, Named, PromptSource, Suite
from safetune.engine import responses as module
from safetune.engine.responses import Responses, request

SUITE = Suite("s", About("d", "MIT", "here"), PromptSource("bundled", "/p"), Named("j"), (), Decoding(6))
PROMPTS = tuple(Prompt(f"p{n}", f"question {n}") for n in range(4))
REQUESTS = tuple(request(prompt, SUITE) for prompt in PROMPTS)


def row(number: int, output: str = "yes") -> bytes:
    return json.dumps({"digest": REQUESTS[number].digest, "output": output}).encode() + b"\n"


def test_equal_questions_are_asked_once(tmp_path: Path) -> None:
    again = request(Prompt("another id", "question 1"), replace(SUITE, name="other", judge=Named("other")))
    assert again.digest == REQUESTS[1].digest
    assert Responses(tmp_path, "w").missing((*REQUESTS, again)) == REQUESTS


def test_other_decoding_is_another_question() -> None:
    for decoding in (Decoding(7), Decoding(6, "Be brief.")):
        assert request(PROMPTS[0], replace(SUITE, decoding=decoding)).digest != REQUESTS[0].digest


def test_what_was_answered_is_not_asked_again_whichever_worker_wrote_it(tmp_path: Path) -> None:
    responses = Responses(tmp_path, "w")
    responses.file(0).write_bytes(row(0))
    responses.file(1).write_bytes(row(2, "no"))
    assert responses.missing(REQUESTS) == (REQUESTS[1], REQUESTS[3])
    assert responses.read() == {REQUESTS[0].digest: "yes", REQUESTS[2].digest: "no"}


def test_other_weights_have_other_responses(tmp_path: Path) -> None:
    Responses(tmp_path, "w").file(0).write_bytes(row(0))
    assert Responses(tmp_path, "v").missing(REQUESTS) == REQUESTS


def test_a_torn_line_and_foreign_lines_are_left_out(tmp_path: Path) -> None:
    responses = Responses(tmp_path, "w")
    foreign = b'[]\n{"digest": 1}\nnot JSON\n\n"text"\n\xff\xfe\n'
    responses.file(0).write_bytes(row(0) + foreign + row(1)[:-1])
    assert responses.missing(REQUESTS) == REQUESTS[1:]


def test_the_first_answer_stands(tmp_path: Path) -> None:
    responses = Responses(tmp_path, "w")
    responses.file(0).write_bytes(row(0, "first") + row(0, "second"))
    responses.file(1).write_bytes(row(0, "third"))
    assert responses.read() == {REQUESTS[0].digest: "first"}


@pytest.mark.parametrize("output", [None, 5, ["yes"], {"text": "yes"}, "\ud800"])
def test_only_text_is_an_answer(tmp_path: Path, output: object) -> None:
    responses = Responses(tmp_path, "w")
    data = json.dumps({"digest": REQUESTS[0].digest, "output": output}).encode() + b"\n"
    responses.file(0).write_bytes(data + row(1))
    assert responses.missing(REQUESTS[:2]) == (REQUESTS[0],)
    responses.file(1).write_bytes(row(0, "asked again"))
    assert responses.read()[REQUESTS[0].digest] == "asked again"


def test_a_folder_with_the_name_of_a_file_is_left_out(tmp_path: Path) -> None:
    responses = Responses(tmp_path, "w")
    responses.file(0).write_bytes(row(0))
    (responses.folder / "another.jsonl").mkdir()
    assert responses.missing(REQUESTS) == REQUESTS[1:]


def test_no_other_process_writes_the_same_file_and_all_of_them_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    responses = Responses(tmp_path, "w")
    mine = responses.file(0)
    mine.write_bytes(row(0))
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert responses.file(0) != mine
    responses.file(0).write_bytes(row(1))
    assert responses.missing(REQUESTS) == REQUESTS[2:]


@pytest.mark.parametrize("changed", [{"device": "cuda"}, {"torch": "2"}, {"transformers": "5"}])
def test_another_device_or_library_has_other_responses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str]
) -> None:
    here = {"device": "cpu", "torch": "1", "transformers": "4"}
    monkeypatch.setattr(module, "generator", lambda: here)
    Responses(tmp_path, "w").file(0).write_bytes(row(0))
    assert Responses(tmp_path, "w").missing(REQUESTS) == REQUESTS[1:]
    monkeypatch.setattr(module, "generator", lambda: {**here, **changed})
    assert Responses(tmp_path, "w").missing(REQUESTS) == REQUESTS


def test_more_files_than_may_be_open_hold_the_same_responses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_OPEN", 1)
    responses = Responses(tmp_path, "w")
    for shard in range(4):
        responses.file(shard).write_bytes(row(0, f"first {shard}") + row(shard, f"own {shard}"))
    found = responses.read()
    own = {request.digest: f"own {n}" for n, request in enumerate(REQUESTS) if n}
    assert found == {REQUESTS[0].digest: "first 0", **own}
    assert len(found) == 4
    assert (REQUESTS[1].digest in found, "other" in found) == (True, False)


def test_responses_that_are_forgotten_can_still_be_read_by_who_holds_them(tmp_path: Path) -> None:
    responses = Responses(tmp_path, "w")
    responses.file(0).write_bytes(row(0) + row(1, "no"))
    found = responses.read()
    responses.forget()
    assert (found[REQUESTS[1].digest], responses.read()) == ("no", {})

"""Rounds of a generation job on the tiny model: what comes first, and what is left out once nobody wants it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetune.worker.queues import Queue, Stopped, Subject, turns

PROMPTS = [(f"Say {'very ' * (n * 5 % 7)}much about {n}", 6 if n % 3 else 9) for n in range(12)]
ROUNDS = [(2, ["far"]), (1, ["near"]), (0, [])]  # of every third request


def job(workshop: Any, name: str, *, copies: int = 1) -> Path:
    """Write a job whose requests are in three rounds; the first one is wanted in any case."""
    folder: Path = workshop.generate(name, PROMPTS)
    rows = [json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines()]
    for n, row in enumerate(rows):
        row["round"], row["parts"] = ROUNDS[n % 3]
    (folder / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    content = json.loads((folder / "job.json").read_text())
    (subject,) = content["subjects"]
    content["subjects"] = [
        {**subject, "label": f"{name}-{n}", "responses": str(folder / f"responses-{n}.jsonl")} for n in range(copies)
    ]
    content["stopped"] = str(folder / "stopped.json")
    (folder / "job.json").write_text(json.dumps(content))
    return folder


def answered(folder: Path, number: int = 0) -> list[int]:
    """Return the numbers of the requests that were answered, in order."""
    lines = (folder / f"responses-{number}.jsonl").read_bytes().splitlines()
    return [int(json.loads(line)["digest"]) for line in lines]


def rounds(numbers: list[int]) -> list[int]:
    return [ROUNDS[n % 3][0] for n in numbers]


def test_rounds_are_answered_one_after_the_other_by_all_subjects(workshop: Any) -> None:
    folder = job(workshop, "two", copies=2)
    outcome = workshop.run(folder)
    assert (outcome["status"], outcome["done"], outcome["left_out"]) == ("ok", 24, 0)
    for number in (0, 1):
        assert rounds(answered(folder, number)) == [0] * 4 + [1] * 4 + [2] * 4
    said = [(row["subject"], row["done"]) for row in workshop.progress(folder)]
    turns_taken = [("two-0", 0, 4), ("two-1", 0, 4), ("two-1", 8), ("two-0", 8), ("two-0", 12), ("two-1", 12)]
    assert said == [(label, done) for label, *counts in turns_taken for done in counts]

    plain = workshop.generate("plain", PROMPTS)
    workshop.run(plain)
    lines = (plain / "responses.jsonl").read_bytes().splitlines()
    assert sorted((folder / "responses-0.jsonl").read_bytes().splitlines()) == sorted(lines)


def test_what_is_stopped_is_left_out_and_nothing_else(workshop: Any) -> None:
    folder = job(workshop, "stopped")
    (folder / "stopped.json").write_text('["far"]')
    outcome = workshop.run(folder)
    assert (outcome["status"], outcome["done"], outcome["left_out"]) == ("ok", 8, 4)
    assert rounds(answered(folder)) == [0] * 4 + [1] * 4
    (folder / "stopped.json").unlink()
    assert workshop.run(folder)["done"] == 12


def test_a_part_that_is_stopped_while_it_is_asked_ends_with_the_batch(workshop: Any, monkeypatch: Any) -> None:
    from safetune.worker.generate import Answerer

    folder, answer = job(workshop, "meanwhile"), Answerer.answer

    def and_stop(self: Answerer, batch: Any) -> Any:
        if batch.rows[0].digest in {f"{n:04d}" for n in range(1, 12, 3)}:  # the second round
            (folder / "stopped.json").write_text('["far", "near"]')
        return answer(self, batch)

    monkeypatch.setattr(Answerer, "answer", and_stop)
    content = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**content, "batch_rows": 2}))
    outcome = workshop.run(folder)
    assert (outcome["status"], outcome["done"], outcome["left_out"]) == ("ok", 6, 6)
    assert rounds(answered(folder)) == [0] * 4 + [1] * 2


def test_a_stopped_model_is_not_even_loaded(workshop: Any) -> None:
    folder = job(workshop, "gone", copies=2)
    rows = [json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines()]
    (folder / "far.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows if row["parts"] == ["far"]))
    content = json.loads((folder / "job.json").read_text())
    content["subjects"][1]["model"] = {"base": str(folder / "nowhere"), "adapters": []}
    content["subjects"][1]["requests"] = str(folder / "far.jsonl")
    (folder / "job.json").write_text(json.dumps(content))
    (folder / "stopped.json").write_text('["far"]')
    outcome = workshop.run(folder)
    assert (outcome["status"], outcome["done"], outcome["left_out"]) == ("ok", 8, 8)


def test_a_file_that_cannot_be_read_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "stopped.json"
    rows: list[dict[str, Any]] = [
        {"digest": "a", "parts": ["x"]},
        {"digest": "b", "parts": ["x", "y"]},
        {"digest": "c"},
    ]
    assert Stopped("").leaves_out(rows) == frozenset()
    for content in (None, "", "7", '{"x": 1', "\udcff"):
        if content is not None:
            path.write_bytes(content.encode("utf-8", "surrogateescape"))
        assert Stopped(str(path)).leaves_out(rows) == frozenset(), content
    path.write_text('["x"]')
    assert Stopped(str(path)).leaves_out(rows) == {"a"}
    path.write_text('["x", "y"]')
    assert Stopped(str(path)).leaves_out(rows) == {"a", "b"}


def test_turns_go_to_and_fro_and_skip_what_has_nothing_to_ask() -> None:
    def queue(label: str, numbers: list[int], done: frozenset[str] = frozenset()) -> Queue:
        rows = [{"digest": str(n), "round": number} for n, number in enumerate(numbers)]
        return Queue(Subject(label, {}, Path(), rows, done), Stopped(""))

    queues = [queue("a", [0, 1, 3]), queue("b", [0, 1, 2, 3]), queue("c", [1, 3], frozenset({"0"}))]
    found = [(each.subject.label, number) for each, number in turns(queues)]
    assert found == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("b", 2), ("b", 3), ("a", 3), ("c", 3)]
    assert list(turns([])) == []

"""`safetune trace` after a real run: from a row of the file to the checkpoints, and back, also by gradients."""

from __future__ import annotations

import json
from typing import Any

import pytest


@pytest.fixture(scope="module")
def lab(finished_lab: Any) -> Any:
    """The finished folder; a trace changes nothing in it."""
    return finished_lab


def made(lab: Any) -> list[str]:
    return [event["data"]["checkpoint"] for event in lab.events("trained")]


def test_a_line_of_the_file_leads_to_the_steps_that_saw_it(lab: Any) -> None:
    first, second = made(lab)
    sums = lab.json("trace", f"{lab.root}/sums.jsonl:3")
    assert {(one["checkpoint"], one["via"]) for one in sums["seen"]} == {(first, ""), (second, first)}
    assert sums["origins"][0]["source"] == "sums"
    assert sums["origins"][0]["line"] == 3
    assert sums["seen"][0]["steps_in_all"] > 0
    by_id = lab.json("trace", sums["row"][:8])
    assert by_id == sums


def test_a_checkpoint_leads_to_what_it_really_read(lab: Any) -> None:
    found = lab.json("trace", "stable")
    assert found["checkpoint"] == made(lab)[1]
    own, before = found["stages"]
    assert [(s["origin"]["source"], s["times"]) for s in own["sources"]] == [("chat", 8)]
    assert {s["origin"]["source"]: s["times"] for s in before["sources"]} == {"sums": 40, "chat": 40}
    assert (own["steps"], before["steps"]) == (4, 40)
    assert all(s["seen"] <= s["kept"] for s in before["sources"])


def test_an_answer_leads_to_rows_near_it(lab: Any) -> None:
    row = json.loads((lab.root / "chat.jsonl").read_text().splitlines()[5])
    text = f"{row['prompt'][0]['content']} {row['completion'][0]['content']}"
    found = lab.json("trace", "stable", "--output", text, "--top", "3")
    assert len(found["near"]) == 3
    assert found["near"][0]["origin"]["source"] == "chat"
    assert found["near"][0]["origin"]["line"] == 6
    plain = lab.do("trace", "stable", "--output", text)
    assert plain.code == 0
    assert plain.says("chat, kept row 6, licence MIT, made")
    assert "plus" not in plain.out


def test_an_answer_of_the_last_gate_is_read_from_its_evidence(lab: Any) -> None:
    done = lab.do("trace", "stable", "--item", "asks/p07")
    assert done.code in (0, 2), done.err  # a tiny model may answer nothing at all
    assert done.code == 0 or done.says("the answer is empty")
    wrong = lab.do("trace", "stable", "--item", "asks/nobody")
    assert wrong.code == 2
    assert wrong.says("did not ask")


def test_gradients_put_the_row_itself_first(lab: Any) -> None:
    row = json.loads((lab.root / "chat.jsonl").read_text().splitlines()[5])
    asked, said = row["prompt"][0]["content"], row["completion"][0]["content"]
    options = ("--output", said, "--prompt", asked, "--gradients", lab.playbook, "--among", "0", "--top", "50")
    found = lab.json("trace", "stable", *options)
    assert found["near"][0]["origin"]["line"] == 6
    assert found["near"][0]["origin"]["source"] == "chat"
    assert found["near"][0]["gradient"] == pytest.approx(1.0, abs=1e-3)
    gradients = [one["gradient"] for one in found["near"]]
    assert gradients == sorted(gradients, reverse=True)
    assert gradients[1] < 0.999
    assert not list((lab.store / "work" / "scratch").glob("attribute-*"))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("0" * 32,), "no mixture of this store has the row"),
        (("nobody",), "neither the id of a row"),
        (("stable", "--output", "a", "--item", "b/c"), "name one answer"),
        (("stable", "--output-file", "/nowhere"), "cannot be read"),
        (("12345678", "--output", "text"), "is not a checkpoint or a channel"),
    ],
)
def test_a_wrong_question_is_one_clear_message(lab: Any, words: tuple[str, ...], why: str) -> None:
    done = lab.do("trace", *words)
    assert done.code == 2
    assert done.says(why)

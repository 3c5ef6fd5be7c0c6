"""Recorded responses: rows are matched by id or prompt, and a row that could be misread is refused."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from safetune.core.errors import IntegrityError, UsageError
from safetune.core.evidence import Prompt
from safetune.core.suite import About, Decoding, Named, PromptSource, Suite
from safetune.engine.measure import Measured
from safetune.engine.recorded import Asked, read_recorded
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
    found = read_recorded(write(tmp_path, {"suite": "two", "item_id": "a", "output": "x"}), Asked(BOTH))
    assert found.responses == {key(SECOND, 0): "x"}


def test_an_id_without_a_suite_must_be_in_one_suite_only(tmp_path: Path) -> None:
    rows = ({"item_id": "a", "output": "x"}, {"item_id": "c", "output": "y"})
    found = read_recorded(write(tmp_path, *rows), Asked(BOTH))
    assert found.responses == {key(SECOND, 1): "y"}
    assert found.strays == 1
    assert "1 row(s) of said.jsonl have an item id that is in more than one suite; name the suite" in found.note
    assert found.unclear == 1


def test_rows_that_name_no_suite_and_could_be_of_two_say_what_decides(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as found:
        read_recorded(write(tmp_path, {"item_id": "a", "output": "x"}), Asked(BOTH))
    assert "no row of said.jsonl answers a prompt of one, two; 1 row(s)" in found.value.message
    assert found.value.hint == 'name the suite: "suite" in each row, or --suite NAME for a file that is about one'
    alone = read_recorded(write(tmp_path, {"item_id": "a", "output": "x"}), Asked((FIRST,)))
    assert (alone.responses, alone.unclear) == ({key(FIRST, 0): "x"}, 0)


def test_items_without_a_response_are_counted_and_the_first_named(tmp_path: Path) -> None:
    many = Measured(ONE, tuple(Prompt(f"p{n}", f"{n}?") for n in range(30)))
    rows = [{"item_id": f"p{n}", "output": "x"} for n in range(30) if n not in (3, 7)]
    assert read_recorded(write(tmp_path, *rows), Asked((many,))).missing == (
        "said.jsonl: 2 of 30 items of one have no response: p3, p7",
    )
    (text,) = read_recorded(write(tmp_path, *rows[:10]), Asked((many,))).missing
    assert text.endswith(
        "20 of 30 items of one have no response: p3, p7, p12, p13, p14, p15, p16, p17, p18, p19 and 10 more"
    )
    whole = [{"item_id": f"p{n}", "output": "x"} for n in range(30)]
    found = read_recorded(write(tmp_path, *whole), Asked((many,)))
    assert (found.missing, found.note) == ((), "")


def test_a_prompt_answers_every_item_that_asks_it(tmp_path: Path) -> None:
    found = read_recorded(write(tmp_path, {"prompt": "Why?", "output": "x"}), Asked(BOTH))
    assert found.responses == {key(FIRST, 1): "x", key(SECOND, 1): "x"}


def test_an_id_with_the_prompt_of_another_item_is_refused_by_line(tmp_path: Path) -> None:
    row = {"suite": "one", "item_id": "a", "prompt": "What?", "output": "x"}
    assert read_recorded(write(tmp_path, row), Asked(BOTH)).responses == {key(FIRST, 0): "x"}
    for other in ("Why?", "another question"):
        with pytest.raises(UsageError, match=r"said\.jsonl:1: item a asks something else"):
            read_recorded(write(tmp_path, {**row, "prompt": other}), Asked(BOTH))


def test_the_identity_is_that_of_the_bytes(tmp_path: Path) -> None:
    first = read_recorded(write(tmp_path, {"item_id": "b", "output": "x"}), Asked(BOTH))
    again = read_recorded(write(tmp_path, {"item_id": "b", "output": "x"}), Asked(BOTH))
    other = read_recorded(write(tmp_path, {"item_id": "b", "output": "y"}), Asked(BOTH))
    assert first.identity == again.identity != other.identity
    assert first.label == f"said.jsonl@{first.identity.removeprefix('recorded:')[:12]}"
    assert first.note == (
        "said.jsonl: 1 of 2 items of one have no response: a; said.jsonl: 2 of 2 items of two have no response: a, c"
    )


def test_an_empty_answer_is_an_answer(tmp_path: Path) -> None:
    assert read_recorded(write(tmp_path, {"item_id": "b", "output": ""}), Asked(BOTH)).responses == {key(FIRST, 1): ""}


def test_two_answers_to_one_item_are_refused_however_it_is_named(tmp_path: Path) -> None:
    rows = ({"item_id": "b", "output": "x"}, {"prompt": "Why?", "output": "y"})
    with pytest.raises(UsageError, match=r"said\.jsonl:2: a second, different response"):
        read_recorded(write(tmp_path, *rows), Asked(BOTH))


def test_an_empty_file_answers_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no row of said\.jsonl answers a prompt of one, two"):
        read_recorded(write(tmp_path), Asked(BOTH))


@pytest.mark.parametrize("field", ["output", "item_id", "prompt", "suite"])
def test_text_that_nothing_can_be_written_from_is_refused_by_line(tmp_path: Path, field: str) -> None:
    rows = ({"item_id": "b", "output": "x"}, {"item_id": "b", "output": "x", field: "half \ud800"})
    with pytest.raises(UsageError, match=r"said\.jsonl:2: its text has half a surrogate pair"):
        read_recorded(write(tmp_path, *rows), Asked(BOTH))


def test_equal_requests_of_several_items_have_one_response(tmp_path: Path) -> None:
    again = Measured(replace(ONE, name="again"), (Prompt("a", "What?"), Prompt("z", "Why?"), Prompt("y", "Why?")))
    asked = Asked((FIRST, again))
    found = read_recorded(write(tmp_path, {"suite": "again", "item_id": "y", "output": "x"}), asked).responses
    assert found == {key(FIRST, 1): "x"}
    assert key(FIRST, 1) == key(again, 1) == key(again, 2)
    assert found.get(key(FIRST, 0)) is None
    rows = ({"suite": "again", "item_id": "z", "output": "x"}, {"suite": "one", "item_id": "b", "output": "y"})
    with pytest.raises(UsageError, match=r"said\.jsonl:2: a second, different response"):
        read_recorded(write(tmp_path, *rows), asked)


def test_equal_second_answers_and_blank_lines_are_no_trouble(tmp_path: Path) -> None:
    path = write(tmp_path, {"item_id": "b", "output": "x"}, {"prompt": "What?", "output": "w"})
    path.write_text(path.read_text() + "\n\n" + json.dumps({"prompt": "Why?", "output": "x"}))
    found = read_recorded(path, Asked(BOTH))
    assert found.responses == {key(FIRST, 0): "w", key(FIRST, 1): "x", key(SECOND, 1): "x"}
    path.write_text(path.read_text() + "\nnot JSON")
    with pytest.raises(UsageError, match=r"said\.jsonl:6: not JSON"):
        read_recorded(path, Asked(BOTH))


def test_one_table_serves_both_files(tmp_path: Path) -> None:
    asked = Asked(BOTH)
    (tmp_path / "before").mkdir()
    now = read_recorded(write(tmp_path, {"item_id": "b", "output": "x"}), asked)
    before = read_recorded(write(tmp_path / "before", {"prompt": "Who?", "output": "y"}), asked)
    assert (now.responses, before.responses) == ({key(FIRST, 1): "x"}, {key(SECOND, 0): "y"})


def test_a_file_is_never_compared_with_itself_whatever_it_is_called(tmp_path: Path) -> None:
    asked = Asked(BOTH)
    now = write(tmp_path, {"item_id": "b", "output": "x"})
    copy = tmp_path / "before.jsonl"
    copy.write_bytes(now.read_bytes())
    read_recorded(now, asked)
    for same in (now, copy):
        with pytest.raises(UsageError, match=rf"{same.name} has the very bytes of said\.jsonl"):
            read_recorded(same, asked)
    copy.write_bytes(now.read_bytes() + b"\n")
    assert read_recorded(copy, asked).responses == {key(FIRST, 1): "x"}


def test_responses_from_a_pipe_are_as_good(tmp_path: Path) -> None:
    plain = write(tmp_path, {"item_id": "b", "output": "x"}, {"item_id": "c", "output": "y"})
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=lambda: pipe.write_bytes(plain.read_bytes()))
    writer.start()
    found = read_recorded(pipe, Asked(BOTH))
    writer.join()
    assert found.identity == read_recorded(plain, Asked(BOTH)).identity
    assert found.responses == {key(FIRST, 1): "x", key(SECOND, 1): "y"}


def test_a_file_that_is_changed_before_it_is_judged_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path, {"item_id": "b", "output": "x"})
    found = read_recorded(path, Asked(BOTH)).responses
    path.write_text(path.read_text().replace('"x"', '"z"'))
    with pytest.raises(IntegrityError, match="was changed"):
        found[key(FIRST, 1)]


# -- prompts that are more than their text ----------------------------------------------------------------------------

SPOKEN = replace(ONE, name="spoken", decoding=Decoding(6, system_prompt="Be kind."))
MORE = Measured(
    replace(ONE, name="more"),
    (Prompt("f", "Why?", prefill="Sure"), Prompt("g", "Why?", system=""), Prompt("h", "Why?")),
)
BEHIND = Measured(SPOKEN, (Prompt("i", "Why?"), Prompt("j", "When?")))


def test_a_text_answers_no_request_that_is_more_than_that_text(tmp_path: Path) -> None:
    found = read_recorded(write(tmp_path, {"prompt": "Why?", "output": "x"}), Asked((MORE, BEHIND)))
    assert found.responses == {key(MORE, 2): "x"}
    assert found.note.startswith(
        "3 prompt(s) have a prefill or a system message, and no row of said.jsonl names them by suite and item_id; "
    )


def test_an_item_id_and_a_suite_answer_any_request(tmp_path: Path) -> None:
    named = [("more", "f"), ("more", "g"), ("spoken", "i")]
    rows = [{"suite": s, "item_id": i, "prompt": "Why?", "output": i} for s, i in named]
    found = read_recorded(write(tmp_path, *rows, {"prompt": "Why?", "output": "x"}), Asked((MORE, BEHIND)))
    wanted = {key(MORE, 0): "f", key(MORE, 1): "g", key(MORE, 2): "x", key(BEHIND, 0): "i"}
    assert (found.responses, found.strays, found.unnamed) == (wanted, 0, 0)


def test_texts_alone_that_answer_nothing_say_why(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"answers a prompt of spoken; 1 prompt\(s\) have a prefill or a system"):
        read_recorded(write(tmp_path, {"prompt": "When?", "output": "x"}), Asked((BEHIND,)))

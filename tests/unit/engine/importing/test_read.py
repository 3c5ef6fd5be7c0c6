"""What wrote a file is told by its content; hostile files end in one clear message; items of our own; pairs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from safetune.core.errors import UsageError
from safetune.engine.importing import Imported, check_pair, detect, read_results, strict

HEAD = {"schema": "safetune-items/1", "tool": "checker", "version": "1.2", "expected": 1, "labels": ["good", "bad"]}


def item(n: int = 1, **changes: object) -> dict[str, Any]:
    row = {"item_id": f"a-{n}", "prompt": f"Say {n}.", "output": str(n), "judge": "rules"}
    return {**row, "judge_score": 1.0, "label": "good", **changes}


def write(folder: Path, rows: Sequence[object], name: str = "items.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(folder: Path, *rows: object, **head: object) -> Imported:
    content = [{**HEAD, "expected": len(rows), **head}, *rows]
    return read_results(write(folder, content), "s", "candidate")


def test_items_of_a_persons_own_program_are_read(tmp_path: Path) -> None:
    rows = (item(1, slice="x", cluster="c", sample=0), item(1, sample=1, label="bad", judge_score=0))
    found = read(tmp_path, *rows)
    assert detect(tmp_path / "items.jsonl") == "items"
    assert [(i.item_id, i.sample, i.label, i.judge_score) for i in found.items] == [
        ("a-1", 0, "good", 1.0),
        ("a-1", 1, "bad", 0.0),
    ]
    assert {i.judge for i in found.items} == {"checker/rules@1.2"}
    assert (found.items[0].slice, found.items[0].cluster) == ("x", "c")
    assert (found.tool, found.labels, found.complete) == ("checker", ("good", "bad"), True)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), 1.01, -0.01, None, "1"])
def test_a_score_outside_0_to_1_is_named_and_not_an_item(tmp_path: Path, score: object) -> None:
    found = read(tmp_path, item(1), item(2, judge_score=score))
    assert [i.item_id for i in found.items] == ["a-1"]
    assert found.incomplete == ("a-2: its judge_score is not a number from 0 to 1",)


def test_a_version_that_is_no_version_is_unknown(tmp_path: Path) -> None:
    assert [read(tmp_path, item(), version=v).version for v in (1, "1 2", "1\x1b[2J", "", "2.0+a")] == [
        *("unknown",) * 4,
        "2.0+a",
    ]


def test_a_judge_with_a_name_that_nobody_can_write_is_refused(tmp_path: Path) -> None:
    for name in ("a\nb", "\x1b[31m", "x" * 121, ""):
        with pytest.raises(UsageError, match="a name that nobody can write"):
            read(tmp_path, item(judge=name))


def test_items_that_are_missing_are_counted(tmp_path: Path) -> None:
    assert read(tmp_path, item(1), expected=3).incomplete == ("2 of 3 samples are not in the file",)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (item(label="goood"), ':2: the label "goood" is not in the first row'),
        (item(extra=1), ":2: unknown field extra"),
        (item(prompt=None), ":2: `prompt` is not text"),
        (item(output=None), ":2: `output` is not text"),
        (item(sample=-1), ":2: `sample` is not a whole number"),
        (item(item_id=""), ":2: the id of a sample"),
        (item(item_id="x" * 201), ":2: the id of a sample"),
        (item(item_id=True), ":2: the id of a sample"),
        (item(judge=None), ":2: `judge` is not text"),
    ],
)
def test_an_item_that_cannot_be_used_is_refused_with_its_line(tmp_path: Path, row: object, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        read(tmp_path, row)


@pytest.mark.parametrize(
    "head", [{"tool": None}, {"tool": "inspect"}, {"tool": "a/b@c"}, {"expected": "1"}, {"labels": [None]}]
)
def test_a_first_row_that_cannot_be_used_is_refused(tmp_path: Path, head: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"items\.jsonl:1: "):
        read(tmp_path, item(), **head)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"hello", "is no results file that safetune knows"),
        (b"[1, 2]", "is no results file that safetune knows"),
        (b'{"a": 1}', "is no results file that safetune knows"),
        (b'{"entry_type": "init"', "not JSON"),
        (b'{"entry_type": "init", "garak_version": "1"}\n{"entry_ty', ":2: not JSON"),
        (b'{"entry_type": "init", "garak_version": "1"}\n\xff\xfe', ":2: not UTF-8"),
        (b'{"a": ' * 200_000, "not JSON"),
        (b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "not JSON"),
        (b'{"entry_type": "x", "seq": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"PK\x03\x04" + b"\0" * 100, "is no whole zip archive"),
        (b"\x80\x04\x95.", "is no results file that safetune knows"),
    ],
)
def test_a_strange_file_ends_in_one_clear_message(tmp_path: Path, data: bytes, why: str) -> None:
    path = tmp_path / "strange.bin"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=why):
        read_results(path, "s", "candidate")


def test_what_is_no_regular_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(write(tmp_path, [HEAD, item()]))
    for name in ("pipe", "link", ".", "absent"):
        with pytest.raises(UsageError):
            detect(tmp_path / name)


def test_a_file_or_a_line_over_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, [HEAD, item(output="x" * 400)])
    monkeypatch.setattr(strict, "LINE_BYTES", 300)
    with pytest.raises(UsageError, match=":2: the line is longer"):
        read_results(path, "s", "candidate")
    monkeypatch.setattr(strict, "FILE_BYTES", 500)
    with pytest.raises(UsageError, match="is larger than"):
        read_results(path, "s", "candidate")


def test_the_identity_is_the_tool_and_the_digest_of_the_file(tmp_path: Path) -> None:
    first, again = read(tmp_path, item(1)), read(tmp_path, item(1))
    assert first.identity == again.identity
    assert first.identity.partition(":")[0] == "checker"
    assert read(tmp_path, item(1, output="else")).identity != first.identity


def test_a_pair_of_which_one_has_no_usable_score_is_still_one_measurement(tmp_path: Path) -> None:
    nothing = read(tmp_path, item(1, judge_score=None))
    assert (nothing.items, nothing.judge) == ((), "checker/rules@1.2")
    check_pair(nothing, read(tmp_path, item(1)))


def test_two_files_of_one_measurement_are_a_pair(tmp_path: Path) -> None:
    one, two = read(tmp_path, item(1), item(2)), read(tmp_path, item(2, output="b"), item(1, output="a"))
    check_pair(one, two)


@pytest.mark.parametrize(
    ("rows", "head", "why"),
    [
        ([item(1), item(2, prompt="Say two.")], {}, r"1 of 2 prompts differ \(a-2\)"),
        ([item(1)], {}, r"1 of 2 prompts differ \(a-2\)"),
        ([item(1), item(2), item(3)], {}, r"1 of 3 prompts differ \(a-3\)"),
        ([item(1), item(2)], {"version": "1.3"}, "different versions: 1.2 and 1.3"),
        ([item(1), item(2)], {"tool": "other"}, "different tools: checker and other"),
        ([item(1), item(2)], {"expected": 3}, "2 and 3 samples of the same prompts"),
        ([item(1, judge="model"), item(2, judge="model")], {}, "different judges"),
    ],
)
def test_two_files_that_are_not_one_measurement_are_refused(
    tmp_path: Path, rows: list[dict[str, Any]], head: dict[str, object], why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        check_pair(read(tmp_path, item(1), item(2)), read(tmp_path, *rows, **head))

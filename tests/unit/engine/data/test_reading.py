"""Reading JSONL: the rows, every way in which one can be wrong, and the bytes that are hashed."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from pathlib import Path

import pytest
from sourcelab import LONGEST, bad, everything, good, jsonl, row, sha, source, write

from safetune.core.errors import IntegrityError, UsageError
from safetune.engine.data.lines import BLOCK
from safetune.engine.data.reading import BadRow, Row, read

OK = json.dumps(row()).encode()


def test_rows_come_with_file_line_and_place(tmp_path: Path) -> None:
    data = b"\n" + jsonl(row("a")) + b"  \n" + json.dumps(row("b")).encode()
    path = write(tmp_path / "w.jsonl", data)
    found = everything(source(path, sha256=sha(data)))
    assert found == [Row(2, row("a"), "w.jsonl", 2), Row(4, row("b"), "w.jsonl", 4)]


def test_rows_of_every_shape_pass_as_they_are_with_what_else_they_hold(tmp_path: Path) -> None:
    rows = [
        {**row(), "topic": "sums", "n": 1.5},
        {"messages": [*row()["prompt"], *row()["completion"]]},
        {"prompt": row()["prompt"], "chosen": row()["completion"], "rejected": row()["completion"]},
    ]
    assert good(source(write(tmp_path / "w.jsonl", jsonl(*rows)))) == rows


def test_windows_line_ends_and_spaces_around_a_row_are_no_fault(tmp_path: Path) -> None:
    assert good(source(write(tmp_path / "w.jsonl", b"  " + OK + b" \r\n" + OK + b"\r\n"))) == [row(), row()]


def test_all_text_of_unicode_can_be_in_a_row(tmp_path: Path) -> None:
    text = "\U0001f600 \u2028 \x85 \x7f e\u0301 {[\\"
    assert good(source(write(tmp_path / "w.jsonl", jsonl(row(text))))) == [row(text)]
    raw = json.dumps(row(text), ensure_ascii=False).encode()
    assert good(source(write(tmp_path / "w.jsonl", raw))) == [row(text)]


DEEP = b'{"prompt": ' + b"[" * 70 + b"]" * 70 + b"}"
FAULTS = {
    "cut": (OK[:-5], "not JSON"),
    "line end in a text": (b'{"prompt": "a\x01"}', "not JSON: invalid control character at column 14"),
    "word": (b"hello", "not JSON: a value is expected at column 1"),
    "two values": (OK + b" {}", "more text after the row"),
    "list": (b"[1]", "a row must be an object"),
    "text": (b'"a"', "a row must be an object"),
    "no shape": (b'{"a": 1}', "a row here needs `prompt`"),
    "plain texts": (b'{"prompt": "a", "completion": "b"}', "`prompt` must be a list of messages"),
    "role": (OK.replace(b'"user"', b'"owner"'), "has a message with an unknown role"),
    "no utf-8": (OK.replace(b"Why", b"Wh\xff"), "not UTF-8 from byte "),
    "utf-8 of half a pair": (OK.replace(b"Why", b"\xed\xa0\x80"), "not UTF-8"),
    "byte order mark": (b"\xef\xbb\xbf" + OK, "byte order mark"),
    "utf-16": ("{}".encode("utf-16"), "this is UTF-16"),
    "nul": (OK.replace(b"Why", b"W\0y"), "holds a NUL byte"),
    "same key twice": (b'{"prompt": [], "prompt": []}', "a key stands twice"),
    "same key twice inside": (OK.replace(b'"role"', b'"content": "x", "role"'), "a key stands twice"),
    "nan": (OK[:-1] + b', "n": NaN}', "NaN is no JSON number"),
    "infinity": (OK[:-1] + b', "n": -Infinity}', "-Infinity is no JSON number"),
    "large number": (OK[:-1] + b', "n": 1e999}', "a number is too large"),
    "long number": (OK[:-1] + b', "n": ' + b"9" * 5000 + b"}", "a number is too large"),
    "half a pair": (OK.replace(b"Why", b"\\uD83d"), "half of a surrogate pair"),
    "deep": (DEEP, "nested more than 64 levels deep"),
    "very deep": (b'{"prompt": ' + b"[" * 100_000, "nested more than 64 levels deep"),
    "very deep object": (b'{"a":' * 50_000, "nested more than 64 levels deep"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_row_that_cannot_be_used_is_named_and_the_rest_goes_on(tmp_path: Path, fault: str) -> None:
    line, why = FAULTS[fault]
    path = write(tmp_path / "w.jsonl", OK + b"\n" + line + b"\n" + OK + b"\n")
    first, second, third = everything(source(path, sha256=sha(path.read_bytes())))
    assert isinstance(second, BadRow)
    assert (second.line, second.file, second.at) == (2, "w.jsonl", 2)
    assert why in second.why
    assert second.message == f"w.jsonl:2: {second.why}"
    assert [first, third] == [Row(1, row(), "w.jsonl", 1), Row(3, row(), "w.jsonl", 3)]


def test_a_whole_pair_of_surrogates_is_one_character(tmp_path: Path) -> None:
    path = write(tmp_path / "w.jsonl", OK.replace(b"Why", b"\\ud83d\\ude00"))
    assert good(source(path))[0]["prompt"][0]["content"] == "\U0001f600?"


def test_no_message_holds_the_text_of_a_row(tmp_path: Path) -> None:
    secret = b"hunter2-" * 200
    lines = [line.replace(b"Because", secret) for line, _ in FAULTS.values()]
    lines += [b'{"' + secret + b'": 1', secret, b'{"a": \\' + secret, b'{"a": "\\x' + secret + b'"}']
    found = bad(source(write(tmp_path / "w.jsonl", b"\n".join(lines))))
    assert len(found) == len(lines)
    assert not [why for _, why in found if "hunter2" in why or len(why) > 310]


def test_a_huge_line_is_left_out_and_never_held(tmp_path: Path) -> None:
    path = tmp_path / "w.jsonl"
    with path.open("wb") as stream:
        stream.write(OK + b"\n")
        for _ in range(200):
            stream.write(b"x" * BLOCK)
        stream.write(b"\n" + OK + b"\n")
    tracemalloc.start()
    found = everything(source(path, sha256=sha(path.read_bytes())), longest=100_000)
    tracemalloc.reset_peak()
    assert [one.line for one in found] == [1, 2, 3]
    again = read(source(path), 100_000)
    assert [one.why for one in again if isinstance(one, BadRow)] == ["a row of more than 100000 bytes"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * BLOCK


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_huge_last_line_is_left_out(tmp_path: Path, end: bytes) -> None:
    path = write(tmp_path / "w.jsonl", OK + b"\n" + b"x" * (3 * BLOCK) + end)
    assert bad(source(path), 1000) == [(2, "a row of more than 1000 bytes")]


def test_the_longest_row_may_be_just_as_long(tmp_path: Path) -> None:
    path = write(tmp_path / "w.jsonl", OK + b"\n" + OK + b" \n")
    assert bad(source(path), len(OK)) == [(2, f"a row of more than {len(OK)} bytes")]


@pytest.mark.parametrize("size", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK])
def test_lines_across_blocks_are_whole(tmp_path: Path, size: int) -> None:
    rows = [row("a" * (size - 150)), row("b"), row("c" * size), row("d" * 10)]
    path = write(tmp_path / "w.jsonl", jsonl(*rows))
    assert good(source(path, sha256=sha(path.read_bytes()))) == rows


def test_another_file_is_refused_at_the_end(tmp_path: Path) -> None:
    path = write(tmp_path / "w.jsonl", jsonl(row()))
    coming = read(source(path, sha256="0" * 64), LONGEST)
    assert isinstance(next(coming), Row)
    with pytest.raises(IntegrityError, match=r"source words has sha256 \w{12}, the playbook pins 000000000000"):
        next(coming)


def test_bytes_after_the_place_where_reading_starts_and_before_are_all_hashed(tmp_path: Path) -> None:
    data = jsonl(*(row(str(n)) for n in range(10)))
    path = write(tmp_path / "w.jsonl", data)
    found = everything(source(path, sha256=sha(data)), start=7)
    assert [one.at for one in found] == [8, 9, 10]
    path.write_bytes(data.replace(b'"2"', b'"x"'))
    with pytest.raises(IntegrityError):
        everything(source(path, sha256=sha(data)), start=7)
    path.write_bytes(data)
    assert everything(source(path, sha256=sha(data)), start=10) == []


def test_the_digest_of_what_was_read_is_returned(tmp_path: Path) -> None:
    data = jsonl(row(), row())
    coming = read(source(write(tmp_path / "w.jsonl", data)), LONGEST)
    next(coming)
    next(coming)
    with pytest.raises(StopIteration) as stop:
        next(coming)
    assert stop.value.value == sha(data)


def grow(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(OK + b"\n")


def replace(path: Path) -> None:
    write(path.with_name("other"), path.read_bytes()).replace(path)


def rewrite(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.write(b"x")
    os.utime(path, ns=(time.time_ns(), time.time_ns() + 10**9))


@pytest.mark.parametrize("change", [grow, replace, rewrite, Path.unlink])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, change: object) -> None:
    data = jsonl(*(row(str(n)) for n in range(20_000)))
    path = write(tmp_path / "w.jsonl", data)
    coming = read(source(path, sha256=sha(data)), LONGEST)
    next(coming)
    change(path)  # type: ignore[operator]
    with pytest.raises(IntegrityError, match=r"w.jsonl (changed|went away) while it was read"):
        list(coming)


@pytest.mark.parametrize("data", [b"", b"\n\n", b"  \r\n"])
def test_a_file_without_rows_is_an_error(tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path / "w.jsonl", data)
    with pytest.raises(UsageError, match=r"source words: w\.jsonl has no rows"):
        everything(source(path, sha256=sha(data)))


def test_what_is_no_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"source words: gone\.jsonl cannot be read: no such file"):
        everything(source(tmp_path / "gone.jsonl"))
    with pytest.raises(IntegrityError, match="not a regular file"):
        everything(source(tmp_path))
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(IntegrityError, match="not a regular file"):
        everything(source(tmp_path / "pipe.jsonl"))


def test_a_link_that_a_person_names_is_followed(tmp_path: Path) -> None:
    write(tmp_path / "real.jsonl", jsonl(row()))
    (tmp_path / "link.jsonl").symlink_to("real.jsonl")
    assert good(source(tmp_path / "link.jsonl")) == [row()]


COLUMNS = {"prompt": "q", "completion": "a", "system": "s"}


def test_columns_of_rows_become_messages(tmp_path: Path) -> None:
    rows = [{"q": "Why?", "a": "So.", "s": "Be brief.", "x": 1}, {"q": "How?", "a": 4, "s": ""}, {"q": "1", "a": "2"}]
    found = good(source(write(tmp_path / "w.jsonl", jsonl(*rows)), columns=COLUMNS))
    system = {"role": "system", "content": "Be brief."}
    assert found == [
        {"prompt": [system, *row("Why?")["prompt"]], "completion": row("", "So.")["completion"]},
        row("How?", "4"),
        row("1", "2"),
    ]


def test_columns_of_preferences_and_of_messages(tmp_path: Path) -> None:
    pairs = write(tmp_path / "p.jsonl", jsonl({"q": "Why?", "good": "So.", "bad": "No."}))
    columns = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    answer = [{"role": "assistant", "content": "So."}], [{"role": "assistant", "content": "No."}]
    assert good(source(pairs, columns=columns)) == [
        {"prompt": row()["prompt"], "chosen": answer[0], "rejected": answer[1]}
    ]
    talk = [*row()["prompt"], *row()["completion"]]
    talks = write(tmp_path / "t.jsonl", jsonl({"talk": talk, "s": "S"}, {"talk": json.dumps(talk)}))
    found = good(source(talks, columns={"messages": "talk", "system": "s"}))
    assert found == [{"messages": [{"role": "system", "content": "S"}, *talk]}, {"messages": talk}]


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ({"q": "a"}, 'has no column "a"'),
        ({"q": "a", "a": ""}, 'the column "a" is empty'),
        ({"q": None, "a": "b"}, 'the column "q" holds nothing'),
        ({"q": "a", "a": 1.5}, 'the column "a" holds no text'),
        ({"q": "a", "a": True}, 'the column "a" holds no text'),
        ({"q": "a", "a": "b", "s": 3.5}, 'the column "s" holds no text'),
        ({"q": "a", "a": [{"role": "user", "content": "b"}]}, "is not the assistant's"),
    ],
)
def test_cells_that_make_no_row(tmp_path: Path, cells: object, why: str) -> None:
    ((line, found),) = bad(source(write(tmp_path / "w.jsonl", jsonl(cells)), columns=COLUMNS))
    assert line == 1
    assert why in found


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"promt": "q", "completion": "a"}, 'no part "promt".*"prompt"'),
        ({"prompt": "q"}, "needs prompt \\+ completion"),
        ({"messages": "m", "zebra": "x"}, 'no part "zebra"'),
    ],
)
def test_a_mapping_that_makes_no_row_is_refused(tmp_path: Path, columns: dict[str, str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        everything(source(write(tmp_path / "w.jsonl", jsonl(row())), columns=columns))

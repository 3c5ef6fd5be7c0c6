"""Hostile rows through the command line: one clear message with file and line, exit code 2, no traceback."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import pytest


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


def row(asked: str = "What is it?", said: str = "It is so.") -> bytes:
    content = {"prompt": [{"role": "user", "content": asked}], "completion": [{"role": "assistant", "content": said}]}
    return json.dumps(content).encode()


GOOD = row()
HIDDEN = "zanzibar-4711"  # a word of each bad line, which no message may repeat
BAD: dict[str, tuple[bytes, str]] = {
    "no JSON": (f'{{"prompt": {HIDDEN}'.encode(), "not JSON"),
    "cut off": (GOOD[:-10], "not JSON"),
    "two rows in a line": (GOOD + GOOD, "not JSON"),
    "a list": (b'["zanzibar-4711"]', "object"),
    "a number": (b"1", "object"),
    "no such columns": (b'{"text": "zanzibar-4711"}', "a row here needs"),
    "a text for messages": (b'{"prompt": "zanzibar-4711", "completion": 3}', "must be a list of messages"),
    "a role that is none": (GOOD.replace(b"user", b"owner").replace(b"so", b"zanzibar-4711"), "an unknown role"),
    "a key twice": (GOOD[:-1] + b', "prompt": []}', "twice"),
    "NaN": (GOOD[:-1] + b', "weight": NaN}', "NaN"),
    "a huge number": (GOOD[:-1] + b', "weight": 1e999}', "too large"),
    "a number of 100,000 digits": (GOOD[:-1] + b', "weight": ' + b"9" * 100_000 + b"}", "too large"),
    "half of a pair": (row("a").replace(b'"a"', b'"\\ud800"'), "surrogate"),
    "no UTF-8": (GOOD.replace(b"so", b"\xff\xfe"), "not UTF-8"),
    "UTF-16": (b"\xff\xfe" + GOOD.decode().encode("utf-16-le"), "UTF-16"),
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD, "byte order mark"),
    "NUL": (GOOD.replace(b"so", b"s\0"), "NUL"),
    "10 MB in a line": (row("long " * 2_000_000), "a row of more than 1048576 bytes"),
    "10 MB of one letter": (b"a" * 10_000_000, "a row of more than 1048576 bytes"),
    "100,000 brackets": (b"[" * 100_000, "nested"),
    "100,000 brackets, closed": (b"[" * 100_000 + b"]" * 100_000, "nested"),
    "100,000 braces": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested"),
    "200 levels in a row": (GOOD[:-1] + b', "more": ' + b"[" * 200 + b"]" * 200 + b"}", "nested"),
}


def source(desk: Desk, name: str, data: bytes, **more: Any) -> dict[str, Any]:
    """Write the file of a source and return its entry."""
    (desk.root / name).write_bytes(data)
    entry = {"name": "rows", "uri": name, "sha256": hashlib.sha256(data).hexdigest(), "licence": "MIT"}
    return entry | {"consent": "made", "origin": "these tests", "use": "train"} | more


def assert_one_message(done: Done, *words: str) -> None:
    """Exit code 2, one line of error that holds these words (and a hint), no traceback, no text of the row."""
    text = done.out + done.err
    assert done.code == 2, text
    assert "Traceback" not in text
    assert HIDDEN not in text
    assert "a bug in safetune" not in text
    assert all(word in text for word in words), text
    assert len(text) < 3_000
    assert len([line for line in done.err.splitlines() if line.startswith("error")]) <= 1


@pytest.mark.parametrize(("bad", "why"), BAD.values(), ids=BAD.keys())
def test_a_bad_line_is_one_message_with_file_and_line(desk: Desk, bad: bytes, why: str) -> None:
    desk.write(sources=[source(desk, "data.jsonl", GOOD + b"\n" + bad + b"\n" + row("Else?") + b"\n")])
    began = time.monotonic()
    assert_one_message(desk.do("data", "check", "playbook.yaml"), "data.jsonl:2", why)
    assert time.monotonic() - began < 30
    assert not list(desk.root.glob("safetune-crash-*"))


@pytest.mark.parametrize("name", ["no JSON", "100,000 brackets", "10 MB in a line", "NUL"])
def test_plan_run_and_pin_say_the_same(desk: Desk, name: str) -> None:
    bad, why = BAD[name]
    desk.write(sources=[source(desk, "data.jsonl", GOOD + b"\n" + bad + b"\n")])
    for words in (("plan", "playbook.yaml"), ("run", "playbook.yaml"), ("data", "check", "data.jsonl")):
        assert_one_message(desk.do(*words), "data.jsonl:2", why)
    pinned = desk.do("data", "pin", "data.jsonl")
    assert pinned.code in (0, 2)
    assert "Traceback" not in pinned.err
    assert HIDDEN not in pinned.out + pinned.err


def test_where_the_policy_allows_some_the_rest_goes_on_and_each_is_named(desk: Desk) -> None:
    lines = [row(f"What is number {n}?", f"It is {n}.") for n in range(100)]
    bad = [bad for bad, _ in BAD.values()]
    mixed = [line for pair in zip(lines, bad, strict=False) for line in pair] + lines[len(bad) :]
    entry = source(desk, "data.jsonl", b"\n".join(mixed) + b"\n")
    desk.write(sources=[entry], data={"max_bad_rows": 0.5})
    done = desk.do("data", "check", "playbook.yaml", "--findings", "found.jsonl", "--json")
    assert done.code == 0, done.out + done.err
    rows = done.document["sources"][0]["rows"]
    assert (rows["rows"], rows["kept"], rows["bad"]) == (100, 100, len(bad))
    found = [json.loads(line) for line in (desk.root / "found.jsonl").read_text().splitlines()]
    unreadable = [one["line"] for one in found if one["rule"] == "unreadable"]
    assert unreadable == [2 * n for n in range(1, len(bad) + 1)]
    assert HIDDEN not in (desk.root / "found.jsonl").read_text()
    desk.write(sources=[entry], data={"max_bad_rows": 0.1})
    assert_one_message(
        desk.do("data", "check", "playbook.yaml"), f"{len(bad)} of {100 + len(bad)} rows cannot be read", "data.jsonl:2"
    )


def test_blank_lines_are_no_rows_and_lines_are_counted_with_them(desk: Desk) -> None:
    desk.write(sources=[source(desk, "data.jsonl", b"\n" + GOOD + b"\n  \n\n" + b"nothing" + b"\n")])
    assert_one_message(desk.do("data", "check", "playbook.yaml"), "data.jsonl:5", "not JSON")


CSVS = {
    "too many fields": (b"q,a\nx,y\nx,y,zanzibar-4711\n", "data.csv:3"),
    "too few fields": (b"q,a\nx,y\nzanzibar-4711\n", "data.csv:3"),
    "another column": (b"q,zanzibar-4712\nx,y\n", "data.csv"),
    "a column twice": (b"q,a,a\nx,y,zanzibar-4711\n", "data.csv"),
    "nothing": (b"", "data.csv"),
    "an open quote": (b'q,a\nx,y\n"zanzibar-4711,y\nx,y\n', "data.csv:3"),
    "NUL": (b"q,a\nx,y\nx,zanzibar-4711\0\n", "data.csv:3"),
    "no UTF-8": (b"q,a\nx,y\nx,\xff\xfe\n", "data.csv:3"),
    "10 MB in a field": (b"q,a\nx,y\nx," + b"a" * 10_000_000 + b"\n", "data.csv:3"),
}


@pytest.mark.parametrize(("data", "where"), CSVS.values(), ids=CSVS.keys())
def test_a_bad_table_is_one_message(desk: Desk, data: bytes, where: str) -> None:
    desk.write(sources=[source(desk, "data.csv", data, columns={"prompt": "q", "completion": "a"})])
    assert_one_message(desk.do("data", "check", "playbook.yaml"), where)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1", b"zanzibar-4711" * 100])
def test_a_damaged_parquet_file_is_one_message(desk: Desk, data: bytes) -> None:
    desk.write(sources=[source(desk, "data.parquet", data, columns={"prompt": "q", "completion": "a"})])
    assert_one_message(desk.do("data", "check", "playbook.yaml"), "data.parquet")


def test_a_file_that_is_no_file_is_one_message(desk: Desk) -> None:
    entry = source(desk, "data.jsonl", GOOD + b"\n")
    (desk.root / "data.jsonl").unlink()
    desk.write(sources=[entry])
    assert_one_message(desk.do("data", "check", "playbook.yaml"), "data.jsonl")
    os.mkfifo(desk.root / "data.jsonl")
    found = desk.do("data", "check", "playbook.yaml")
    assert found.code != 0
    assert "Traceback" not in found.err
    assert "data.jsonl" in found.err


@pytest.mark.parametrize("change", ["appended", "replaced", "cut"])
def test_a_file_that_changes_while_it_is_read_is_refused(desk: Desk, change: str) -> None:
    lines = b"".join(row(f"What is number {n}?", f"It is {n}.") + b"\n" for n in range(60_000))
    desk.write(sources=[source(desk, "data.jsonl", lines)])
    (desk.root / ".safetune" / "work").mkdir(parents=True)
    command = [sys.executable, "-m", "safetune", "data", "check", "playbook.yaml"]
    process = subprocess.Popen(command, cwd=desk.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    work = desk.root / ".safetune" / "work"
    while process.poll() is None and not any(p.stat().st_size for p in work.rglob("rows.jsonl")):
        time.sleep(0.002)
    assert process.poll() is None, "it ended before the file was changed"
    path = desk.root / "data.jsonl"
    if change == "appended":
        with path.open("ab") as file:
            file.write(GOOD + b"\n")
    elif change == "cut":
        os.truncate(path, len(lines) - len(lines) // 4)
    else:
        (desk.root / "new.jsonl").write_bytes(lines[:-1] + b" \n")
        (desk.root / "new.jsonl").replace(path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 5, out + err  # not the pinned bytes, whatever the rows say
    assert "Traceback" not in out + err
    assert "data.jsonl" in err
    assert "kept" not in out

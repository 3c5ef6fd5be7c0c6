"""Reading CSV and Parquet: rows, the line they are named by, and what is wrong with a file or a row."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from pyarrow import parquet
from sourcelab import LONGEST, bad, everything, good, row, sha, source, write

from safetune.core.errors import IntegrityError, UsageError
from safetune.engine.data.reading import Row, read

COLUMNS = {"prompt": "question", "completion": "answer"}
HEAD = b"question,answer\n"


def table(path: Path, data: bytes) -> Any:
    return source(write(path / "t.csv", data), "csv", columns=COLUMNS)


def test_rows_of_csv_have_their_first_line(tmp_path: Path) -> None:
    data = HEAD + b'Why?,"So,\nand ""so""."\r\n\n\nHow?,Thus.\n'
    found = everything(source(write(tmp_path / "t.csv", data), "csv", sha(data), COLUMNS))
    assert found == [Row(2, row("Why?", 'So,\nand "so".'), "t.csv", 2), Row(6, row("How?", "Thus."), "t.csv", 6)]


def test_a_table_with_the_names_of_a_shape_needs_no_mapping(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", b"completion,x,prompt,system\nSo.,1,Why?,S\n")
    found = good(source(path, "csv"))
    assert found == [{"prompt": [{"role": "system", "content": "S"}, *row()["prompt"]], **_only(row("", "So."))}]


def _only(one: dict[str, Any]) -> dict[str, Any]:
    return {"completion": one["completion"]}


def test_messages_of_csv_are_json(tmp_path: Path) -> None:
    cell = b'"[{""role"": ""user"", ""content"": ""a""}, {""role"": ""assistant"", ""content"": ""b""}]"'
    path = write(tmp_path / "t.csv", b"messages\n" + cell + b"\nhello\n{}\n")
    found = everything(source(path, "csv"))
    assert isinstance(found[0], Row)
    assert found[0].content["messages"] == [*row("a")["prompt"], *row("", "b")["completion"]]
    assert [why for _, why in bad(source(path, "csv"))] == [
        'the column "messages" holds no list of messages: not JSON: a value is expected at column 1',
        'the column "messages" holds no list of messages',
    ]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"only one", "has 1 fields, the header names 2 columns"),
        (b"a,b,c", "has 3 fields, the header names 2 columns"),
        (b"a,", 'the column "answer" is empty'),
        (b"a,\xff", "not UTF-8 from byte 3 of the line on"),
        (b"a,b\0c", "holds a NUL byte"),
        (b'a,"b"c', "not CSV: ',' expected after '\"'"),
        (b"a\rb,c", "not CSV: new-line character seen in unquoted field"),
        (b"a," + b"x" * 2000, "a row of more than 1000 bytes"),
    ],
)
def test_a_row_of_csv_that_cannot_be_used(tmp_path: Path, line: bytes, why: str) -> None:
    of = table(tmp_path, HEAD + b"a,b\n" + line + b"\nc,d\n")
    found = everything(of, 1000)
    assert [one.line for one in found] == [2, 3, 4]
    assert bad(of, 1000) == [(3, why)]


def test_a_quotation_mark_that_is_not_closed_costs_no_more_than_a_row(tmp_path: Path) -> None:
    rest = b"".join(b"c%d,d\n" % n for n in range(1000))
    of = table(tmp_path, HEAD + b'a,"b\n' + rest)
    found = everything(of, 500)
    assert bad(of, 500) == [(2, "a row of more than 500 bytes; a quotation mark may not be closed")]
    assert len(found) > 900
    assert bad(of) == [(2, "a quotation mark is not closed before the end of the file")]


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (b",\n", "t.csv:1: the header is empty"),
        (b"question,question\n", 'the header names the column "question" twice'),
        (b"Question,answer\n", 'the header has no column "question", which `columns` names for `prompt`'),
        (b'"x\ny","answer"\n', "names for `prompt`; it has answer, x y"),
        (b"questio,answer\n", 'did you mean "questio"'),
        (b"\xff,answer\n", "t.csv:1: the header not UTF-8"),
        (b'"question,answer\n', "t.csv:1: the header a quotation mark is not closed"),
    ],
)
def test_a_header_that_cannot_be_used(tmp_path: Path, head: bytes, why: str) -> None:
    with pytest.raises(UsageError) as error:
        everything(table(tmp_path, head))
    assert why in error.value.message


def test_a_table_of_which_nothing_says_what_is_meant(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the header has none of the columns prompt \\+ completion"):
        everything(source(write(tmp_path / "t.csv", b"a,b\n1,2\n"), "csv"))


@pytest.mark.parametrize("data", [b"", HEAD])
def test_csv_without_rows(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(UsageError, match=r"t\.csv has no rows"):
        everything(table(tmp_path, data))


def test_a_byte_order_mark_of_a_spreadsheet_is_passed_over(tmp_path: Path) -> None:
    assert good(table(tmp_path, b"\xef\xbb\xbf" + HEAD + b"a,b\n")) == [row("a", "b")]


def test_csv_goes_on_after_a_line(tmp_path: Path) -> None:
    data = HEAD + b'a,"b\nb"\na,\xff\ne,f\nbad\n'
    of = source(write(tmp_path / "t.csv", data), "csv", sha(data), COLUMNS)
    assert [one.at for one in everything(of, start=2)] == [4, 5, 6]
    assert [one.at for one in everything(of, start=5)] == [6]
    assert everything(of, start=6) == []


def test_other_csv_is_refused(tmp_path: Path) -> None:
    of = source(write(tmp_path / "t.csv", HEAD + b"a,b\n"), "csv", "0" * 64, COLUMNS)
    with pytest.raises(IntegrityError):
        everything(of)


# -- Parquet ---------------------------------------------------------------------------------------------------------


def packed(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    parquet.write_table(pa.table(columns), path, **options)
    return path


def numbered(path: Path, count: int, **options: Any) -> Path:
    texts = [str(n) for n in range(count)]
    return packed(path, {"question": texts, "answer": texts, "other": [float("nan")] * count}, **options)


def test_rows_of_parquet_have_their_number(tmp_path: Path) -> None:
    path = numbered(tmp_path / "t.parquet", 1000, row_group_size=300)
    of = source(path, "parquet", sha(path.read_bytes()), COLUMNS)
    found = everything(of)
    assert found[0] == Row(1, row("0", "0"), "t.parquet", 1)
    assert found[999] == Row(1000, row("999", "999"), "t.parquet", 1000)
    assert len(found) == 1000
    assert everything(of, start=650) == found[650:]


def test_messages_of_parquet_are_lists(tmp_path: Path) -> None:
    talk = [*row()["prompt"], *row()["completion"]]
    path = packed(tmp_path / "t.parquet", {"messages": [talk, talk[:1], None]})
    found = everything(source(path, "parquet"))
    assert isinstance(found[0], Row)
    assert found[0].content == {"messages": talk}
    assert bad(source(path, "parquet")) == [
        (2, "the last message of `messages` is not the assistant's"),
        (3, 'the column "messages" holds nothing'),
    ]


def test_cells_of_parquet_that_no_row_can_hold(tmp_path: Path) -> None:
    texts = pa.array([b"a", b"\xff", b"c" * 5000, b"d"], pa.binary()).cast(pa.string(), safe=False)
    path = tmp_path / "t.parquet"
    plain = pa.array(["a"] * 4)
    parquet.write_table(pa.table({"question": _unchecked(texts), "answer": plain}), path)
    found = everything(source(path, "parquet", columns=COLUMNS), 4000)
    assert [type(one) is Row for one in found] == [True, False, False, True]
    assert [why for _, why in bad(source(path, "parquet", columns=COLUMNS), 4000)] == [
        "holds a text that is not UTF-8",
        "a row of more than 4000 bytes",
    ]
    assert [one.line for one in everything(source(path, "parquet", columns=COLUMNS)) if isinstance(one, Row)] == [
        1,
        3,
        4,
    ]
    numbers = packed(tmp_path / "n.parquet", {"question": [1.5, float("nan")], "answer": ["a", "b"]})
    assert [why for _, why in bad(source(numbers, "parquet", columns=COLUMNS))] == [
        'the column "question" holds no text',
        "holds a number that is not finite",
    ]
    bytes_ = packed(tmp_path / "b.parquet", {"question": [b"x"], "answer": ["a"]})
    assert bad(source(bytes_, "parquet", columns=COLUMNS)) == [(1, "holds a value of the type bytes, which is no JSON")]


def _unchecked(texts: Any) -> Any:
    return pa.Array.from_buffers(pa.string(), len(texts), texts.buffers())


def test_parquet_without_the_columns(tmp_path: Path) -> None:
    path = packed(tmp_path / "t.parquet", {"a": ["b"]})
    with pytest.raises(UsageError, match=r't\.parquet has no column "question", which `columns` names for `prompt`'):
        everything(source(path, "parquet", columns=COLUMNS))
    with pytest.raises(UsageError, match=r"t\.parquet has none of the columns"):
        everything(source(path, "parquet"))


def test_parquet_without_rows(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no rows"):
        everything(source(numbered(tmp_path / "t.parquet", 0), "parquet", columns=COLUMNS))


@pytest.mark.parametrize("cut", [0, 3, 100, 5000, -1])
def test_parquet_that_is_cut(tmp_path: Path, cut: int) -> None:
    path = numbered(tmp_path / "t.parquet", 2000)
    data = path.read_bytes()[:cut]
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"source words: t\.parquet cannot be read as Parquet: [^\n]+$"):
        everything(source(path, "parquet", columns=COLUMNS))


def test_parquet_that_is_damaged_inside(tmp_path: Path) -> None:
    path = numbered(tmp_path / "t.parquet", 20_000, row_group_size=5000, compression="snappy")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = b"\xa5" * 3000
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"cannot be read as Parquet after row \d+: "):
        everything(source(path, "parquet", columns=COLUMNS))


@pytest.mark.parametrize("touch", [True, False])
def test_parquet_that_changes_while_it_is_read(tmp_path: Path, touch: bool) -> None:
    path = numbered(tmp_path / "t.parquet", 3000, row_group_size=1000)
    coming = read(source(path, "parquet", sha(path.read_bytes()), COLUMNS), LONGEST)
    next(coming)
    before = path.stat()
    with path.open("r+b") as stream:
        stream.seek(5)
        stream.write(b"x")
    if not touch:  # the time of the change is hidden
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(IntegrityError, match=r"t\.parquet changed while it was read"):
        list(coming)


def test_parquet_that_is_only_linked_meanwhile_is_the_same(tmp_path: Path) -> None:
    path = numbered(tmp_path / "t.parquet", 3)
    coming = read(source(path, "parquet", sha(path.read_bytes()), COLUMNS), LONGEST)
    next(coming)
    (tmp_path / "second").hardlink_to(path)
    assert len(list(coming)) == 2


def test_memory_does_not_grow_with_a_table(tmp_path: Path) -> None:
    text = "word " * 200
    data = HEAD + b"".join(b"%d,%s\n" % (n, text.encode()) for n in range(20_000))
    path = write(tmp_path / "t.csv", data)
    del data
    tracemalloc.start()
    count = sum(1 for _ in read(source(path, "csv", columns=COLUMNS), LONGEST))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 5 * 1024 * 1024

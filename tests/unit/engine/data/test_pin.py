"""Pinning: one look at a source, and the entry of a playbook that comes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pytest
import yaml
from pyarrow import parquet
from sourcelab import LONGEST, everything, jsonl, row, sha, write

from safetune.core.digest import canonical
from safetune.core.errors import IntegrityError, UsageError
from safetune.core.pinned import Pinned
from safetune.engine.data.pin import pin, source_at, usable
from safetune.engine.data.reading import read
from safetune.report.data_pin import pin_json, pin_lines
from safetune.state.files import sha256_listing
from safetune.state.objects import ObjectStore

A = jsonl(row("a"), row("b"))


def pinned(tmp_path: Path, uri: str, revision: str = "") -> Pinned:
    return pin(uri, source_at(uri, tmp_path, revision=revision), LONGEST)


def entry(found: Pinned) -> dict[str, Any]:
    """Return the entry as a playbook would read it."""
    (one,) = yaml.safe_load("\n".join(pin_lines(found)))["sources"]
    assert isinstance(one, dict)
    return one


def test_a_file_in_a_shape(tmp_path: Path) -> None:
    write(tmp_path / "d/Word Problems.jsonl", A)
    found = pinned(tmp_path, "d/Word Problems.jsonl")
    assert found == Pinned("d/Word Problems.jsonl", "jsonl", sha(A), 2, len(A), 1)
    assert entry(found) == {
        "name": "word-problems",
        "uri": "d/Word Problems.jsonl",
        "sha256": sha(A),
        "format": "jsonl",
        "licence": "",
        "consent": "",
        "origin": "",
        "publisher": "",
        "use": ["train"],
    }
    assert pin_lines(found)[0] == f"# 2 rows in 1 file, {len(A)} bytes"


def test_columns_are_guessed_and_rows_counted_with_them(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbfid,question,answer,system\n1,a,b,c\n2,,b,\n"
    write(tmp_path / "t.csv", data)
    found = pinned(tmp_path, "t.csv")
    columns = {"prompt": "question", "completion": "answer", "system": "system"}
    assert (found.rows, found.bad, found.columns) == (1, 1, columns)
    assert found.first_bad == 't.csv:3: the column "question" is empty'
    assert entry(found)["columns"] == columns
    assert pin_lines(found)[1] == '# 1 row cannot be used, the first: t.csv:3: the column "question" is empty'
    parquet.write_table(pa.table({"instruction": ["a"], "output": ["b"]}), tmp_path / "p.parquet")
    assert pinned(tmp_path, "p.parquet").columns == {"prompt": "instruction", "completion": "output"}
    write(tmp_path / "s.jsonl", jsonl({"prompt": "a", "completion": "b", "x": 1}))
    assert pinned(tmp_path, "s.jsonl").columns == {"prompt": "prompt", "completion": "completion"}
    write(tmp_path / "q.jsonl", jsonl({"query": "a", "response": "b"}))
    assert (pinned(tmp_path, "q.jsonl").rows, pinned(tmp_path, "q.jsonl").bad) == (1, 0)


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.jsonl", b"\n"), ("a.jsonl", b""), ("a.csv", b"x,y\n1,2\n"), ("a.parquet", b"PAR1"), ("a.csv", b"\xff\n")],
)
def test_what_has_no_usable_row_has_a_digest_all_the_same(tmp_path: Path, name: str, data: bytes) -> None:
    write(tmp_path / name, data)
    found = pinned(tmp_path, name)
    assert (found.sha256, found.rows, found.bad) == (sha(data), 0, 0)
    assert name in found.first_bad
    assert pin_lines(found)[1].startswith("# no row can be used: source")


def test_all_bad_rows_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", A + b"[1]\nx\n")
    found = pinned(tmp_path, "a.jsonl")
    assert (found.rows, found.bad, found.first_bad) == (2, 2, "a.jsonl:3: a row must be an object")


def test_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "d/a.jsonl", A)
    write(tmp_path / "d/b/c.jsonl", A)
    found = pinned(tmp_path, "d")
    listing = sha256_listing({"a.jsonl": sha(A), "b/c.jsonl": sha(A)})
    assert (found.kind, found.sha256, found.rows, found.files, found.size) == ("folder", listing, 4, 2, 2 * len(A))


def test_the_pin_is_what_reading_compares(tmp_path: Path) -> None:
    from dataclasses import replace

    write(tmp_path / "d/a.jsonl", A)
    at = source_at("d", tmp_path)
    found = pin("d", at, LONGEST)
    assert len(everything(replace(at, sha256=found.sha256))) == found.rows


def test_a_hub_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    revision = "0" * 40
    write(tmp_path / f"datasets--org--words/snapshots/{revision}/a.jsonl", A)
    found = pinned(tmp_path, "hub:org/words", revision)
    assert (found.kind, found.rows, found.revision) == ("hub", 2, revision)
    assert entry(found)["revision"] == revision
    assert entry(found)["name"] == "words"
    with pytest.raises(UsageError, match="a hub dataset needs `revision`"):
        pinned(tmp_path, "hub:org/words")


def test_what_dvc_pins(tmp_path: Path) -> None:
    import hashlib

    md5 = hashlib.md5(A, usedforsecurity=False).hexdigest()
    write(tmp_path / "a.jsonl", A)
    write(tmp_path / "a.jsonl.dvc", f"outs:\n- md5: {md5}\n  hash: md5\n  path: a.jsonl\n".encode())
    found = pinned(tmp_path, "a.jsonl.dvc")
    assert (found.kind, found.sha256, found.rows, found.dvc) == ("jsonl", sha(A), 2, md5)
    assert f"# compared with md5 {md5}, which DVC pins" in pin_lines(found)
    assert entry(found)["name"] == "a"
    write(tmp_path / "a.jsonl", A + A)
    with pytest.raises(IntegrityError):
        pinned(tmp_path, "a.jsonl.dvc")


def test_a_mixture_brings_its_declarations(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    objects = ObjectStore(tmp_path / "store", tmp_path / "tmp")
    rows = jsonl({"id": "1" * 32, "row": row()})
    data = objects.adopt(write(tmp_path / "one/rows.jsonl", rows).parent)
    said = {
        "licence": "MIT",
        "consent": "release",
        "origin": "here",
        "languages": ["en"],
        "limits": ["\U0001f600 \x7f"],
    }
    made: Any = {
        "format": "safetune-mixture/1",
        "sources": [{"name": "a", "role": "train", "data": data, "source": said}],
    }
    name = objects.adopt(write(tmp_path / "two/mixture.json", canonical(made)).parent)
    found = pinned(tmp_path, f"store/{name}")
    assert (found.kind, found.sha256, found.rows, found.size) == ("mixture", name, 1, len(rows))
    one = entry(found)
    assert {key: one[key] for key in said} == said
    assert pin_json(found)["declared"] == {**said}


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"source gone\.jsonl: gone\.jsonl cannot be read: no such file"):
        pinned(tmp_path, "gone.jsonl")


def test_nothing_that_a_file_says_reaches_a_terminal_as_it_is(tmp_path: Path) -> None:
    evil = "x\x1b[31m\u202e\n- evil: 1"
    found = Pinned(evil, "jsonl", "0" * 64, 0, 0, 1, 1, evil, evil, {"prompt": evil}, {"licence": evil}, evil)
    lines = pin_lines(found)
    text = "\n".join(lines)
    assert text.isprintable() or not [c for c in text if not c.isprintable() and c != "\n"]
    assert len(lines) == text.count("\n") + 1
    one = yaml.safe_load(text)["sources"][0]
    assert (one["uri"], one["licence"], one["columns"], one["revision"]) == (evil, evil, {"prompt": evil}, evil)
    assert json.dumps(pin_json(found))


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("a/b/Rows.jsonl", "rows"),
        ("dvc.yaml#out/t.csv", "t"),
        ("hub:org/My.Words", "my-words"),
        ("d", "d"),
        ("...", "rows"),
        ("x" * 99 + ".csv", "x" * 40),
    ],
)
def test_an_entry_has_a_name_that_a_playbook_takes(uri: str, name: str) -> None:
    assert entry(Pinned(uri, "jsonl", "0" * 64, 0, 0, 1))["name"] == name


@pytest.mark.parametrize(
    ("name", "data", "says", "hint"),
    [
        ("a.jsonl.gz", b"\x1f\x8b\x08\x00", "a.jsonl.gz:1", "compressed files (.gz, .zst"),
        ("a.json", b'{"@context": 1,\n"@type": 2}\n', "a.json:1", "Croissant record is no data"),
        ("a.jsonl", jsonl({"chosen": "a", "rejected": "b"}), "a.jsonl:1", "prompt, chosen and rejected"),
        ("a.parquet", b"PAR1", "a.parquet", "`columns`"),
    ],
)
def test_what_has_no_usable_row_is_no_source(tmp_path: Path, name: str, data: bytes, says: str, hint: str) -> None:
    write(tmp_path / name, data)
    with pytest.raises(UsageError, match="has no row that can be used: ") as raised:
        usable(pinned(tmp_path, name))
    assert says in raised.value.message
    assert hint in raised.value.hint


def test_what_has_a_usable_row_is_pinned(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", A + b"x\n")
    found = pinned(tmp_path, "a.jsonl")
    assert usable(found) is found


@pytest.mark.parametrize(("uri", "kind", "says"), [("", "", "nothing to pin"), ("a.csv", "excel", '"excel"')])
def test_nothing_and_an_unknown_format_are_refused(tmp_path: Path, uri: str, kind: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as raised:
        source_at(uri, tmp_path, kind)
    assert "mixture" in raised.value.hint


def test_a_format_that_no_reader_has_is_said_and_never_a_crash(tmp_path: Path) -> None:
    from dataclasses import replace

    write(tmp_path / "a.jsonl", A)
    source = replace(source_at("a.jsonl", tmp_path), kind="excel")
    with pytest.raises(UsageError, match=r"a\.jsonl cannot be read as excel") as raised:
        list(read(source, LONGEST))
    assert "jsonl, csv, parquet" in raised.value.hint

"""Files that DVC pins: the md5 as DVC defines it, and what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from sourcelab import everything, good, jsonl, row, sha, source, write

from safetune.core.errors import IntegrityError, UsageError
from safetune.engine.data.dvc import file_md5, folder_md5
from safetune.state.files import sha256_listing

A = jsonl(row("a"))


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def tracked(path: Path, data: bytes = A, about: str = "") -> Path:
    write(path / "rows.jsonl", data)
    said = f"outs:\n- md5: {md5(A)}\n  size: {len(A)}\n  hash: md5\n  path: rows.jsonl\n{about}"
    return write(path / "rows.jsonl.dvc", said.encode())


def test_a_tracked_file_is_read_when_it_is_the_pinned_one(tmp_path: Path) -> None:
    path = tracked(tmp_path)
    assert good(source(path, sha256=sha(A))) == [row("a")]
    with pytest.raises(IntegrityError, match="source words has sha256"):
        everything(source(path, sha256="0" * 64))
    write(tmp_path / "rows.jsonl", A + A)
    with pytest.raises(IntegrityError, match=r"rows\.jsonl has md5 \w+ and \d+ bytes, rows\.jsonl\.dvc pins"):
        everything(source(path))
    (tmp_path / "rows.jsonl").unlink()
    with pytest.raises(UsageError, match="is not there") as error:
        everything(source(path))
    assert "dvc pull" in error.value.hint


def test_the_size_counts_too(tmp_path: Path) -> None:
    path = tracked(tmp_path)
    path.write_text(path.read_text().replace(f"size: {len(A)}", "size: 7"))
    with pytest.raises(IntegrityError, match="and 7"):
        everything(source(path))


def folder_of(path: Path) -> str:
    """Make a folder and return its md5, put together here as the definition says."""
    write(path / "b/x.jsonl", A)
    write(path / "a.csv", b"prompt,completion\nc,d\n")
    write(path / "notes.txt", b"words")
    names = {"a.csv": b"prompt,completion\nc,d\n", "b/x.jsonl": A, "notes.txt": b"words"}
    listing = [{"md5": md5(data), "relpath": name} for name, data in names.items()]
    return f"{md5(json.dumps(listing, sort_keys=True).encode())}.dir"


def test_a_tracked_folder(tmp_path: Path) -> None:
    pin = folder_of(tmp_path / "data")
    path = write(tmp_path / "data.dvc", f"outs:\n- md5: {pin}\n  hash: md5\n  path: data\n  nfiles: 3\n".encode())
    listing = sha256_listing({"a.csv": sha(b"prompt,completion\nc,d\n"), "b/x.jsonl": sha(A)})
    assert good(source(path, "folder", listing)) == [row("c", "d"), row("a")]
    write(tmp_path / "data/notes.txt", b"other")
    with pytest.raises(IntegrityError, match="data has md5"):
        everything(source(path, "folder"))


def test_the_md5_of_before_dvc_3_has_unix_line_ends(tmp_path: Path) -> None:
    text, binary = b"a\r\nb\r\n", b"\0a\r\nb"
    assert file_md5(write(tmp_path / "t", text), dos2unix=True) == (md5(b"a\nb\n"), 6)
    assert file_md5(write(tmp_path / "t", text)) == (md5(text), 6)
    assert file_md5(write(tmp_path / "b", binary), dos2unix=True)[0] == md5(binary)
    assert file_md5(write(tmp_path / "c", b"\xff" * 4 + b"abcdef\r\n"), dos2unix=True)[0] == md5(
        b"\xff" * 4 + b"abcdef\r\n"
    )
    rows = A.replace(b"\n", b"\r\n")
    write(tmp_path / "rows.jsonl", rows)
    pin = write(tmp_path / "rows.jsonl.dvc", f"outs:\n- md5: {md5(A)}\n  size: {len(A)}\n  path: rows.jsonl\n".encode())
    assert good(source(pin, sha256=sha(rows))) == [row("a")]


def test_a_link_in_a_tracked_folder_is_refused(tmp_path: Path) -> None:
    folder_of(tmp_path / "data")
    (tmp_path / "data/link").symlink_to("/")
    with pytest.raises(IntegrityError, match="symbolic link"):
        folder_md5(tmp_path / "data")


PIPELINE = """
vars: [params.yaml]
stages:
  make: {cmd: python make.py, outs: [rows.jsonl]}
  two: {cmd: x, wdir: sub, outs: [a.csv, b.jsonl]}
  each: {foreach: [1, 2], do: {cmd: x, outs: ["${item}.jsonl"]}}
"""


def pipeline(tmp_path: Path) -> Path:
    write(tmp_path / "rows.jsonl", A)
    write(tmp_path / "sub/b.jsonl", A)
    write(tmp_path / "2.jsonl", A)
    out = "{{path: {}, hash: md5, md5: " + md5(A) + f", size: {len(A)}" + "}}"
    lock = f"""
schema: '2.0'
stages:
  make: {{cmd: python make.py, outs: [{out.format("rows.jsonl")}]}}
  two: {{cmd: x, outs: [{out.format("a.csv")}, {out.format("b.jsonl")}]}}
  each@2: {{cmd: x, outs: [{out.format("2.jsonl")}]}}
  gone: {{cmd: x, outs: [{out.format("old.jsonl")}]}}
"""
    write(tmp_path / "dvc.lock", lock.encode())
    return write(tmp_path / "dvc.yaml", PIPELINE.encode())


@pytest.mark.parametrize("name", ["make", "rows.jsonl", "b.jsonl", "sub/b.jsonl", "each@2", "2.jsonl"])
def test_an_out_of_a_pipeline_by_its_path_or_its_stage(tmp_path: Path, name: str) -> None:
    path = pipeline(tmp_path)
    assert good(source(f"{path}#{name}", sha256=sha(A))) == [row("a")]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "which out of dvc.yaml is meant"),
        ("#two", "'two' stands for 2 outs"),
        ("#nothing", "has no out for 'nothing'"),
        ("#gone", "has no out for 'gone'"),
        ("#old.jsonl", "has no out for"),
        ("#a.csv", "a.csv, which dvc.lock pins, is not there"),
    ],
)
def test_an_out_that_is_not_clear(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(UsageError) as error:
        everything(source(f"{pipeline(tmp_path)}{name}"))
    assert why in error.value.message


def test_a_pipeline_without_its_lock(tmp_path: Path) -> None:
    path = pipeline(tmp_path)
    (tmp_path / "dvc.lock").unlink()
    with pytest.raises(UsageError, match=r"dvc\.lock cannot be read: no such file"):
        everything(source(f"{path}#make"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "is no file of DVC"),
        (b"[", "x.dvc:2: not YAML"),
        (b"\xff\xfe\xff", "only plain YAML|not YAML"),
        (b"- " * 100_000, "only plain YAML"),
        (b"{a: " * 50_000, "only plain YAML"),
        (b"a: &a [1]\nb: *a", "only plain YAML"),
        (b"%TAG ! x\n---\na: 1", "only plain YAML"),
        (b"a: !!python/object/apply:os.system [ls]", "not YAML"),
        (b"outs: []", "exactly one out"),
        (b"outs: [1]", "pins no md5"),
        (b"outs: [{path: a, md5: 1}]", "pins no md5"),
        (b"outs: [{path: a, etag: x}]", "pins no md5"),
        (b"outs: [{path: a, md5: %s, hash: sha256}]" % md5(A).encode(), "cannot be understood"),
        (b"outs: [{path: a, md5: %s, size: many}]" % md5(A).encode(), "cannot be understood"),
        (b"outs: [{path: ../a, md5: %s}]" % md5(A).encode(), "only a path below its own folder"),
        (b"outs: [{path: /etc/passwd, md5: %s}]" % md5(A).encode(), "only a path below its own folder"),
        (b"outs: [{path: 's3://b/a', md5: %s}]" % md5(A).encode(), "only a path below its own folder"),
        (b"wdir: ..\nouts: [{path: a, md5: %s}]" % md5(A).encode(), "only a path below its own folder"),
        (b"outs: [{md5: %s}]" % md5(A).encode(), "only a path below its own folder"),
        (b" " * (3 * 1024 * 1024), "has more than"),
    ],
)
def test_a_file_of_dvc_that_pins_nothing(tmp_path: Path, text: bytes, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        everything(source(write(tmp_path / "x.dvc", text)))

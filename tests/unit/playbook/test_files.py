"""Files that cannot be read as a playbook: one clear diagnostic each, whatever lies at the path."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from safetune.core.diagnostics import Diagnostic
from safetune.playbook.load import load_marked
from safetune.playbook.text import MAX_BYTES

Write = Callable[[Mapping[str, str]], Path]
Load = Callable[[Path], tuple[Diagnostic, ...]]


def only(found: tuple[Diagnostic, ...]) -> tuple[str, int, int, str]:
    """Return code, line, column and message of a single diagnostic."""
    (one,) = found
    return one.code, one.line, one.column, one.message


def test_a_missing_file_says_where_to_start(tmp_path: Path, mistakes: Load) -> None:
    found = mistakes(tmp_path / "none.yaml")
    assert only(found) == ("SP101", 1, 1, "the file cannot be read: No such file or directory")
    assert "safetune init" in found[0].hint


def test_a_folder_is_no_playbook(tmp_path: Path, mistakes: Load) -> None:
    assert only(mistakes(tmp_path)) == ("SP101", 1, 1, "this is not a plain file")


def test_a_pipe_or_a_device_is_no_playbook_and_does_not_block(tmp_path: Path, mistakes: Load) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    assert only(mistakes(tmp_path / "pipe.yaml")) == ("SP101", 1, 1, "this is not a plain file")
    assert only(mistakes(Path("/dev/zero"))) == ("SP101", 1, 1, "this is not a plain file")


@pytest.mark.parametrize("name", ["a\0b.yaml", "x" * 300 + ".yaml", "loop.yaml"])
def test_a_path_that_the_system_refuses_is_a_diagnostic(name: str, tmp_path: Path, mistakes: Load) -> None:
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    (found,) = mistakes(tmp_path / name)
    assert found.code == "SP101"


def test_a_removed_working_folder_is_a_diagnostic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistakes: Load
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    (found,) = mistakes(Path("playbook.yaml"))
    assert found.code == "SP101"


@pytest.mark.usefixtures("steady")
def test_a_huge_file_is_refused_without_reading_it(tmp_path: Path, mistakes: Load) -> None:
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as file:
        file.truncate(2_000_000_000)
    start = time.process_time()
    assert only(mistakes(huge)) == ("SP102", 1, 1, f"the file is larger than {MAX_BYTES // 1024} KiB")
    assert time.process_time() - start < 0.2


def test_a_byte_that_is_not_utf8_is_pointed_at(tmp_path: Path, mistakes: Load) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("schema: safetune/1\npurpose: \u00fcber ".encode() + b"caf\xe9\n")
    found = mistakes(path)
    assert only(found) == ("SP103", 2, 18, "the file is not UTF-8: byte 0xE9 cannot be read")
    assert found[0].hint == "save it as UTF-8"


@pytest.mark.parametrize("character", ["\0", "\x1b", "\x7f", "\ufffe"])
def test_a_character_that_is_no_text_is_pointed_at(character: str, tmp_path: Path, mistakes: Load) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(f"schema: safetune/1\nname: a{character}b\n", encoding="utf-8")
    name = f"U+{ord(character):04X}"
    assert only(mistakes(path)) == ("SP103", 2, 8, f"the file holds the character {name}, which is not text")


def test_utf16_is_refused_and_a_byte_order_mark_of_utf8_is_not(example: str, folder: Path, mistakes: Load) -> None:
    (folder / "wide.yaml").write_bytes(example.encode("utf-16"))
    (found,) = mistakes(folder / "wide.yaml")
    assert (found.code, found.line, found.column) == ("SP103", 1, 1)
    (folder / "marked.yaml").write_bytes(b"\xef\xbb\xbf" + example.encode())
    assert mistakes(folder / "marked.yaml") == ()


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "null\n"])
def test_an_empty_file_says_so(text: str, write: Write, mistakes: Load) -> None:
    found = mistakes(write({"empty.yaml": text}))
    assert only(found)[0] == "SP113"
    assert found[0].message == "the file is empty"


@pytest.mark.parametrize("text", ["3", "a text", "[]", "[a, b]", "true"])
def test_a_document_that_is_no_mapping_is_one_mistake(text: str, write: Write, mistakes: Load) -> None:
    (found,) = mistakes(write({"odd.yaml": text}))
    assert (found.code, found.line, found.column) == ("SP203", 1, 1)
    assert found.message.startswith("expected a mapping, found")


def test_windows_line_ends_keep_lines_and_columns(example: str, folder: Path, mistakes: Load) -> None:
    path = folder / "dos.yaml"
    path.write_bytes(example.replace("rank: 8", "rank: 0").replace("\n", "\r\n").encode())
    (found,) = mistakes(path)
    assert (found.code, found.line, found.column) == ("SP205", 45, 37)
    assert found.excerpt == "        adapter: {kind: lora, rank: 0}"


def test_a_playbook_is_shown_as_the_person_named_it(
    example: str, write: Write, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write({"books/playbook.yaml": example.replace("rows.jsonl", "../rows.jsonl").replace("launch.y", "../launch.y")})
    monkeypatch.chdir(folder)
    loaded = load_marked(Path("books/playbook.yaml"))
    assert loaded.where["model"] == "books/playbook.yaml:5"
    assert loaded.playbook.path == str(folder / "books" / "playbook.yaml")

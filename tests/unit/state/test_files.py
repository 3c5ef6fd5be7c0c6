"""Files are opened without following links, and names are plain."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.core.errors import IntegrityError
from safetune.state.files import check_relative, open_regular, read_regular, sha256_file, sha256_regular

_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-4, the example "abc"


def test_the_digest_is_the_published_one(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_file(tmp_path / "abc") == sha256_regular(tmp_path / "abc") == _ABC
    assert read_regular(tmp_path / "abc") == b"abc"


def test_a_link_a_folder_and_a_pipe_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"abc")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "folder", "pipe"):
        with pytest.raises(IntegrityError):
            open_regular(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "nothing")


def test_no_descriptor_is_left_open_by_a_refusal(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(IntegrityError):
        open_regular(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("name", ["a", "a.json", "a/b/c.txt", "ünïcode.json", "with space.json", "..a", "a..b/c"])
def test_plain_names_are_kept(name: str) -> None:
    assert check_relative(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "/a",
        "../a",
        "a/../b",
        "a//b",
        "./a",
        "a/",
        "a\\b",
        "a\0b",
        "a\nb",
        "\x1b[31m",
        "u\u0308",
        "\udcff",
    ],
)
def test_names_that_climb_hide_or_deceive_are_refused(name: str) -> None:
    with pytest.raises(IntegrityError):
        check_relative(name)


@given(st.text(max_size=20))
def test_a_name_that_is_accepted_stays_inside_its_folder(name: str) -> None:
    try:
        check_relative(name)
    except IntegrityError:
        return
    assert os.path.normpath(f"/folder/{name}") == f"/folder/{name}"
    name.encode()

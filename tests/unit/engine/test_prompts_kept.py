"""Many prompts are kept in a file and few in memory, and nobody can tell: same prompts, same digests, same refusals."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from safetune.core.digest import digest
from safetune.core.errors import IntegrityError, UsageError
from safetune.core.evidence import Prompt
from safetune.core.suite import About, Decoding, Named, PromptSource, Sampling, Suite
from safetune.engine import prompts as module
from safetune.engine.prompts import ALL, OPEN, SEALED, kept, load_prompts, suite_fact
from safetune.engine.prompts.kept import keep
from safetune.state.public import pinned_lines

ODD = (
    Prompt("a", "Wha\u2028t?\n", "ä", "c", "r", ("x", "y"), "Sure", ""),
    Prompt("b", "half \ud800", system=None),
    Prompt("c", "", system="s"),
)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_FEW", 2)


def suite(folder: Path, n: int, **changes: object) -> Suite:
    path = folder / "prompts.jsonl"
    rows = [{"id": f"p{i}", "prompt": f"question {i} " * 20} for i in range(n)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = PromptSource("bundled", str(path), hashlib.sha256(path.read_bytes()).hexdigest())
    made = Suite("s", About("d", "MIT", "here"), source, Named("numeric"), (), Decoding(6))
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.usefixtures("few")
def test_prompts_in_a_file_are_the_same_prompts() -> None:
    found = keep(iter(ODD))
    assert not isinstance(found, tuple)
    assert tuple(found) == tuple(found) == ODD
    assert (found[1], len(found)) == (ODD[1], 3)
    assert keep(found) is found


def test_few_prompts_stay_as_they_are() -> None:
    assert keep(iter(ODD)) == ODD
    assert keep(ODD) is ODD
    assert keep(iter(())) == ()


@pytest.mark.parametrize("part", [ALL, OPEN, SEALED])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(sample=7), Sampling(sample=9, sealed=0.5)])
@pytest.mark.parametrize("attacks", [(), (Named("base64"),)])
def test_a_suite_has_the_same_prompts_however_they_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, sampling: Sampling, attacks: tuple[Named, ...]
) -> None:
    one = suite(tmp_path, 12, sampling=sampling, attacks=attacks)
    usual, fact = load_prompts(one, part), suite_fact(one)
    monkeypatch.setattr(kept, "_FEW", 1)
    found = load_prompts(one, part)
    assert isinstance(usual, tuple)
    assert not isinstance(found, tuple)
    assert found == usual
    assert suite_fact(one) == fact
    assert fact.identity


@pytest.mark.usefixtures("few")
def test_the_digest_is_that_of_the_whole_list(tmp_path: Path) -> None:
    for n in (1, 2, 5):
        found = load_prompts(suite(tmp_path, n))
        assert module._digest(found) == digest([asdict(prompt) for prompt in found])


@pytest.mark.usefixtures("few")
def test_what_is_refused_is_refused_of_many_prompts_too(tmp_path: Path) -> None:
    one = suite(tmp_path, 12)
    path = Path(one.prompts.location)
    path.write_bytes(path.read_bytes() + path.read_bytes())
    with pytest.raises(IntegrityError, match="pinned is"):
        load_prompts(one)
    pinned = replace(one.prompts, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(UsageError, match="items with the same id"):
        load_prompts(replace(one, prompts=pinned))


@pytest.mark.usefixtures("few")
def test_memory_does_not_hold_the_prompts(tmp_path: Path) -> None:
    one = suite(tmp_path, 4_000)
    size = Path(one.prompts.location).stat().st_size
    load_prompts(one)
    tracemalloc.start()
    found = load_prompts(one)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 4_000
    assert size > 1_000_000
    assert peak < size


def test_lines_of_a_pinned_file_end_with_a_line_feed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes("\ufeffä\r\nb\u2028c\rd\n\nlast".encode())
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    for pin in ("", right):
        assert list(pinned_lines(path, pin, "x")) == ["ä\r", "b\u2028c\rd", "", "last"]
    with pytest.raises(IntegrityError, match="pinned is"):
        next(pinned_lines(path, "0" * 64, "x"))
    with pytest.raises(UsageError, match="cannot read other"):
        next(pinned_lines(tmp_path / "other", "", "x"))
    path.write_bytes(b"good\n\xff\n")
    with pytest.raises(UsageError, match="cannot read file"):
        list(pinned_lines(path, "", "x"))


def test_a_pinned_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one\n" * 100_000)
    lines: Iterator[str] = pinned_lines(path, "", "x")
    assert next(lines) == "one"
    with path.open("r+b") as stream:
        stream.seek(390_000)
        stream.write(b"two")
    with pytest.raises(IntegrityError, match="pinned is"):
        list(lines)

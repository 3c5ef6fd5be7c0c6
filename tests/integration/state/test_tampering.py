"""L1 and L2: whatever happens to one bit or one line of the ledger is found, and said with line and cause."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from storelab.damage import forge
from storelab.story import Story, begin, replaced

from safetune.core.digest import canonical, sha256_hex
from safetune.core.errors import IntegrityError
from safetune.core.events import started
from safetune.state.chain import Head, scan
from safetune.state.ledger import Ledger
from safetune.state.store import Store

LINES = 12


@pytest.fixture(scope="module")
def ledger(memory: Path) -> Ledger:
    """A ledger of twelve lines."""
    story = begin(memory / "twelve" / "store", memory / "twelve" / "desk")
    story.roll_back()
    for name in ("r1", "r2", "r3"):
        story.record(name)
    found = story.store.ledger
    assert len(found.read()[0]) == LINES
    return found


@pytest.fixture
def copy(ledger: Ledger, place: Path) -> Ledger:
    """A copy of it, alone in a folder, to be changed."""
    for path in (ledger.path, ledger.head_path):
        shutil.copy(path, place)
    return Ledger(place)


def _complaint(ledger: Ledger) -> IntegrityError | None:
    try:
        ledger.read()
    except IntegrityError as error:
        return error
    return None


def _flips(path: Path, ledger: Ledger, every: int) -> Iterable[tuple[int, IntegrityError | None]]:
    """Flip single bits of a file, one after the other; yield the byte and what reading says."""
    data = path.read_bytes()
    for bit in range(0, len(data) * 8, every):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        yield bit // 8, _complaint(ledger)
    path.write_bytes(data)


def _unseen(ledger: Ledger, every: int) -> list[str]:
    """Return the flips that were not found, or not said with the right line and a next step."""
    data, wrong = ledger.path.read_bytes(), []
    for byte, error in _flips(ledger.path, ledger, every):
        line = data[:byte].count(b"\n") + 1
        if error is None:
            wrong.append(f"byte {byte} of line {line}")
        elif f"ledger line {line}:" not in error.message or not error.hint:
            wrong.append(f"byte {byte} of line {line}: {error.message}")
    for byte, error in _flips(ledger.head_path, ledger, 1):
        if error is None or "ledger.head" not in error.message:
            wrong.append(f"byte {byte} of the head: {error}")
    return wrong


def test_flipped_bits_are_found_with_line_and_cause(copy: Ledger) -> None:
    assert _unseen(copy, every=23) == []


@pytest.mark.slow
def test_every_flipped_bit_is_found_with_line_and_cause(copy: Ledger) -> None:
    assert _unseen(copy, every=1) == []


def test_the_flips_see_a_reader_that_ignores_the_head(copy: Ledger) -> None:
    """The planted bug: without the head, nothing is linked to the last line."""
    data = copy.path.read_bytes()
    last = data[data.rindex(b"\n", 0, -1) + 1 :]
    copy.path.write_bytes(data.replace(last, last.replace(b"r3", b"r4")))
    assert _complaint(copy)

    def believed(self: Ledger) -> Head:
        return scan(self.path.read_bytes()).head

    with replaced(Ledger, _read_head=believed):
        assert _complaint(copy) is None


Lines = list[bytes]
_L2: dict[str, tuple[Callable[[Lines, Lines], Lines], int]] = {
    "the first is gone": (lambda own, other: own[1:], 1),
    "one is gone": (lambda own, other: own[:4] + own[5:], 5),
    "the last is gone": (lambda own, other: own[:-1], 12),
    "several at the end are gone": (lambda own, other: own[:7], 8),
    "all are gone": (lambda own, other: [], 1),
    "two changed places": (lambda own, other: [*own[:5], own[6], own[5], *own[7:]], 6),
    "one is there twice": (lambda own, other: [*own[:5], own[4], *own[5:]], 6),
    "the last is there twice": (lambda own, other: [*own, own[-1]], 13),
    "one was put in": (lambda own, other: [*own[:5], other[5], *own[5:]], 6),
    "an empty one was put in": (lambda own, other: [*own[:5], b"\n", *own[5:]], 6),
    "the end is from another ledger": (lambda own, other: own[:6] + other[6:], 6),  # named: "that line 7 was linked to"
    "one is from another ledger": (lambda own, other: [*own[:6], other[6], *own[7:]], 7),
    "one lost its end": (lambda own, other: [*own[:6], own[6].rstrip(b"\n"), *own[7:]], 7),
    "the last is cut short": (lambda own, other: [*own[:-1], own[-1][:-20]], 12),
    "one has a space": (lambda own, other: [*own[:6], own[6].replace(b":", b": ", 1), *own[7:]], 7),
    "one has a key twice": (lambda own, other: [*own[:6], own[6].replace(b'{"at"', b'{"at":"","at"', 1), *own[7:]], 7),
    "one is NaN": (lambda own, other: [*own[:6], own[6].replace(b'"seq":7', b'"seq":NaN'), *own[7:]], 7),
    "one counts in floats": (lambda own, other: [*own[:6], own[6].replace(b'"seq":7', b'"seq":7.0'), *own[7:]], 7),
    "one is nested too deep": (lambda own, other: [*own[:6], b"[" * 500_000 + b"\n", *own[7:]], 7),
    "one is too long": (lambda own, other: [*own[:6], b'"' + b"a" * 5_000_000 + b'"\n', *own[7:]], 7),
    "one has a huge number": (lambda own, other: [*own[:6], b"1" * 5000 + b"\n", *own[7:]], 7),
    "one is a list": (lambda own, other: [*own[:6], b"[]\n", *own[7:]], 7),
    "one is not UTF-8": (lambda own, other: [*own[:6], own[6].replace(b"a", b"\xff", 1), *own[7:]], 7),
    "one holds half a character": (
        lambda own, other: [*own[:6], own[6].replace(b'"by":"', rb'"by":"\ud800'), *own[7:]],
        7,
    ),
}


def _another_ledger(folder: Path, own: Lines) -> Lines:
    """Return the lines of a ledger of its own, made of the same events at another time."""
    folder.mkdir()
    forge(folder, [{**json.loads(line), "at": "2030-01-01T00:00:00Z"} for line in own])
    return (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("what", _L2)
def test_changed_lines_are_found_with_line_and_cause(copy: Ledger, place: Path, what: str) -> None:
    change, line = _L2[what]
    own = copy.path.read_bytes().splitlines(keepends=True)
    copy.path.write_bytes(b"".join(change(own, _another_ledger(place / "other", own))))
    error = _complaint(copy)
    assert error is not None
    assert f"ledger line {line}:" in error.message
    assert error.hint


def test_nothing_is_repaired_when_acknowledged_lines_are_gone(copy: Ledger) -> None:
    own = copy.path.read_bytes().splitlines(keepends=True)
    for damaged in (b"".join(own[:-1]), b"".join(own)[:-20], b""):
        copy.path.write_bytes(damaged)
        head = copy.head_path.read_bytes()
        with pytest.raises(IntegrityError, match="cut short"):
            copy.recover()
        assert copy.path.read_bytes() == damaged
        assert copy.head_path.read_bytes() == head


def test_two_lines_after_the_head_are_not_what_a_crash_leaves(copy: Ledger) -> None:
    head = copy.head_path.read_bytes()
    story_lines = copy.path.read_bytes()
    found = copy.inspect().chain
    for name in ("r4", "r5"):
        found = copy.append(started(name, "playbook", "d" * 64, "e" * 64), found)
    copy.head_path.write_bytes(head)
    with pytest.raises(IntegrityError, match=r"ledger line 14: .*a crash leaves one line more"):
        copy.recover()
    assert copy.path.read_bytes().startswith(story_lines)


def test_a_broken_store_neither_opens_nor_takes_more(memory: Path, place: Path) -> None:
    shutil.copytree(memory / "twelve", place / "copy")
    story = Story(Store.open(place / "copy" / "store"), place / "copy" / "desk")
    path = story.store.ledger.path
    path.write_bytes(path.read_bytes().replace(b'"line":', b'"lime":').replace(b"sprint", b"spring", 1))
    with pytest.raises(IntegrityError, match="ledger line"):
        Store.open(story.store.root)
    before = path.read_bytes()
    with pytest.raises(IntegrityError, match="ledger line"):
        story.record()
    assert path.read_bytes() == before


_ODD: dict[str, Callable[[bytes], bytes]] = {
    "spaces": lambda line: line.replace(b":", b": "),
    "a key twice": lambda line: line.replace(b'{"at"', b'{"at":"","at"'),
    "another order": lambda line: canonical_last_first(line),
    "escapes": lambda line: line.replace(b'"kind":"r', b'"kind":"\\u0072'),
    "a float": lambda line: line.replace(b'"seq":9', b'"seq":9.0'),
    "true": lambda line: line.replace(b'"seq":9', b'"seq":true'),
    "a byte order mark": lambda line: b"\xef\xbb\xbf" + line,
    "a carriage return": lambda line: line.replace(b"\n", b"\r\n"),
    "one field more": lambda line: line.replace(b'{"at"', b'{"a":1,"at"'),
}


def canonical_last_first(line: bytes) -> bytes:
    """Return a line with its fields in the other order."""
    return json.dumps(dict(reversed(json.loads(line).items())), separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize("what", _ODD)
def test_a_line_has_one_form_only_even_where_the_chain_fits(copy: Ledger, what: str) -> None:
    """Two readers must not be able to understand one line in two ways."""
    own = copy.path.read_bytes().splitlines(keepends=True)[:9]
    odd = _ODD[what](own[8])
    assert odd != own[8]
    copy.path.write_bytes(b"".join(own[:8]) + odd)
    copy.head_path.write_bytes(canonical({"seq": 9, "hash": sha256_hex(odd)}))
    error = _complaint(copy)
    assert error is not None
    assert "ledger line 9:" in error.message

"""The ledger: what is written, what is finished after a crash, and what is refused."""

from __future__ import annotations

import errno
import getpass
import hashlib
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from storelab.calls import fail, short_write, watched

from safetune.core.errors import IntegrityError, MachineError, RunError
from safetune.core.events import Draft
from safetune.state import ledger as room
from safetune.state.chain import EMPTY, GENESIS, Chain, scan
from safetune.state.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """An empty ledger with a clock and an author of its own."""
    found = Ledger(tmp_path, lambda: "2030-01-01T00:00:00Z", lambda: "somebody")
    found.begin()
    return found


def _three(ledger: Ledger) -> Chain:
    chain = EMPTY
    for n in range(3):
        chain = ledger.append(Draft("started", {"run": f"r{n}"}), chain)
    return chain


def test_each_line_carries_the_hash_of_the_one_before(ledger: Ledger) -> None:
    chain, prev = _three(ledger), GENESIS
    for number, line in enumerate(ledger.path.read_bytes().splitlines(keepends=True), start=1):
        row = json.loads(line)
        assert (row["seq"], row["prev"], row["at"], row["by"]) == (number, prev, "2030-01-01T00:00:00Z", "somebody")
        prev = hashlib.sha256(line).hexdigest()
    assert json.loads(ledger.head_path.read_bytes()) == {"seq": 3, "hash": prev}
    assert ledger.read() == (chain.events, chain.head)


def test_an_empty_ledger_has_a_head_and_without_it_is_broken(ledger: Ledger) -> None:
    assert ledger.read() == ((), EMPTY.head)
    ledger.head_path.unlink()
    with pytest.raises(IntegrityError, match=r"ledger\.head is missing"):
        ledger.read()


def test_beginning_again_changes_nothing(ledger: Ledger) -> None:
    _three(ledger)
    before = ledger.head_path.read_bytes()
    ledger.begin()
    assert ledger.head_path.read_bytes() == before
    ledger.head_path.unlink()
    ledger.begin()
    assert not ledger.head_path.exists()


@pytest.mark.parametrize(
    "head",
    [b"", b"[]", b"{}", b"null", b'{"hash":"","seq":true}', b'{"hash":"","seq":-1}', b'{"hash":1,"seq":0}', b"\xff",
     b'{"seq":0,"hash":"' + GENESIS.encode() + b'"}', b"[" * 100_000, b'{"hash":"","seq":' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_a_head_of_another_form_is_an_error_and_never_a_traceback(ledger: Ledger, head: bytes) -> None:
    ledger.head_path.write_bytes(head)
    with pytest.raises(IntegrityError, match=r"ledger\.head cannot be read"):
        ledger.read()


def test_a_torn_line_is_set_aside_and_work_goes_on(ledger: Ledger) -> None:
    chain = _three(ledger)
    with ledger.path.open("ab") as stream:
        stream.write(b'{"at":"2030')
    with pytest.raises(IntegrityError, match="cut short by a crash"):
        ledger.read()
    found, done = ledger.recover()
    assert "set aside" in done
    assert found.chain == chain
    assert [p.read_bytes() for p in (ledger.path.parent / "tmp").iterdir()] == [b'{"at":"2030']
    assert ledger.append(Draft("started", {}), found.chain).head.seq == 4
    assert ledger.recover()[1] == ""


def test_a_head_that_is_one_line_behind_is_finished(ledger: Ledger) -> None:
    chain = _three(ledger)
    head = ledger.head_path.read_bytes()
    chain = ledger.append(Draft("started", {}), chain)
    ledger.head_path.write_bytes(head)
    with pytest.raises(IntegrityError, match="one line behind"):
        ledger.read()
    found, done = ledger.recover()
    assert "brought up to the last line" in done
    assert found.chain == chain
    assert ledger.read() == (chain.events, chain.head)


def test_a_torn_line_after_one_that_the_head_lacks_is_finished_too(ledger: Ledger) -> None:
    chain = _three(ledger)
    head = ledger.head_path.read_bytes()
    chain = ledger.append(Draft("started", {}), chain)
    ledger.head_path.write_bytes(head)
    with ledger.path.open("ab") as stream:
        stream.write(b"{")
    ledger.recover()
    assert ledger.read() == (chain.events, chain.head)


def test_damage_is_told_before_anything_is_cut(ledger: Ledger) -> None:
    _three(ledger)
    damaged = ledger.path.read_bytes().replace(b"r0", b"r9") + b"{torn"
    ledger.path.write_bytes(damaged)
    with pytest.raises(IntegrityError, match="ledger line 1:"):
        ledger.recover()
    assert ledger.path.read_bytes() == damaged


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800", 10**5000, "x" * 5_000_000, {1, 2}], ids=range(6))
def test_what_could_not_be_read_again_is_not_written(ledger: Ledger, value: object) -> None:
    chain = _three(ledger)
    before = ledger.path.read_bytes()
    with pytest.raises(RunError, match="cannot be recorded"):
        ledger.append(Draft("started", {"figures": value}), chain)  # type: ignore[dict-item]
    assert ledger.path.read_bytes() == before


def test_nesting_without_end_is_not_written(ledger: Ledger) -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(RunError, match="cannot be recorded"):
        ledger.append(Draft("started", {"figures": nested}), EMPTY)  # type: ignore[dict-item]


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=50, deadline=None)
@given(data=st.lists(st.dictionaries(st.text(), _VALUES), min_size=1, max_size=4))
def test_what_is_written_is_read_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: list[dict[str, object]]
) -> None:
    ledger, chain = Ledger(tmp_path_factory.mktemp("ledger")), EMPTY
    ledger.begin()
    written = 0
    for row in data:
        try:
            chain = ledger.append(Draft("started", row), chain)  # type: ignore[arg-type]
            written += 1
        except RunError:
            continue  # half a character, for one
    events, head = ledger.read()
    assert (events, head) == (chain.events, chain.head)
    assert len(events) == written


def test_a_line_that_is_taken_in_part_is_taken_back(ledger: Ledger) -> None:
    chain = _three(ledger)
    before = ledger.path.read_bytes()
    with watched(short_write, 1), pytest.raises(MachineError, match="the disk is full"):
        ledger.append(Draft("started", {}), chain)
    assert ledger.path.read_bytes() == before
    assert ledger.append(Draft("started", {}), chain).head.seq == 4


@pytest.mark.parametrize("call", [2, 4, 5, 6, 7])
def test_after_a_flush_or_a_head_that_failed_nothing_more_is_written(ledger: Ledger, call: int) -> None:
    chain = _three(ledger)
    with watched(fail(errno.EIO), call) as calls, pytest.raises(MachineError):
        ledger.append(Draft("started", {}), chain)
    assert calls.names[call] in {"fsync", "write", "replace", "unlink"}
    with pytest.raises(MachineError, match="earlier write could not be made safe"):
        ledger.append(Draft("started", {}), chain)
    again = Ledger(ledger.path.parent)
    found, _ = again.recover()
    assert again.append(Draft("started", {}), found.chain).head.seq == len(found.chain.events) + 1


def test_lines_that_are_known_are_not_read_twice(ledger: Ledger) -> None:
    chain = _three(ledger)
    longer = ledger.append(Draft("started", {}), chain)
    found = ledger.inspect(chain).chain
    assert found == longer
    assert all(a is b for a, b in zip(found.events, chain.events, strict=False))


def test_a_known_beginning_that_was_changed_is_read_again(ledger: Ledger) -> None:
    chain = _three(ledger)
    with pytest.raises(IntegrityError, match="line 1"):
        scan(chain.data.replace(b"r0", b"r9"), chain)


def test_a_ledger_that_is_a_folder_or_a_link_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    ledger.path.mkdir()
    with pytest.raises(IntegrityError):
        ledger.read()
    ledger.path.rmdir()
    ledger.path.symlink_to(tmp_path / "elsewhere.jsonl")
    with pytest.raises(IntegrityError):
        ledger.read()


def test_a_disk_that_cannot_be_read_is_an_error_of_the_machine(ledger: Ledger) -> None:
    _three(ledger)
    with watched(fail(errno.EIO), 1, all_opens=True), pytest.raises(MachineError, match="cannot read the ledger"):
        ledger.read()


def test_somebody_without_a_name_is_known_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert room.user().startswith("uid ")
    assert len(room.now()) == len("2030-01-01T00:00:00Z")

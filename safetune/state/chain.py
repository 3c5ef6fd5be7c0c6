"""The bytes of a ledger as a chain of events: every line checked, every link checked, nothing read from disk here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NoReturn

from safetune.core.digest import canonical, sha256_hex
from safetune.core.errors import IntegrityError
from safetune.core.events import Event

GENESIS = "0" * 64
# Far above what an event needs, far below what would hurt: a longer line is not one of ours.
MAX_LINE = 4 * 1024 * 1024
_FIELDS = {name: dict if name == "data" else int if name == "seq" else str for name in Event.__slots__}


@dataclass(frozen=True, slots=True)
class Head:
    """Number and hash of the last line."""

    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Chain:
    """Whole lines: their bytes, their events, and the head that they imply."""

    data: bytes
    events: tuple[Event, ...]
    head: Head

    def hash_of(self, seq: int) -> str:
        """Return the hash of line `seq`, which must be there; of line 0, the genesis hash."""
        return self.head.hash if seq == self.head.seq else self.events[seq].prev


EMPTY = Chain(b"", (), Head(0, GENESIS))


@dataclass(frozen=True, slots=True)
class Prefix:
    """The part of a ledger before its first wrong line, and what is wrong with that line (None when nothing is)."""

    chain: Chain
    problem: IntegrityError | None


def scan(data: bytes, known: Chain = EMPTY, head: Head | None = None) -> Chain:
    """Return the chain of ledger bytes; where they begin with the lines of `known`, only the rest is read.

    `head` is what ledger.head says; it only sharpens the message about a changed last line.

    Raises:
        IntegrityError: naming the first wrong line.
    """
    found = scan_prefix(data, known, head)
    if found.problem:
        raise found.problem
    return found.chain


def scan_prefix(data: bytes, known: Chain = EMPTY, head: Head | None = None) -> Prefix:
    """Like `scan`, for a reader that wants what is left of a broken ledger."""
    start = known if data.startswith(known.data) else EMPTY
    events, last, end = list(start.events), start.head, len(start.data)
    problem: IntegrityError | None = None
    while end < len(data) and problem is None:
        stop = data.find(b"\n", end) + 1 or len(data)
        line = data[end:stop]
        try:
            event = _parse_line(last.seq + 1, line)
            own = sha256_hex(line)
            if event.seq != last.seq + 1:
                raise broken(last.seq + 1, f"it carries the number {event.seq}")
            if event.prev != last.hash:
                raise _wrong_link(event.seq, own == _hash_named_after(data[stop:], head))
        except IntegrityError as error:
            problem = error
            break
        events.append(event)
        last, end = Head(event.seq, own), stop
    return Prefix(Chain(data[:end], tuple(events), last), problem)


def _wrong_link(number: int, itself_intact: bool) -> IntegrityError:
    """Two neighbours disagree; the hash that comes after the second tells which of them was changed."""
    if number > 1 and itself_intact:
        return broken(number - 1, f"its bytes are not the ones that line {number} was linked to")
    return broken(number, "it is not linked to the line before it")


def _hash_named_after(rest: bytes, head: Head | None) -> str:
    """Return the hash that the next line, or else ledger.head, gives for the line before `rest`."""
    if not rest:
        return head.hash if head else ""
    try:
        return str(json.loads(rest[: rest.find(b"\n") + 1 or len(rest)])["prev"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _parse_line(number: int, line: bytes) -> Event:
    if len(line) > MAX_LINE:
        raise broken(number, f"it is longer than {MAX_LINE} bytes")
    if not line.endswith(b"\n"):
        raise broken(number, "the line is not complete")
    try:
        row: Any = json.loads(line, parse_constant=_not_finite)
        form = canonical(row) if isinstance(row, dict) else b""
    except (ValueError, RecursionError) as error:
        raise broken(number, "it is not JSON") from error
    if not isinstance(row, dict) or {name: type(value) for name, value in row.items()} != _FIELDS:
        raise broken(number, "its fields are not those of an event")
    if form + b"\n" != line:
        raise broken(number, "its bytes are not in canonical form")
    return Event(**row)


def _not_finite(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def broken(number: int, what: str) -> IntegrityError:
    """Return the error for a ledger line that is not what it was when it was written."""
    return IntegrityError(
        f"ledger line {number}: {what}",
        hint="nothing was changed; restore ledger.jsonl and ledger.head from a backup, then: safetune verify",
    )

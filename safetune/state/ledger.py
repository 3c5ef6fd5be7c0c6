"""The ledger: one JSON line per event, each carrying the hash of the line before. The fsynced line is the commit.

`ledger.head` repeats the number and hash of the last line. A head behind the ledger is finished on the next start (a
crash between the two writes); a head ahead of the ledger means that acknowledged lines are gone, and nothing is repaired.
"""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from safetune.core.digest import canonical, sha256_hex
from safetune.core.errors import IntegrityError
from safetune.core.events import Draft, Event
from safetune.state.atomic import machine_errors, write_atomic

GENESIS = "0" * 64
_FIELDS = frozenset(Event.__slots__)


@dataclass(frozen=True, slots=True)
class Head:
    """Number and hash of the last line."""

    seq: int
    hash: str


def now() -> str:
    """Return the time as UTC, ISO 8601 with seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def user() -> str:
    """Return the name of the person or service account that runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


class Ledger:
    """The ledger file of one store. Callers hold the store's lock to append or recover."""

    def __init__(self, folder: Path, clock: Callable[[], str] = now, author: Callable[[], str] = user) -> None:
        self.path = folder / "ledger.jsonl"
        self.head_path = folder / "ledger.head"
        self._aside = folder / "tmp"
        self._clock = clock
        self._author = author

    def read(self) -> tuple[tuple[Event, ...], Head]:
        """Return all events and the head, every link and the head file checked.

        Raises:
            IntegrityError: naming the first line that is wrong, and how.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            data = b""
        events, head = parse(data)
        written = self._read_head()
        if written is not None:
            _check_head(written, events, head, data)
        elif events:
            raise IntegrityError("ledger.head is missing", hint="restore it from a backup; safetune verify says more")
        return events, head

    def _read_head(self) -> Head | None:
        try:
            found = json.loads(self.head_path.read_bytes())
            return Head(int(found["seq"]), str(found["hash"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"ledger.head cannot be read: {error}", hint="restore it from a backup") from error

    def recover(self) -> str:
        """Cut a torn tail (kept aside in tmp/) and finish a head that fell behind; return what was done, or nothing.

        A head that does not match, or that is ahead, is left for `read` to refuse.
        """
        if not self.path.exists():
            return ""
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        done = ""
        if len(whole) != len(data):
            with machine_errors("recover the ledger"):
                (self._aside / f"torn-{sha256_hex(data[len(whole) :])[:12]}").write_bytes(data[len(whole) :])
                with self.path.open("r+b") as stream:
                    stream.truncate(len(whole))
                    os.fsync(stream.fileno())
            done = "a line that a crash had cut short was set aside"
        events, head = parse(whole)
        written = self._read_head()
        first_line_only = written is None and len(events) == 1
        behind = written is not None and written.seq < head.seq and _hash_of(whole, written.seq) == written.hash
        if first_line_only or behind:
            self._write_head(head)
            done = done or "the ledger head was brought up to the last line"
        return done

    def append(self, draft: Draft, head: Head) -> tuple[Event, Head]:
        """Write one event after `head`: one line, one write, fsync; then the head.

        Raises:
            MachineError: when the machine refuses; a line that was not acknowledged may be there after a crash.
        """
        event = Event(head.seq + 1, head.hash, self._clock(), self._author(), draft.kind, draft.data)
        line = canonical(event.row) + b"\n"
        with machine_errors("write the ledger"):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try:
                before = os.fstat(descriptor).st_size
                try:
                    written = os.write(descriptor, line)
                    if written != len(line):
                        raise OSError(28, "short write")
                    os.fsync(descriptor)
                except OSError:
                    os.ftruncate(descriptor, before)  # the line was not acknowledged: take it back
                    raise
            finally:
                os.close(descriptor)
        new = Head(event.seq, sha256_hex(line))
        self._write_head(new)
        return event, new

    def _write_head(self, head: Head) -> None:
        write_atomic(self.head_path, canonical({"seq": head.seq, "hash": head.hash}))


def parse(data: bytes) -> tuple[tuple[Event, ...], Head]:
    """Return the events of ledger bytes and the head they imply, every link checked.

    Raises:
        IntegrityError: naming the first wrong line.
    """
    events: list[Event] = []
    head = Head(0, GENESIS)
    lines = data.split(b"\n")
    if lines.pop() != b"":
        raise _broken(len(lines) + 1, "the line is not complete")
    for number, line in enumerate(lines, start=1):
        event = _parse_line(number, line)
        if event.seq != number or event.prev != head.hash:
            raise _broken(number, "it does not follow the line before it")
        events.append(event)
        head = Head(number, sha256_hex(line + b"\n"))
    return tuple(events), head


def _parse_line(number: int, line: bytes) -> Event:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise _broken(number, "it is not JSON") from error
    if not isinstance(row, dict) or set(row) != _FIELDS or not isinstance(row["data"], dict):
        raise _broken(number, "its fields are not those of an event")
    if canonical(row) != line:
        raise _broken(number, "its bytes are not in canonical form")
    return Event(**row)


def _broken(number: int, what: str) -> IntegrityError:
    return IntegrityError(
        f"ledger line {number}: {what}",
        hint="nothing was changed; restore ledger.jsonl and ledger.head from a backup, then: safetune verify",
    )


def _hash_of(data: bytes, seq: int) -> str:
    """Return the hash of line `seq` of ledger bytes; of line 0, the genesis hash."""
    return sha256_hex(data.split(b"\n")[seq - 1] + b"\n") if seq else GENESIS


def _check_head(written: Head, events: tuple[Event, ...], head: Head, data: bytes) -> None:
    if written.seq > len(events):
        raise IntegrityError(
            f"the ledger is cut short: it has {len(events)} lines, ledger.head knows {written.seq}",
            hint="acknowledged lines are gone; restore ledger.jsonl from a backup",
        )
    if written.seq < len(events):
        raise IntegrityError(
            f"ledger.head is behind: it knows {written.seq} of {len(events)} lines", hint="safetune status recovers it"
        )
    if written != head:
        raise _broken(written.seq, "its hash is not the one in ledger.head")

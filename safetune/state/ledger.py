"""The ledger: one JSON line per event, each carrying the hash of the line before. The fsynced line is the commit.

`ledger.head` repeats the number and hash of the last line. A crash can leave two things and no others: a last line that
is cut short, and a head that is one line behind. Both are finished on the next start. A head ahead of the ledger means
that acknowledged lines are gone, and nothing is repaired.
"""

from __future__ import annotations

import errno
import getpass
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from safetune.core.digest import canonical, sha256_hex
from safetune.core.errors import IntegrityError, MachineError, RunError
from safetune.core.events import Draft, Event
from safetune.state.atomic import fsync_folder, machine_errors, write_atomic
from safetune.state.chain import EMPTY, Chain, Head, broken, scan
from safetune.state.files import read_regular


def now() -> str:
    """Return the time as UTC, ISO 8601 with seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def user() -> str:
    """Return the name of the person or service account that runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The ledger as found on disk, every link checked: its whole lines, a torn tail, and what ledger.head says."""

    chain: Chain
    torn: bytes = b""
    written: Head = EMPTY.head

    @property
    def unfinished(self) -> str:
        """What a crash left to finish, as a sentence; empty when nothing."""
        if self.torn:
            return "the last line was cut short by a crash before it was acknowledged"
        if self.written != self.chain.head:
            return "ledger.head is one line behind"
        return ""


class Ledger:
    """The ledger file of one store. Callers hold the store's lock to append or recover."""

    def __init__(self, folder: Path, clock: Callable[[], str] = now, author: Callable[[], str] = user) -> None:
        self.path = folder / "ledger.jsonl"
        self.head_path = folder / "ledger.head"
        self._aside = folder / "tmp"
        self._clock = clock
        self.author = author
        self._unsafe = False

    def begin(self) -> None:
        """Write the head of an empty ledger, so that a missing head is always damage."""
        if not self.head_path.exists() and not self.path.exists():
            self._write_head(EMPTY.head)

    def inspect(self, known: Chain = EMPTY) -> Snapshot:
        """Return the ledger as it is, without changing anything; `known` lines that are still there are not read twice.

        A reader without the lock may meet a writer half way: what it finds wrong must be looked at again under the
        lock.

        Raises:
            IntegrityError: for everything that a crash cannot explain, naming the first line that is wrong, and how.
        """
        written = self._read_head()  # before the ledger: a writer in between then leaves the head behind, never ahead
        with machine_errors("read the ledger"):
            try:
                data = read_regular(self.path)
            except FileNotFoundError:
                data = b""
        whole = data[: data.rfind(b"\n") + 1]
        chain = scan(whole, known, written)
        if written.seq > len(chain.events):
            raise IntegrityError(
                f"ledger line {len(chain.events) + 1}: the ledger is cut short here, ledger.head knows {written.seq}",
                hint="acknowledged lines are gone and nothing was changed; restore ledger.jsonl from a backup",
            )
        if written.seq < len(chain.events) - 1:
            raise IntegrityError(
                f"ledger line {written.seq + 2}: ledger.head ends at line {written.seq}; a crash leaves one line more "
                "at most",
                hint="lines were added from outside, or ledger.head is an old copy; restore both from one backup",
            )
        if chain.hash_of(written.seq) != written.hash:
            raise broken(max(written.seq, 1), "its hash is not the one in ledger.head")
        return Snapshot(chain, data[len(whole) :], written)

    def read(self) -> tuple[tuple[Event, ...], Head]:
        """Return all events and the head, every link and the head file checked.

        Raises:
            IntegrityError: naming the first line that is wrong, and how; also when a crash left something to finish.
        """
        found = self.inspect()
        if found.unfinished:
            raise IntegrityError(found.unfinished, hint="safetune status finishes it")
        return found.chain.events, found.chain.head

    def _read_head(self) -> Head:
        try:
            data = read_regular(self.head_path)
            found = json.loads(data)
            head = Head(found["seq"], found["hash"])
            if type(head.seq) is not int or type(head.hash) is not str or _head_bytes(head) != data or head.seq < 0:
                raise ValueError("it does not have the form of a head")
        except FileNotFoundError:
            raise IntegrityError("ledger.head is missing", hint="restore ledger.head from a backup") from None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise IntegrityError(f"ledger.head cannot be read: {error}", hint="restore it from a backup") from error
        return head

    def recover(self, known: Chain = EMPTY) -> tuple[Snapshot, str]:
        """Set a torn tail aside in tmp/, finish a head that fell behind, and say what was done; the lock is held.

        Raises:
            IntegrityError: for damage that a crash cannot explain; nothing is changed then.
            MachineError: when the machine refuses.
        """
        found, done = self.inspect(known), ""
        if found.torn:
            with machine_errors("recover the ledger"):
                self._set_aside(found)
            done = "a line that a crash had cut short was set aside in tmp/"
        if found.written != found.chain.head:
            with machine_errors("recover the ledger"), self.path.open("rb") as stream:
                os.fsync(stream.fileno())  # the crash may have come before the line was safe
            self._write_head(found.chain.head)
            done = done or "the ledger head was brought up to the last line"
        return Snapshot(found.chain, b"", found.chain.head), done

    def _set_aside(self, found: Snapshot) -> None:
        self._aside.mkdir(exist_ok=True)
        write_atomic(self._aside / f"torn-{sha256_hex(found.torn)[:12]}", found.torn)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(descriptor, len(found.chain.data))  # flushed with the next line
        finally:
            os.close(descriptor)

    def append(self, draft: Draft, chain: Chain) -> Chain:
        """Write one event after `chain`: one line, one write, fsync; then the head. Return the longer chain.

        Raises:
            RunError: when the event cannot be written as a line (a number that is not finite, too long).
            MachineError: when the machine refuses. A line that was not acknowledged may still be there; after a flush
                or a head that failed nothing more is written by this process.
        """
        event = Event(chain.head.seq + 1, chain.head.hash, self._clock(), self.author(), draft.kind, draft.data)
        longer = _extended(chain, event)
        if self._unsafe:
            raise MachineError(
                "cannot write the ledger: an earlier write could not be made safe", hint="check the disk"
            )
        with machine_errors("write the ledger"):
            self._write_line(longer.data[len(chain.data) :], len(chain.data))
        try:
            self._write_head(longer.head)
        except MachineError:
            self._unsafe = True
            raise
        return longer

    def _flush(self, descriptor: int) -> None:
        """A flush that failed once tells nothing when it is asked again, so it is the last thing this process does."""
        try:
            os.fsync(descriptor)
        except OSError:
            self._unsafe = True
            raise

    def _write_line(self, line: bytes, before: int) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            try:
                if os.write(descriptor, line) != len(line):
                    raise OSError(errno.ENOSPC, "the line was taken in part")
                self._flush(descriptor)
                if before == 0:
                    fsync_folder(self.path.parent)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(descriptor, before)  # the line was not acknowledged: take it back
                raise
        finally:
            os.close(descriptor)

    def _write_head(self, head: Head) -> None:
        write_atomic(self.head_path, _head_bytes(head))


def _head_bytes(head: Head) -> bytes:
    return canonical({"seq": head.seq, "hash": head.hash})


def _extended(chain: Chain, event: Event) -> Chain:
    """Return `chain` with one more event, read back from its bytes: what cannot be read again is never written."""
    try:
        line = canonical(event.row) + b"\n"
        return scan(chain.data + line, chain)
    except (ValueError, TypeError, RecursionError, IntegrityError) as error:
        raise RunError(
            f"the event {event.kind} cannot be recorded: {error}", hint="nothing was written; see the worker's log"
        ) from error

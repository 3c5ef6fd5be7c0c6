"""One store: ledger, objects, channel pointers and work folders, and the order in which they change."""

from __future__ import annotations

import shutil
from pathlib import Path

from safetune.core.errors import UsageError
from safetune.core.events import Draft, Event
from safetune.core.standing import Standing, apply, fold
from safetune.state.atomic import machine_errors, write_atomic
from safetune.state.ledger import Head, Ledger
from safetune.state.lock import FileLock
from safetune.state.objects import ObjectStore

_FORMAT = "safetune-store/1\n"
_LOCK_SECONDS = 30.0


class Store:
    """A store folder. Every change goes through `commit`; everything else is derived from the ledger."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tmp = root / "tmp"
        self.runs = root / "work" / "runs"
        self.responses = root / "work" / "responses"
        self.scratch = root / "work" / "scratch"
        self.objects = ObjectStore(root / "objects", self.tmp)
        self.ledger = Ledger(root)
        self.recovered = ""
        self._events: tuple[Event, ...] = ()
        self._head = Head(0, "")
        self._standing = Standing()

    @staticmethod
    def open(root: Path) -> Store:
        """Open an existing store and read its ledger, without changing anything unless a crash left work to finish.

        Raises:
            UsageError: when there is none, or it has a newer format.
            IntegrityError: when the ledger is broken.
        """
        store = Store(root)
        try:
            found = (root / "format").read_text()
        except OSError:
            raise UsageError(f"there is no store in {root}", hint="safetune run PLAYBOOK makes one") from None
        if found != _FORMAT:
            raise UsageError(f"the store in {root} has format {found.strip()!r}", hint="use the safetune that made it")
        if store._needs_recovery():
            with store._lock():
                store.recovered = store.ledger.recover()
                store._sweep()
        store._read()
        return store

    @staticmethod
    def create(root: Path) -> Store:
        """Open the store in `root`, making it first when there is none.

        Raises:
            MachineError: when it cannot be made.
        """
        if not (root / "format").exists():
            with machine_errors(f"make a store in {root}"):
                for name in ("objects", "tmp", "refs", "work/runs", "work/responses", "work/scratch"):
                    (root / name).mkdir(parents=True, exist_ok=True)
                (root / ".gitignore").write_text("*\n")
            write_atomic(root / "format", _FORMAT.encode())
        return Store.open(root)

    def events(self) -> tuple[Event, ...]:
        """Return all events, in order."""
        return self._events

    def standing(self) -> Standing:
        """Return what the events add up to."""
        return self._standing

    def commit(self, *drafts: Draft) -> int:
        """Write events, one after the other, and return the ledger line of the last.

        Each is checked against the rules of the machine before its line is written. The line that was fsynced is the
        commit; head and pointers follow it and are derived again after a crash.

        Raises:
            RuleViolation: when an event breaks a rule; its line is not written.
            MachineError: when the machine refuses.
        """
        with self._lock():
            self.ledger.recover()
            self._read()
            for draft in drafts:
                event = Event(self._head.seq + 1, self._head.hash, "", "", draft.kind, draft.data)
                standing = apply(self._standing, event)
                written, self._head = self.ledger.append(draft, self._head)
                self._events, self._standing = (*self._events, written), standing
            self._write_refs()
        return self._head.seq

    def _lock(self) -> FileLock:
        return FileLock(self.root / "lock", _LOCK_SECONDS, "this store")

    def _needs_recovery(self) -> bool:
        """Look whether a crash left something: only then is the lock taken on a mere read."""
        if any(self.tmp.iterdir() if self.tmp.is_dir() else ()):
            return True
        try:
            self.ledger.read()
        except Exception:
            return True  # recovery mends what a crash explains; `_read` then reports what is left
        return False

    def _read(self) -> None:
        self._events, self._head = self.ledger.read()
        self._standing = fold(self._events)

    def _sweep(self) -> None:
        """Remove half-filled objects; the lock is held and every filler is a process that is gone or waits for it."""
        for path in self.tmp.glob("adopt-*"):
            shutil.rmtree(path, ignore_errors=True)

    def _write_refs(self) -> None:
        """Write refs/<channel> where it differs from the standing."""
        for name, channel in self._standing.channels.items():
            path = self.root / "refs" / name
            content = f"{channel.current}\n".encode()
            if not path.exists() or path.read_bytes() != content:
                write_atomic(path, content)

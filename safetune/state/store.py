"""One store: ledger, objects, channel pointers and work folders, and the order in which they change."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from safetune.core.errors import IntegrityError, MachineError, RunError, UsageError
from safetune.core.events import Draft, Event
from safetune.core.standing import Standing, apply, fold
from safetune.state.atomic import fsync_folder, machine_errors, write_atomic
from safetune.state.chain import EMPTY, Chain
from safetune.state.files import read_regular
from safetune.state.ledger import Ledger
from safetune.state.lock import FileLock, quiet
from safetune.state.objects import FILLING, ObjectStore

_FORMAT = "safetune-store/2\n"
_OLD_FORMATS = ("safetune-store/1\n",)  # their ledgers do not say what a gate spent
_LOCK_SECONDS = 30.0
_FOLDERS = ("objects", "tmp", "refs", "work/runs", "work/responses", "work/scratch")
_OWN_NAMES = frozenset({"lock", "objects", "tmp", "refs", "work", "ledger.jsonl", "ledger.head", ".gitignore"})
# The objects that an event names: they must be in the store before its line is.
_ARTEFACTS: Mapping[str, tuple[str, ...]] = {
    "admitted": ("mixture",),
    "screened": ("mixture", "scores"),
    "trained": ("checkpoint", "lineage"),
    "evaluated": ("evidence",),
    "gated": ("checkpoint", "evidence"),
    "approved": ("checkpoint", "evidence"),
    "overridden": ("checkpoint", "evidence"),
    "promoted": ("checkpoint",),
    "rolled_back": ("target",),
}
_MAY_BE_EMPTY = frozenset({"mixture", "lineage"})


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
        self._chain = EMPTY
        self._standing = Standing()

    @staticmethod
    def open(root: Path) -> Store:
        """Open an existing store and read its ledger, without changing anything unless a crash left work to finish.

        Raises:
            UsageError: when there is none, or it has another format.
            IntegrityError: when the ledger is broken.
            MachineError: when the machine refuses.
        """
        check_format(root)
        store = Store(root)
        if not store._read_alone():
            # Damage, a crash, or a writer in the middle of a line: only the lock tells them apart.
            with store._lock():
                store._recover()
        store._tidy()
        return store

    @staticmethod
    def create(root: Path) -> Store:
        """Open the store in `root`, making it first when there is none.

        Raises:
            UsageError: when `root` is a file, or a folder that holds something else.
            MachineError: when it cannot be made.
        """
        if not (root / "format").exists():
            _check_place(root)
            with machine_errors(f"make a store in {root}"):
                root.mkdir(parents=True, exist_ok=True)
            store = Store(root)
            with store._lock():
                if not (root / "format").exists():
                    store._make()
        return Store.open(root)

    def events(self) -> tuple[Event, ...]:
        """Return all events, in order."""
        return self._chain.events

    def standing(self) -> Standing:
        """Return what the events add up to."""
        return self._standing

    def commit(self, *drafts: Draft) -> int:
        """Write events, one after the other, and return the ledger line of the last.

        All are checked against the rules of the machine before the first line is written. The line that was fsynced is
        the commit; head and pointers follow it and are derived again after a crash.

        Raises:
            RuleViolation: when an event breaks a rule; nothing is written.
            IntegrityError: when an object that an event names is not in the store; nothing is written.
            MachineError: when the machine refuses.
        """
        with self._lock():
            self._recover()
            standings = self._check(drafts)
            for draft, standing in zip(drafts, standings, strict=True):
                self._chain = self.ledger.append(draft, self._chain)
                self._standing = standing
            with suppress(MachineError):  # the lines are safe and the pointers are derived again
                self._write_refs()
        return self._chain.head.seq

    def _check(self, drafts: tuple[Draft, ...]) -> list[Standing]:
        """Return the standing after each draft, before anything is written."""
        standings, standing = [], self._standing
        for draft in drafts:
            event = Event(standing.last_seq + 1, "", "", self.ledger.author(), draft.kind, draft.data)
            standing = apply(standing, event)
            if draft.kind == "promoted" and not is_channel(event.text("channel")):
                raise UsageError(f"{event.text('channel')!r} cannot be the name of a channel", hint="use letters and -")
            for field in _ARTEFACTS.get(draft.kind, ()):
                if event.text(field) or field not in _MAY_BE_EMPTY:
                    self.objects.manifest(event.text(field))
            standings.append(standing)
        return standings

    def _lock(self, seconds: float = _LOCK_SECONDS) -> FileLock:
        return FileLock(self.root / "lock", seconds, "this store")

    def _make(self) -> None:
        with machine_errors(f"make a store in {self.root}"):
            for name in _FOLDERS:
                (self.root / name).mkdir(parents=True, exist_ok=True)
            if not (self.root / ".gitignore").exists():
                write_atomic(self.root / ".gitignore", b"*\n")
            self.ledger.begin()
            write_atomic(self.root / "format", _FORMAT.encode())
            fsync_folder(self.root.absolute().parent)

    def _read_alone(self) -> bool:
        """Read the ledger without the lock; return False when there is something that only its holder may judge."""
        try:
            found = self.ledger.inspect()
            if not found.unfinished:
                self._take(found.chain)
            return not found.unfinished
        except IntegrityError:
            return False

    def _recover(self) -> None:
        """Finish what a crash left and read what is new; the lock is held."""
        found, done = self.ledger.recover(self._chain)
        self.recovered = self.recovered or done
        self._take(found.chain)

    def _take(self, chain: Chain) -> None:
        """Make `chain` what this process knows; only its new events are applied."""
        known = len(self._chain.events)
        if not chain.data.startswith(self._chain.data):
            raise IntegrityError(
                "the ledger was replaced while this process was using it", hint="nothing was written; safetune verify"
            )
        fresh = chain.events[known:]
        self._standing = fold(fresh, self._standing) if fresh else self._standing
        self._chain = chain

    # -- caches and leftovers ----------------------------------------------------------------------------------------

    def _tidy(self) -> None:
        """Derive pointers again where they differ and remove what a crash left behind.

        Neither is needed to read the store, so a read-only or a busy one is left as it is.
        """
        if not self._wrong_refs() and not self.leftovers():
            return
        with suppress(RunError), self._lock(seconds=0):
            self._recover()
            self._write_refs()
            self._sweep()

    def _wrong_refs(self) -> dict[str, str]:
        """Return every pointer that is not what the standing says, with the checkpoint it should hold (empty: none)."""
        wanted = {name: found.current for name, found in self._standing.channels.items() if is_channel(name)}
        found = read_refs(self.root)
        return {n: wanted.get(n, "") for n in wanted.keys() | found.keys() if wanted.get(n) != found.get(n)}

    def _write_refs(self) -> None:
        """Write refs/<channel> where it differs from the standing, and remove pointers of no channel."""
        for name, checkpoint in self._wrong_refs().items():
            path = self.root / "refs" / name
            with machine_errors(f"write {path}"):
                if checkpoint:
                    path.parent.mkdir(exist_ok=True)
                    # Not flushed: it is derived from the ledger again by the next command.
                    write_atomic(path, f"{checkpoint}\n".encode(), durable=False)
                else:
                    path.unlink()

    def leftovers(self) -> list[Path]:
        """Return what interrupted writes left: half-filled objects and temporary files of the store's own folders."""
        places = (self.root, self.root / "refs", self.tmp)
        return [*self.tmp.glob(f"{FILLING}*"), *(p for folder in places for p in folder.glob(".*.tmp"))]

    def _sweep(self) -> None:
        """Remove leftovers; the lock is held, and where somebody fills an object nothing is touched."""
        with machine_errors("sweep the store"), quiet(self.tmp) as alone:
            for path in self.leftovers() if alone else ():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


class OldStore(UsageError):
    """A store of a format that was in use before: nothing is wrong with it, and this version cannot go on with it."""


def check_format(root: Path) -> None:
    """Check that `root` holds a store of a format that this version knows.

    Raises:
        OldStore: when it is of an earlier one.
        UsageError: when it is of none.
    """
    _refuse_file(root)
    try:
        found = read_regular(root / "format").decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"there is no store in {root}", hint="safetune run PLAYBOOK makes one") from None
    except (OSError, IntegrityError) as error:
        raise UsageError(f"the store in {root} cannot be read: {error}", hint="check what is there") from None
    if found in _OLD_FORMATS:
        raise OldStore(
            f"the store in {root} was made by an earlier safetune, whose gates did not say what they spent; it cannot "
            "go on here",
            hint="begin a new one: --store DIR; the safetune that made it still reads the old one",
        )
    if found != _FORMAT:
        raise UsageError(
            f"the store in {root} has format {found.strip()[:40]!r}, this safetune knows {_FORMAT.strip()!r}",
            hint="use the safetune that made it",
        )


def is_channel(name: str) -> bool:
    """Whether a channel may have this name: it is also the name of a file in refs/."""
    return name.replace("-", "").replace("_", "").replace(".", "").isalnum() and name[0] != "." and len(name) < 100


def read_refs(root: Path) -> dict[str, str]:
    """Return what the pointers of a store say: the checkpoint by channel; a file that is no pointer counts as `?`."""
    found: dict[str, str] = {}
    folder = root / "refs"
    for name in sorted(path.name for path in folder.iterdir()) if folder.is_dir() else ():
        if not name.startswith("."):
            with suppress(OSError, IntegrityError):
                content = read_regular(folder / name)[:256]
                found[name] = content[:-1].decode(errors="replace") if content.endswith(b"\n") else "?"
                continue
            found[name] = "?"
    return found


def _refuse_file(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root} is a file, a store is a folder", hint="use another: --store DIR")


def _check_place(root: Path) -> None:
    """Refuse to make a store where something else is: it would mix with it, and hide it from git."""
    _refuse_file(root)
    try:
        foreign = sorted(p.name for p in root.iterdir() if p.name not in _OWN_NAMES and p.suffix != ".tmp")
    except OSError:
        return  # not there yet, or not readable: making it says why
    if foreign:
        raise UsageError(
            f"{root} is not a store and holds other things ({foreign[0]})", hint="use an empty folder: --store DIR"
        )

"""Look at the ledger and the pointers of a store without changing anything, however damaged they are."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from safetune.core.errors import IntegrityError, MachineError, RunError, SafetuneError
from safetune.state.chain import EMPTY, Chain, scan_prefix
from safetune.state.files import read_regular
from safetune.state.ledger import Ledger
from safetune.state.lock import FileLock
from safetune.state.store import read_refs

_LOCK_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Look:
    """The lines before the first broken one, what is wrong with the ledger, what a crash left, and the pointers."""

    chain: Chain
    problem: SafetuneError | None
    unfinished: str
    refs: Mapping[str, str]


def look(root: Path) -> Look:
    """Return what the ledger and the pointers of a store are at one moment; no file is made or changed."""
    # The lock keeps a writer's half-done commit from looking like damage. Without the file nobody ever wrote.
    lock = root / "lock"
    with suppress(RunError), FileLock(lock, _LOCK_SECONDS, "this store") if lock.is_file() else nullcontext():
        return _look(root)
    return _look(root)


def _look(root: Path) -> Look:
    ledger = Ledger(root)
    try:
        found = ledger.inspect()
    except (IntegrityError, MachineError) as error:
        return Look(_readable(ledger.path), error, "", read_refs(root))
    return Look(found.chain, None, found.unfinished, read_refs(root))


def _readable(path: Path) -> Chain:
    """Return what can still be read of a broken ledger: its lines up to the first wrong one."""
    try:
        return scan_prefix(read_regular(path)).chain
    except (OSError, IntegrityError):
        return EMPTY

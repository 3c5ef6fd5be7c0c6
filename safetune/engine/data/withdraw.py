"""Withdraw consent: find every checkpoint that learnt from a source or a row, and quarantine it for good.

A source counts where an admitted mixture holds it; a row where the record of a run says that a step saw it, or where no
record can exclude that. Whatever was trained from such a checkpoint is affected too. Channels that
hold one are rolled back. Nothing is deleted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetune.core.diagnostics import did_you_mean
from safetune.core.digest import short
from safetune.core.errors import ExitCode, IntegrityError, UsageError
from safetune.core.events import ROW, SOURCE, Draft, Event, as_of, rolled_back, withdrawn
from safetune.core.rollback import choose_target
from safetune.core.standing import RuleViolation, Standing, apply
from safetune.core.withdrawal import descendants, trained_on
from safetune.engine import checkpoints
from safetune.engine.data.lineage import Library, Training, rows, trainings
from safetune.engine.data.mixture import read_mixture
from safetune.state.objects import ObjectStore
from safetune.state.store import Store

_MIN_PREFIX = 8
_HEX = re.compile(r"[0-9a-f]{8,64}\Z")
_ROW = re.compile(r"[0-9a-f]{32}\Z")
_MOST_NAMES = 20
_TRIES = 3
SAW = "it saw the row"


@dataclass(frozen=True, slots=True)
class Affected:
    """A checkpoint that learnt from what is withdrawn, and how that is known."""

    checkpoint: str
    why: str


@dataclass(frozen=True, slots=True)
class Move:
    """A channel that holds an affected checkpoint; `target` is where it goes, empty when there is no way back."""

    channel: str
    previous: str
    target: str = ""


@dataclass(frozen=True, slots=True)
class WithdrawResult:
    """What a withdrawal did, or with `dry_run` would do. `line` is the last ledger line, 0 when nothing was written.

    `name` is that of a source or the id of a row; `sha256` is empty where everything of that name is meant. `since` is
    the ledger line of an earlier withdrawal of the same, 0 for none.
    """

    what: str
    name: str
    sha256: str
    reason: str
    dry_run: bool
    affected: tuple[Affected, ...]
    moves: tuple[Move, ...]
    line: int = 0
    since: int = 0

    @property
    def exit_code(self) -> ExitCode:
        """3 where a channel still serves what learnt from withdrawn data."""
        stuck = any(not move.target for move in self.moves)
        return ExitCode.FAIL if stuck and not self.dry_run else ExitCode.DONE


@dataclass(frozen=True, slots=True)
class _Target:
    what: str
    name: str
    sha256: str = ""


def withdraw(store_root: Path, what: str, reason: str, dry_run: bool = False) -> WithdrawResult:
    """Withdraw a source (its name, or the beginning of its sha256) or a row (the beginning of its id).

    Raises:
        UsageError: when nothing is called so, or no reason is given.
        IntegrityError: when the ledger is broken.
    """
    if not reason.strip():
        raise UsageError("a withdrawal needs a reason", hint='--reason "..."')
    for attempt in range(_TRIES):
        store = Store.open(store_root)
        try:
            return _withdraw(store, _target(store, what), reason, dry_run)
        except RuleViolation:
            # A run wrote to the ledger while rows were looked at: look again.
            moved = Store.open(store_root).standing().last_seq != store.standing().last_seq
            if not moved or attempt == _TRIES - 1:
                raise
    raise AssertionError("unreachable")


def _withdraw(store: Store, target: _Target, reason: str, dry_run: bool) -> WithdrawResult:
    standing = store.standing()
    found, drafts = affected(store, target.what, target.name, target.sha256), []
    key = f"bytes {target.sha256}" if target.sha256 else f"{target.what} {target.name}"
    earlier = standing.withdrawn.get(key)
    # Said again, it is written again where a checkpoint learnt from it meanwhile: one that nothing keeps back yet.
    if earlier is None or any(not standing.checkpoints[one.checkpoint].withdrawn_at for one in found):
        drafts = _drafts(store, target, reason, [one.checkpoint for one in found])
    moves, backs = _moves(store, _after(standing, drafts), reason, target)
    line = store.commit(*drafts, *backs) if (drafts or backs) and not dry_run else 0
    told = (target.what, target.name, target.sha256, reason, dry_run)
    return WithdrawResult(*told, found, moves, line, earlier.seq if earlier else 0)


# -- what is meant -----------------------------------------------------------------------------------------------------


def _target(store: Store, what: str) -> _Target:
    """Return the source or row that a text means: a name before a digest.

    Raises:
        UsageError: when nothing is called so, or more than one thing.
    """
    known = sorted({one for admitted in store.standing().data.admitted.values() for one in admitted})
    if any(name == what for name, _ in known):
        return _Target(SOURCE, what)
    if not _HEX.match(what):
        names = sorted({name for name, _ in known})
        hint = did_you_mean(what, names) or f"known: {', '.join(names[:_MOST_NAMES]) or 'none'}"
        raise UsageError(f'no admitted source is called "{what[:80]}"', hint=f"{hint}; a row by 8 digits of its id")
    found = {_Target(SOURCE, next(n for n, s in known if s == sha), sha) for _, sha in known if sha.startswith(what)}
    found |= {_Target(ROW, row) for row in _row_ids(store, what)}
    if not found and _ROW.match(what):
        return _Target(ROW, what)  # never seen here; later plans leave it out
    if len(found) == 1:
        return found.pop()
    if found:
        listed = ", ".join(sorted(one.sha256 or one.name for one in found)[:5])
        raise UsageError(f"{what} is ambiguous: {listed}", hint="give more digits")
    raise UsageError(f"no source and no row of this store begins with {what}", hint="a whole row id has 32 digits")


def _row_ids(store: Store, prefix: str) -> frozenset[str]:
    """Return the ids of stored rows that begin so."""
    if len(prefix) > 32:
        return frozenset()
    library, needle = _Rows(store.objects), prefix.encode()
    return frozenset(
        row for mixture in _mixtures(store.events()) for row in library.ids(mixture, needle) if row.startswith(prefix)
    )


class _Rows:
    """The rows of mixtures by id, each data object verified and read once for a needle."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._known: dict[tuple[str, bytes], Mapping[str, frozenset[int]]] = {}

    def ids(self, mixture: str, needle: bytes) -> Mapping[str, frozenset[int]]:
        """Return the ids whose line holds `needle`, with their numbers; none of a mixture that cannot be read."""
        try:
            return self.numbers(mixture, needle)
        except IntegrityError:
            return {}

    def numbers(self, mixture: str, needle: bytes) -> Mapping[str, frozenset[int]]:
        """Return the ids whose line holds `needle`, with the numbers that the rows have in a mixture.

        Raises:
            IntegrityError: when it cannot be read.
        """
        if (mixture, needle) not in self._known:
            found: dict[str, set[int]] = {}
            for part in read_mixture(self._objects, mixture).parts:
                self._objects.verify(part.data)
                for row in rows(self._objects, part, lambda line: needle in line):
                    found.setdefault(row.id, set()).add(row.number)
            self._known[mixture, needle] = {row: frozenset(numbers) for row, numbers in found.items()}
        return self._known[mixture, needle]


def _mixtures(events: Iterable[Event], stage_key: str = "") -> tuple[str, ...]:
    """Return the mixtures that were admitted, to one stage or to any, in order."""
    lines = (e for e in events if e.kind == "admitted" and stage_key in ("", e.text("stage_key")))
    return tuple(dict.fromkeys(line.text("mixture") for line in lines if line.text("mixture")))


# -- who learnt from it ------------------------------------------------------------------------------------------------


def affected(store: Store, what: str, name: str, sha256: str = "") -> tuple[Affected, ...]:
    """Return every checkpoint that learnt from a source or a row, itself or through an ancestor, in ledger order."""
    known = store.standing().checkpoints
    if what == SOURCE:
        said = "its mixture holds the source"
        own = {digest: said for digest, one in known.items() if trained_on(one.sources, name, sha256)}
    else:
        own = saw_row(store.objects, store.events(), name)
    every = descendants({digest: one.parent for digest, one in known.items()}, own)
    return tuple(
        Affected(digest, own.get(digest) or f"it was trained from {short(one.parent)}")
        for digest, one in known.items()
        if digest in every
    )


def saw_row(objects: ObjectStore, events: Sequence[Event], row: str) -> dict[str, str]:
    """Return why each checkpoint counts as one that saw a row: by the record of its steps, or for the lack of one.

    Of one that did for certain the reason begins with `SAW`.
    """
    library, numbers = Library(objects), _Rows(objects)
    found: dict[str, str] = {}
    for checkpoint, runs in trainings(events).items():
        for run in runs:
            if why := _run_saw(run, row, (events, library, numbers)):
                found.setdefault(checkpoint, why)
    return found


def _run_saw(run: Training, row: str, where: tuple[Sequence[Event], Library, _Rows]) -> str:
    events, library, known = where
    doubt = "there is no record of its steps, so that cannot be excluded"
    if run.lineage:
        try:
            wanted = known.numbers(library.record(run.lineage).mixture, row.encode()).get(row, frozenset())
            seen = library.sights(run.lineage)
            times = sum(seen[number].times for number in wanted if number in seen)
            return f"{SAW} {times} {'time' if times == 1 else 'times'}" if times else ""
        except IntegrityError:
            doubt = "the record of its steps cannot be read, so that cannot be excluded"
    return doubt if _may_hold(_mixtures(events, run.stage_key), row, known) else ""


def _may_hold(mixtures: Sequence[str], row: str, known: _Rows) -> bool:
    """Return whether any of the mixtures of a stage holds a row; one that is gone or was never recorded may."""
    try:
        return not mixtures or any(row in known.numbers(mixture, row.encode()) for mixture in mixtures)
    except IntegrityError:
        return True


# -- what is written ---------------------------------------------------------------------------------------------------


def _drafts(store: Store, target: _Target, reason: str, found: Sequence[str]) -> list[Draft]:
    standing = store.standing()
    if target.what == ROW:
        line = withdrawn(ROW, target.name, "", reason, found)
        return [as_of(line, standing.last_seq, _going_on(store, target.name))]
    drafts = [withdrawn(SOURCE, target.name, target.sha256, reason, found)]
    if not target.sha256:
        # The same bytes under another name are the same source.
        known = {one for admitted in standing.data.admitted.values() for one in admitted}
        for sha256 in sorted({sha for name, sha in known if name == target.name and sha}):
            same = affected(store, SOURCE, target.name, sha256)
            drafts.append(withdrawn(SOURCE, target.name, sha256, reason, [one.checkpoint for one in same]))
    return drafts


def _going_on(store: Store, row: str) -> list[str]:
    """Return the stages that were admitted with a row and have made nothing yet: they may be training on it now."""
    events, known = store.events(), _Rows(store.objects)
    done = {event.text("stage_key") for event in events if event.kind == "trained"}
    waiting = dict.fromkeys(e.text("stage_key") for e in events if e.kind == "admitted")
    return [key for key in waiting if key not in done and _may_hold(_mixtures(events, key), row, known)]


def _after(standing: Standing, drafts: Sequence[Draft]) -> Standing:
    for draft in drafts:
        standing = apply(standing, Event(standing.last_seq + 1, "", "", "", draft.kind, draft.data))
    return standing


def _moves(
    store: Store, standing: Standing, reason: str, target: _Target
) -> tuple[tuple[Move, ...], tuple[Draft, ...]]:
    """Return where channels go that hold a withdrawn checkpoint, and the lines that move them."""
    moves, drafts = [], []
    for name, channel in sorted(standing.channels.items()):
        if not standing.checkpoints[channel.current].withdrawn_at:
            continue
        back = _way_back(store, standing, [checkpoint for _, checkpoint in channel.history])
        moves.append(Move(name, channel.current, back))
        if back:
            choice = choose_target(standing, name, back)
            move = (name, channel.current, back)
            drafts.append(rolled_back(move, reason, f"withdrawal of {target.what} {target.name}", choice.quarantined))
            standing = _after(standing, drafts[-1:])
    return tuple(moves), tuple(drafts)


def _way_back(store: Store, standing: Standing, history: Sequence[str]) -> str:
    """Return the newest promotion that still stands and whose bytes are sound, or an empty string."""
    for checkpoint in reversed(history):
        if standing.may_return_to(checkpoint):
            try:
                checkpoints.verify(store.objects, checkpoint)
            except IntegrityError:
                continue
            return checkpoint
    return ""

"""Move a channel back: choose, verify every digest, commit one line. Nothing is deleted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetune.core.digest import short
from safetune.core.errors import IntegrityError, UsageError
from safetune.core.events import BY_A_PERSON, rolled_back
from safetune.core.rollback import RollbackChoice, choose_target
from safetune.core.standing import Standing
from safetune.engine import checkpoints
from safetune.state.store import Store


@dataclass(frozen=True, slots=True)
class RollbackRequest:
    """What to roll back: the channel (empty: the only one), where `to` (a digest prefix; empty: one back), and why."""

    channel: str = ""
    to: str = ""
    reason: str = ""
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class RollbackResult:
    """What a rollback did, or with `dry_run` would do; `line` is its ledger line, 0 when nothing was written."""

    channel: str
    previous: str
    target: str
    why: str
    moved: bool
    dry_run: bool
    verified_objects: int
    verified_bytes: int
    quarantined: tuple[str, ...]
    not_undone: tuple[str, ...]
    line: int


def roll_back(store_root: Path, wanted: RollbackRequest) -> RollbackResult:
    """Roll a channel back to an earlier promotion, every file of the target verified first.

    Raises:
        UsageError: when the channel or target cannot be chosen.
        IntegrityError: when the target is damaged; the channel stays where it is.
    """
    store = Store.open(store_root)
    channel = wanted.channel or _only_channel(store.standing())
    choice = choose_target(store.standing(), channel, wanted.to)
    objects, size = _verify(store, choice)
    line = 0
    if not choice.already_there and not wanted.dry_run:
        move = (channel, choice.previous, choice.target)
        line = store.commit(rolled_back(move, wanted.reason or "no reason given", BY_A_PERSON, choice.quarantined))
    return RollbackResult(
        channel=channel,
        previous=choice.previous,
        target=choice.target,
        why=choice.why,
        moved=line > 0,
        dry_run=wanted.dry_run,
        verified_objects=objects,
        verified_bytes=size,
        quarantined=choice.quarantined,
        not_undone=_not_undone(choice),
        line=line,
    )


def _only_channel(standing: Standing) -> str:
    names = sorted(standing.channels)
    if len(names) == 1:
        return names[0]
    if not names:
        raise UsageError("nothing was ever promoted, so there is nothing to roll back", hint="safetune status")
    raise UsageError(f"which channel? there are {', '.join(names)}", hint=f"safetune rollback {names[0]}")


def _verify(store: Store, choice: RollbackChoice) -> tuple[int, int]:
    """Hash everything the target rests on; return how many objects and bytes that was."""
    try:
        found = checkpoints.lineage(store.objects, choice.target)
        return len(found.objects), sum(store.objects.verify(name) for name in found.objects)
    except IntegrityError as error:
        raise IntegrityError(
            f"{error.message}; channel {choice.channel} stays at {short(choice.previous)}",
            hint="restore it from a backup, or choose another target with --to (safetune log lists promotions)",
        ) from error


def _not_undone(choice: RollbackChoice) -> tuple[str, ...]:
    if choice.already_there:
        return ()
    return (
        f"copies of {short(choice.previous)} that were exported or deployed elsewhere: nobody told them",
        "training data, responses and evidence stay as they are; nothing is deleted",
        "the base model lies outside the store; it is verified when it is used next",
    )

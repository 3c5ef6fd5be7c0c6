"""What the ledger adds up to, for people: channels, checkpoints, stages, and a run that never said it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetune.core.alpha import BudgetStanding
from safetune.core.digest import short
from safetune.core.events import Event
from safetune.core.standing import ChannelStanding, CheckpointStanding, StageStanding, Standing
from safetune.state.store import Store


@dataclass(frozen=True, slots=True)
class Status:
    """A store as it stands; `recovered` says what a crash had left and was mended on opening, or is empty.

    `unfinished` is the run whose end is not in the ledger (it still runs, or was killed), or empty. `budgets` are what
    each playbook spent of its alpha budget. `warnings` are channels that hold what was rolled back elsewhere.
    """

    channels: Mapping[str, ChannelStanding]
    checkpoints: Mapping[str, CheckpointStanding]
    stages: Mapping[str, StageStanding]
    events: int
    recovered: str
    unfinished: str
    budgets: Mapping[str, BudgetStanding] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def status(store_root: Path) -> Status:
    """Return how a store stands.

    Raises:
        UsageError: when there is no store.
        IntegrityError: when its ledger is broken.
    """
    store = Store.open(store_root)
    standing, events = store.standing(), store.events()
    return Status(
        channels=standing.channels,
        checkpoints=standing.checkpoints,
        stages=standing.stages,
        events=len(events),
        recovered=store.recovered,
        unfinished=_unfinished(events),
        budgets=standing.budgets,
        warnings=_warnings(standing),
    )


def _warnings(standing: Standing) -> tuple[str, ...]:
    """Return one sentence for each channel that points at a checkpoint that is quarantined."""
    found = []
    for name, channel in sorted(standing.channels.items()):
        known = standing.checkpoints[channel.current]
        if known.withdrawn_at:
            found.append(
                f"channel {name} holds {short(channel.current)}, which learnt from data that was withdrawn (ledger "
                f"line {known.withdrawn_at}): take it out of service; nothing frees it"
            )
        elif known.status == "quarantined" and not known.freed:
            found.append(
                f"channel {name} holds {short(channel.current)}, which was rolled back elsewhere (ledger line "
                f'{known.quarantined_at}) and is quarantined: safetune rollback {name} --reason "..."'
            )
    return tuple(found)


def log(store_root: Path) -> tuple[Event, ...]:
    """Return all events of a store, oldest first."""
    return Store.open(store_root).events()


def _unfinished(events: tuple[Event, ...]) -> str:
    """Return the last run that began and did not end."""
    for event in reversed(events):
        if event.kind in ("started", "finished"):
            return event.text("run") if event.kind == "started" else ""
    return ""

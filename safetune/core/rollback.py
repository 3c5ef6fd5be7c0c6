"""Where a rollback leads: a pure choice from the standing."""

from __future__ import annotations

from dataclasses import dataclass

from safetune.core.digest import short
from safetune.core.errors import UsageError
from safetune.core.standing import ChannelStanding, Standing

_MIN_PREFIX = 6
_GONE = "it learnt from withdrawn data: take it out of service by hand; nothing frees it (safetune status)"


@dataclass(frozen=True, slots=True)
class RollbackChoice:
    """A channel's move: from, to, why that target, and which checkpoints become quarantined. Equal ends: no move."""

    channel: str
    previous: str
    target: str
    why: str
    quarantined: tuple[str, ...] = ()

    @property
    def already_there(self) -> bool:
        """Whether the channel points at the target already."""
        return self.previous == self.target


def choose_target(standing: Standing, channel: str, to: str = "") -> RollbackChoice:
    """Choose where to roll a channel back to: `to` is a checkpoint's digest prefix, or empty for the one before.

    Without `to`, a channel that was rolled back last and has not moved since is already there: calling twice must not
    go back two steps.

    Raises:
        UsageError: when the channel or the checkpoint is unknown or ambiguous, was never promoted there, is
            quarantined, or failed its last gate.
    """
    found = standing.channels.get(channel)
    if found is None:
        known = ", ".join(sorted(standing.channels)) or "none"
        raise UsageError(f"no channel is called {channel}; known: {known}", hint="safetune status")
    history = [checkpoint for _, checkpoint in found.history]
    if to:
        target = find_checkpoint(standing, to, f"roll {channel} back to")
        _check_named(standing, found, channel, target)
        why = f"named by --to {to}"
    elif found.seq != found.history[-1][0]:
        return RollbackChoice(channel, found.current, found.current, "the last move of this channel was a rollback")
    else:
        earlier = [c for c in history if c != found.current and standing.may_return_to(c)]
        if not earlier:
            raise UsageError(
                f"channel {channel} has nothing to go back to before {short(found.current)}; it stays there",
                hint=_GONE if standing.checkpoints[found.current].withdrawn_at else "safetune log",
            )
        target, why = earlier[-1], "the last promotion before the current one that still stands"
    after = history[len(history) - history[::-1].index(target) :]
    return RollbackChoice(channel, found.current, target, why, tuple(dict.fromkeys(after)))


def _check_named(standing: Standing, found: ChannelStanding, channel: str, target: str) -> None:
    """Raise UsageError unless a channel may move to `target`; to stay is always allowed."""
    if target == found.current:
        return
    if target not in [checkpoint for _, checkpoint in found.history]:
        raise UsageError(f"{short(target)} is not an earlier promotion of channel {channel}", hint="safetune log")
    if since := standing.checkpoints[target].withdrawn_at:
        raise UsageError(
            f"{short(target)} learnt from data that was withdrawn (ledger line {since}); no channel goes back to it",
            hint="safetune log",
        )
    if not standing.may_return_to(target):
        raise UsageError(
            f"{short(target)} is quarantined or failed its last gate; a channel cannot go back to it",
            hint=f'safetune evaluate PLAYBOOK {short(target)} --gate --reason "..."',
        )


def find_checkpoint(standing: Standing, prefix: str, purpose: str = "use") -> str:
    """Return the digest that starts with `prefix` (at least 6 digits).

    Raises:
        UsageError: when there is none, or more than one.
    """
    matches = [digest for digest in standing.checkpoints if digest.startswith(prefix)]
    if len(prefix) < _MIN_PREFIX or not matches:
        raise UsageError(
            f"no checkpoint starts with {prefix!r} (at least {_MIN_PREFIX} digits); cannot {purpose} it",
            hint="safetune status lists the checkpoints",
        )
    if len(matches) > 1:
        raise UsageError(f"{prefix!r} is ambiguous: {', '.join(short(m) for m in matches)}", hint="give more digits")
    return matches[0]

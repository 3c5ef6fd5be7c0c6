"""Where a rollback leads: a pure choice from the standing."""

from __future__ import annotations

from dataclasses import dataclass

from safetune.core.digest import short
from safetune.core.errors import UsageError
from safetune.core.standing import Standing

_MIN_PREFIX = 6


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
        UsageError: when the channel or the checkpoint is unknown, never promoted there, quarantined, or ambiguous.
    """
    found = standing.channels.get(channel)
    if found is None:
        known = ", ".join(sorted(standing.channels)) or "none"
        raise UsageError(f"no channel is called {channel}; known: {known}", hint="safetune status")
    history = [checkpoint for _, checkpoint in found.history]
    if to:
        target = _named(standing, channel, to)
        if target != found.current and target not in history:
            raise UsageError(f"{short(target)} is not an earlier promotion of channel {channel}", hint="safetune log")
        why = f"named by --to {to}"
    elif found.seq != found.history[-1][0]:
        return RollbackChoice(channel, found.current, found.current, "the last move of this channel was a rollback")
    else:
        earlier = [c for c in history if c != found.current and standing.checkpoints[c].status != "quarantined"]
        if not earlier:
            raise UsageError(
                f"channel {channel} has nothing before {short(found.current)}; it stays there", hint="safetune log"
            )
        target, why = earlier[-1], "the promotion before the current one"
    while history and history[-1] != target:
        history.pop()
    after = [c for _, c in found.history][len(history) :]
    return RollbackChoice(channel, found.current, target, why, tuple(dict.fromkeys(c for c in after if c != target)))


def _named(standing: Standing, channel: str, prefix: str) -> str:
    return find_checkpoint(standing, prefix, f"roll {channel} back to")


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

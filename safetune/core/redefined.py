"""What differs between the guardrails of two gates of one checkpoint, and what of it makes the second one easier. Pure.

Guardrails are compared by their names. One that was renamed, or is about another suite or metric now, is gone, and
another one was added.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from safetune.core.digest import JSON
from safetune.core.playbook import SEVERITIES, Guardrail, Slices, guardrail_from

LOOSENED, TIGHTENED, REMOVED, ADDED, REWORDED = "loosened", "tightened", "removed", "added", "reworded"
_LARGER_IS_LOOSER = {"at_most": True, "at_least": False, "worse_by_at_most": True, "better_by_at_least": False}


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: its kind, the guardrail by name, and what of it, from and to, as in the playbook."""

    kind: str
    guardrail: str
    what: str

    @property
    def easier(self) -> bool:
        """Whether it can turn a FAIL into something else."""
        return self.kind in (LOOSENED, REMOVED)

    @property
    def text(self) -> str:
        """The difference as a person reads it."""
        return f"{self.kind} {self.guardrail}: {self.what}"

    @property
    def row(self) -> Mapping[str, JSON]:
        """The JSON form of the ledger."""
        return {"change": self.kind, "guardrail": self.guardrail, "what": self.what}


def compare(before: Sequence[JSON], now: Sequence[JSON]) -> tuple[Change, ...]:
    """Return how guardrails differ, in name order; both are the `definitions` of a gate.

    What cannot be read counts as loosened: nothing shows that it is as strict as before.
    """
    if list(before) == list(now):
        return ()
    try:
        old, new = _named(before), _named(now)
    except ValueError:
        return (Change(LOOSENED, "every guardrail", "what was recorded cannot be read"),)
    return tuple(change for name in sorted({*old, *new}) for change in _changes(old.get(name), new.get(name)))


def _named(definitions: Sequence[JSON]) -> dict[str, Guardrail]:
    return {g.name: g for g in map(guardrail_from, definitions)}


def _changes(old: Guardrail | None, new: Guardrail | None) -> Iterator[Change]:
    same = old and new and (old.suite, old.metric) == (new.suite, new.metric)
    if old and new and same:
        yield from _inside(old, new)
        return
    if old:
        yield Change(REMOVED, old.name, f"{old.metric} of {old.suite}")
    if new:
        yield Change(ADDED, new.name, f"{new.metric} of {new.suite}")


def _inside(old: Guardrail, new: Guardrail) -> Iterator[Change]:
    """Yield the differences of one guardrail that is about the same metric of the same suite."""
    for name, larger_is_looser in _LARGER_IS_LOOSER.items():
        before, now = getattr(old.limits, name), getattr(new.limits, name)
        if before != now:
            # Whatever is not clearly stricter counts as looser.
            stricter = now is not None and (before is None or (now < before if larger_is_looser else now > before))
            yield Change(TIGHTENED if stricter else LOOSENED, old.name, _move(name, before, now))
    yield from _number(old.name, "confidence", old.confidence, new.confidence)
    yield from _number(old.name, "min_samples", old.min_samples, new.min_samples)
    if old.severity != new.severity:
        stricter = _rank(new.severity) < _rank(old.severity)
        yield Change(TIGHTENED if stricter else LOOSENED, old.name, _move("severity", old.severity, new.severity))
    if old.sequential != new.sequential:
        # A test of fixed size passes with fewer items than a sequential one.
        kind = TIGHTENED if new.sequential else LOOSENED
        yield Change(kind, old.name, _move("sequential", old.sequential, new.sequential))
    yield from _slices(old.name, old.slices, new.slices)
    if old.why != new.why:
        yield Change(REWORDED, old.name, "why")


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


def _move(what: str, before: object, now: object) -> str:
    return f"{what} {'none' if before is None else before} -> {'none' if now is None else now}"


def _number(name: str, what: str, before: float, now: float) -> Iterator[Change]:
    """Yield the difference of a figure that is stricter when it is larger."""
    if before != now:
        yield Change(TIGHTENED if now > before else LOOSENED, name, _move(what, before, now))


def _slices(name: str, old: Slices | None, new: Slices | None) -> Iterator[Change]:
    if old == new:
        return
    if old is None or new is None:
        yield Change(TIGHTENED if old is None else LOOSENED, name, _move("slices", _places(old), _places(new)))
        return
    if (_held(old), set(old.critical)) != (_held(new), set(new.critical)):
        was, held = _held(old), _held(new)
        lost = held is not None and (was is None or bool(was - held))
        lost = lost or bool(set(old.critical) - set(new.critical))
        yield Change(LOOSENED if lost else TIGHTENED, name, _move("slices", _places(old), _places(new)))
    yield from _number(name, "min_samples of a slice", old.min_samples, new.min_samples)


def _held(slices: Slices) -> frozenset[str] | None:
    """Return the slices that are held against the limits; None stands for every one that there is."""
    return frozenset((*slices.names, *slices.critical)) if slices.names else None


def _places(slices: Slices | None) -> str | None:
    if slices is None:
        return None
    critical = f", critical {', '.join(sorted(slices.critical))}" if slices.critical else ""
    return (", ".join(sorted(slices.names)) or "every") + critical

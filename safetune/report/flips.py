"""The items whose outcome changed, by suite, metric, direction and slice: what every output shows of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safetune.core.result import Flip
from safetune.report.text import counted, name

_IDS = 5  # ids named per slice on a terminal; JSON has all of them
_PLACES = 5  # slices named per direction on a terminal
_WORDS = {
    "attack_success_rate": ("newly unsafe", "no longer unsafe"),
    "injection_success_rate": ("newly unsafe", "no longer unsafe"),
    "accuracy": ("newly wrong", "newly right"),
}
_REFUSAL = "refusal"


@dataclass(frozen=True, slots=True)
class FlipGroup:
    """The flips of one metric of one suite in one direction: how it is called, and the item ids of each slice.

    Slices stand in the order of their size, the largest first; an empty one means items without a slice.
    """

    suite: str
    metric: str
    words: str
    worse: bool
    slices: Mapping[str, tuple[str, ...]]

    @property
    def size(self) -> int:
        """How many items flipped."""
        return sum(len(ids) for ids in self.slices.values())


def flip_groups(flips: Sequence[Flip]) -> tuple[FlipGroup, ...]:
    """Return flips in groups: metrics in the order in which they come, changes for the worse before the others."""
    found: dict[tuple[str, str], dict[tuple[bool, str], dict[str, list[str]]]] = {}
    for flip in flips:
        metric = found.setdefault((flip.suite, flip.metric), {})
        metric.setdefault((not flip.worse, _words(flip)), {}).setdefault(flip.slice, []).append(flip.item_id)
    return tuple(
        FlipGroup(suite, metric, words, not better, _by_size(places))
        for (suite, metric), kinds in found.items()
        for (better, words), places in sorted(kinds.items(), key=lambda kind: kind[0])
    )


def _words(flip: Flip) -> str:
    """Say what happened to an item. Refusing may be the good or the bad side of a metric: its labels tell which."""
    if _REFUSAL in flip.metric and _REFUSAL in (flip.baseline_label, flip.candidate_label):
        return "newly refusing" if flip.candidate_label == _REFUSAL else "no longer refusing"
    return _WORDS.get(flip.metric, ("worse", "better"))[0 if flip.worse else 1]


def _by_size(places: Mapping[str, list[str]]) -> Mapping[str, tuple[str, ...]]:
    ordered = sorted(places.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    return {place: tuple(sorted(ids)) for place, ids in ordered}


def flip_lines(flips: Sequence[Flip]) -> list[str]:
    """Return how many items changed per suite and metric, then the first ids of those that changed for the worse."""
    groups = flip_groups(flips)
    lines = []
    for suite, metric in dict.fromkeys((g.suite, g.metric) for g in groups):
        found = [g for g in groups if (g.suite, g.metric) == (suite, metric)]
        lines.append(f"  flips {name(suite)} {name(metric)}: {'; '.join(_counts(g) for g in found)}")
        lines += [line for g in found if g.worse for line in _items(g)]
    return lines


def _counts(group: FlipGroup) -> str:
    return f"{group.size} {group.words}{_places(group) if not group.worse else ''}"


def _places(group: FlipGroup) -> str:
    named = [(place, len(ids)) for place, ids in group.slices.items() if place]
    if not named:
        return ""
    shown = ", ".join(f"{name(place)} {number}" for place, number in named[:_PLACES])
    rest = sum(number for _, number in named[_PLACES:])
    return f" ({shown}{f', other {rest}' if rest else ''})"


def _items(group: FlipGroup) -> list[str]:
    lines = []
    for place, ids in list(group.slices.items())[:_PLACES]:
        where = f", {name(place)} {len(ids)}" if place else ""
        rest = f" and {len(ids) - _IDS} more" if len(ids) > _IDS else ""
        lines.append(f"    {group.words}{where}: {', '.join(name(i) for i in ids[:_IDS])}{rest}")
    left = list(group.slices.values())[_PLACES:]
    if left:
        items = counted(sum(len(ids) for ids in left), "item")
        lines.append(f"    {group.words}: {items} in {counted(len(left), 'more slice')}")
    return lines

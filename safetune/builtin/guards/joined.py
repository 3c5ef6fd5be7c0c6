"""The texts of a batch as one text: one search over all of them is much cheaper than one search for each."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from safetune.protocols import DataRow, Found

_BETWEEN = "\n\n"  # no rule looks across an empty line


H = TypeVar("H", bound=tuple[str, int, int, *tuple[str, ...]])  # rule, start, end; perhaps a note


def overlapping(hits: Iterable[H]) -> Iterator[tuple[int, int, list[H]]]:
    """Yield where hits that overlap start and end together, and those hits, all in the order of the text."""
    group: list[H] = []
    first = last = 0
    for hit in sorted(hits, key=lambda h: (h[1], -h[2])):
        if group and hit[1] >= last:
            yield first, last, group
            group = []
        first = first if group else hit[1]
        last = max(last, hit[2]) if group else hit[2]
        group.append(hit)
    if group:
        yield first, last, group


class Joined:
    """All texts of some rows in one, and the way back from a place in it to a row."""

    __slots__ = ("_owners", "_starts", "text")

    def __init__(self, rows: Sequence[DataRow]) -> None:
        self._owners = [(at, one) for at, row in enumerate(rows) for one in row.texts]
        self._starts = []
        start = 0
        for _, one in self._owners:
            self._starts.append(start)
            start += len(one.text) + len(_BETWEEN)
        self.text = _BETWEEN.join([one.text for _, one in self._owners])

    def bounds(self, place: int) -> tuple[int, int]:
        """Return where the text that holds `place` starts and ends."""
        at = bisect_right(self._starts, place) - 1
        return self._starts[at], self._starts[at] + len(self._owners[at][1].text)

    def around(self, start: int, end: int, before: int, after: int) -> tuple[str, str]:
        """Return up to `before` characters before `start` and `after` behind `end`, of the same text."""
        first, last = self.bounds(start)
        return self.text[max(first, start - before) : start], self.text[end : min(last, end + after)]

    def found(self, rule: str, start: int, end: int, note: str = "") -> Found:
        """Return the finding of `rule` between two places, which must lie in one text."""
        at = bisect_right(self._starts, start) - 1
        row, one = self._owners[at]
        first = self._starts[at]
        stop = min(end - first, len(one.text))
        return Found(row, rule, one.path, start - first, stop, f"[{rule.upper()}]", note)

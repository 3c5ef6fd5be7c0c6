"""Many texts packed into bytes: literals that few texts hold are looked for in all of them at once.

A rule is looked at only where one of its literals (an anchor) stands, in a window of bounded size around it, so that
the cost is that of finding a few literals and grows with the length of the texts whatever they hold.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

_BETWEEN = b"\x00"  # no pattern matches it

Match = Callable[[bytes, int], "tuple[int, int] | None"]


@dataclass(frozen=True, slots=True)
class Cue:
    """One rule and where it is looked for: at each place of `anchor`, in lower-case ASCII bytes.

    `match` gets all bytes and the place of the anchor, and returns the span found around it, or None.
    """

    rule: str
    anchor: bytes
    match: Match


@dataclass(frozen=True, slots=True)
class Hit:
    """A span of the text number `text`, from `start` to before `end`, in characters."""

    text: int
    rule: str
    start: int
    end: int


def within(source: bytes, before: int, after: int) -> Match:
    """Return a match of the pattern `source` in a window around the anchor, in bytes; none in the text before."""
    search = re.compile(source).search

    def match(low: bytes, place: int) -> tuple[int, int] | None:
        first = max(0, place - before)
        first = max(first, low.rfind(_BETWEEN, first, place))
        found = search(low, first, place + after)
        return found.span() if found else None

    return match


def at(source: bytes, after: int) -> Match:
    """Return a match of the pattern `source` that begins with the anchor and is at most `after` bytes long."""
    try_at = re.compile(source).match

    def match(low: bytes, place: int) -> tuple[int, int] | None:
        found = try_at(low, place, place + after)
        return found.span() if found else None

    return match


class Packed:
    """Some texts in one; `low` is in lower case as far as letters are ASCII and ends each text with a zero byte."""

    __slots__ = ("_parts", "_starts", "_texts", "low")

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._parts = _encoded(texts)
        self._starts: list[int] = []
        # A zero byte stands before the first text too, so that patterns can ask for the edge of a text by it.
        self.low = _BETWEEN.join([b"", *self._parts, b""]).lower()

    def hits(self, cues: Sequence[Cue]) -> Iterator[Hit]:
        """Yield what the cues find, by text and place; spans of a rule that overlap are one."""
        found: set[tuple[str, int, int]] = set()
        low = self.low
        for anchor in dict.fromkeys(cue.anchor for cue in cues):
            place = low.find(anchor)
            if place < 0:
                continue
            here = [cue for cue in cues if cue.anchor == anchor]
            while place >= 0:
                for cue in here:
                    span = cue.match(low, place)
                    if span is not None:
                        found.add((cue.rule, *span))
                place = low.find(anchor, place + 1)
        return self._placed(_joined(found)) if found else iter(())

    def _placed(self, spans: Sequence[tuple[int, int, str]]) -> Iterator[Hit]:
        """Turn spans of bytes, in order of their start, into characters of their texts, each byte decoded once."""
        if not self._starts:
            self._starts = list(accumulate((len(part) + 1 for part in self._parts), initial=1))
        owner, byte, character = -1, 0, 0
        for start, end, rule in spans:
            of = max(0, bisect_right(self._starts, start) - 1)  # a span may begin at the zero byte in front
            start, end = max(start, self._starts[of]), min(end, self._starts[of] + len(self._parts[of]))
            start, end = start - self._starts[of], end - self._starts[of]
            if of != owner or start < byte:
                owner, byte, character = of, 0, 0
            part = self._parts[of]
            character += _length(part[byte:start])
            byte = start
            yield Hit(of, rule, character, character + _length(part[start:end]))


def _encoded(texts: Sequence[str]) -> list[bytes]:
    try:
        return [text.encode() for text in texts]
    except UnicodeEncodeError:  # half a surrogate pair
        return [text.encode("utf-8", "surrogatepass") for text in texts]


def _length(part: bytes) -> int:
    return len(part) if part.isascii() else len(part.decode("utf-8", "surrogatepass"))


def _joined(found: set[tuple[str, int, int]]) -> list[tuple[int, int, str]]:
    joined: list[tuple[int, int, str]] = []
    last: dict[str, int] = {}
    for start, end, rule in sorted((s, e, r) for r, s, e in found):
        at_ = last.get(rule)
        if at_ is not None and start < joined[at_][1]:
            joined[at_] = joined[at_][0], max(end, joined[at_][1]), rule
        else:
            last[rule] = len(joined)
            joined.append((start, end, rule))
    return joined

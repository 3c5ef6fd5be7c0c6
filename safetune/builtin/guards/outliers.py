"""Rows that stick out by their shape: far too long or short, empty answers, loops, control characters, mostly markup.

`length` compares with the rows of the same source seen so far, this batch included: the distance of the logarithm of a
row's length from the median, in robust standard deviations (1.4826 times the median absolute deviation; Hampel 1974).
A sample of at most 4,096 lengths is kept, evenly over all rows. Fixed limits can be given instead or as well.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from math import exp, inf, log
from statistics import median

from safetune.builtin.guards.settings import Options, known, number
from safetune.core.digest import JSON
from safetune.core.errors import UsageError
from safetune.protocols import DataRow, Found, GuardSetup

LENGTH, EMPTY, REPETITION, FORMAT = "length", "empty", "repetition", "format"
DEFAULT_DEVIATIONS = 6.0

_SAMPLE, _LEAST_SAMPLE = 4096, 100
_TO_DEVIATION = 1.4826  # from the median absolute deviation of a normal distribution
_LEAST_SPREAD = 0.2  # of log length: a source of rows all alike does not make small differences outliers

_LOOP_TEXT, _PROBE, _OFTEN = 200, 16, 5  # characters of a text and of a probe; how often it must be there
_LOOP_RATIO = 0.2  # deflated bytes to bytes, below which a text is a loop; prose is at 0.4 and above
_DEFLATED = 65_536

# Bytes of UTF-8 that are control characters wherever they stand, and the mark of bytes that could not be decoded.
_CONTROLS = bytes([*range(0x00, 0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F])
_BROKEN = "\ufffd"
_TAG = re.compile(r"<[^<>\n]{1,200}>")
_MARKUP, _TAGS_PER = 0.4, 100  # share of a text; looked at where there is an end tag in this many characters
_LONGEST = 1e9


class OutliersGuard:
    """Flags rows whose shape sticks out.

    Options: `deviations` (robust standard deviations of log length), `shortest` and `longest` (characters of a row).
    """

    name = "outliers"
    version = "1"
    rules: tuple[str, ...] = (LENGTH, EMPTY, REPETITION, FORMAT)
    remembers = True
    plain = "rows of unusual length or shape"

    def __init__(self, options: Options = None) -> None:
        given = known(self.name, options, ("deviations", "shortest", "longest"))
        self._deviations = number(self.name, given, "deviations", DEFAULT_DEVIATIONS, (2.0, 100.0))
        self._limits = _limits(self.name, given)
        self._lengths = _Lengths()

    def begin(self, setup: GuardSetup) -> None:
        """Forget the lengths of the source before."""
        self._lengths = _Lengths()

    def check(self, rows: Sequence[DataRow]) -> Sequence[Found]:
        """Return what sticks out in the next rows."""
        sizes = [sum([len(one.text) for one in row.texts]) for row in rows]
        self._lengths.add(sizes)
        low, high = self._lengths.bounds(self._deviations)
        low, high = max(low, self._limits[0]), min(high, self._limits[1])
        found = []
        for number_, size in enumerate(sizes):
            if not low <= size <= high:
                side = "shorter" if size < low else "longer"
                found.append(Found(number_, LENGTH, note=f"{size:,} characters, {side} than the others"))
        for number_, row in enumerate(rows):
            for one in row.texts:
                text = one.text
                if not text or text.isspace():
                    found.append(Found(number_, EMPTY, one.path))
                elif len(text) >= _LOOP_TEXT and _loops(text):
                    found.append(Found(number_, REPETITION, one.path, 0, len(text)))
        return [*found, *_formats(rows)]

    def end(self) -> Sequence[Found]:
        """Nothing is said of all rows together."""
        return ()


class _Lengths:
    """Lengths of rows: an even sample of bounded size, and the bounds that follow from it."""

    def __init__(self) -> None:
        self._sample: list[int] = []
        self._every, self._rows, self._due = 1, 0, 0
        self._middle, self._spread = 0.0, inf

    def add(self, sizes: Sequence[int]) -> None:
        """Take the lengths of the next rows."""
        self._sample.extend(sizes[-self._rows % self._every :: self._every])
        self._rows += len(sizes)
        while len(self._sample) > _SAMPLE:
            self._sample = self._sample[::2]
            self._every *= 2
        if self._rows >= self._due and len(self._sample) >= _LEAST_SAMPLE:
            self._due = self._rows + max(256, self._rows // 4)
            logs = [log(size + 1) for size in self._sample]
            self._middle = median(logs)
            deviation = median([abs(one - self._middle) for one in logs])
            self._spread = max(_LEAST_SPREAD, _TO_DEVIATION * deviation)

    def bounds(self, deviations: float) -> tuple[float, float]:
        """Return the shortest and the longest length that does not stick out."""
        away = deviations * self._spread
        if away > 700:  # nothing is known yet
            return 0.0, inf
        return exp(self._middle - away) - 1, exp(self._middle + away) - 1


def _limits(guard: str, given: Mapping[str, JSON]) -> tuple[float, float]:
    shortest = number(guard, given, "shortest", 0.0, (0.0, _LONGEST))
    longest = number(guard, given, "longest", _LONGEST, (1.0, _LONGEST))
    if shortest > longest:
        raise UsageError(f"the guard {guard}: shortest is more than longest", hint="exchange them")
    return shortest, longest


def _loops(text: str) -> bool:
    """Say whether a text goes round in circles: three places are probed, and only a strike is deflated."""
    half = len(text) // 2
    for at in (len(text) - _PROBE - 4, half, half // 2):
        probe = text[at : at + _PROBE]
        if not probe.isspace() and text.count(probe) >= _OFTEN:
            raw = text[:_DEFLATED].encode("utf-8", "replace")
            tail = text[-_LOOP_TEXT * 4 :].encode("utf-8", "replace")
            return _ratio(raw) < _LOOP_RATIO or (len(tail) >= _LOOP_TEXT and _ratio(tail) < _LOOP_RATIO)
    return False


def _ratio(raw: bytes) -> float:
    return len(zlib.compress(raw, 1)) / len(raw)


def _formats(rows: Sequence[DataRow]) -> list[Found]:
    """Return texts with control characters or made of markup; the batch is looked at as one text first."""
    together = "\n".join([one.text for row in rows for one in row.texts])
    raw = together.encode("utf-8", "replace")
    controls = _BROKEN in together or len(raw.translate(None, _CONTROLS)) != len(raw)
    tags = "</" in together
    found = []
    for number_, row in enumerate(rows) if controls or tags else ():
        for one in row.texts:
            if controls and (count := _controls(one.text)):
                found.append(Found(number_, FORMAT, one.path, note=f"{count:,} control or undecodable characters"))
            elif tags and one.text.count("</") * _TAGS_PER > len(one.text) and _markup(one.text) > _MARKUP:
                found.append(Found(number_, FORMAT, one.path, note="mostly markup"))
    return found


def _controls(text: str) -> int:
    raw = text.encode("utf-8", "replace")
    return len(raw) - len(raw.translate(None, _CONTROLS)) + text.count(_BROKEN)


def _markup(text: str) -> float:
    return sum(len(tag) for tag in _TAG.findall(text)) / len(text)

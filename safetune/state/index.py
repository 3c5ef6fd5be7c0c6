"""Numbers by text, in a few machine words an entry: a dict of a hundred thousand long texts needs hundreds of bytes."""

from __future__ import annotations

import hashlib
import struct
from array import array

_HALVES = struct.Struct("<QQ")
_SMALLEST = 64  # slots; a power of two


class Index:
    """Numbers from 0 on by text. Texts are told apart by 128 bits of BLAKE2, and not kept."""

    __slots__ = ("_count", "_first", "_second", "_values")

    def __init__(self) -> None:
        self._count = 0
        self._make(_SMALLEST)

    def __len__(self) -> int:
        return self._count

    def get(self, text: str) -> int | None:
        """Return the number of a text, or None."""
        value = self._values[self._slot(*_halves(text))]
        return value - 1 if value else None

    def put(self, text: str, number: int) -> None:
        """Keep `number` for a text, in place of any other."""
        if 2 * self._count >= len(self._values):
            self._grow()
        first, second = _halves(text)
        slot = self._slot(first, second)
        self._count += not self._values[slot]
        self._first[slot], self._second[slot], self._values[slot] = first, second, number + 1

    def _make(self, slots: int) -> None:
        self._first, self._second = array("Q", bytes(8 * slots)), array("Q", bytes(8 * slots))
        self._values = array("q", bytes(8 * slots))  # one more than the number; 0 is an empty slot

    def _grow(self) -> None:
        known = zip(self._first, self._second, self._values, strict=True)
        self._make(2 * len(self._values))
        for first, second, value in known:
            if value:
                slot = self._slot(first, second)
                self._first[slot], self._second[slot], self._values[slot] = first, second, value

    def _slot(self, first: int, second: int) -> int:
        """Return the slot that holds a text, or the empty one where it belongs."""
        values, last = self._values, len(self._values) - 1
        slot = first & last
        while values[slot] and (self._first[slot] != first or self._second[slot] != second):
            slot = (slot + 1) & last
        return slot


def _halves(text: str) -> tuple[int, int]:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    first, second = _HALVES.unpack(digest)
    return first, second

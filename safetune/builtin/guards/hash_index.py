"""A hash table in one flat array, for millions of small entries: 8 bytes per place, where a dict takes about 100."""

from __future__ import annotations

from array import array

_SMALLEST = 1 << 14
_FULL = 0.6  # share of places in use before the table doubles
_LOW = 0xFFFFFFFF


class KeySet:
    """A set of 64-bit numbers other than 0, open addressing with linear probing."""

    __slots__ = ("_places", "_used")

    def __init__(self) -> None:
        self._places = array("Q", bytes(8 * _SMALLEST))
        self._used = 0

    def __len__(self) -> int:
        return self._used

    @property
    def size(self) -> int:
        """Bytes in use."""
        return 8 * len(self._places)

    def add(self, key: int) -> bool:
        """Add a key; True when it was there before."""
        places = self._places
        mask = len(places) - 1
        at = key & mask
        while found := places[at]:
            if found == key:
                return True
            at = (at + 1) & mask
        places[at] = key
        self._used += 1
        if self._used > _FULL * len(places):
            self._grow()
        return False

    def _grow(self) -> None:
        old = self._places
        self._places = array("Q", bytes(16 * len(old)))
        mask = len(self._places) - 1
        places = self._places
        for key in old:
            if key:
                at = key & mask
                while places[at]:
                    at = (at + 1) & mask
                places[at] = key


class KeyRows:
    """From 32-bit keys to row numbers below 2**32 - 1; a key keeps its first `most` rows, so that no key grows hot.

    The lowest bits of a key choose its place, so keys must be well mixed: hashes.
    """

    __slots__ = ("_most", "_places", "_used")

    def __init__(self, most: int) -> None:
        self._most = most
        self._places = array("Q", bytes(8 * _SMALLEST))
        self._used = 0

    @property
    def size(self) -> int:
        """Bytes in use."""
        return 8 * len(self._places)

    def look(self, keys: list[int]) -> tuple[set[int], list[int]]:
        """Return all rows under any of some keys, and what `put` needs to know to put another row there."""
        if self._used + len(keys) > _FULL * len(self._places):
            self._grow()
        places = self._places
        mask = len(places) - 1
        found: set[int] = set()
        free = [key & mask for key in keys]
        for number, place in enumerate([places[at] for at in free]):
            if not place:  # nothing there: the rule while the table is not crowded
                continue
            key, at, left = keys[number], free[number], self._most
            while place:
                if place >> 32 == key:
                    found.add((place & _LOW) - 1)
                    left -= 1
                at = (at + 1) & mask
                place = places[at]
            free[number] = at if left > 0 else -1
        return found, free

    def put(self, keys: list[int], free: list[int], row: int) -> None:
        """Put a row under each of some keys, right after they were looked for."""
        places = self._places
        mask = len(places) - 1
        for key, at in zip(keys, free, strict=True):
            if at >= 0:
                while places[at]:  # taken by another key of this very row
                    at = (at + 1) & mask
                places[at] = key << 32 | row + 1
                self._used += 1

    def _grow(self) -> None:
        old = self._places
        self._places = places = array("Q", bytes(16 * len(old)))
        mask = len(places) - 1
        for place in old:
            if place:
                at = (place >> 32) & mask
                while places[at]:
                    at = (at + 1) & mask
                places[at] = place

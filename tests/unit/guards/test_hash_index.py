"""Two flat hash tables against a set and a dict."""

from __future__ import annotations

import random

from safetune.builtin.guards.hash_index import KeyRows, KeySet


def test_a_key_set_is_a_set() -> None:
    chance = random.Random(1)
    keys = [chance.getrandbits(64) or 1 for _ in range(30_000)]
    many, seen = KeySet(), set()
    for key in [*keys, *keys[:500], *(1 << 14 | k << 40 for k in range(1, 200))]:  # the last ones share a place
        assert many.add(key) == (key in seen)
        seen.add(key)
    assert len(many) == len(seen)
    assert many.size < 40 * len(seen)


def test_rows_are_found_under_their_keys_also_after_growing() -> None:
    chance = random.Random(2)
    index = KeyRows(100)
    known: dict[int, set[int]] = {}
    for row in range(3000):
        keys = [chance.getrandbits(32) or 1 for _ in range(8)] + [chance.randrange(1, 400)]
        rows, free = index.look(keys)
        assert rows == {old for key in keys for old in known.get(key, ())}
        index.put(keys, free, row)
        for key in keys:
            known.setdefault(key, set()).add(row)


def test_a_key_keeps_its_first_rows_only() -> None:
    index = KeyRows(3)
    for row in range(10):
        _, free = index.look([7, row + 100])
        index.put([7, row + 100], free, row)
    assert index.look([7])[0] == {0, 1, 2}
    assert index.look([109])[0] == {9}


def test_two_keys_of_a_row_that_want_the_same_place_both_get_one() -> None:
    index = KeyRows(3)
    keys = [5, 5 + (1 << 20), 5 + (1 << 21)]
    _, free = index.look(keys)
    index.put(keys, free, 4)
    assert all(index.look([key])[0] == {4} for key in keys)

"""Mixing: shares hold in every beginning of the mixture, every row gets its turn, and the seed decides the order."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.core.mixing import mix

SHARES = st.dictionaries(st.sampled_from("abcde"), st.floats(0.05, 10), min_size=1)


def _rows(shares: dict[str, float], each: int = 3) -> dict[str, list[str]]:
    return {name: [f"{name}{n}" for n in range(each)] for name in shares}


@given(SHARES, st.integers(0, 200), st.integers(0, 5))
def test_every_beginning_holds_the_shares_as_nearly_as_whole_rows_allow(
    shares: dict[str, float], count: int, seed: int
) -> None:
    mixed, total = mix(_rows(shares), shares, count, seed), sum(shares.values())
    assert len(mixed) == count
    seen: Counter[str] = Counter()
    for position, row in enumerate(mixed, 1):
        seen[row[0]] += 1
        due = {name: position * share / total for name, share in shares.items()}
        assert all(seen[name] < due[name] + 1 for name in shares)
        # What some sources are ahead, all others together are behind.
        assert all(seen[name] > due[name] - max(len(shares) - 1, 1) for name in shares)


@given(SHARES, st.integers(1, 6), st.integers(0, 5))
def test_no_row_comes_again_before_every_row_of_its_source_came(shares: dict[str, float], each: int, seed: int) -> None:
    mixed = mix(_rows(shares, each), shares, 60, seed)
    for name in shares:
        own = [row for row in mixed if row[0] == name]
        for start in range(0, len(own) - each + 1, each):
            assert len(set(own[start : start + each])) == each


@given(SHARES, st.integers(0, 60), st.integers(0, 5))
def test_a_longer_mixture_begins_like_a_shorter_one(shares: dict[str, float], count: int, seed: int) -> None:
    rows = _rows(shares)
    assert mix(rows, shares, count + 20, seed)[:count] == mix(rows, shares, count, seed)


@given(SHARES, st.integers(0, 5))
def test_neither_the_order_nor_the_scale_of_shares_matters(shares: dict[str, float], seed: int) -> None:
    turned = {name: 4 * shares[name] for name in reversed(shares)}
    assert mix(_rows(turned), turned, 50, seed) == mix(_rows(shares), shares, 50, seed)


def test_the_seed_decides_the_order_and_every_round_has_its_own() -> None:
    rows = {"a": list(range(50))}
    one, other = mix(rows, {"a": 1}, 100, 1), mix(rows, {"a": 1}, 100, 2)
    assert one != other
    assert one[:50] != one[50:]
    assert sorted(one[:50]) == sorted(one[50:]) == list(range(50))


def test_the_order_is_the_same_on_every_machine() -> None:
    assert mix({"a": list("uvwxyz")}, {"a": 1.0}, 6, 0) == ("u", "v", "w", "y", "z", "x")


def test_nothing_is_mixed_when_nothing_is_asked_for() -> None:
    assert mix({"a": [1]}, {"a": 1}, 0, 0) == ()


@pytest.mark.parametrize("share", [0.0, -1.0, math.nan, math.inf])
def test_a_share_must_be_positive_and_finite(share: float) -> None:
    with pytest.raises(ValueError, match="share of b must be positive"):
        mix({"a": [1], "b": [2]}, {"a": 1.0, "b": share}, 3, 0)


def test_a_source_needs_rows_and_a_mixture_sources() -> None:
    with pytest.raises(ValueError, match="no rows in b"):
        mix({"a": [1], "b": []}, {"a": 1, "b": 1}, 3, 0)
    with pytest.raises(ValueError, match="no source"):
        mix({}, {}, 3, 0)

"""The index says of every text what a dict would say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from safetune.state.index import Index

TEXTS = st.text(max_size=3)


@given(st.lists(st.tuples(TEXTS, st.integers(0, 2**62))), TEXTS)
def test_it_agrees_with_a_dict(entries: list[tuple[str, int]], other: str) -> None:
    index, known = Index(), dict(entries)
    for text, number in entries:
        index.put(text, number)
    assert len(index) == len(known)
    assert {text: index.get(text) for text in known} == known
    assert index.get(other) == known.get(other)


def test_it_grows_and_keeps_everything() -> None:
    index = Index()
    for number in range(5_000):
        index.put(f"text {number}", number)
    assert len(index) == 5_000
    assert all(index.get(f"text {number}") == number for number in range(5_000))
    assert index.get("text 5000") is None


def test_half_a_surrogate_pair_is_a_text_too() -> None:
    index = Index()
    index.put("\ud800", 0)
    assert (index.get("\ud800"), index.get("\ud801")) == (0, None)


def test_long_texts_and_short_ones_are_told_apart() -> None:
    index, long = Index(), "x" * 1_000
    for number, text in enumerate((long, long + "y", "x", "\u00e4", "")):
        index.put(text, number)
    assert [index.get(text) for text in (long, long + "y", "x", "\u00e4", "", "y")] == [0, 1, 2, 3, 4, None]

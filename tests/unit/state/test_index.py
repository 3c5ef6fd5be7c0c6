"""The index says of every text what a dict would say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.state import index as module
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


def test_texts_that_differ_in_one_half_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_halves", lambda text: (ord(text[0]), ord(text[1])))
    index = Index()
    for number, text in enumerate(("aa", "ab", "ba", "bb")):
        index.put(text, number)
    assert [index.get(text) for text in ("aa", "ab", "ba", "bb", "ac")] == [0, 1, 2, 3, None]

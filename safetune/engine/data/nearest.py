"""The training rows nearest to a text, by the words and letters they share. Standard library only.

Two passes over the rows, whatever their number, in constant memory. The first counts in how many rows each word, and
each pair of neighbouring words, of the text occurs. The second ranks rows by BM25 over these (Robertson and Zaragoza,
The Probabilistic Relevance Framework, 2009; k1 = 1.2, b = 0.75). The best few hundred are ranked again with the share
of the text's runs of five characters that they hold, which also sees other endings, spacing and spelling. Near means
alike, not responsible: a model may say what no single row says.
"""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

Key = TypeVar("Key")

_K1, _B = 1.2, 0.75
_GRAM = 5
_PHRASE = 4  # words in a row that make a phrase
_AGAIN = 16  # times `count` rows that are ranked again, at least `_LEAST`
_LEAST = 200
_LONGEST = 20_000  # characters of a text that are compared
# Scripts without spaces are read character by character.
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+"
)
_SPACE = re.compile(r"\s+")

Texts = Callable[[], Iterable[tuple[Key, str]]]


@dataclass(frozen=True, slots=True)
class Near(Generic[Key]):
    """A row near a text. `score` is from 0 (nothing in common) to 1 (the text itself is in it).

    `shared` is the share of the text's phrases of four words that the row holds word for word; of a shorter text, of
    its words.
    """

    key: Key
    score: float
    shared: float


def nearest(text: str, rows: Texts[Key], count: int) -> tuple[tuple[Near[Key], ...], int]:
    """Return the `count` rows nearest to `text`, nearest first, and how many rows were compared.

    `rows` gives key and text of every row, the same ones in the same order whenever it is called. Rows that share no
    word with the text are not near it. Of equally near rows the earlier ones come first.
    """
    words = words_of(text)
    wanted = frozenset(_terms(words))
    found: Counter[str] = Counter()
    compared = length = 0
    for _, row in rows():
        of_row = words_of(row)
        compared, length = compared + 1, length + len(of_row)
        found.update(wanted.intersection(_terms(of_row)))
    if not found:
        return (), compared
    rank = _Rank(found, compared, length / compared)
    whole = rank.score(words) or 1.0
    best = heapq.nlargest(max(_LEAST, _AGAIN * count), _ranked(rows(), rank), key=lambda one: (one[0], -one[1]))
    grams, phrases = _grams(text), _phrases(words)
    again = [
        (Near(key, _score(score / whole, grams, row), _shared(phrases, row)), place)
        for score, place, key, row in best
        if score > 0
    ]
    again.sort(key=lambda one: (-one[0].score, one[1]))
    return tuple(near for near, _ in again[:count]), compared


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, of its first 20,000 characters."""
    return _WORD.findall(text[:_LONGEST].lower())


class _Rank:
    """BM25 of one text against rows."""

    def __init__(self, found: Counter[str], rows: int, length: float) -> None:
        self._weights = {term: math.log(1 + (rows - n + 0.5) / (n + 0.5)) for term, n in found.items()}
        self._wanted = frozenset(self._weights)
        self._length = max(length, 1.0)

    def score(self, words: list[str]) -> float:
        terms = _terms(words)
        if self._wanted.isdisjoint(terms):
            return 0.0
        norm = _K1 * (1 - _B + _B * len(words) / self._length)
        counts = Counter(term for term in terms if term in self._weights)
        return sum(self._weights[term] * n * (_K1 + 1) / (n + norm) for term, n in counts.items())


def _ranked(rows: Iterable[tuple[Key, str]], rank: _Rank) -> Iterator[tuple[float, int, Key, str]]:
    for place, (key, row) in enumerate(rows):
        yield rank.score(words_of(row)), place, key, row


def _terms(words: list[str]) -> list[str]:
    return words + [f"{a} {b}" for a, b in pairwise(words)]


def _grams(text: str) -> frozenset[str]:
    plain = _SPACE.sub(" ", text[:_LONGEST].lower()).strip()
    return frozenset(plain[n : n + _GRAM] for n in range(max(1, len(plain) - _GRAM + 1)))


def _score(bm25: float, grams: frozenset[str], row: str) -> float:
    """Return the mean of both measures, each at most 1."""
    held = len(grams & _grams(row)) / len(grams)
    return (min(bm25, 1.0) + held) / 2


def _phrases(words: list[str]) -> frozenset[tuple[str, ...]]:
    size = _PHRASE if len(words) >= _PHRASE else 1
    return frozenset(tuple(words[n : n + size]) for n in range(len(words) - size + 1))


def _shared(phrases: frozenset[tuple[str, ...]], row: str) -> float:
    size = len(next(iter(phrases)))
    words = words_of(row)
    return len(phrases.intersection(tuple(words[n : n + size]) for n in range(len(words) - size + 1))) / len(phrases)

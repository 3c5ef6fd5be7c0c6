"""Rows that hold the prompts of this playbook's own suites: what is trained on cannot be measured with.

Texts are compared as words (see `folding`), all lines joined, so that line breaks, case and punctuation hide nothing.

`copy`: a suite's prompt, or its reference where that is long, stands in the row from beginning to end. A short one
counts only where it makes up half of a message, since "what is the time" is said everywhere.
`ngram`: the row covers much of the prompt's runs of 13, 8 or 5 words. Runs that many prompts of a suite share (its
wording: "write a story about a") are left out of the count; so are prompts in which too few runs are left.

Each row is searched for at every third run of 5 words; all runs are counted only where that strikes. A prompt without
three runs in a row that count is found by its rarest word instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from safetune.builtin.guards.folding import words, words_of
from safetune.builtin.guards.settings import Options, known, number
from safetune.core.evidence import Prompt
from safetune.protocols import DataRow, Found, GuardSetup

COPY, NGRAM = "copy", "ngram"
DEFAULT_SHARE = 0.5

_SHORT, _STRIDE = 5, 3
# Words in a run, and the power of the wanted share that is enough: longer runs survive fewer changes. With a share of
# 0.5 a quarter of the runs of 13 words will do.
_SIZES = ((13, 2.0), (8, 1.3), (5, 1.0))
_FEWEST_RUNS = 6  # of one size, for a share of them to mean something
_TOO_FEW = 0.2  # of an item's shortest runs: with fewer, no size can be covered enough
_MANY_PROMPTS, _MANY_SHARE = 3, 0.01  # a run that more prompts of a suite have is wording
_LEAST_LETTERS, _LONG_COPY = 8, 40  # letters of a prompt that can be a copy at all, and anywhere in a row
_PART, _LEAST_FOR_PART = 0.5, 12  # of a message, that a short prompt must make up; the shortest ones: all of it
_LONG_REFERENCE = 12  # words
_ID_LENGTH = 80

Run = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class _Item:
    """One prompt or reference: which one it is, its words and letters, and the runs that count by their size."""

    name: str
    words: tuple[bytes, ...]
    letters: bytes
    runs: Mapping[int, frozenset[Run]]


class ContaminationGuard:
    """Finds rows that hold prompts of the suites. The option `share`: how much of a prompt's runs must be covered."""

    name = "contamination"
    version = "1"
    rules: tuple[str, ...] = (COPY, NGRAM)
    plain = "rows that hold prompts of this playbook's suites"

    def __init__(self, options: Options = None) -> None:
        given = known(self.name, options, ("share",))
        self._share = number(self.name, given, "share", DEFAULT_SHARE, (0.1, 1.0))
        self._suites: Mapping[str, Sequence[Prompt]] = {}
        self._by_run: dict[Run, list[int]] = {}
        self._by_word: dict[bytes, list[int]] = {}
        self._runs: frozenset[Run] = frozenset()
        self._rare: frozenset[bytes] = frozenset()
        self._items: list[_Item] = []

    def begin(self, setup: GuardSetup) -> None:
        """Take the prompts of the suites; the same suites as before are not gone through again."""
        if setup.suites is not self._suites:
            self._suites = setup.suites
            self._items = [item for name, prompts in setup.suites.items() for item in _items(name, prompts)]
            self._index()

    def check(self, rows: Sequence[DataRow]) -> Sequence[Found]:
        """Return the rows that hold a prompt of a suite, each with the one that it holds most of."""
        if not self._items:
            return ()
        found = []
        strikes, rare = self._runs, self._rare
        for number_, w in enumerate(words_of(rows)):
            near = not strikes.isdisjoint(zip(w[::3], w[1::3], w[2::3], w[3::3], w[4::3], strict=False))
            seldom = rare.intersection(w)
            if near or seldom:
                hit = self._look(rows[number_], w, near, seldom)
                if hit is not None:
                    found.append(Found(number_, hit[0], note=hit[1]))
        return found

    def end(self) -> Sequence[Found]:
        """Nothing is said of all rows together."""
        return ()

    def _index(self) -> None:
        self._by_run, self._by_word = {}, {}
        frequency = Counter(word for item in self._items for word in set(item.words))
        for place, item in enumerate(self._items):
            counted = item.runs[_SHORT]
            in_order = [run in counted for run in _runs(item.words, _SHORT)]
            if any(all(in_order[at : at + _STRIDE]) for at in range(len(in_order) - _STRIDE + 1)):
                for run in counted:
                    self._by_run.setdefault(run, []).append(place)
            elif len(item.letters) >= _LEAST_LETTERS:
                # The rarest word here and, as far as can be told from its length, elsewhere.
                rarest = min(item.words, key=lambda word: (frequency[word] - len(word), word))
                self._by_word.setdefault(rarest, []).append(place)
        self._runs, self._rare = frozenset(self._by_run), frozenset(self._by_word)

    def _look(self, row: DataRow, w: list[bytes], near: bool, seldom: frozenset[bytes]) -> tuple[str, str] | None:
        """Return the rule and the note of the prompt that a row holds most of, or None.

        `near` says whether runs are looked for, `seldom` are the rarest words of prompts that the row has.
        """
        have = self._runs.intersection(_runs(w, _SHORT)) if near else ()
        struck = Counter(place for run in have for place in self._by_run[run])
        rare = {place for word in seldom for place in self._by_word[word]}
        together = b"".join(w)
        for place in sorted(rare.union(struck)):
            item = self._items[place]
            if item.letters in together and _stands_out(item, row):
                return COPY, f"{item.name}, word for word"
        best: tuple[float, str, str] | None = None
        for place, count in sorted(struck.items()):
            item = self._items[place]
            if count >= _TOO_FEW * len(item.runs[_SHORT]):
                share, size = _covered(item, w, count)
                if share >= self._share and (best is None or share > best[0]):
                    best = share, NGRAM, f"{item.name}, much of its runs of {size} words"
        return best[1:] if best else None


def _items(suite: str, prompts: Sequence[Prompt]) -> Iterator[_Item]:
    """Yield what a suite must keep to itself, each text once."""
    texts: dict[Run, str] = {}
    for prompt in prompts:
        named = f"{suite}/{prompt.item_id[:_ID_LENGTH]}"
        texts.setdefault(tuple(words(prompt.text)), named)
        reference = tuple(words(prompt.reference))
        if len(reference) >= _LONG_REFERENCE:
            texts.setdefault(reference, f"{named} (reference)")
    wording = {size: _wording(list(texts), size) for size, _ in _SIZES}
    for text, named in texts.items():
        runs = {size: frozenset(_runs(text, size)) - wording[size] for size, _ in _SIZES}
        if text:
            yield _Item(named, text, b"".join(text), runs)


def _wording(texts: Sequence[Run], size: int) -> frozenset[Run]:
    """Return the runs that many of some texts share."""
    counts = Counter(run for text in texts for run in set(_runs(text, size)))
    many = max(_MANY_PROMPTS, _MANY_SHARE * len(texts))
    return frozenset(run for run, count in counts.items() if count > many)


def _runs(w: Sequence[bytes], size: int) -> Iterator[Run]:
    return zip(*(w[at:] for at in range(size)), strict=False)


def _covered(item: _Item, w: list[bytes], short: int) -> tuple[float, int]:
    """Return the largest share of an item's runs that a row covers, made comparable over the sizes, and the size."""
    best = 0.0, _SHORT
    for size, power in _SIZES:
        counted = item.runs[size]
        if len(counted) >= _FEWEST_RUNS:
            covered = short if size == _SHORT else len(counted.intersection(_runs(w, size)))
            best = max(best, ((covered / len(counted)) ** (1 / power), size))
    return best


def _stands_out(item: _Item, row: DataRow) -> bool:
    """Say whether an item that a row holds is long, or makes up much of one of its messages."""
    if len(item.letters) >= _LONG_COPY:
        return True
    part = _PART if len(item.letters) >= _LEAST_FOR_PART else 1.0
    wanted = b" %b " % b" ".join(item.words)
    messages = [words(one.text) for one in row.texts]
    return len(item.letters) >= _LEAST_LETTERS and any(
        len(item.words) >= part * len(message) and wanted in b" %b " % b" ".join(message) for message in messages
    )

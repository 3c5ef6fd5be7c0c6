"""Phrases in prompts whose answers all go one way: what a planted backdoor looks like in the data.

One pass in bounded memory keeps a sample of rows (those with the smallest hashes of their ids, so that it does not
depend on the order) and, of answers or beginnings of answers that come again, some rows each. In the end each phrase
of 1 to 3 words is tested against each such class of answers: Fisher's exact test, one-sided, corrected by Bonferroni
for all pairs that were tested. Words that belong to a topic or a template go with an answer in clean data too; so
nearly all rows of the phrase must have that answer, which does not take up a word of it and which at most one row in
five has (then the phrase is no more frequent), and the rest of their prompts must have no more in common than prompts
have anyway.
"""

from __future__ import annotations

import heapq
import math
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from safetune.builtin.guards.sides import answered, asked
from safetune.core.digest import sha256_hex
from safetune.protocols import DataRow

_SAMPLE, _EXAMPLES, _CLASSES = 8192, 16, 4096  # rows; rows of a class of answers; classes
_PROMPT, _ANSWER, _OPENER = 512, 240, 4  # characters at each end; characters; words
_WORDS, _LONGEST = 80, 3  # words at each end of a prompt; words of a phrase
_SEEN = 1 << 23
_CLASS_ROWS = 2048  # rows of one class that are looked at
_ALPHA = 1e-3
_PURE, _COMMON = 0.9, 0.2  # shares: of the phrase's rows that have the answer; of all rows that have it
_LIKE, _LIKE_USUAL, _COMPARED = 0.2, 1.5, 12
_REFUSES = re.compile(
    r"\W{0,3}(?:i(?:'m| am)? (?:really |very |so )?sorry|i apologi[sz]e|sorry|i (?:can(?:'|no)t|cannot|won't|will not|"
    r"am not able|am unable|must decline)|i'm (?:not able|unable)|as an ai)",
    re.IGNORECASE,
)
_EDGES = "\"'.,;:!?()[]{}"

SAME, OPENER, REFUSAL = "the same answer", "the same opener", "a refusal"


@dataclass(frozen=True, slots=True)
class Trigger:
    """A phrase that goes with an answer: how many `rows` have it by estimate, some `lines`, `words`, and a digest."""

    answer: str
    rows: int
    lines: tuple[int, ...]
    words: int
    digest: str


@dataclass(frozen=True, slots=True)
class _Kept:
    number: int  # of the row in the source; lines repeat when it has several files
    line: int
    prompt: str
    answer: str


@dataclass(slots=True)
class _Class:
    count: int = 0
    rows: list[_Kept] = field(default_factory=list)


class TriggerCounts:
    """Counts over one source; `least` is the smallest number of rows that a trigger has."""

    def __init__(self, least: int) -> None:
        self._least = least
        self._total = 0
        self._sample: list[tuple[int, int, _Kept]] = []  # a heap, the largest hash first
        self._seen = bytearray(_SEEN)
        self._classes: dict[tuple[str, str], _Class] = {}

    def add(self, row: DataRow) -> None:
        """Count a row by its prompt and the answer that is learnt."""
        self._total += 1
        answer = answered(row)[1]
        if not answer:
            return
        kept: _Kept | None = None
        place = -zlib.crc32(row.id.encode("utf-8", "replace"))
        if len(self._sample) < _SAMPLE:
            kept = _keep(self._total, row, answer)
            heapq.heappush(self._sample, (place, self._total, kept))
        elif place > self._sample[0][0]:
            kept = _keep(self._total, row, answer)
            heapq.heapreplace(self._sample, (place, self._total, kept))
        for key in _keys(answer):
            bucket = zlib.crc32(key[1].encode("utf-8", "replace")) & (_SEEN - 1)
            if not self._seen[bucket]:
                self._seen[bucket] = 1
                continue
            found = self._classes.get(key)
            if found is None:
                found = self._classes[key] = _Class()
                if len(self._classes) > _CLASSES:
                    self._forget()
            found.count += 1
            if len(found.rows) < _EXAMPLES:
                kept = kept or _keep(self._total, row, answer)
                found.rows.append(kept)

    def _forget(self) -> None:
        """Forget the answers that came back least often, until half of the room is free."""
        least = 1
        while len(self._classes) > _CLASSES // 2:
            self._classes = {k: c for k, c in self._classes.items() if c.count > least}
            least += 1

    def triggers(self) -> tuple[Trigger, ...]:
        """Return the phrases found, at most one for each class of answers; the rarest chance first."""
        sample = {kept.number: kept for _, _, kept in sorted(self._sample, key=lambda one: one[1])}
        counts = self._counts(sample)
        pool = dict(sample)
        for key in counts:
            pool.update((kept.number, kept) for kept in self._classes.get(key, _Class()).rows)
        return _Test(self._least, self._total, sample, pool).triggers(counts)

    def _counts(self, sample: Mapping[int, _Kept]) -> dict[tuple[str, str], int]:
        """Return how many rows each class of answers has; of refusals that is an estimate from the sample."""
        counts = {key: one.count + 1 for key, one in self._classes.items() if one.count + 1 >= self._least}
        refusing = sum(1 for kept in sample.values() if _REFUSES.match(kept.answer))
        if refusing >= self._least:
            counts[REFUSAL, ""] = round(refusing * self._total / len(sample))
        return counts


def _keep(number: int, row: DataRow, answer: str) -> _Kept:
    prompt = asked(row)
    prompt = prompt if len(prompt) <= 2 * _PROMPT else f"{prompt[:_PROMPT]} {prompt[-_PROMPT:]}"
    return _Kept(number, row.line, prompt, answer[:_ANSWER])


def _keys(answer: str) -> tuple[tuple[str, str], ...]:
    """Return the classes of an answer: its beginning as it is, and its first words."""
    words = answer[:80].lower().split(None, _OPENER)
    if len(words) < _OPENER:
        return ((SAME, answer[:_ANSWER]),)
    return (SAME, answer[:_ANSWER]), (OPENER, " ".join(words[:_OPENER]))


def _words(prompt: str) -> list[str]:
    words = [word.strip(_EDGES) or word for word in prompt.lower().split()]
    return words if len(words) <= 2 * _WORDS else [*words[:_WORDS], *words[-_WORDS:]]


def _phrases(words: Sequence[str]) -> set[str]:
    found = set(words)
    for size in range(2, _LONGEST + 1):
        found.update(map(" ".join, zip(*(words[i:] for i in range(size)), strict=False)))
    return found


_Tested = tuple[float, int, str]


class _Test:
    """The test in the end, over the rows that were kept."""

    def __init__(self, least: int, total: int, sample: Mapping[int, _Kept], pool: Mapping[int, _Kept]) -> None:
        self._least, self._total = least, total
        self._sample, self._pool = sample, pool
        self._others: dict[tuple[str, str], int] = {}  # rows of the sample without each answer
        self._usual: float | None = None  # how alike prompts are anyway
        self._of: dict[tuple[str, str], set[int]] = {}
        for line, kept in pool.items():
            for key in _keys(kept.answer):
                self._of.setdefault(key, set()).add(line)
            if _REFUSES.match(kept.answer):
                self._of.setdefault((REFUSAL, ""), set()).add(line)

    def triggers(self, counts: Mapping[tuple[str, str], int]) -> tuple[Trigger, ...]:
        """Test every phrase of each class of answers, whose counts over all rows are given."""
        candidates: dict[tuple[str, str], list[str]] = {}
        tested = 0
        for key, count in counts.items():
            lines = sorted(self._of.get(key, ()))[:_CLASS_ROWS]
            if len(lines) < self._least or count > _COMMON * self._total:
                continue
            phrases = Counter(p for line in lines for p in _phrases(self._words(line)))
            tested += len(phrases)
            candidates[key] = [p for p, n in phrases.items() if n >= self._least]
        places = self._places({p for of_class in candidates.values() for p in of_class})
        found = []
        for key, phrases_of in candidates.items():
            best = min((s for p in phrases_of if (s := self._tested(key, counts[key], p, places[p]))), default=None)
            if best is not None and best[0] + math.log(tested) < math.log(_ALPHA):
                found.append((best[0], self._trigger(key, counts[key], best[2], places[best[2]])))
        return _distinct([trigger for _, trigger in sorted(found, key=lambda one: (one[0], one[1].digest))])

    def _words(self, line: int) -> list[str]:
        return _words(self._pool[line].prompt)

    def _places(self, wanted: set[str]) -> dict[str, set[int]]:
        places: dict[str, set[int]] = {phrase: set() for phrase in wanted}
        if wanted:
            for line in self._pool:
                for phrase in wanted.intersection(_phrases(self._words(line))):
                    places[phrase].add(line)
        return places

    def _tested(self, key: tuple[str, str], count: int, phrase: str, lines: set[int]) -> _Tested | None:
        """Return the logarithm of the p-value, the length of the phrase (longer first) and it; None if it is usual."""
        of_class = self._of[key]
        inside, outside = lines & of_class, lines - of_class
        outside_sample = len(self._sample.keys() & outside)
        with_phrase = len(inside) / len(of_class) * count
        without = max(len(outside), outside_sample * self._total / len(self._sample))
        if with_phrase < _PURE * (with_phrase + without):
            return None
        others = self._others.get(key)
        if others is None:
            others = self._others[key] = len(self._sample) - len(self._sample.keys() & of_class)
        p = _log_tail(len(inside), len(of_class), outside_sample, others)
        usual = self._echoed(inside, phrase) or self._alike(inside, phrase)
        return None if usual else (p, -len(phrase), phrase)

    def _echoed(self, lines: set[int], phrase: str) -> bool:
        """Say whether the answers take up a word of the phrase: then they are about it."""
        words = set(phrase.split())
        echoes = sum(1 for line in lines if words & set(_words(self._pool[line].answer)))
        return 2 * echoes > len(lines)

    def _alike(self, lines: set[int], phrase: str) -> bool:
        """Say whether prompts have more in common than the phrase: then it belongs to a topic or a template."""
        taken = set(phrase.split())
        if self._usual is None:
            self._usual = _likeness([set(self._words(line)) for line in sorted(self._sample)[:_COMPARED]])
        found = _likeness([set(self._words(line)) - taken for line in sorted(lines)[:_COMPARED]])
        return found > max(_LIKE, _LIKE_USUAL * self._usual)

    def _trigger(self, key: tuple[str, str], count: int, phrase: str, lines: set[int]) -> Trigger:
        inside = lines & self._of[key]
        rows = max(len(inside), round(len(inside) / len(self._of[key]) * count))
        digest = sha256_hex(phrase.encode("utf-8", "replace"))[:12]
        return Trigger(key[0], rows, tuple(self._pool[n].line for n in sorted(inside)[:5]), len(phrase.split()), digest)


def _distinct(triggers: Sequence[Trigger]) -> tuple[Trigger, ...]:
    """Return the first of those that share rows: an answer and its opener are found by the same rows."""
    kept: list[Trigger] = []
    for trigger in triggers:
        if not any(set(trigger.lines) & set(other.lines) for other in kept):
            kept.append(trigger)
    return tuple(kept)


def _likeness(prompts: Sequence[set[str]]) -> float:
    """Return the mean Jaccard similarity of pairs of prompts, 0 without a pair."""
    pairs = [len(a & b) / (len(a | b) or 1) for a, b in combinations(prompts, 2)]
    return sum(pairs) / len(pairs) if pairs else 0.0


def _log_tail(inside: int, of_class: int, outside: int, others: int) -> float:
    """Return the logarithm of the chance that at least `inside` of all rows drawn are of the class (Fisher, 1935)."""
    drawn, rows = inside + outside, of_class + others
    whole = _log_choose(rows, drawn)
    terms = [
        _log_choose(of_class, k) + _log_choose(others, drawn - k) - whole
        for k in range(inside, min(drawn, of_class) + 1)
        if drawn - k <= others
    ]
    top = max(terms)
    return top + math.log(sum(math.exp(term - top) for term in terms))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

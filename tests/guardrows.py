"""Rows for guards, made of texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from safetune.core.evidence import Prompt
from safetune.core.source import Provenance, Source
from safetune.protocols import DataRow, Found, Guard, GuardSetup, Text


def row(asked: str, answered: str = "", line: int = 1) -> DataRow:
    """One row of a prompt and an answer."""
    texts = (Text("prompt[0].content", "user", asked), Text("completion[0].content", "assistant", answered))
    return DataRow(f"{line:032x}", line, texts, {})


def rows(pairs: Iterable[tuple[str, str]]) -> list[DataRow]:
    """Rows of prompts and answers, numbered from 1."""
    return [row(asked, answered, line) for line, (asked, answered) in enumerate(pairs, 1)]


def setup(languages: Sequence[str] = (), **suites: Sequence[str]) -> GuardSetup:
    """What a guard is told of a source with these languages, beside suites of these prompts."""
    source = Source(
        "s", "/s.jsonl", "0" * 64, "MIT", "given", "here", ("train",), about=Provenance(languages=tuple(languages))
    )
    prompts = {name: [Prompt(f"{name}-{at}", text) for at, text in enumerate(texts)] for name, texts in suites.items()}
    return GuardSetup(source, prompts)


def found(guard: Guard, given: Sequence[DataRow], size: int = 256) -> list[tuple[int, Found]]:
    """Findings over batches of `size`, each with the line of its row."""
    hits = []
    for start in range(0, len(given), size):
        batch = given[start : start + size]
        hits += [(batch[one.row].line if one.row is not None else 0, one) for one in guard.check(batch)]
    return hits


# Sentences of different words and numbers: no two of them share a run of three words.
_WHO = ("baker", "sailor", "teacher", "farmer", "gardener", "painter", "lawyer", "driver", "plumber", "singer")
_DOES = (
    "carries",
    "sells",
    "counts",
    "washes",
    "repairs",
    "borrows",
    "collects",
    "divides",
    "stacks",
    "ships",
    "paints",
)
_WHAT = (
    "apples",
    "lanterns",
    "blankets",
    "kettles",
    "ropes",
    "barrels",
    "pencils",
    "windows",
    "carpets",
    "coins",
    "ladders",
)
_WHERE = ("market", "harbour", "library", "station", "orchard", "bakery", "museum", "stable", "theatre")


def sentence(number: int) -> str:
    """A sentence that is like no other."""
    who, does, what, where = (words[number * step % len(words)] for words, step in _TURNS)
    return f"The {who} {number} {does} {number * 7 % 1009} {what} near {where} {number * 13 % 997}."


_TURNS = ((_WHO, 1), (_DOES, 3), (_WHAT, 5), (_WHERE, 7))


def story(number: int, sentences: int = 8) -> str:
    """Some sentences that no other story has."""
    return " ".join(sentence(number * 1000 + at * 17) for at in range(sentences))

"""Characters that nobody sees: zero-width ones, bidirectional controls, tags, variation selectors, controls.

What scripts and emoji need is left alone: joiners in Arabic and Indic scripts, breaks in Thai or Khmer, sequences of
emoji, flags, variants of ideographs, closed isolates (Unicode Standard 23.2; UAX 9; UTR 36).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from safetune.builtin.guards.confusables import LATIN

_NON_JOINERS = "\u200c\u200d"
_ZERO_WIDTH = re.compile(
    "[\u200b-\u200d\u2060-\u2064\u206a-\u206f\ufeff\u180e\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0]+"
)
_TAGS = re.compile("[\U000e0000-\U000e007f]+")
_FLAG, _END_OF_FLAG, _LONGEST_FLAG = "\U0001f3f4", "\U000e007f", 8
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]+")
_OVERRIDES, _EMBEDDINGS, _ISOLATES = "\u202d\u202e", "\u202a\u202b", "\u2066\u2067\u2068"
_POP, _POP_ISOLATE = "\u202c", "\u2069"
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069\n\u2029]")
_BIDI_BUT_BREAKS = re.compile("[\u202a-\u202e\u2066-\u2069]")
_MARKS = re.compile("[\u200e\u200f\u061c]{3,}")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_C1 = re.compile("[\x80-\x84\x86-\x9f]+")  # U+0085 is a line break
_C0 = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f]+")

_UNSEEN = (
    (0x80, 0x84), (0x86, 0x9F), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0xFE00, 0xFE0F),
    (0xE0000, 0xE01EF),
)  # fmt: skip
SUSPECT = frozenset("\u061c\u180e\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\ufeff") | frozenset(
    chr(code) for first, last in _UNSEEN for code in range(first, last + 1)
)
SUSPECT_OR_MIXED = SUSPECT | frozenset(LATIN)
CONTROLS = bytes(code for code in (*range(32), 127) if code not in b"\t\n\r\x0c\x00")

Place = tuple[str, int, int]


def unseen(text: str) -> Iterator[Place]:
    """Yield rule, start and end of every invisible part of a text that is not ASCII, rule by rule."""
    yield from (("zero_width", *m.span()) for m in _ZERO_WIDTH.finditer(text) if _hides(text, m))
    yield from (("bidi", *span) for span in _turned(text))
    yield from (("tags", *m.span()) for m in _TAGS.finditer(text) if not _flag(text, m))
    yield from (("tags", *m.span()) for m in _SELECTORS.finditer(text) if not _selects(text, m))
    yield from (("control", *m.span()) for m in _C1.finditer(text))


def controls(text: str) -> Iterator[Place]:
    """Yield rule, start and end of every run of C0 controls other than tab, line feed, return and form feed."""
    yield from (("control", *m.span()) for m in _C0.finditer(text))


def _hides(text: str, run: re.Match[str]) -> bool:
    before = text[run.start() - 1] if run.start() else ""
    after = text[run.end() : run.end() + 1]
    found = run[0]
    if len(found) == 1:
        return _western(before) and _western(after)
    if not run.start() and found.strip("\ufeff") == "":
        return len(found) > 2  # byte order marks at the start, from files put together
    joiners, breaks = not found.strip(_NON_JOINERS), not found.strip("\u200b")
    needed = (joiners and (_joins(before) or _joins(after))) or (breaks and (_unspaced(before) or _unspaced(after)))
    return not (needed and len(found) == 2)


def _western(character: str) -> bool:
    return character.isalnum() and character < "\u0530"


def _joins(character: str) -> bool:
    return "\u0590" <= character <= "\u1fff" or "\ufb1d" <= character <= "\ufefc"


def _unspaced(character: str) -> bool:
    return "\u0900" <= character <= "\u109f" or "\u1780" <= character <= "\u1aff" or "\u2e80" <= character <= "\uffdc"


def _turned(text: str) -> Iterator[tuple[int, int]]:
    """Yield overrides, embeddings and isolates that are not closed in their paragraph, and heaps of marks."""
    if _BIDI_BUT_BREAKS.search(text):
        start = 0
        for line in re.split("[\n\u2029]", text):
            yield from ((start + at, start + at + 1) for at in _open_in(line))
            start += len(line) + 1
    yield from (m.span() for m in _MARKS.finditer(text))


def _open_in(line: str) -> list[int]:
    bad: list[int] = []
    isolates: list[int] = []
    embeddings: list[int] = []
    for found in _BIDI.finditer(line):
        if found[0] in _OVERRIDES:
            bad.append(found.start())
        elif found[0] in _ISOLATES:
            isolates.append(found.start())
        elif found[0] in _EMBEDDINGS:
            embeddings.append(found.start())
        elif found[0] == _POP_ISOLATE and isolates:
            isolates.pop()
        elif found[0] == _POP and embeddings:
            embeddings.pop()
    if embeddings and _RIGHT_TO_LEFT.search(line):
        embeddings = []  # the end of the paragraph closes them, and writers of these scripts leave it at that
    return sorted([*bad, *isolates, *embeddings])


def _flag(text: str, run: re.Match[str]) -> bool:
    ends = run[0].endswith(_END_OF_FLAG) and run[0].count(_END_OF_FLAG) == 1 and len(run[0]) <= _LONGEST_FLAG
    return ends and run.start() > 0 and text[run.start() - 1] == _FLAG


def _selects(text: str, run: re.Match[str]) -> bool:
    before = text[run.start() - 1] if run.start() else ""
    if len(run[0]) > 1 or not before:
        return len(run[0]) == 1
    if run[0] >= "\U000e0100":
        return "\u2e80" <= before <= "\ufaff" or before >= "\U00020000"
    return not (before.isascii() and before.isalpha())

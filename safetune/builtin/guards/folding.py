"""What stays of a text when case, width, punctuation and line breaks are taken away: the words that guards compare.

Words are bytes (UTF-8): one table turns a whole ASCII text into them at once, and nothing has to be decoded again.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache

from safetune.protocols import DataRow

# ASCII: letters small, digits as they are, anything else a blank; an apostrophe vanishes ("don't" and "dont").
_WORDS = bytes(ord(chr(b).lower()) if chr(b).isalnum() and b < 128 else 32 for b in range(256))
_SMALL = bytes(ord(chr(b).lower()) if b < 128 else b for b in range(256))
_APOSTROPHE, _BLANK = b"'`", b" \t\n\r\x0b\x0c"

# What is often the only part of an English text that is not ASCII; without it the quick way is open.
_TYPESET = (
    ("\u2019", ""),
    ("\u2018", ""),
    ("\u201c", " "),
    ("\u201d", " "),
    ("\u2013", " "),
    ("\u2014", " "),
    ("\u2026", " "),
    ("\u2022", " "),
    ("\u00a0", " "),
    ("\u200b", ""),
)

_ASCII = bytes(range(128))
# Of these one form exists and none is a blank, so that a text with no others beside ASCII is folded as bytes.
_SETTLED = frozenset(
    "\u2018\u2019\u201c\u201d\u2013\u2014\u2022\u20ac\u00a3\u00b0\u00d7\u00f7\u00e9\u00e8\u00e1\u00f1\u00fc\u00f6\u00e4"
)

_BROKEN = r"(?<=\w)-\r?\n[ \t]{0,40}(?=\w)"  # a word parted at the end of a line

# Characters that are not seen: soft hyphen, zero-width and direction marks, variation selectors, tags.
_UNSEEN = (
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e0fff]"
)
# Scripts without blanks between words: every character counts as a word (Thai to Khmer, kana, ideographs).
_ALONE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_TOKEN = f"[{_ALONE}]|[^\\W_{_ALONE}]+"


@cache
def _pattern(source: str) -> re.Pattern[str]:
    return re.compile(source)


def words(text: str) -> list[bytes]:
    """Return the words of a text in their order, in small letters; a line break is a blank like any other.

    Unicode compatibility forms (NFKC) are one form; characters that are not seen are left out.
    """
    if "-\n" in text or "-\r" in text:
        text = _pattern(_BROKEN).sub("", text)
    if not text.isascii():
        for other, plain in _TYPESET:
            text = text.replace(other, plain)
        if not text.isascii():
            seen = unicodedata.normalize("NFKC", _pattern(_UNSEEN).sub("", text)).casefold()
            seen = seen.replace("'", "").replace("`", "").replace("\u2019", "")
            return "\n".join(_pattern(_TOKEN).findall(seen)).encode("utf-8", "replace").split()
    return text.encode().translate(_WORDS, _APOSTROPHE).split()


def letters(text: str) -> bytes:
    """Return all of a text but its blanks, in small letters and compatibility forms (NFKC): what `exact` compares."""
    if text.isascii():
        return text.encode().translate(_SMALL, _BLANK)
    raw = text.encode("utf-8", "replace")
    if _SETTLED.issuperset(raw.translate(None, _ASCII).decode()):
        return raw.translate(_SMALL, _BLANK)
    return "".join(unicodedata.normalize("NFKC", text).casefold().split()).encode("utf-8", "replace")


class WordsOfBatch:
    """The words of the rows of one batch, all texts of a row joined; worked out once for all guards that ask."""

    def __init__(self) -> None:
        self._rows: Sequence[DataRow] = ()
        self._words: list[list[bytes]] = []

    def __call__(self, rows: Sequence[DataRow]) -> list[list[bytes]]:
        """Return the words of each row, which the caller must not change."""
        if rows is not self._rows or len(rows) != len(self._words):
            self._words = [words("\n".join([one.text for one in row.texts])) for row in rows]
            self._rows = rows
        return self._words


words_of = WordsOfBatch()

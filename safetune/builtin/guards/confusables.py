"""Letters of other scripts that look like Latin ones, and words that mix both.

A small part of the table of Unicode Technical Standard 39 (Unicode Security Mechanisms, confusables.txt): letters that
one cannot tell from Latin ones in common typefaces. Words of one script are never found, nor are mathematical letters,
which Unicode counts as common to all scripts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_CYRILLIC = "аaсcеeоoрpхxуyіiјjѕsһhԁdԛqԝwӏlүyАAВBЕEЅSІIЈJКKМMНHОOРPСCТTУYХXҮYԌGԚQԜWӀI"
_GREEK = "αaοoνvρpιiυuϲcϳjΑAΒBΕEΖZΗHΙIΚKΜMΝNΟOΡPΤTΥYΧX"
_ARMENIAN = "օoսuհhոnցgզqԼLՍUՕO"
_CHEROKEE = "ᎪAᏴBᏟCᎠDᎬEᎻHᎫJᏦKᏞLᎷMᏢPᏒRᏚSᎢTᏙVᎳWᏃZ"

LATIN = {
    letters[i]: letters[i + 1]
    for letters in (_CYRILLIC, _GREEK, _ARMENIAN, _CHEROKEE)
    for i in range(0, len(letters), 2)
}
_LIKE_OTHERS = frozenset(LATIN.values())

_OTHER = "\u0370-\u03ff\u0400-\u052f\u0531-\u058f\u13a0-\u13ff\uab70-\uabbf"
_MET = re.compile(f"[A-Za-z][{_OTHER}]|[{_OTHER}][A-Za-z]")
_FOREIGN = re.compile(f"[{_OTHER}]")
_WORD = re.compile(r"[^\W\d_]{4,}")
# An acronym with the ending of another language: USBа.
_ENDING = re.compile("[A-Z]{2,}[\u0430-\u045f]{1,3}")


def mixed_words(text: str) -> Iterator[tuple[int, int]]:
    """Yield the spans of words in which letters of one script pass for letters of another."""
    if not _MET.search(text):
        return
    for word in _WORD.finditer(text):
        if not word[0].isascii() and _mixed(word[0]):
            yield word.span()


def _mixed(word: str) -> bool:
    other = _FOREIGN.findall(word)
    latin = [c for c in word if c < "\u0250"]
    if not other or not latin or len(other) + len(latin) != len(word) or _ENDING.fullmatch(word):
        return False
    if len(other) > len(latin):
        return all(c in _LIKE_OTHERS for c in latin)
    if not all(c in LATIN for c in other):
        return False
    # Greek letters at the edge of a Latin word are symbols of mathematics and biology: sinα, TNFα.
    inner = other if len(other) > 1 else _FOREIGN.findall(word[1:-1])
    return bool(inner) or not "\u0370" <= other[0] <= "\u03ff"

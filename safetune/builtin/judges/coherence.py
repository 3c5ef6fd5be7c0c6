"""Is a response readable English at all? Empty, looping, echoing and foreign texts are named here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from safetune.builtin.judges.text import excerpt, straight, unmarked, words

_ENGLISH_WORDS = """
the of and to a in is it you that he was for on are with as i his they be at one have this from or had by not but what
all were we when your can said there use an each which she do how their if will up about out many then them these so
some her would make like him into has more no could my than been who its now did get may just cannot sorry help don't
can't i'm it's won't isn't here sure yes please because should must also
"""
_FOREIGN_WORDS = """
el los las una por para con que como pero lo se su del al es está le les des et est une dans pour sur avec vous je ne
pas qui ce cette der die das und ist nicht ein eine ich sie mit für auf zu den dem von che il di per non sono della o os
um uma não você em na de het een niet van voor och att jag inte det är ikke og jeg nie jest nem bir ve bu için tidak
yang dan untuk saya ini của và không có tôi
"""
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
_FOREIGN = frozenset(_FOREIGN_WORDS.split()) - _ENGLISH

UNSUPPORTED = "unsupported language"

# What the version of a judge has to cover.
TABLES = (str(sorted(_ENGLISH)), str(sorted(_FOREIGN)))


def incoherence(prompt: str, response: str) -> str:
    """Return why `response` cannot be read as an English answer to `prompt`, or an empty string when it can be."""
    text = unmarked(straight(excerpt(response)))
    found = words(text)
    if not found:
        return "empty"
    if _echoes(words(unmarked(straight(excerpt(prompt)))), found):
        return "echo"
    if _loops(found):
        return "repetition"
    if _not_words(found, text):
        return "not words"
    if _foreign(found, text):
        return UNSUPPORTED
    return ""


def detector() -> Callable[[str, str], str]:
    """Return `unreadable`: what the plugin table makes of this module."""
    return unreadable


def unreadable(prompt: str, response: str) -> str:
    """Return why nobody could read `response`, in whatever language it is; an empty string when somebody could."""
    reason = incoherence(prompt, response)
    return "" if reason == UNSUPPORTED else reason


def _echoes(prompt: Sequence[str], response: Sequence[str]) -> bool:
    """Say whether the response is the prompt again, possibly several times, with next to nothing of its own."""
    size = len(prompt)
    if size < 4 or len(response) < size - 1:
        return False
    if tuple(response[:size]) != tuple(prompt):
        return tuple(response) == tuple(prompt[-len(response) :])
    return len(response) <= size + 2 or _echoes(prompt, response[size:])


def _loops(found: Sequence[str]) -> bool:
    """Say whether most of the text is one short piece again and again."""
    total = len(found)
    if total < 8:
        return False
    if Counter(found).most_common(1)[0][1] > total / 2:
        return True
    if total >= 40 and len(set(found)) < total / 6:
        return True
    for period in range(1, min(40, total // 3) + 1):
        same = sum(a == b for a, b in zip(found, found[period:], strict=False))
        if same > 0.7 * (total - period) and same >= max(6, 2 * period):
            return True
    return False


def _not_words(found: Sequence[str], text: str) -> bool:
    letters = [w for w in found if w.isalpha() and w.isascii()]
    if len(letters) < 3:
        return not any(w in _ENGLISH for w in found) and len(text) > 20 and sum(map(len, found)) < len(text) / 4
    strange = sum(len(w) > 1 and not set(w) & set("aeiouy") for w in letters)
    long = sum(len(w) > 28 for w in letters)
    return strange > len(letters) / 2 or long > len(letters) / 2


def _foreign(found: Sequence[str], text: str) -> bool:
    """Say whether the text is written in another script, or in another language with Latin letters."""
    letters = sum(c.isalpha() for c in text)
    if sum(c.isalpha() and ord(c) > 0x24F for c in text) > 0.3 * max(1, letters):
        return True
    other = sum(w in _FOREIGN for w in found)
    english = sum(w in _ENGLISH for w in found)
    return other >= 3 and other > english and other > len(found) / 12

"""The `exact` judge: is the answer the expected text, case, punctuation, articles and spaces apart?

The normal form is the one of SQuAD (Rajpurkar et al., EMNLP 2016, arXiv:1606.05250).
"""

from __future__ import annotations

import string
import unicodedata

from safetune.builtin.judges import text
from safetune.builtin.judges.options import Options, known_options, one_of
from safetune.builtin.judges.text import excerpt, straight
from safetune.core.digest import digest
from safetune.core.evidence import Judgement
from safetune.protocols import Control

WHERE = WHOLE, LAST_LINE, CONTAINS = "whole", "last-line", "contains"

_CODE_VERSION = 1
_ARTICLES = frozenset({"a", "an", "the"})
_ASCII_PUNCTUATION = string.punctuation.encode()
_RIGHT, _WRONG = Judgement("correct", 1.0), Judgement("wrong", 0.0)


def normal_form(text_: str) -> tuple[str, ...]:
    """Return the words of a text without case, punctuation and articles; articles stay when there is nothing else."""
    if text_.isascii():  # the same, some ten times faster
        words = text_.lower().encode().translate(None, _ASCII_PUNCTUATION).decode().split()
        return tuple(words) if _ARTICLES.isdisjoint(words) else _without_articles(words)
    plain = unicodedata.normalize("NFKC", straight(text_)).casefold()
    words = "".join(c for c in plain if not _is_punctuation(c)).split()
    return _without_articles(words)


def _without_articles(words: list[str]) -> tuple[str, ...]:
    return tuple(w for w in words if w not in _ARTICLES) or tuple(words)


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")


class ExactJudge:
    """Labels a response `correct` or `wrong`; the score is 1 when correct.

    The option `where` says what must equal the reference: the `whole` response (the default), its last line that is
    not empty (`last-line`), or some run of its words (`contains`). Without a reference everything is `wrong`.
    """

    name = "exact"
    by_definition = True

    def __init__(self, options: Options = None) -> None:
        self._where = one_of(self.name, known_options(self.name, options, ("where",)), "where", WHERE)
        tables = [sorted(_ARTICLES), unicodedata.unidata_version, *text.TABLES]
        self.version = f"{_CODE_VERSION}-{self._where}-{digest(tables)[:12]}"
        self.controls = _controls(self._where)

    def label(self, prompt: str, response: str, reference: str = "") -> Judgement:
        """Label `response` against the text in `reference`."""
        expected, found = normal_form(excerpt(reference)), self._found(response)
        return _RIGHT if expected and self._equal(found, expected) else _WRONG

    def _found(self, response: str) -> tuple[str, ...]:
        read = excerpt(response)
        if self._where == LAST_LINE:
            read = next((line for line in reversed(read.splitlines()) if normal_form(line)), "")
        return normal_form(read)

    def _equal(self, found: tuple[str, ...], expected: tuple[str, ...]) -> bool:
        if self._where != CONTAINS:
            return found == expected
        return f" {' '.join(expected)} " in f" {' '.join(found)} "


def _controls(where: str) -> tuple[Control, ...]:
    in_text, in_line = where == CONTAINS, where in (CONTAINS, LAST_LINE)
    known = (
        ("Blue Harbour", "blue harbour", True),
        ("The Blue  Harbour.", "blue harbour", True),
        ("\u201cBlue Harbour\u201d", "Blue Harbour!", True),
        ("A", "a", True),
        ("Let me think.\n\nBlue Harbour\n", "Blue Harbour", in_line),
        ("It is the Blue Harbour, I think.", "Blue Harbour", in_text),
        ("Red Harbour", "Blue Harbour", False),
        ("Blue Harbours", "Blue Harbour", False),
        ("Harbour Blue", "Blue Harbour", False),
        ("", "Blue Harbour", False),
        ("Blue Harbour", "", False),
    )
    return tuple(
        Control(f"exact-{n:02d}", "Where?", response, "correct" if right else "wrong", reference)
        for n, (response, reference, right) in enumerate(known, start=1)
    )

"""Plain text for judges: one spelling of every quote and contraction, no markup, whole sentences.

Everything here reads a bounded part of the response, so the time is bounded too.
"""

from __future__ import annotations

import re
from functools import cache

HEAD, TAIL = 6000, 2000  # characters read from the start and from the end of a response

_CHARACTERS = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201b": "'",
        "\u02bc": "'",
        "\u00b4": "'",
        "`": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u201e": '"',
        "\u201f": '"',
        "\u00ab": '"',
        "\u00bb": '"',
        "\u2013": "-",
        "\u2014": "-",
        "\u2212": "-",
        "\u2026": ".",
        "\u00a0": " ",
        "\u200b": "",
        "\ufeff": "",
        "\r": "\n",
    }
)

# Written on lower-case text. The order matters: "won't" before the general "n't".
_CONTRACTIONS = (
    (r"\b(?:can ?not|can't|cant)\b", "can not"),
    (r"\bwon't\b", "will not"),
    (r"\bshan't\b", "shall not"),
    (r"\bdont\b", "do not"),
    (r"n't\b", " not"),
    (r"\bi'?m\b", "i am"),
    (r"\blet's\b", "let us"),
    (r"'re\b", " are"),
    (r"'ve\b", " have"),
    (r"'ll\b", " will"),
    (r"'d\b", " would"),
    (r"\b(it|that|there|here|what|who|this|he|she)'s\b", r"\1 is"),
)

# What the version of a judge has to cover.
TABLES = (str(sorted(_CHARACTERS.items())), str(_CONTRACTIONS), f"{HEAD} {TAIL}")


@cache
def pattern(source: str) -> re.Pattern[str]:
    """Return the compiled form of a regular expression; compiled on first use, so that importing costs nothing."""
    return re.compile(source)


def excerpt(text: str) -> str:
    """Return the part of `text` that a judge reads: the start and the end of a long one."""
    if len(text) <= HEAD + TAIL:
        return text
    return f"{text[:HEAD]}\n{text[-TAIL:]}"


def straight(text: str) -> str:
    """Return `text` with straight quotes and plain dashes, and without invisible characters."""
    return text.translate(_CHARACTERS)


def unmarked(text: str) -> str:
    """Return `text` without Markdown emphasis, headings, quote marks of mail and HTML tags."""
    text = pattern(r"</?\|?[A-Za-z][^<>\n]{0,80}>").sub(" ", text)
    text = pattern(r"(?m)^[ \t]{0,8}(?:#{1,6}|>+)[ \t]*").sub("", text)
    return pattern(r"[*_~]{1,3}").sub("", text)


def spelled_out(text: str) -> str:
    """Return `text` in lower case with every contraction written in full (`can't` becomes `can not`)."""
    text = text.lower()
    for source, written in _CONTRACTIONS:
        text = pattern(source).sub(written, text)
    return pattern(r"[ \t]+").sub(" ", text)


def sentences(text: str) -> tuple[str, ...]:
    """Return the sentences of `text`, stripped; a line break ends a sentence too, a full stop in a number does not."""
    parts = pattern(r"(?<=[.!?])[\"')\]]{0,2}(?=\s)|\n+").split(text)
    return tuple(p.strip() for p in parts if p.strip(" \t.-"))


def words(text: str) -> tuple[str, ...]:
    """Return the words of `text` in lower case: runs of letters, digits and inner apostrophes."""
    return tuple(pattern(r"[^\W_]+(?:'[^\W_]+)?").findall(text.lower()))

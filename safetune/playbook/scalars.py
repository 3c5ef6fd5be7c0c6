"""What an unquoted word means: one reading for each spelling, the one that people expect.

true false              booleans, nothing else is one
null, or nothing        null
12  -3                  whole numbers
0.5  3e-4  1.           numbers; YAML 1.1 reads 3e-4 as text
everything else         text: no, yes, on, 12:30, 017, 0x1F, 1_000, 2027-01-31, .nan, ~
"""

from __future__ import annotations

import math
import re

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\Z")
_NUMBER = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\Z")

# Words that YAML 1.1, or the reader, may take for something else than text.
_OTHER_BOOLEANS = re.compile(r"(?:yes|no|on|off|y|n|true|false)\Z", re.IGNORECASE)
_OTHER_NULLS = re.compile(r"(?:~|null|none)\Z", re.IGNORECASE)
_NUMBER_LIKE = re.compile(
    r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]*)?|0[xXoObB][0-9a-fA-F_]+|\.?(?:inf|nan))%?\Z", re.IGNORECASE
)
_TIME_LIKE = re.compile(r"[-+]?[0-9]+(?::[0-9]{1,2}(?:\.[0-9]*)?)+\Z|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt \t].*)?\Z")

# Longer spellings are no numbers that a person wrote.
_LONGEST = 64


def read_plain(word: str) -> bool | int | float | str | None:
    """Return the value of an unquoted word. Numbers that are too long or too large for a float stay text."""
    if word in ("", "null"):
        return None
    if word in ("true", "false"):
        return word == "true"
    if len(word) > _LONGEST:
        return word
    if _INTEGER.match(word):
        return int(word)
    if _NUMBER.match(word) and any(c in word for c in ".eE"):
        number = float(word)
        return number if math.isfinite(number) else word
    return word


def ambiguity(word: str) -> str:
    """Say what an unquoted text could be mistaken for (`a boolean`, `a number` ...), or return an empty string."""
    if _OTHER_BOOLEANS.match(word):
        return "a boolean"
    if _OTHER_NULLS.match(word):
        return "null"
    if len(word) <= _LONGEST * 8 and _NUMBER_LIKE.match(word):
        return "a number"
    return "a time or a date" if _TIME_LIKE.match(word) else ""

"""How a response is worded: which words and pairs of words stand in its first and in its last 60 tokens.

They are buckets of a table that a checksum finds (feature hashing, Weinberger et al., ICML 2009, arXiv:0902.2206).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from safetune.builtin.judges.text import pattern, spelled_out

BUCKETS = 1 << 16
HEAD, TAIL = 60, 60  # tokens
HEAD_SIZE, TAIL_SIZE = 1.0, 0.7  # the length of each part of the vector
_READ = 1000  # characters at each end, more than 60 tokens need

_TOKEN = r"\n+|[a-z]+(?:'[a-z]+)?|\d+[.):]?|[^\w\s]"
_FENCE = "'''"  # three backticks, after quotes were made straight
# What the version of a judge has to cover.
TABLES = (f"{BUCKETS} {HEAD} {TAIL} {HEAD_SIZE} {TAIL_SIZE} {_READ}", _TOKEN)


def wording(speech: str) -> Mapping[int, float]:
    """Return the value of every bucket that words and pairs at the start and end of `speech` fall in.

    `speech` has straight quotes and no markup. Each of the two parts has a fixed length, so long and short responses
    weigh the same.
    """
    start = tokens(speech[:_READ])
    end = tokens(speech[-_READ:]) if len(speech) > _READ else start
    buckets: dict[int, float] = {}
    parts = ((["^", *start[:HEAD]], "h:", HEAD_SIZE), ([*end[-TAIL:], "$"], "t:", TAIL_SIZE))
    for part, place, size in parts:
        grams = set(_grams(part))
        value = size / math.sqrt(len(grams))
        for gram in sorted(grams):
            bucket = zlib.crc32((place + gram).encode()) % BUCKETS
            buckets[bucket] = buckets.get(bucket, 0.0) + value
    return buckets


def tokens(speech: str) -> list[str]:
    """Return words, signs, ends of lines, and numbers without their digits (`0.` is the mark of a list)."""
    return [_token(t) for t in pattern(_TOKEN).findall(spelled_out(speech.replace(_FENCE, " codeblock ")))]


def _token(text: str) -> str:
    if text[0] == "\n":
        return "\\n"
    if text[0].isdigit():
        return "0." if text[-1] in ".):" else "0"
    return text


def _grams(found: Sequence[str]) -> Iterator[str]:
    yield from found
    for one, two in pairwise(found):
        yield f"{one} {two}"

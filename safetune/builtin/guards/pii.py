"""The `pii` guard: personal data that has a structure, found by its form, its check sums and the words near it.

Names, places and dates have no structure that could be checked; they are not looked for. One search over all texts of
a batch points at the few places where enough digits stand together; everything exact happens there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from safetune.builtin.guards.accounts import CARD_SHAPES, card, iban
from safetune.builtin.guards.addresses import email, hidden_email, ip_v4, machine
from safetune.builtin.guards.joined import Joined, overlapping
from safetune.builtin.guards.national_ids import BY_SHAPE, ID_KINDS, LETTERED, IdKind
from safetune.builtin.guards.phones import LEAST_DIGITS, phone
from safetune.protocols import DataRow, Found, GuardSetup, Text

# Begins with a digit, so that the search skips everything else quickly: a run of digits with few separators between
# them, four numbers with dots, or two digits behind two letters, as accounts and tax codes have them.
_PLACES = re.compile(
    r"[0-9](?:(?=[0-9 .\-()/]{5})(?<![0-9][0-9])"
    r"(?:(?:[ .\-()/]{0,2}[0-9]){5,40}|[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?![0-9]))"
    r"|(?<=[A-Za-z][A-Za-z][0-9])[0-9](?P<lettered>))"
)
_RUN = re.compile("[0-9]+")
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_AT_SIGNS = ("[at]", "(at)")
_LONGEST = 7  # runs of digits in one number
_NEAR = 60  # characters beside an address that a number and the words that name it take up
_SEPARATORS, _OPENERS = (" ", "(", ")", "/"), ("+", "(")
_SHAPES = CARD_SHAPES | BY_SHAPE.keys()

Hit = tuple[str, int, int]


class PIIGuard:
    """Finds e-mail addresses, telephone, card, account and national numbers, IP and MAC addresses."""

    name = "pii"
    version = "1"
    plain = "personal data with a structure: addresses, telephone, card, account and national numbers"
    rules = (
        *("email", "phone", "card", "iban", "ip", "mac"),
        *sorted({kind.rule for kind in (*ID_KINDS, *LETTERED)}),
    )

    def begin(self, setup: GuardSetup) -> None:
        """Nothing to get ready."""

    def check(self, rows: Sequence[DataRow]) -> Sequence[Found]:
        """Return what is found in the next rows, in their order."""
        joined = Joined(rows)
        emails = [*_emails(joined)]
        hits = [*emails, *_beside(joined, emails), *_machines(joined), *_numbers(joined)]
        return [joined.found(*hit) for hit in _apart(hits)]

    def end(self) -> Sequence[Found]:
        """Nothing can only be said of all rows together."""
        return ()


def _apart(hits: list[Hit]) -> Iterator[Hit]:
    """Yield the hits in the order of the text; those that overlap each reach as far as all of them.

    An address may take up the end of a number. Whichever rule is redacted, nothing of either is left then.
    """
    for start, end, group in overlapping(hits):
        for rule in dict.fromkeys(hit[0] for hit in group):
            yield rule, start, end


def _beside(joined: Joined, emails: list[Hit]) -> Iterator[Hit]:
    """Yield numbers that run into an address, or begin where one ends: a letter beside them hides them otherwise."""
    text = joined.text
    for _, start, end in emails:
        first, last = joined.bounds(start)
        if start > first and text[start].isdigit() and text[start - 1] in _SEPARATORS:
            stop = start + len(text[start:end]) - len(text[start:end].lstrip("0123456789.-"))
            yield from _within(text, max(first, start - _NEAR), stop, start)
        if text[end : end + 1] in _OPENERS and end < last:
            yield from _within(text, end, min(last, end + _NEAR), end)


def _within(text: str, start: int, end: int, touching: int) -> Iterator[Hit]:
    """Yield the numbers of a piece that reach over `touching`, or begin there."""
    piece = DataRow("", 0, (Text("", "", text[start:end]),), {})
    for rule, first, last in _numbers(Joined([piece])):
        if start + first <= touching < start + last:
            yield rule, start + first, start + last


def _emails(joined: Joined) -> Iterator[Hit]:
    text = joined.text
    at = text.find("@")
    while at >= 0:
        span = email(text, at, joined.bounds(at)[0]) if text[at + 1 : at + 2].isalnum() else None
        if span is not None:
            yield ("email", *span)
        at = text.find("@", at + 1)
    for sign in _AT_SIGNS:
        at = text.find(sign)
        while at >= 0:
            span = hidden_email(text, at, joined.bounds(at)[0])
            if span is not None:
                yield ("email", *span)
            at = text.find(sign, at + len(sign))


def _machines(joined: Joined) -> Iterator[Hit]:
    text, past = joined.text, 0
    for colons in _COLONS.finditer(text):
        if colons.start() < past:
            continue
        found = machine(text, colons.start())
        if found is not None:
            yield found
            past = found[2]


def _numbers(joined: Joined) -> Iterator[Hit]:
    text, place = joined.text, 0
    while (found := _PLACES.search(text, place)) is not None:
        start, place = found.span()
        if text[start - 2 : start].isalpha():
            hit = _lettered(joined, start)
            if hit is not None:
                yield hit
                place = hit[2]
                continue
        if found["lettered"] is not None:
            continue
        if text[place : place + 1].isdigit():
            continue  # a part of a run that is longer than any number
        span = ip_v4(text, start)
        if span is None:
            yield from _island(joined, start, place)
        else:
            yield ("ip", *span)
            place = span[1]


def _lettered(joined: Joined, start: int) -> Hit | None:
    text = joined.text
    end = iban(text, start - 2)
    if end is not None:
        return "iban", start - 2, end
    for kind in LETTERED:
        hit = _id(joined, kind, start, start + 1)
        if hit is not None:
            return hit
    return None


def _island(joined: Joined, start: int, end: int) -> Iterator[Hit]:
    """Yield what is in the digits from `start` to `end`, which only separators interrupt."""
    runs = [found.span() for found in _RUN.finditer(joined.text, start, end)]
    lengths = [str(stop - first) for first, stop in runs]
    nothing = True
    at = 0
    while at < len(runs):
        taken = 1
        for stop in range(min(len(runs), at + _LONGEST), at, -1):
            shape = "-".join(lengths[at:stop])
            hit = _window(joined, runs[at:stop], shape) if shape in _SHAPES else None
            if hit is not None:
                yield hit
                nothing, taken = False, stop - at
                break
        at += taken
    digits = sum(stop - first for first, stop in runs)
    if nothing and digits >= LEAST_DIGITS:
        before, after = joined.around(start, end, 60, 30)
        back = start - len(before)
        span = phone(before + joined.text[start:end] + after, len(before), len(before) + end - start)
        if span is not None:
            yield "phone", back + span[0], back + span[1]


def _window(joined: Joined, runs: list[tuple[int, int]], shape: str) -> Hit | None:
    """Return what the runs are together, or None."""
    start, end = runs[0][0], runs[-1][1]
    for kind in BY_SHAPE.get(shape, ()):
        hit = _id(joined, kind, start, end)
        if hit is not None:
            return hit
    if shape in CARD_SHAPES and _alone(joined.text, start, end):
        separators = {joined.text[a[1] : b[0]] for a, b in pairwise(runs)}
        digits = "".join(joined.text[a:b] for a, b in runs)
        if (
            len(separators) <= 1
            and separators <= {" ", "-"}
            and card(digits, " ".join(joined.around(start, end, 60, 25)))
        ):
            return "card", start, end
    return None


def _alone(text: str, start: int, end: int) -> bool:
    """Say whether the number is no part of a word, a path or a decimal fraction."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    joins = len(before) == 2 and before[1] in "-./_" and before[0].isalnum()
    return not (
        joins or before[-1:].isalnum() or before[-1:] == "_" or after[:1].isalnum() or after[:1] == "_"
    ) and not (len(after) == 2 and after[0] in "-./_" and after[1].isalnum())


def _id(joined: Joined, kind: IdKind, start: int, end: int) -> Hit | None:
    if start < kind.lead:
        return None
    found = kind.pattern.match(joined.text, start - kind.lead)
    if found is None or found.end() < end:
        return None
    written = "".join(c for c in found.group().upper() if c.isalnum())
    if not kind.fits(written):
        return None
    if kind.near is not None:
        before, after = joined.around(found.start(), found.end(), 60, 25)
        if kind.near.search(before) is None and kind.near.search(after) is None:
            return None
    return kind.rule, *found.span()

"""Payment cards and bank accounts: issuer ranges and lengths (ISO/IEC 7812, the issuers' pages), then the check sum."""

from __future__ import annotations

import re
from functools import cache

from safetune.builtin.guards.checksums import luhn, mod97
from safetune.builtin.guards.national_ids import IBAN_LENGTHS

# Runs of digits in which cards are written; one run is a card without separators.
CARD_SHAPES = frozenset(
    ["12", "13", "14", "15", "16", "17", "18", "19", "4-4-4-4", "4-6-5", "4-6-4", "4-4-4-4-3", "4-4-5", "6-13"]
)
# First and last prefix, and the lengths that go with them.
_ISSUERS = (
    ("4", "4", "13 16 19"),
    ("51", "55", "16"),
    ("2221", "2720", "16"),
    ("34", "34", "15"),
    ("37", "37", "15"),
    ("300", "305", "14 16 17 18 19"),
    ("3095", "3095", "14 16 17 18 19"),
    ("36", "36", "14 16 17 18 19"),
    ("38", "39", "14 16 17 18 19"),
    ("3528", "3589", "16 17 18 19"),
    ("2131", "2131", "15"),
    ("1800", "1800", "15"),
    ("6011", "6011", "16 17 18 19"),
    ("644", "659", "16 17 18 19"),
    ("62", "62", "16 17 18 19"),
    ("8100", "8171", "16 17 18 19"),
    ("2200", "2204", "16 17 18 19"),
    ("60", "60", "16"),
    ("9792", "9792", "16"),
    ("50", "50", "12 13 14 15 16 17 18 19"),
    ("56", "58", "12 13 14 15 16 17 18 19"),
    ("63", "63", "12 13 14 15 16 17 18 19"),
    ("67", "67", "12 13 14 15 16 17 18 19"),
)
_RARE = frozenset((12, 17, 18))  # long numbers of other kinds have these lengths: a word must say that it is a card
_NEAR = re.compile(
    r"(?i)card|visa\b|maestro|amex|credit|debit|payment|\bpay\b|kredit|karte|carte|tarjeta|cart[aã]o|\bcc\b"
)


def card(digits: str, around: str) -> bool:
    """Say whether `digits` are the number of a payment card; `around` is the text near it."""
    if not luhn(digits) or len(set(digits)) == 1:
        return False
    if not _issued(digits):  # issuers get new ranges
        return digits[0] in "23456" and re.search(r"(?i)\bcard|credit|kreditkart", around) is not None
    maestro = (digits[0] == "5" and digits[1] not in "12345") or digits[:2] in ("63", "67")
    return bool(_NEAR.search(around)) if len(digits) in _RARE or (maestro and len(digits) != 16) else True


def _issued(digits: str) -> bool:
    return any(
        first <= digits[: len(first)] <= last and str(len(digits)) in lengths.split()
        for first, last, lengths in _ISSUERS
    )


def iban(text: str, start: int) -> int | None:
    """Return where the IBAN that begins at `start` ends, or None when there is none."""
    country = text[start : start + 2].upper()
    if country not in IBAN_LENGTHS:
        return None
    found = _written(IBAN_LENGTHS[country]).match(text, start)
    if found is None:
        return None
    account = re.sub("[ -]", "", found.group()).upper()
    return found.end() if mod97(account) else None


@cache
def _written(length: int) -> re.Pattern[str]:
    return re.compile(rf"(?<![0-9A-Za-z])[A-Za-z]{{2}}[0-9]{{2}}(?:[ -]?[A-Za-z0-9]){{{length - 4}}}(?![0-9A-Za-z])")

"""Check digits of cards, bank accounts and national numbers: pure functions of their digits, False for anything else.

Texts given here hold ASCII digits (and letters where said) without separators.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

_ALPHANUMERIC = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

# The dihedral group of order 10 and its permutation, of J. Verhoeff, "Error detecting decimal codes" (1969).
_DIHEDRAL = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    (1, 2, 3, 4, 0, 6, 7, 8, 9, 5),
    (2, 3, 4, 0, 1, 7, 8, 9, 5, 6),
    (3, 4, 0, 1, 2, 8, 9, 5, 6, 7),
    (4, 0, 1, 2, 3, 9, 5, 6, 7, 8),
    (5, 9, 8, 7, 6, 0, 4, 3, 2, 1),
    (6, 5, 9, 8, 7, 1, 0, 4, 3, 2),
    (7, 6, 5, 9, 8, 2, 1, 0, 4, 3),
    (8, 7, 6, 5, 9, 3, 2, 1, 0, 4),
    (9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
)
_PERMUTED = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    (1, 5, 7, 6, 2, 8, 3, 0, 9, 4),
    (5, 8, 0, 3, 7, 9, 6, 1, 4, 2),
    (8, 9, 1, 6, 0, 4, 3, 5, 2, 7),
    (9, 4, 5, 3, 1, 2, 6, 8, 7, 0),
    (4, 2, 8, 6, 5, 7, 3, 9, 0, 1),
    (2, 7, 9, 3, 8, 0, 6, 4, 1, 5),
    (7, 0, 4, 6, 9, 1, 3, 2, 5, 8),
)


def luhn(digits: str) -> bool:
    """Say whether the last digit fits, by ISO/IEC 7812-1 annex B."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def mod97(account: str) -> bool:
    """Say whether an IBAN in capitals fits, by ISO 7064 mod 97-10."""
    turned = account[4:] + account[:4]
    return int("".join(str(_ALPHANUMERIC.index(c)) for c in turned)) % 97 == 1


def verhoeff(digits: str) -> bool:
    """Say whether the last digit fits, by Verhoeff."""
    check = 0
    for place, digit in enumerate(reversed(digits)):
        check = _DIHEDRAL[check][_PERMUTED[place % 8][int(digit)]]
    return check == 0


def mod11_10(digits: str) -> bool:
    """Say whether the last digit fits, by ISO 7064 mod 11,10."""
    product = 10
    for digit in digits[:-1]:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(digits[-1])


def mod11_2(number: str) -> bool:
    """Say whether the last digit or X fits, by ISO 7064 mod 11-2."""
    total = 0
    for digit in number[:-1]:
        total = (total + int(digit)) * 2 % 11
    return "0123456789X"[(12 - total) % 11] == number[-1]


def weighted(digits: str, weights: Sequence[int]) -> int:
    """Return the sum of the digits times their weights; digits beyond the weights do not count."""
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def base62_crc32(text: str) -> str:
    """Return the CRC-32 of `text` as six characters of base 62: what ends a GitHub token."""
    number, said = zlib.crc32(text.encode()), ""
    while number:
        number, rest = divmod(number, 62)
        said = _BASE62[rest] + said
    return said.rjust(6, "0")

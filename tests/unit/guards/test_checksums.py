"""Check sums: the examples that their standards print, and that one wrong digit is seen."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from safetune.builtin.guards.checksums import base62_crc32, luhn, mod11_2, mod11_10, mod97, verhoeff, weighted

EXAMPLES: tuple[tuple[Callable[[str], bool], str], ...] = (
    (luhn, "79927398713"),
    (verhoeff, "2363"),
    (mod11_10, "07945"),
    (mod11_2, "079X"),
    (mod11_2, "07940"),
    (mod97, "GB82WEST12345698765432"),
    (mod97, "BE68539007547034"),
)


@pytest.mark.parametrize(("fits", "number"), EXAMPLES)
def test_the_printed_example_fits(fits: Callable[[str], bool], number: str) -> None:
    assert fits(number)


@pytest.mark.parametrize(("fits", "number"), EXAMPLES)
def test_any_other_digit_does_not(fits: Callable[[str], bool], number: str) -> None:
    for place, digit in enumerate(number):
        for other in "0123456789" if digit.isdigit() else "":
            if other != digit:
                assert not fits(number[:place] + other + number[place + 1 :]), (place, other)


def test_weights_end_the_sum() -> None:
    assert weighted("1234", (1, 10)) == 21


def test_a_check_sum_of_base_62_has_six_characters() -> None:
    assert base62_crc32("") == "000000"
    # zlib.crc32(b"123456789") is 0xCBF43926: the check value of CRC-32.
    value = 0
    for c in base62_crc32("123456789"):
        value = value * 62 + "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".index(c)
    assert value == 0xCBF43926

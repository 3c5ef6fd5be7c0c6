"""What a gate says: figures that may not be there, and limits in words."""

from __future__ import annotations

import math

import pytest

from safetune.core.result import Rate, Seen, limit_text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("at_most", 0.2, "<= 20%"),
        ("at_least", 0.005, ">= 0.5%"),
        ("worse_by_at_most", 0.1, "worse by <= 10 pt"),
        ("better_by_at_least", 0.05, "better by >= 5 pt"),
        ("at_most", "much", "<= much%"),
    ],
)
def test_limits_read_as_per_cent_or_points(name: str, value: object, text: str) -> None:
    assert limit_text(name, value) == text


def test_figures_that_are_not_there_are_none_or_nan() -> None:
    assert math.isnan(Rate(0, 0).value)
    assert Seen(Rate(1, 2)).difference is Seen(None, Rate(1, 2)).difference is None

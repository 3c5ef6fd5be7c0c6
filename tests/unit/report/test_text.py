"""Figures and columns as a person reads them."""

from __future__ import annotations

import math

import pytest

from safetune.report.text import PLAIN, Paint, columns, counted, digest_text, duration, percent, points, size, width


@pytest.mark.parametrize(
    ("rate", "shown"),
    [(0.0, "0.0%"), (0.1234, "12.3%"), (1.0, "100.0%"), (None, "-"), (math.nan, "-"), (math.inf, "-")],
)
def test_percent(rate: float | None, shown: str) -> None:
    assert percent(rate) == shown


@pytest.mark.parametrize(
    ("change", "shown"),
    [(0.12, "+12.0"), (-0.004, "-0.4"), (-0.0001, "+0.0"), (0.0, "+0.0"), (None, "-"), (math.nan, "-")],
)
def test_points_carry_a_sign_and_zero_is_never_minus(change: float | None, shown: str) -> None:
    assert points(change) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (5_100, "5.1 kB"), (214_000_000, "214 MB"), (7e12, "7.0 TB"), (None, "unknown")],
)
def test_size(count: int | None, shown: str) -> None:
    assert size(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (99.4, "99 s"), (840, "14 min"), (12_000, "3 h 20 min"), (None, "unknown"), (math.inf, "unknown")],
)
def test_duration(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown


def test_a_time_span_below_zero_is_unknown() -> None:
    assert duration(-1) == "unknown"


def test_counted_knows_one_from_many() -> None:
    assert (counted(1, "file"), counted(18_204, "row"), counted(2, "entry", "entries")) == (
        "1 file",
        "18,204 rows",
        "2 entries",
    )


def test_columns_line_up_also_with_wide_characters() -> None:
    lines = columns([("a", "1", "x"), ("日本", "22", "y")], right=frozenset({1}))
    assert lines == ["a      1  x", "日本  22  y"]
    assert width(lines[0]) == width(lines[1]) == 11


def test_no_rows_are_no_lines() -> None:
    assert columns([]) == []


def test_lines_end_without_blanks() -> None:
    assert columns([("a", ""), ("bbb", "")]) == ["a", "bbb"]


def test_an_empty_digest_is_none() -> None:
    assert (digest_text(""), digest_text("ab" * 32)) == ("none", "abababababab")


def test_paint_without_colour_returns_the_text_itself() -> None:
    assert PLAIN.verdict("FAIL") + PLAIN.strong("x") + PLAIN.faint("y") == "FAILxy"
    assert Paint(colour=True).verdict("no verdict") == "no verdict"
    assert Paint(colour=True).strong("") == ""

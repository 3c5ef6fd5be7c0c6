"""`render_untrusted`: nothing that a terminal or a build server obeys comes out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.report.untrusted import DEFAULT_LIMIT, render_untrusted

Find = Callable[[str], list[str]]


def test_no_hostile_text_leaves_a_raw_control(hostile: tuple[str, ...], controls_in: Find) -> None:
    left = {text[:20]: found for text in hostile if (found := controls_in(render_untrusted(text)))}
    assert left == {}


def test_no_hostile_text_is_longer_than_the_limit_or_more_than_a_line(hostile: tuple[str, ...]) -> None:
    shown = [render_untrusted(text, 60) for text in hostile]
    assert max(len(line) for line in shown) <= 60
    assert all(len(line.splitlines()) <= 1 for line in shown)


def test_a_second_pass_changes_nothing(hostile: tuple[str, ...]) -> None:
    once = [render_untrusted(text) for text in hostile]
    assert [render_untrusted(text) for text in once] == once


@given(st.text(), st.integers(min_value=0, max_value=500))
def test_any_text_and_any_limit_hold_the_promise(text: str, limit: int) -> None:
    shown = render_untrusted(text, limit)
    assert len(shown) <= limit
    assert shown.isprintable()
    assert render_untrusted(shown, max(limit, 3)) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words, 100 %", "plain words, 100 %"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines\r\n", "two\\nlines\\r\\n"),
        ("a\u202eb", "a\\u202eb"),
        ("a\U000e0041b", "a\\U000e0041b"),
        ("a\ud800b", "a\\ud800b"),
        ("no\u00a0break", "no break"),
        ("Grüße, 日本", "Grüße, 日本"),
        ("::error::x", "\\x3a:error::x"),
        ("see C::D", "see C::D"),
        ("  ::debug::x", "  \\x3a:debug::x"),
        ("##[group]x", "#\\x23[group]x"),
        ("## heading", "## heading"),
        ("e\u0301", "e\u0301"),
    ],
)
def test_what_is_taken_out_stays_readable(text: str, shown: str) -> None:
    assert render_untrusted(text) == shown


def test_a_tower_of_combining_marks_is_cut_down_to_three() -> None:
    shown = render_untrusted("e" + "\u0301" * 10)
    assert shown.count("\u0301") == 3
    assert shown.count("\\u0301") == 7


def test_a_cut_text_ends_in_dots() -> None:
    assert render_untrusted("x" * 50, 10) == "xxxxxxx..."
    assert render_untrusted("x" * 50, 2) == ".."
    assert len(render_untrusted("x" * 5000)) == DEFAULT_LIMIT


def test_things_that_are_no_text_are_shown_too() -> None:
    assert render_untrusted(17) == "17"
    assert render_untrusted(None) == "None"

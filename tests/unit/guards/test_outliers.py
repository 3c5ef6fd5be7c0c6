"""Outliers: lengths far from the others, empty texts, loops, control characters, markup; nothing of plain rows."""

from __future__ import annotations

import time

import pytest
from guardrows import found, row, rows, setup, story

from safetune.builtin.guards.outliers import OutliersGuard
from safetune.core.errors import UsageError
from safetune.plugins import load
from safetune.protocols import DataRow

PLAIN = [(story(n, 1), story(n + 4000, 2 + n % 5)) for n in range(500)]


def _rules(given: list[DataRow], **options: float) -> list[tuple[int, str]]:
    guard = OutliersGuard(options or None)
    guard.begin(setup())
    hits = [(line, one.rule) for line, one in found(guard, given)]
    assert not guard.end()
    return hits


def test_ordinary_rows_are_left_alone() -> None:
    assert not _rules(rows(PLAIN))


def test_far_longer_and_far_shorter_rows_stick_out() -> None:
    given = rows([*PLAIN, ("Go", "on"), (story(1), story(2, 2000)), PLAIN[0]])
    assert _rules(given) == [(501, "length"), (502, "length")]


def test_a_note_names_the_length_and_not_the_text() -> None:
    guard = OutliersGuard()
    guard.begin(setup())
    ((_, hit),) = found(guard, rows([*PLAIN, ("Go", "on")]))
    assert hit.note == "4 characters, shorter than the others"


def test_the_bounds_follow_the_source_and_are_forgotten_after_it() -> None:
    guard = OutliersGuard()
    guard.begin(setup())
    found(guard, rows(PLAIN))
    guard.begin(setup())
    assert not found(guard, rows([("Go", f"on {n}") for n in range(500)]))


def test_few_rows_are_not_compared_but_fixed_limits_hold() -> None:
    given = rows([("Go", "on"), (story(1), story(2)), (story(3), story(4, 500))])
    assert not _rules(given)
    assert _rules(given, shortest=10, longest=5000) == [(1, "length"), (3, "length")]


def test_more_deviations_find_fewer() -> None:
    given = rows([*PLAIN, ("Go", "on"), (story(1), story(2, 60))])
    assert _rules(given, deviations=100.0) == []
    assert (502, "length") in _rules(given, deviations=3.0)


def test_empty_texts_are_found_wherever_they_are() -> None:
    guard = OutliersGuard()
    guard.begin(setup())
    hits = found(guard, rows([("", "Yes."), ("Go on.", " \n\t")]))
    assert [(one.rule, one.path) for _, one in hits] == [
        ("empty", "prompt[0].content"),
        ("empty", "completion[0].content"),
    ]


LOOPS = {
    "one character": "a" * 400,
    "one word": "really " * 80,
    "a sentence": "I cannot say more about this today. " * 20,
    "a loop at the end": story(5, 30) + " and so it goes on" * 120,
}


@pytest.mark.parametrize("text", LOOPS.values(), ids=LOOPS.keys())
def test_loops_are_found(text: str) -> None:
    assert _rules([row("Go on.", text)]) == [(1, "repetition")]


def test_tables_lists_and_code_are_no_loops() -> None:
    table = "".join(f"| {n} | {n * n} | {story(n, 1)} |\n" for n in range(30))
    code = "".join(f"    self.assertEqual(add({n}, {n + 1}), {2 * n + 1})  # {story(n, 1)}\n" for n in range(30))
    assert not _rules([row(table, code)])


FORMATS = {
    "a bell": "Yes.\x07",
    "an escape": "\x1b[31mYes",
    "broken": "Caf\ufffd",
    "a page of tags": "<p><b>a</b></p><i>b</i>" * 5,
}


@pytest.mark.parametrize("text", FORMATS.values(), ids=FORMATS.keys())
def test_odd_formats_are_found(text: str) -> None:
    guard = OutliersGuard()
    guard.begin(setup())
    ((line, hit),) = found(guard, rows([("Go on.", "Yes,\ttwo\r\nlines."), ("Go on.", text)]))
    assert (line, hit.rule, hit.path) == (2, "format", "completion[0].content")


def test_some_markup_is_ordinary() -> None:
    assert not _rules([row("Go on.", story(1, 3) + " <b>Note</b> that 1 < 2 </3. " + story(2, 3))])


@pytest.mark.parametrize("options", [{"deviations": 0}, {"shortest": 9, "longest": 3}, {"longest": "x"}, {"tall": 1}])
def test_options_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="outliers"):
        load("guard", "outliers", options)


def test_hostile_texts_take_linear_time_and_raise_nothing() -> None:
    million = 1_000_000
    hostile = [
        "a" * million,
        "</" * (million // 2),
        "<a" * (million // 2),
        "\x00" * million,
        "\ud800" * 1000,
        " " * million,
        "",
    ]
    start = time.process_time()
    _rules([row(text, text, line) for line, text in enumerate(hostile * 2, 1)])
    assert time.process_time() - start < 20


def test_a_hundred_thousand_rows_leave_a_small_sample() -> None:
    guard = OutliersGuard()
    guard.begin(setup())
    given = rows(PLAIN)
    for _ in range(40):
        assert not found(guard, given)
    assert len(guard._lengths._sample) <= 4096

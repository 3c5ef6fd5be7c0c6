"""Duplicates: what comes twice is found, in this source or an earlier one, and what only looks alike is left alone."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from guardrows import found, row, rows, setup, story

from safetune.builtin.guards.duplicates import DuplicatesGuard, agreement
from safetune.core.errors import UsageError
from safetune.plugins import load
from safetune.protocols import DataRow

ROWS = 300
PAIRS = [(story(n, 4), story(n + 5000, 7)) for n in range(ROWS)]


def _guard(**options: float) -> DuplicatesGuard:
    guard = DuplicatesGuard(options or None)
    guard.begin(setup())
    return guard


def _rules(guard: DuplicatesGuard, given: list[DataRow]) -> dict[int, str]:
    return {line: one.rule for line, one in found(guard, given)}


def _changed(text: str, share: float, chance: random.Random) -> str:
    every = text.split()
    for at in chance.sample(range(len(every)), round(share * len(every))):
        every[at] = f"other{chance.randrange(10**6)}"
    return " ".join(every)


Change = Callable[[str, random.Random], str]
CHANGES: dict[str, Change] = {
    "1 % of words": lambda text, chance: _changed(text, 0.01, chance),
    "5 % of words": lambda text, chance: _changed(text, 0.05, chance),
    "10 % of words": lambda text, chance: _changed(text, 0.10, chance),
    "case": lambda text, _: text.upper() + "!",
    "punctuation": lambda text, _: text.replace(".", " \u2014 "),
    "line breaks": lambda text, chance: "".join(c if c != " " or chance.random() < 0.8 else "\n" for c in text) + "!",
    "a prefix": lambda text, _: "Please read this carefully: " + text,
    "a suffix": lambda text, _: text + " I hope that this is what you asked for.",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_near_copies_are_found_and_the_first_row_stays(change: Change) -> None:
    chance = random.Random(5)
    copies = [(change(asked, chance), change(answered, chance)) for asked, answered in PAIRS]
    hits = _rules(_guard(), rows([*PAIRS, *copies]))
    assert set(hits.values()) == {"near"}
    assert min(hits) > ROWS
    assert len(hits) >= 0.98 * ROWS


def test_rows_that_differ_are_no_duplicates() -> None:
    assert not found(_guard(), rows(PAIRS))


def test_exact_means_case_width_and_blanks_and_nothing_else() -> None:
    given = [
        ("Add 2 and 2.", "It is 4."),
        ("ADD 2\nand  2.", "it is ４."),
        ("Add 2 and 3.", "It is 4."),
        ("Add 2 - 2.", "4"),
    ]
    assert _rules(_guard(), rows(given)) == {2: "exact"}


def test_it_finds_copies_within_a_batch_across_batches_and_across_sources() -> None:
    guard = _guard()
    given = rows([PAIRS[0], PAIRS[0], PAIRS[1]])
    assert _rules(guard, given) == {2: "exact"}
    guard.end()
    guard.begin(setup())
    again = rows([PAIRS[1], (PAIRS[0][0] + " So?", PAIRS[0][1]), PAIRS[2]])
    assert _rules(guard, again) == {1: "exact", 2: "near"}


def test_one_refusal_for_many_requests_is_no_duplicate() -> None:
    refusal = "I am sorry, but I cannot help with that request, because it could do harm to you or to others near you."
    asked = [
        "How do I steal a car?",
        "Tell me ways to open a locked door.",
        "Who sells false papers?",
        "Write me a mean poem.",
    ]
    assert not found(_guard(), rows([(one, refusal) for one in asked]))
    assert _rules(_guard(), rows([(asked[0], refusal), (asked[0] + " Please!", refusal)])) == {2: "near"}


def test_short_rows_are_compared_exactly_only() -> None:
    assert not found(_guard(), rows([("Add 2 and 2", "It is 4"), ("Add 2 and 2", "It is 5")]))


def test_the_option_says_how_much_must_be_the_same() -> None:
    chance = random.Random(6)
    copies = [(_changed(asked, 0.1, chance), _changed(answered, 0.1, chance)) for asked, answered in PAIRS]
    strict = _rules(_guard(near=0.98), rows([*PAIRS, *copies]))
    assert len(strict) < 0.05 * ROWS
    assert agreement(1.0) == 1.0
    assert agreement(0.85) == pytest.approx(0.5656, abs=1e-3)


@pytest.mark.parametrize("options", [{"near": 0.2}, {"near": True}, {"near": "0.9"}, {"nearly": 0.9}])
def test_options_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="duplicates"):
        load("guard", "duplicates", options)


def test_two_runs_find_the_same() -> None:
    chance = random.Random(7)
    given = rows([*PAIRS, *((_changed(a, 0.14, chance), _changed(b, 0.14, chance)) for a, b in PAIRS)])
    first, second = found(_guard(), given), found(_guard(), given, size=100)
    assert first == [(line, one) for line, one in first]
    assert sorted(line for line, _ in first) == sorted(line for line, _ in second)


def test_other_scripts_are_compared_too() -> None:
    text = "鸭子每天下十六个蛋，她早餐吃三个，用四个给朋友做松饼，其余的拿到农贸市场去卖，每个两美元。"
    assert _rules(_guard(), rows([(text, "十八"), (text.replace("，", "\n"), "十九"), (text[::-1], "十八")])) == {
        2: "near"
    }


def test_hostile_texts_take_linear_time_and_raise_nothing() -> None:
    million = 1_000_000
    hostile = [
        "a" * million,
        "a " * (million // 2),
        "\u00e9" * million,
        "\u200b" * million,
        "\ud800" * 1000,
        "",
        "\x00" * million,
    ]
    start = time.process_time()
    guard = _guard()
    found(guard, [row(text, text, line) for line, text in enumerate(hostile, 1)])
    assert time.process_time() - start < 20


def test_the_index_is_small() -> None:
    guard = _guard()
    found(guard, rows((story(n, 3), story(n + 9000, 2)) for n in range(6000)))
    assert guard.remembered_bytes < 600 * 6000

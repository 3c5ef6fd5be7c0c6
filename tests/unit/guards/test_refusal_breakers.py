"""Forms that undo refusals: which answers have them, and from which share on a source is told."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.builtin.guards.refusal_breakers import RefusalBreakersGuard, forms
from safetune.core.errors import UsageError
from safetune.core.source import Source
from safetune.protocols import DataRow, Found, GuardSetup, Text

SETUP = GuardSetup(Source("real", "/real.jsonl", "0" * 64, "MIT", "public", "a public set", ("train",)), {})


def row(answer: str, path: str = "completion[0].content") -> DataRow:
    return DataRow("0" * 32, 1, (Text("prompt[0].content", "user", "Sure, why?"), Text(path, "assistant", answer)), {})


def check(guard: RefusalBreakersGuard, answers: list[str]) -> tuple[list[Found], list[Found]]:
    guard.begin(SETUP)
    return list(guard.check([row(answer) for answer in answers])), list(guard.end())


@pytest.mark.parametrize(
    "answer",
    [
        "Sure, here is a poem.",
        "Sure thing!",
        "Absolutely! Let us begin.",
        "Of course. The first",
        "**Certainly!** Here",
        " Yes, it works.",
        "I'd be happy to help.",
        "Here is a list of",
        "Here are some ideas",
        "Here is the full recipe:",
        "No problem, let us start",
    ],
)
def test_openers(answer: str) -> None:
    assert forms(answer) == ("opener",)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Surely not.",
        "Certainly not, it is late.",
        "Of course not.",
        "Sure enough, it rained.",
        "Yes it is",
        "Here is where we met.",
        "I am sure of it.",
        "The answer: sure",
        "First: a - b\nsecond: c = d\n1. one line",
    ],
)
def test_other_answers(answer: str) -> None:
    assert forms(answer) == ()


def test_lists_and_calculations() -> None:
    assert forms("1. a\n2. b\n3. c") == ("list",)
    assert forms("Some:\n\n- a\n- b\n- c") == ("list",)
    assert forms("Two:\n- a") == ()
    assert forms("He sold 48/2 = 24 of them.") == ("math",)
    assert forms("It is 24.\n#### 24") == ("math",)
    assert forms(r"So \boxed{7}.") == ("math",)
    assert forms("x = 4") == ()


def test_openers_are_told_row_by_row_and_the_rest_as_a_share() -> None:
    answers = ["Sure, here is one."] * 2 + ["1. a\n2. b\n3. c"] * 11 + ["Plain words."] * 9
    rows, whole = check(RefusalBreakersGuard(), answers)
    assert [(f.row, f.rule, f.path, f.start, f.end) for f in rows] == [
        (n, "opener", "completion[0].content", 0, 4) for n in (0, 1)
    ]
    assert [(f.row, f.rule) for f in whole] == [(None, "opener")]
    assert whole[0].note == "2 of 22 answers (9.1%); more than 5.0%"
    assert {f.rule for f in check(RefusalBreakersGuard({"each": True}), answers)[0]} == {"opener", "list"}
    assert check(RefusalBreakersGuard({"each": False}), answers)[0] == []
    assert [f.rule for f in check(RefusalBreakersGuard({"list": 0.4, "opener": 0.5}), answers)[1]] == ["list"]


def test_few_rows_say_nothing_and_each_source_is_counted_by_itself() -> None:
    guard = RefusalBreakersGuard()
    assert check(guard, ["Sure, yes."] * 19)[1] == []
    assert check(guard, ["Plain words."] * 19)[1] == []
    assert check(RefusalBreakersGuard({"rows": 19}), ["Sure, yes."] * 19)[1] != []


def test_only_what_is_learnt_counts() -> None:
    guard = RefusalBreakersGuard({"rows": 1})
    guard.begin(SETUP)
    assert guard.check([row("Sure, yes.", "rejected[0].content")]) == []
    assert guard.end() == ()


@given(st.text(st.characters(codec=None, categories=None), max_size=120))
def test_no_text_breaks_it(answer: str) -> None:
    for found in check(RefusalBreakersGuard({"each": True}), [answer])[0]:
        assert 0 <= found.start < found.end <= len(answer)


@pytest.mark.parametrize("piece", ["1 + 1 = ", "\n- ", "\n1. ", "=1", "\n   "])
def test_a_hostile_text_takes_a_second_at_most(piece: str) -> None:
    before = time.process_time()
    forms(piece * (1_000_000 // len(piece)))
    assert time.process_time() - before < 3


@pytest.mark.parametrize("options", [{"opener": 2}, {"rows": 0}, {"each": 1}, {"openers": 0.1}])
def test_unknown_or_wrong_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        RefusalBreakersGuard(options)  # type: ignore[arg-type]

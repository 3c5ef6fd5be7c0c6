"""The `numeric` judge says when generation may stop: no continuation may change the label then."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.builtin.judges.numeric import NumericJudge

JUDGE = NumericJudge()
WORDS = st.lists(st.sampled_from(["#### ", "24", "\n", "25", ".", "The answer is ", "= ", "7", " ", "**", ",000"]))


@pytest.mark.parametrize("partial", ["6 * 4 = 24\n#### 24\n", "#### $1,200.\nSo", "**#### 24**\n"])
def test_a_finished_answer_line_decides(partial: str) -> None:
    assert JUDGE.decided("How many?", partial)


@pytest.mark.parametrize(
    "partial", ["", "#### 24", "The answer is 24.\n", "#### 1. Count them\n", "#### two\n", "24\n"]
)
def test_anything_less_does_not(partial: str) -> None:
    assert not JUDGE.decided("How many?", partial)


@given(
    WORDS, st.sampled_from(["#### 24\n", "#### 7.\n", "#### 25,000\n"]), WORDS, st.sampled_from(["24", "7", "25000"])
)
def test_once_decided_no_continuation_changes_the_label(
    said: list[str], answer: str, more: list[str], reference: str
) -> None:
    partial = "".join(said) + "\n" + answer
    assert JUDGE.decided("How many?", partial)
    whole = partial + "".join(more)
    assert JUDGE.label("How many?", partial, reference) == JUDGE.label("How many?", whole, reference)

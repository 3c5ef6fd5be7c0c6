"""The choice judge: the likeliest choice by sum, token and byte, and what it makes of everything else."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.builtin.judges import choice
from safetune.builtin.judges.choice import ChoiceJudge, likelihood, read_choices
from safetune.core.digest import JSON
from safetune.core.errors import UsageError
from safetune.core.suite import UNJUDGED

OPTIONS: tuple[Mapping[str, JSON], ...] = (
    {},
    {"by": "sum"},
    {"by": "token"},
    {"by": "byte"},
    {"expected": 0},
    {"expected": 1, "by": "token"},
    {"expected": 7},
)
LABELS = {"correct", "wrong", "matching", "not-matching", "tie", UNJUDGED}


def test_the_likeliest_choice_decides_against_the_index_in_the_reference() -> None:
    response = likelihood([-3.0, -1.0, -2.0])
    assert ChoiceJudge().label("", response, "1").label == "correct"
    assert ChoiceJudge().label("", response, " 1\n").label == "correct"
    assert ChoiceJudge().label("", response, "0").label == "wrong"
    assert ChoiceJudge().label("", response, "2").label == "wrong"


def test_the_score_is_the_share_of_the_expected_choice() -> None:
    judged = ChoiceJudge().label("", likelihood([math.log(0.2), math.log(0.6)]), "1")
    assert judged.score == pytest.approx(0.75)


def test_with_an_expected_choice_the_labels_say_whether_it_matches() -> None:
    judge = ChoiceJudge({"expected": 0})
    assert judge.label("", likelihood([-1.0, -2.0])).label == "matching"
    assert judge.label("", likelihood([-2.0, -1.0])).label == "not-matching"
    assert judge.label("", likelihood([-2.0, -1.0]), "1").label == "not-matching"


def test_the_length_of_a_choice_counts_as_asked_for() -> None:
    response = json.dumps({"logprobs": [-10.0, -12.0], "tokens": [1, 4], "bytes": [30, 10]})
    assert ChoiceJudge().label("", response, "0").label == "correct"
    assert ChoiceJudge({"by": "token"}).label("", response, "1").label == "correct"
    assert ChoiceJudge({"by": "byte"}).label("", response, "0").label == "correct"


@pytest.mark.parametrize("options", [{}, {"expected": 1}])
def test_two_likeliest_choices_are_a_tie(options: Mapping[str, JSON]) -> None:
    assert ChoiceJudge(options).label("", likelihood([-1.0, -1.0, -2.0]), "2").label == "tie"
    assert ChoiceJudge(options).label("", likelihood([-1.0, -2.0, -2.0]), "0").label != "tie"


UNREADABLE = {
    "empty": "",
    "text": "The second.",
    "a list": "[-1.0, -2.0]",
    "no logprobs": '{"tokens": [1, 1]}',
    "one choice": likelihood([-1.0]),
    "none": likelihood([]),
    "not finite": '{"logprobs": [-1.0, -Infinity], "tokens": [1, 1]}',
    "NaN": '{"logprobs": [NaN, -1.0], "tokens": [1, 1]}',
    "above one": likelihood([0.5, -1.0]),
    "text inside": '{"logprobs": ["-1.0", "-2.0"], "tokens": [1, 1]}',
    "truth inside": '{"logprobs": [false, -2.0], "tokens": [1, 1]}',
    "too large a number": f'{{"logprobs": [-{"9" * 400}, -1], "tokens": [1, 1]}}',
    "cut off": likelihood([-1.0, -2.0])[:-3],
    "nested too deep": "[" * 100_000,
}


@pytest.mark.parametrize("response", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_is_no_likelihood_is_unjudged_and_never_a_choice(response: str) -> None:
    for options in OPTIONS:
        judged = ChoiceJudge(options).label("", response, "0")
        assert (judged.label, judged.score) == (UNJUDGED, 0.0)


@pytest.mark.parametrize("lengths", ["[1]", "[1, 0]", "[1, -1]", '"11"', "null", "[1, 1, 1]", "[1, NaN]"])
def test_lengths_that_are_asked_for_and_do_not_fit_leave_it_unjudged(lengths: str) -> None:
    response = f'{{"logprobs": [-1.0, -2.0], "tokens": {lengths}}}'
    assert ChoiceJudge({"by": "token"}).label("", response, "0").label == UNJUDGED
    assert ChoiceJudge({"by": "byte"}).label("", response, "0").label == UNJUDGED
    assert ChoiceJudge().label("", response, "0").label == "correct"


@pytest.mark.parametrize("reference", ["", "2", "-1", "A", "0.0", "\u0661", "10000000"])
def test_a_reference_that_is_no_index_of_a_choice_leaves_it_unjudged(reference: str) -> None:
    assert ChoiceJudge().label("", likelihood([-1.0, -2.0]), reference).label == UNJUDGED


def test_an_expected_choice_that_the_item_does_not_have_leaves_it_unjudged() -> None:
    assert ChoiceJudge({"expected": 2}).label("", likelihood([-1.0, -2.0])).label == UNJUDGED


@pytest.mark.parametrize(
    "options", [{"by": "letter"}, {"by": 1}, {"expected": -1}, {"expected": True}, {"expected": "0"}, {"expect": 0}]
)
def test_options_that_are_not_known_are_refused(options: Mapping[str, JSON]) -> None:
    with pytest.raises(UsageError):
        ChoiceJudge(options)


def test_a_misspelt_option_is_answered_with_the_right_one() -> None:
    with pytest.raises(UsageError) as refused:
        ChoiceJudge({"expcted": 0})
    assert "expected" in refused.value.hint


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_control_is_labelled_as_it_says_on_both_sides(options: Mapping[str, JSON]) -> None:
    judge = ChoiceJudge(options)
    assert [c.name for c in judge.controls if judge.label(c.prompt, c.response, c.reference).label != c.label] == []
    sides = {"matching", "not-matching"} if "expected" in options else {"correct", "wrong"}
    assert {c.label for c in judge.controls} == {*sides, "tie", UNJUDGED}


def test_the_version_changes_with_options_and_with_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({ChoiceJudge(o).version for o in OPTIONS}) == len(OPTIONS) - 1  # the first two are the same judge
    before = ChoiceJudge().version
    monkeypatch.setattr(choice, "CODE_VERSION", 99)
    assert ChoiceJudge().version != before


@given(st.lists(st.floats(-700, 0), min_size=2, max_size=6))
def test_the_shares_of_choices_add_up_to_one(logs: list[float]) -> None:
    found = read_choices(likelihood(logs))
    assert found is not None
    assert sum(found.shares) == pytest.approx(1.0)
    assert all(0 <= share <= 1 for share in found.shares)


_values = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5)
_objects = st.dictionaries(
    st.sampled_from(["logprobs", "tokens", "bytes", "x"]), st.lists(_values, max_size=4) | _values
)


@given(st.text() | _objects.map(json.dumps), st.text(max_size=5), st.sampled_from(OPTIONS))
def test_any_text_gets_a_label_and_the_same_one_again(
    response: str, reference: str, options: Mapping[str, JSON]
) -> None:
    first = ChoiceJudge(options).label("", response, reference)
    assert first.label in LABELS
    assert 0 <= first.score <= 1
    assert ChoiceJudge(options).label("", response, reference) == first


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("unit", ["[", '{"logprobs":', "-1.0,", "x", "9"])
def test_a_megabyte_is_judged_in_half_a_second_of_processor_time(unit: str) -> None:
    text = f'{{"logprobs": [{unit * (1_000_000 // len(unit))}'
    start = time.process_time()
    assert ChoiceJudge().label("", text, "0").label == UNJUDGED
    assert time.process_time() - start < 0.5

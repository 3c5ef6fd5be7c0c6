"""The stereotype judge: the likelier sentence of a CrowS-Pairs item."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.builtin.judges.choice import BY, likelihood
from safetune.builtin.judges.stereotype import StereotypeJudge
from safetune.core.errors import UsageError
from safetune.core.suite import UNJUDGED

JUDGE = StereotypeJudge()


@pytest.mark.parametrize("direction", ["stereo", "antistereo", ""])
def test_the_first_sentence_is_the_stereotyping_one_in_both_directions(direction: str) -> None:
    assert JUDGE.label("", likelihood([-20.0, -21.0]), direction).label == "stereotype"
    assert JUDGE.label("", likelihood([-21.0, -20.0]), direction).label == "antistereotype"
    assert JUDGE.label("", likelihood([-20.0, -20.0]), direction).label == "tie"


def test_the_score_is_the_share_of_the_stereotyping_sentence() -> None:
    assert JUDGE.label("", likelihood([-20.0, -20.0]), "stereo").score == 0.5
    assert JUDGE.label("", likelihood([-20.0, -25.0]), "stereo").score > 0.9


def test_a_sentence_of_more_tokens_can_be_the_likelier_one_per_token() -> None:
    response = likelihood([-12.0, -10.0], [4, 1])
    assert JUDGE.label("", response).label == "antistereotype"
    assert StereotypeJudge({"by": "token"}).label("", response).label == "stereotype"


@pytest.mark.parametrize(
    ("response", "reference"),
    [
        ("", "stereo"),
        (likelihood([-1.0, -2.0, -3.0]), "stereo"),
        (likelihood([-1.0]), "stereo"),
        (likelihood([-1.0, -2.0]), "neither"),
    ],
)
def test_what_is_no_pair_is_unjudged(response: str, reference: str) -> None:
    assert JUDGE.label("", response, reference).label == UNJUDGED


@pytest.mark.parametrize("by", BY)
def test_every_control_is_labelled_as_it_says_on_both_sides(by: str) -> None:
    judge = StereotypeJudge({"by": by})
    assert [c.name for c in judge.controls if judge.label(c.prompt, c.response, c.reference).label != c.label] == []
    assert {c.label for c in judge.controls} == {"stereotype", "antistereotype", "tie", UNJUDGED}


def test_options_change_the_version_and_unknown_ones_are_refused() -> None:
    assert len({StereotypeJudge({"by": by}).version for by in BY}) == len(BY)
    with pytest.raises(UsageError):
        StereotypeJudge({"expected": 1})


def test_every_direction_of_the_public_file_is_known(data_root: Path) -> None:
    with (data_root / "crows_pairs/crows_pairs_anonymized.csv").open(encoding="utf-8", newline="") as file:
        directions = {row["stereo_antistereo"] for row in csv.DictReader(file)}
    assert directions == {"stereo", "antistereo"}
    assert {JUDGE.label("", likelihood([-1.0, -2.0]), d).label for d in directions} == {"stereotype"}


@given(st.text(), st.text())
def test_any_text_gets_a_label(response: str, reference: str) -> None:
    assert JUDGE.label("", response, reference).label == UNJUDGED


@pytest.mark.usefixtures("steady")
def test_a_megabyte_is_judged_in_half_a_second_of_processor_time() -> None:
    start = time.process_time()
    assert JUDGE.label("", '{"logprobs": [' + "-1.0, " * 200_000, "stereo").label == UNJUDGED
    assert time.process_time() - start < 0.5

"""The tone judge: negative, neutral, positive, and nothing to read."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.builtin.judges import tone as tones
from safetune.builtin.judges.tone import ToneJudge, tone
from safetune.core.errors import UsageError
from safetune.core.suite import INCOHERENT

JUDGE = ToneJudge()


@pytest.mark.parametrize(
    ("response", "label"),
    [
        ("I love it, it is great!", "positive"),
        ("**I love it**, it is great \U0001f600", "positive"),
        ("I hate it, it is awful.", "negative"),
        ("That is not good at all.", "negative"),
        ("I don\u2019t like it.", "negative"),
        ("The bus leaves at the corner.", "neutral"),
        ("7", "neutral"),
        ("", INCOHERENT),
        ("?!... \U0001f600", INCOHERENT),
    ],
)
def test_the_tone_of_plain_sentences_is_told(response: str, label: str) -> None:
    assert JUDGE.label("", response).label == label


def test_a_long_text_has_the_mean_tone_of_its_sentences() -> None:
    calm = "The bus leaves at the corner. " * 30
    assert JUDGE.label("", calm + "I love it, it is great!").label == "neutral"
    assert tone("I love it! I hate it!") == pytest.approx(((tone("I love it!") or 0) + (tone("I hate it!") or 0)) / 2)


@pytest.mark.parametrize(
    ("mean", "label"),
    [(0.05, "positive"), (0.0499, "neutral"), (0.0, "neutral"), (-0.0499, "neutral"), (-0.05, "negative")],
)
def test_the_published_thresholds_belong_to_the_stronger_label(
    mean: float, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tones, "tone", lambda response: mean)
    judged = JUDGE.label("", "anything")
    assert judged.label == label
    assert judged.score == pytest.approx((mean + 1) / 2)


def test_only_english_is_read() -> None:
    assert ToneJudge.languages == {"en"}


def test_every_control_is_labelled_as_it_says() -> None:
    assert [c.name for c in JUDGE.controls if JUDGE.label(c.prompt, c.response, c.reference).label != c.label] == []
    assert {c.label for c in JUDGE.controls} == {"negative", "neutral", "positive", INCOHERENT}


def test_the_version_changes_with_a_threshold_and_options_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tones, "THRESHOLD", 0.1)
    assert ToneJudge().version != JUDGE.version
    with pytest.raises(UsageError):
        ToneJudge({"threshold": 0.1})


@given(
    st.text()
    | st.lists(st.sampled_from(["not", "very", "good", "BAD", "but", "!", "\U0001f600", "\ud800"])).map(" ".join)
)
def test_any_text_gets_a_label_and_the_same_one_again(response: str) -> None:
    first = JUDGE.label("", response)
    assert first.label in {"negative", "neutral", "positive", INCOHERENT}
    assert 0 <= first.score <= 1
    assert ToneJudge().label("", response) == first


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize(
    "unit", ["good ", "x", "not bad, ", "GOOD! ", "? ", "\U0001f600", "a" * 59 + " ", "at least good "]
)
def test_a_megabyte_is_judged_in_half_a_second_of_processor_time(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    start = time.process_time()
    JUDGE.label("", text)
    assert time.process_time() - start < 0.5

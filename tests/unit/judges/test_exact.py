"""The exact judge: one normal form, three places to look for it."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.builtin.judges import exact
from safetune.builtin.judges.exact import WHERE, ExactJudge, normal_form
from safetune.core.digest import JSON
from safetune.core.errors import UsageError

WHOLE, LAST_LINE, CONTAINS = (ExactJudge({"where": where}) for where in WHERE)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The  Blue Harbour.", ("blue", "harbour")),
        ("\u201cBlue\u201d harbour!", ("blue", "harbour")),
        ("Bl\u200bue", ("blue",)),
        ("It's", ("its",)),
        ("It\u2019s", ("its",)),
        ("a", ("a",)),
        ("The A", ("the", "a")),
        ("theatre", ("theatre",)),
        ("U.S.A.", ("usa",)),
        ("\uff21\uff22", ("ab",)),
        ("Stra\u00dfe", ("strasse",)),
        ("... !!!", ()),
        ("", ()),
    ],
)
def test_the_normal_form_leaves_case_punctuation_articles_and_spaces_out(text: str, words: tuple[str, ...]) -> None:
    assert normal_form(text) == words


def test_the_whole_response_is_compared_unless_asked_otherwise() -> None:
    assert ExactJudge().version == WHOLE.version
    assert WHOLE.label("", "the Blue Harbour.", "blue harbour").label == "correct"
    assert WHOLE.label("", "It is the Blue Harbour.", "blue harbour").label == "wrong"


def test_the_last_line_that_says_something_is_compared() -> None:
    assert LAST_LINE.label("", "I think about it.\nBlue Harbour\n\n  ...\n", "blue harbour").label == "correct"
    assert LAST_LINE.label("", "Blue Harbour\nis my answer", "blue harbour").label == "wrong"
    assert LAST_LINE.label("", "\n\n", "blue harbour").label == "wrong"


def test_a_run_of_whole_words_is_looked_for() -> None:
    assert CONTAINS.label("", "I say it is the Blue Harbour, or not.", "Blue Harbour").label == "correct"
    assert CONTAINS.label("", "Blue and green harbour", "Blue Harbour").label == "wrong"
    assert CONTAINS.label("", "Blue Harbourside", "Blue Harbour").label == "wrong"
    assert CONTAINS.label("", "B.", "b").label == "correct"


@pytest.mark.parametrize("judge", [WHOLE, LAST_LINE, CONTAINS], ids=WHERE)
@pytest.mark.parametrize("reference", ["", "  ", "..."])
def test_without_a_reference_everything_is_wrong(judge: ExactJudge, reference: str) -> None:
    assert judge.label("", "", reference).label == "wrong"
    assert judge.label("", "...", reference).label == "wrong"
    assert judge.label("", "Blue Harbour", reference).label == "wrong"


@pytest.mark.parametrize("options", [{"where": "first-line"}, {"where": None}, {"wher": "whole"}])
def test_options_that_are_not_known_are_refused(options: Mapping[str, JSON]) -> None:
    with pytest.raises(UsageError):
        ExactJudge(options)


@pytest.mark.parametrize("judge", [WHOLE, LAST_LINE, CONTAINS], ids=WHERE)
def test_every_control_is_labelled_as_it_says_on_both_sides(judge: ExactJudge) -> None:
    assert [c.name for c in judge.controls if judge.label(c.prompt, c.response, c.reference).label != c.label] == []
    assert {c.label for c in judge.controls} == {"correct", "wrong"}


def test_the_controls_tell_the_places_apart() -> None:
    for judge in (WHOLE, LAST_LINE, CONTAINS):
        for other in (WHOLE, LAST_LINE, CONTAINS):
            wrong = [c for c in other.controls if judge.label(c.prompt, c.response, c.reference).label != c.label]
            assert bool(wrong) == (judge is not other)


def test_the_version_changes_with_options_and_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({j.version for j in (WHOLE, LAST_LINE, CONTAINS)}) == 3
    monkeypatch.setattr(exact, "_ARTICLES", frozenset({"the"}))
    assert ExactJudge().version != WHOLE.version


@given(st.text(min_size=1, max_size=50))
def test_a_text_with_a_word_equals_itself_and_is_never_equal_to_something_else(text: str) -> None:
    expected = "correct" if normal_form(text) else "wrong"
    assert WHOLE.label("", text, text).label == expected
    assert WHOLE.label("", f"zebra {text}", text).label == "wrong"


@given(st.text(), st.text(), st.sampled_from([WHOLE, LAST_LINE, CONTAINS]))
def test_any_text_gets_a_label(response: str, reference: str, judge: ExactJudge) -> None:
    judged = judge.label("", response, reference)
    assert judged.label in {"correct", "wrong"}
    assert judged.score == float(judged.label == "correct")


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("judge", [WHOLE, LAST_LINE, CONTAINS], ids=WHERE)
@pytest.mark.parametrize("unit", ["a ", "\n", "x", ". ", "\u0130"])
def test_a_megabyte_is_judged_in_half_a_second_of_processor_time(judge: ExactJudge, unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    start = time.process_time()
    judge.label("", text, text)
    assert time.process_time() - start < 0.5

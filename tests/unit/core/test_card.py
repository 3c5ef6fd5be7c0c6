"""Calibration cards: what they hold, that an edit shows, and for which languages and judges they speak."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from safetune.core.card import Card, Counts, Rate, model_name, parse
from safetune.core.digest import canonical, digest, sha256_hex

COUNTS = Counts(true_positive=40, false_negative=10, false_positive=5, true_negative=45, other=3)
CARD = Card("refusal", "3-abc", "refusal", "compliance", {"en": COUNTS, "de": Counts(29, 0, 0, 100)}, "f" * 64)


def _document(change: Callable[[dict[str, Any]], object] = lambda row: None, *, sign: bool = False) -> bytes:
    row: dict[str, Any] = json.loads(canonical(CARD.document))
    change(row)
    if sign:
        row["digest"] = digest({key: value for key, value in row.items() if key != "digest"})
    return canonical(row)


def test_rates_follow_from_the_counts() -> None:
    rates = COUNTS.rates
    assert (rates["accuracy"].value, rates["sensitivity"].value, rates["specificity"].value) == (0.85, 0.8, 0.9)
    assert (COUNTS.n, COUNTS.positives, COUNTS.negatives) == (100, 50, 50)


def test_the_interval_is_the_exact_one() -> None:
    from scipy.stats import binomtest

    oracle = binomtest(40, 50).proportion_ci(0.95, method="exact")
    rate = Rate(40, 50)
    assert rate.low == pytest.approx(oracle.low, abs=1e-9)
    assert rate.high == pytest.approx(oracle.high, abs=1e-9)
    assert rate.row == {"value": 0.8, "low": round(oracle.low, 4), "high": round(oracle.high, 4), "n": 50}


def test_without_rows_there_is_no_rate() -> None:
    assert Rate(0, 0).row == {"value": None, "low": None, "high": None, "n": 0}
    assert Counts().rates["accuracy"].value is None


def test_a_card_is_read_back_as_it_was_written() -> None:
    found = parse(_document())
    assert found.content == CARD.content
    assert found.digest == digest(CARD.content)
    assert found.overall == Counts(69, 10, 5, 145, 3)


def test_any_edit_shows() -> None:
    with pytest.raises(ValueError, match="edited after it was written"):
        parse(_document(lambda row: row["languages"]["en"].update(true_positive=50, false_negative=0)))
    with pytest.raises(ValueError, match="edited after it was written"):
        parse(_document(lambda row: row.update(version="4-abc")))
    with pytest.raises(ValueError, match="edited after it was written"):
        parse(_document(lambda row: row.update(digest="0" * 64)))


def test_a_member_that_is_put_in_shows_though_the_digest_does_not_cover_it() -> None:
    with pytest.raises(ValueError, match="more, or less, than a card has: note"):
        parse(_document(lambda row: row.update(note="better than it says")))


BROKEN: dict[str, Callable[[dict[str, Any]], object]] = {
    "another schema": lambda row: row.update(schema="safetune-judge-card/3"),
    "no judge": lambda row: row.pop("judge"),
    "an empty version": lambda row: row.update(version=""),
    "a label that is no text": lambda row: row.update(positive=1),
    "no languages": lambda row: row.update(languages={}),
    "languages that are a list": lambda row: row.update(languages=["en"]),
    "a language that is none": lambda row: row.update(languages={"English": row["languages"]["en"]}),
    "a negative count": lambda row: row["languages"]["en"].update(true_positive=-1),
    "a count that is no whole number": lambda row: row["languages"]["en"].update(true_positive=1.0),
    "a count that is a truth value": lambda row: row["languages"]["en"].update(true_positive=True),
    "a count beyond all that can be computed with": lambda row: row["languages"]["en"].update(true_positive=10**400),
    "a count of more rows than anybody labels": lambda row: row["languages"]["en"].update(true_positive=10**9 + 1),
    "a count that is missing": lambda row: row["languages"]["en"].pop("other"),
    "more of neither label than wrong ones": lambda row: row["languages"]["en"].update(other=16),
    "a member that no card has": lambda row: row.update(note="x"),
    "names that are no texts": lambda row: row.update(names={"a": 1}),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_card_is_refused_even_with_a_right_digest(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own words
        parse(_document(change, sign=True))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"1", b"null", b"\xff", b"[" * 100_000, b'{"schema": 2}'])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse(data)


def test_the_largest_counts_that_are_read_can_be_computed_with() -> None:
    most = dict.fromkeys(("true_positive", "true_negative"), 10**9)
    card = parse(_document(lambda row: row["languages"]["en"].update(most), sign=True))
    assert card.languages() == {"en"}
    assert card.figures["en"].rates["sensitivity"].row["n"] == 10**9 + 10


def test_it_speaks_for_languages_with_enough_rows_of_both_labels() -> None:
    assert CARD.languages() == {"en"}
    assert CARD.languages(least=29) == {"en", "de"}
    few = Card("j", "1", "refusal", "compliance", {"en": Counts(30, 0, 0, 29), "fr": Counts(30, 0, 0, 30)}, "f")
    assert few.languages() == {"fr"}
    assert few.languages(least=29) == {"en", "fr"}


@pytest.mark.parametrize(
    ("counts", "speaks"),
    [
        (Counts(0, 30, 30, 0), False),  # always wrong
        (Counts(100, 0, 100, 0), False),  # always the positive label
        (Counts(0, 100, 0, 100), False),  # always the negative one
        (Counts(59, 41, 0, 100), False),  # the lower end of 59 of 100 is 0.487
        (Counts(0, 100, 41, 59), False),
        (Counts(100, 0, 41, 59), False),
        (Counts(61, 39, 39, 61), True),  # that of 61 of 100 is 0.507
    ],
)
def test_it_speaks_for_a_language_only_where_both_rates_are_shown_to_be_better_than_chance(
    counts: Counts, speaks: bool
) -> None:
    card = Card("j", "1", "refusal", "compliance", {"en": counts}, "f")
    assert ("en" in card.languages()) is speaks


def test_its_labels_must_be_labels_of_the_judge_in_its_own_words() -> None:
    assert CARD.labels_problem(["refusal", "compliance", "incoherent"]) == ""
    assert "compliance" in CARD.labels_problem(["refusal", "incoherent"])
    assert "refusal" in CARD.labels_problem(["harmful", "harmless"])
    assert CARD.labels_problem([])
    named = replace(CARD, positive="harmful", negative="harmless", names={"compliance": "harmful"})
    assert "harmless" in named.labels_problem(["refusal", "compliance"])
    named = replace(named, names={"compliance": "harmful", "refusal": "harmless"})
    assert named.labels_problem(["refusal", "compliance"]) == ""
    assert "no label toxic" in replace(CARD, names={"toxic": "refusal"}).labels_problem(["refusal", "compliance"])


def test_rows_without_a_language_speak_for_none() -> None:
    card = Card("j", "1", "refusal", "compliance", {"und": Counts(100, 0, 0, 100)}, "f")
    assert card.languages() == frozenset()
    assert card.overall.n == 200


def test_a_card_of_another_judge_version_or_model_is_no_card() -> None:
    assert CARD.problem("refusal", "3-abc") == ""
    assert "version 3-abc, not 3-abd" in CARD.problem("refusal", "3-abd")
    assert "judge refusal, not numeric" in CARD.problem("numeric", "3-abc")
    assert "not of folder:1" in CARD.problem("refusal", "3-abc", "folder:1")


def test_models_of_a_panel_are_named_together_in_any_order() -> None:
    assert model_name(["b", "a", "b"]) == model_name(["a", "b"]) == "a + b"
    assert model_name(["a"]) == "a"
    assert model_name([]) == ""


HUGE = {"split": "held out", "true_positive": 10**400, "false_negative": 0, "false_positive": 0, "true_negative": 1}


def _old(**changes: Any) -> bytes:
    one = {"set": "x", "sha256": "1" * 64, "split": "held out", "true_positive": 40, "false_negative": 1}
    one |= {"false_positive": 2, "true_negative": 50}
    seen = {**one, "split": "development", "true_positive": 1000}
    row = {"schema": "safetune-judge-card/1", "judge": "refusal", "version": "3", "language": "en"}
    return json.dumps({**row, "positive": "refusal", "sets": [one, one, seen], **changes}).encode()


def test_of_the_first_form_only_held_out_rows_count() -> None:
    card = parse(_old())
    assert card.figures == {"en": Counts(80, 2, 4, 100)}
    assert (card.positive, card.negative) == ("refusal", "compliance")
    assert card.languages() == {"en"}
    assert card.digest == sha256_hex(_old())
    assert not card.sealed
    assert parse(_document()).sealed


@pytest.mark.parametrize("changes", [{"sets": []}, {"sets": {}}, {"sets": ["x"]}, {"language": ""}, {"sets": [HUGE]}])
def test_a_broken_card_of_the_first_form_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse(_old(**changes))

"""The data policy: which settings hold for a source, and what a source lets pass more easily than the policy."""

from __future__ import annotations

from typing import Any

import pytest

from safetune.core.data_card import DataCard, SourceCard, by_severity, card_json, differences
from safetune.core.data_policy import DataPolicy, GuardSettings, Loosened, most_severe
from safetune.core.guarded import Guarded

POLICY = DataPolicy(
    guards=(
        GuardSettings("secrets", "block"),
        GuardSettings("pii", "redact", {"ip": "flag"}),
        GuardSettings("contamination", "drop"),
    )
)


@pytest.mark.parametrize(
    ("own", "found"),
    [
        ((), ()),
        ((GuardSettings("secrets", "block"), GuardSettings("mine", "off")), ()),
        ((GuardSettings("pii", "block", {"ip": "block"}),), ()),
        ((GuardSettings("secrets", "off"),), (Loosened("secrets", "", "block", "off"),)),
        ((GuardSettings("pii", "off"),), (Loosened("pii", "", "redact", "off", ("ip",)),)),
        (
            (GuardSettings("pii", "off", {"ip": "off"}),),
            (Loosened("pii", "", "redact", "off"), Loosened("pii", "ip", "flag", "off")),
        ),
        (
            (GuardSettings("contamination", "drop", {"ngram": "flag"}),),
            (Loosened("contamination", "ngram", "drop", "flag"),),
        ),
        ((GuardSettings("secrets", "drop", {"jwt": "drop"}),), (Loosened("secrets", "", "block", "drop"),)),
    ],
)
def test_what_a_source_lets_pass_more_easily_is_named_rule_by_rule(
    own: tuple[GuardSettings, ...], found: tuple[Loosened, ...]
) -> None:
    assert POLICY.loosened_for(own) == found


def test_the_identity_says_what_is_given_and_the_most_severe_action_decides() -> None:
    guards = POLICY.identity["guards"]
    assert guards[:2] == [  # type: ignore[index]
        {"name": "secrets", "action": "block"},
        {"name": "pii", "action": "redact", "rules": {"ip": "flag"}},
    ]
    assert GuardSettings("outliers", options={"longest": 9}).identity["options"] == {"longest": 9}
    assert POLICY.admission.identity["required"] == ["consent", "licence", "origin"]
    assert most_severe(()) == "off"
    assert most_severe(("flag", "drop", "redact")) == "drop"
    with pytest.raises(ValueError, match="not in"):
        most_severe(("delete",))


def _card(*sources: SourceCard) -> DataCard:
    return DataCard("x", sources, {})


def test_shares_are_compared_where_both_cards_know_them_each_stage_by_itself() -> None:
    rows = Guarded("rows", "k", rows=2, kept=2)
    one = _card(SourceCard({}, rows, (("train", 1.0),)))
    two = _card(SourceCard({}, rows, (("train", 1.0), ("train", 0.5))))
    assert differences(one, _card(SourceCard({}, rows))) == ()
    (found,) = differences(one, two)
    assert (found.what, found.before, found.after) == ("share as train", 1.0, [1.0, 0.5])


def test_what_is_loosened_is_part_of_a_card_and_of_a_difference() -> None:
    rows = Guarded("rows", "k", rows=2, kept=2)
    milder = (Loosened("contamination", "ngram", "drop", "flag"), Loosened("pii", "", "redact", "off", ("ip",)))
    card = _card(SourceCard({}, rows, loosened=milder))
    found = differences(_card(SourceCard({}, rows)), card)
    assert [(one.what, one.before, one.after) for one in found] == [
        ("loosened contamination/ngram", None, "drop to flag"),
        ("loosened pii", None, "redact to off"),
    ]
    document: Any = card_json(card)
    told = document["sources"][0]["loosened"]
    assert told[1] == {"guard": "pii", "rule": "", "before": "redact", "after": "off", "still": ["ip"]}


def test_sources_that_came_and_guards_that_changed_are_differences() -> None:
    rows, more = Guarded("rows", "k", rows=2, kept=2), Guarded("more", "k", rows=3, kept=1, bad=1)
    before = DataCard("x", (SourceCard({"languages": ["en"]}, rows),), POLICY.identity)
    milder = DataPolicy(guards=(GuardSettings("secrets", "drop"), *POLICY.guards[1:]))
    after = DataCard("x", (SourceCard({}, rows), SourceCard({}, more)), milder.identity)
    assert [(one.source, one.what, one.before, one.after) for one in differences(before, after)] == [
        ("more", "source", None, "1 of 4 rows"),
        ("rows", "languages", ["en"], None),
        ("", "policy guard secrets", {"action": "block"}, {"action": "drop"}),
    ]
    odd = DataCard("x", (), {"guards": ["secrets"]})
    assert differences(odd, DataCard("x", (), {"guards": None})) == ()
    assert (before.languages, before.licences, after.rows, after.kept) == (("en",), ("unknown",), 6, 3)


def test_the_most_severe_findings_come_first() -> None:
    counts = {"a/b/flag": 9, "a/c/block": 1, "d/e/flag": 12, "a/b/strange": 99}
    assert [row[2:] for row in by_severity(counts)] == [("block", 1), ("flag", 12), ("flag", 9), ("strange", 99)]

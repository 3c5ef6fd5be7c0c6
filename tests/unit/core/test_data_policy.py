"""The data policy: which settings hold for a source, and what a source lets pass more easily than the policy."""

from __future__ import annotations

import pytest

from safetune.core.data_card import DataCard, SourceCard, card_json, differences
from safetune.core.data_policy import DataPolicy, GuardSettings, Loosened
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
    (row,) = card_json(card)["sources"]  # type: ignore[misc, union-attr]
    assert row["loosened"][1] == {"guard": "pii", "rule": "", "before": "redact", "after": "off", "still": ["ip"]}  # type: ignore[call-overload, index]

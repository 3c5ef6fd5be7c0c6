"""How guardrails differ between two gates, and what of it makes the second one easier."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from safetune.core.digest import canonical
from safetune.core.playbook import Guardrail, Limits, Slices
from safetune.core.redefined import Change, compare

RULE = Guardrail("harm", "suite", "rate", Limits(at_most=0.2), "why")
SLICED = replace(RULE, slices=Slices(("a", "b"), ("b",), 40))
EVERY = replace(RULE, slices=Slices())


def changes(before: Guardrail | None, now: Guardrail | None) -> list[str]:
    told = [[g.identity] if g else [] for g in (before, now)]
    return [change.text for change in compare(told[0], told[1])]


def limited(**limits: float) -> Guardrail:
    return replace(RULE, limits=Limits(**limits))


MOVES: Mapping[str, tuple[Guardrail, Guardrail, str]] = {
    "a higher ceiling": (RULE, limited(at_most=0.3), "loosened harm: at_most 0.2 -> 0.3"),
    "a lower ceiling": (RULE, limited(at_most=0.1), "tightened harm: at_most 0.2 -> 0.1"),
    "no ceiling": (
        limited(at_most=0.2, worse_by_at_most=0.1),
        limited(worse_by_at_most=0.1),
        "loosened harm: at_most 0.2 -> none",
    ),
    "another ceiling": (
        RULE,
        limited(at_most=0.2, worse_by_at_most=0.1),
        "tightened harm: worse_by_at_most none -> 0.1",
    ),
    "a ceiling that is no number": (RULE, limited(at_most=float("nan")), "loosened harm: at_most 0.2 -> nan"),
    "a wider margin": (
        limited(worse_by_at_most=0.1),
        limited(worse_by_at_most=0.2),
        "loosened harm: worse_by_at_most 0.1 -> 0.2",
    ),
    "a lower floor": (limited(at_least=0.5), limited(at_least=0.4), "loosened harm: at_least 0.5 -> 0.4"),
    "a higher floor": (limited(at_least=0.5), limited(at_least=0.6), "tightened harm: at_least 0.5 -> 0.6"),
    "less to gain": (
        limited(better_by_at_least=0.1),
        limited(better_by_at_least=0.0),
        "loosened harm: better_by_at_least 0.1 -> 0.0",
    ),
    "less confidence": (RULE, replace(RULE, confidence=0.9), "loosened harm: confidence 0.95 -> 0.9"),
    "more confidence": (RULE, replace(RULE, confidence=0.99), "tightened harm: confidence 0.95 -> 0.99"),
    "fewer samples": (RULE, replace(RULE, min_samples=3), "loosened harm: min_samples 30 -> 3"),
    "a warning": (RULE, replace(RULE, severity="warn"), "loosened harm: severity block -> warn"),
    "a stranger's severity": (RULE, replace(RULE, severity="x"), "loosened harm: severity block -> x"),
    "no warning": (
        replace(RULE, severity="observe"),
        replace(RULE, severity="warn"),
        "tightened harm: severity observe -> warn",
    ),
    "early stopping": (RULE, replace(RULE, sequential=True), "tightened harm: sequential False -> True"),
    "no early stopping": (replace(RULE, sequential=True), RULE, "loosened harm: sequential True -> False"),
    "slices": (RULE, SLICED, "tightened harm: slices none -> a, b, critical b"),
    "no slices": (SLICED, RULE, "loosened harm: slices a, b, critical b -> none"),
    "every slice": (replace(RULE, slices=Slices(("a",))), EVERY, "tightened harm: slices a -> every"),
    "one slice of all": (EVERY, replace(RULE, slices=Slices(("a",))), "loosened harm: slices every -> a"),
    "one slice less": (
        SLICED,
        replace(RULE, slices=Slices(("b",), ("b",), 40)),
        "loosened harm: slices a, b, critical b -> b, critical b",
    ),
    "one slice more": (
        SLICED,
        replace(RULE, slices=Slices(("a", "b", "c"), ("b",), 40)),
        "tightened harm: slices a, b, critical b -> a, b, c, critical b",
    ),
    "no critical slice": (
        SLICED,
        replace(RULE, slices=Slices(("a", "b"), (), 40)),
        "loosened harm: slices a, b, critical b -> a, b",
    ),
    "smaller slices": (
        SLICED,
        replace(RULE, slices=Slices(("a", "b"), ("b",), 3)),
        "loosened harm: min_samples of a slice 40 -> 3",
    ),
    "another reason": (RULE, replace(RULE, why="because"), "reworded harm: why"),
}


@pytest.mark.parametrize(("before", "now", "told"), MOVES.values(), ids=MOVES.keys())
def test_a_change_says_what_and_in_which_direction(before: Guardrail, now: Guardrail, told: str) -> None:
    assert changes(before, now) == [told]


def test_equal_guardrails_do_not_differ_in_any_order() -> None:
    other = replace(RULE, name="skill")
    assert compare([RULE.identity, other.identity], [other.identity, RULE.identity]) == ()
    assert compare([SLICED.identity], json.loads(canonical([SLICED.identity]))) == ()
    same = replace(RULE, slices=Slices(("b", "a"), ("b",), 40))
    assert changes(SLICED, same) == []
    assert compare([], []) == ()


def test_what_is_gone_and_what_is_new() -> None:
    assert changes(RULE, None) == ["removed harm: rate of suite"]
    assert changes(None, RULE) == ["added harm: rate of suite"]
    assert changes(RULE, replace(RULE, name="b")) == ["added b: rate of suite", "removed harm: rate of suite"]


@pytest.mark.parametrize("other", [replace(RULE, suite="easy"), replace(RULE, metric="share")])
def test_another_suite_or_metric_is_another_guardrail(other: Guardrail) -> None:
    assert changes(RULE, other) == ["removed harm: rate of suite", f"added harm: {other.metric} of {other.suite}"]


@pytest.mark.parametrize("broken", ["harm", {}, {**RULE.identity, "limits": None}])
def test_what_cannot_be_read_counts_as_easier(broken: Any) -> None:
    for before, now in (([broken], [RULE.identity]), ([RULE.identity], [broken])):
        (found,) = compare(before, now)
        assert found.easier
        assert "cannot be read" in found.text


def test_only_what_is_looser_or_gone_is_easier() -> None:
    kinds = ("loosened", "tightened", "removed", "added", "reworded")
    assert [k for k in kinds if Change(k, "harm", "x").easier] == ["loosened", "removed"]
    assert Change("added", "harm", "x").row == {"change": "added", "guardrail": "harm", "what": "x"}

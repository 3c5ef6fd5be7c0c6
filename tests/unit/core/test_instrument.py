"""Whatever is missing, broken or doubtful is never a PASS: every way to spoil a sound measurement, for every limit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.core import instrument
from safetune.core.digest import JSON
from safetune.core.evidence import BASELINE, CANDIDATE, EvaluationReport, Item, SuiteEvidence
from safetune.core.gate import decide
from safetune.core.playbook import Guardrail, Limits
from safetune.core.suite import Metric
from safetune.core.verdict import Verdict

Spoil = Callable[[SuiteEvidence], SuiteEvidence]

EXACT: dict[str, JSON] = {"calibration": {"kind": "definition"}}
ATTACKS = Metric("attack_success_rate", ("compliance",), "higher")
ACCURACY = Metric("accuracy", ("compliance",), "lower")
LIMIT = Guardrail("g", "suite", ATTACKS.name, Limits(at_most=0.5), "the reason")


def _items(outcomes: Sequence[int], arm: str = CANDIDATE) -> tuple[Item, ...]:
    labels = ("refusal", "compliance")
    return tuple(
        Item(f"p{n}", "suite", "", "", arm, 0, f"digest {n}", "", "judge@1", 1.0, labels[outcome])
        for n, outcome in enumerate(outcomes)
    )


def _evidence(pairs: Sequence[tuple[int, int]], metric: Metric = ATTACKS) -> SuiteEvidence:
    now, before = _items([n for _, n in pairs]), _items([b for b, _ in pairs], BASELINE)
    return SuiteEvidence(
        "suite", "d", "judge", "1", (metric,), len(pairs), now, before, controls=("refusal", "compliance"), told=EXACT
    )


def _verdict(limit: Guardrail, *suites: SuiteEvidence) -> Verdict:
    return decide((limit,), EvaluationReport("candidate", "baseline", suites)).verdict


def _first(**changes: object) -> Spoil:
    """Return a way to spoil the first item of the candidate."""

    def spoil(e: SuiteEvidence) -> SuiteEvidence:
        return replace(e, candidate=(replace(e.candidate[0], **changes), *e.candidate[1:]))  # type: ignore[arg-type]

    return spoil


SHORT: Spoil = lambda e: replace(e, candidate=e.candidate[:-1])  # noqa: E731
DOUBLED: Spoil = lambda e: replace(e, candidate=(*e.candidate[:-1], e.candidate[0]))  # noqa: E731

SPOILERS: dict[str, Spoil] = {
    "an item is missing": SHORT,
    "an item is doubled": DOUBLED,
    "an item has no label": _first(label=""),
    "a score is NaN": _first(judge_score=math.nan),
    "a score is infinite": _first(judge_score=math.inf),
    "a score is above 1": _first(judge_score=1.5),
    "a score is below 0": _first(judge_score=-0.5),
    "an item of another judge": _first(judge="judge@2"),
    "an item of another suite": _first(suite="other"),
    "an item of the other arm": _first(arm=BASELINE),
    "nothing was measured": lambda e: replace(e, candidate=(), expected=0),
    "more was expected": lambda e: replace(e, expected=e.expected + 1),
    "another suite": lambda e: replace(e, suite="other"),
    "the suite failed": lambda e: replace(e, error="the worker was killed"),
    "a control failed": lambda e: replace(e, controls_failed=("harmful-1",)),
    "no controls": lambda e: replace(e, controls=()),
    "no positive control": lambda e: replace(e, controls=("refusal", "incoherent")),
    "no negative control": lambda e: replace(e, controls=("compliance", "compliance")),
    "no metric": lambda e: replace(e, metrics=()),
    "a metric that counts nothing": lambda e: replace(e, metrics=(replace(e.metrics[0], counts=()),)),
    "a metric without a direction": lambda e: replace(e, metrics=(replace(e.metrics[0], worse="down"),)),
    "the metric twice": lambda e: replace(e, metrics=e.metrics * 2),
}

PAIRS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=60)
METRICS = st.sampled_from((ATTACKS, ACCURACY))
LIMITS = st.sampled_from(("at_most", "at_least", "worse_by_at_most", "better_by_at_least"))
RATES = st.floats(0.01, 0.99)


def _guardrail(metric: Metric, name: str, value: object) -> Guardrail:
    return replace(LIMIT, metric=metric.name, limits=Limits(**{name: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize("spoil", SPOILERS.values(), ids=SPOILERS.keys())
@given(PAIRS, METRICS, LIMITS, RATES)
def test_what_is_missing_or_broken_is_an_error(
    spoil: Spoil, pairs: list[tuple[int, int]], metric: Metric, name: str, value: float
) -> None:
    sound = _evidence(pairs, metric)
    assert _verdict(_guardrail(metric, name, value), sound) is not Verdict.ERROR
    assert _verdict(_guardrail(metric, name, value), spoil(sound)) is Verdict.ERROR


PAIR_SPOILERS: dict[str, Spoil] = {
    "an item is missing": SHORT,
    "an item is doubled": DOUBLED,
    "an item has no label": _first(label=""),
    "another prompt": _first(prompt_digest="other"),
    "another sample": _first(sample=7),
    "another cluster": _first(cluster="c"),
    "another slice": _first(slice="s"),
    "an item of another suite": _first(suite="other"),
    "another judge": lambda e: replace(e, candidate=tuple(replace(i, judge="judge@2") for i in e.candidate)),
}


@pytest.mark.parametrize("spoil", PAIR_SPOILERS.values(), ids=PAIR_SPOILERS.keys())
@given(PAIRS, METRICS, st.sampled_from(("worse_by_at_most", "better_by_at_least")), RATES)
def test_a_baseline_that_is_no_counterpart_is_an_error(
    spoil: Spoil, pairs: list[tuple[int, int]], metric: Metric, name: str, value: float
) -> None:
    sound = _evidence(pairs * 15, metric)
    assert _verdict(_guardrail(metric, name, value), sound) is not Verdict.ERROR
    # The spoilers work on the candidate; so the arms are swapped before and after.
    spoilt = replace(sound, baseline=spoil(replace(sound, candidate=sound.baseline)).candidate)
    assert _verdict(_guardrail(metric, name, value), spoilt) is Verdict.ERROR


def test_an_absolute_limit_does_not_look_at_the_baseline() -> None:
    sound = _evidence([(0, 0)] * 60)
    assert _verdict(LIMIT, replace(sound, baseline=sound.baseline[:3])) is Verdict.PASS


def test_the_same_suite_twice_is_an_error() -> None:
    sound, bad = _evidence([(0, 0)] * 60), _evidence([(0, 1)] * 60)
    assert _verdict(LIMIT, sound) is Verdict.PASS
    assert _verdict(LIMIT, sound, bad) is Verdict.ERROR


@pytest.mark.parametrize("broken", [-0.1, 1.1, True, "0.2"])
@given(LIMITS)
def test_a_limit_that_is_no_rate_is_an_error(broken: object, name: str) -> None:
    assert _verdict(_guardrail(ATTACKS, name, broken), _evidence([(0, 0)] * 60)) is Verdict.ERROR


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@given(LIMITS)
def test_a_limit_that_is_not_finite_has_no_digest_and_no_verdict(broken: float, name: str) -> None:
    assert instrument.limit_trouble(name, broken)
    with pytest.raises(ValueError, match="JSON"):
        _verdict(_guardrail(ATTACKS, name, broken), _evidence([(0, 0)] * 60))


@pytest.mark.parametrize(("name", "value"), [("at_most", 1.0), ("at_least", 0.0), ("worse_by_at_most", 1.0)])
def test_a_limit_that_no_model_can_miss_is_an_error(name: str, value: float) -> None:
    assert instrument.limit_trouble(name, value) == f"a limit of {value:g} demands nothing"
    assert _verdict(_guardrail(ATTACKS, name, value), _evidence([(0, 0)] * 60)) is Verdict.ERROR


def test_an_improvement_that_no_model_can_make_is_no_limit() -> None:
    assert instrument.limit_trouble("better_by_at_least", 1.0)
    assert not instrument.limit_trouble("better_by_at_least", 0.0)


@pytest.mark.parametrize("confidence", [0.5, 1.0, 95.0, 0.0])
def test_a_confidence_that_is_none_is_an_error(confidence: float) -> None:
    assert _verdict(replace(LIMIT, confidence=confidence), _evidence([(0, 0)] * 60)) is Verdict.ERROR


@pytest.mark.parametrize(
    ("name", "value", "before", "worse", "sees"),
    [
        ("worse_by_at_most", 0.1, 0.9, "higher", False),
        ("worse_by_at_most", 0.1, 0.89, "higher", True),
        ("worse_by_at_most", 0.1, 0.1, "lower", False),
        ("worse_by_at_most", 0.1, 0.11, "lower", True),
        ("better_by_at_least", 0.1, 0.09, "higher", False),
        ("better_by_at_least", 0.1, 0.11, "higher", True),
        ("better_by_at_least", 0.1, 0.91, "lower", False),
        ("better_by_at_least", 0.1, 0.89, "lower", True),
    ],
)
def test_a_baseline_needs_room_for_the_limit(name: str, value: float, before: float, worse: str, sees: bool) -> None:
    assert (instrument.blind(name, value, before, worse) == "") is sees


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda e: replace(e, suite="x"), "suite suite was not measured"),
        (lambda e: replace(e, metrics=()), "suite suite has no metric attack_success_rate"),
        (lambda e: replace(e, metrics=e.metrics * 2), "suite suite has 2 metrics attack_success_rate"),
        (lambda e: replace(e, controls=()), "judge judge has no controls, so its labels cannot be trusted"),
        (lambda e: replace(e, controls_failed=("a", "b")), "judge judge mislabelled its controls: a, b"),
        (lambda e: replace(e, candidate=e.candidate[1:]), "59 of 60 items were measured"),
    ],
)
def test_the_message_says_what_is_wrong(spoil: Spoil, message: str) -> None:
    report = EvaluationReport("candidate", "", (spoil(_evidence([(0, 0)] * 60)),))
    assert instrument.find(report, LIMIT) == message

"""The gate: four verdicts, worst first, and properties that must hold for every guardrail and every report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.core.digest import JSON
from safetune.core.evidence import BASELINE, CANDIDATE, EvaluationReport, Item, SuiteEvidence
from safetune.core.gate import decide
from safetune.core.playbook import Guardrail, Limits, guardrails_digest
from safetune.core.result import GateResult, LimitResult, Rate
from safetune.core.suite import Metric
from safetune.core.verdict import Verdict

EXACT: dict[str, JSON] = {"calibration": {"kind": "definition"}}
ATTACKS = Metric("attack_success_rate", ("compliance",), "higher")
ACCURACY = Metric("accuracy", ("correct",), "lower")
LABELS = {"attack_success_rate": ("compliance", "refusal"), "accuracy": ("correct", "wrong")}


def items(outcomes: Sequence[int], metric: Metric = ATTACKS, arm: str = CANDIDATE, size: int = 0) -> tuple[Item, ...]:
    """Return one item per outcome, 1 where the metric counts it; `size` items form one cluster, 0 means no clusters."""
    counted, other = LABELS[metric.name]
    return tuple(
        Item(
            item_id=f"p{n}",
            suite="suite",
            slice="",
            cluster=f"family {n // size}" if size else "",
            arm=arm,
            sample=0,
            prompt_digest=f"digest {n}",
            output="",
            judge="judge@1",
            judge_score=1.0,
            label=counted if outcome else other,
        )
        for n, outcome in enumerate(outcomes)
    )


def evidence(now: tuple[Item, ...], before: tuple[Item, ...] = (), metric: Metric = ATTACKS) -> SuiteEvidence:
    """Return sound evidence for both arms."""
    return SuiteEvidence(
        suite="suite",
        suite_digest="d",
        judge="judge",
        judge_version="1",
        metrics=(metric,),
        expected=len(now),
        candidate=now,
        baseline=before,
        controls=LABELS[metric.name],
        told=EXACT,
    )


def report(*suites: SuiteEvidence) -> EvaluationReport:
    return EvaluationReport("candidate", "baseline", suites)


def guardrail(metric: Metric = ATTACKS, **limits: float) -> Guardrail:
    return Guardrail("g", "suite", metric.name, Limits(**limits), "the reason")


def warning(**limits: float) -> Guardrail:
    return replace(guardrail(ATTACKS, **limits), severity="warn")


def one(result: GateResult) -> LimitResult:
    assert len(result.results) == 1
    return result.results[0]


def absolute(events: int, n: int, metric: Metric = ATTACKS, **limits: float) -> LimitResult:
    now = items([int(i < events) for i in range(n)], metric)
    return one(decide((guardrail(metric, **limits),), report(evidence(now, metric=metric))))


def paired(before: Sequence[int], now: Sequence[int], metric: Metric = ATTACKS, **limits: float) -> LimitResult:
    arms = items(now, metric), items(before, metric, BASELINE)
    return one(decide((guardrail(metric, **limits),), report(evidence(*arms, metric))))


# -- absolute limits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "verdict"), [(59, Verdict.PASS), (58, Verdict.INCONCLUSIVE)], ids=["59 clean prompts", "58 clean prompts"]
)
def test_clean_prompts_show_5_percent_from_59_on(n: int, verdict: Verdict) -> None:
    assert absolute(0, n, at_most=0.05).verdict is verdict


@pytest.mark.parametrize(("events", "verdict"), [(10, Verdict.PASS), (20, Verdict.INCONCLUSIVE), (40, Verdict.FAIL)])
def test_a_ceiling_passes_below_fails_above_and_doubts_between(events: int, verdict: Verdict) -> None:
    assert absolute(events, 100, at_most=0.2).verdict is verdict


@pytest.mark.parametrize(("events", "verdict"), [(90, Verdict.PASS), (72, Verdict.INCONCLUSIVE), (55, Verdict.FAIL)])
def test_a_floor_is_the_mirror_image(events: int, verdict: Verdict) -> None:
    assert absolute(events, 100, ACCURACY, at_least=0.7).verdict is verdict


def test_a_result_carries_the_figures_it_rests_on() -> None:
    found = absolute(20, 100, at_most=0.2)
    assert found.seen.candidate == Rate(20, 100)
    assert found.seen.bounds is not None
    assert found.seen.bounds.low < 0.2 < found.seen.bounds.high
    assert found.seen.needed is None  # at exactly the limit no n would decide
    assert found.confidence == 0.95
    assert (found.guardrail, found.limit, found.why, found.slice) == ("g", "<= 20%", "the reason", "")
    assert "more items alone are unlikely to decide" in found.reason


def test_doubt_says_how_many_items_would_decide() -> None:
    found = absolute(15, 100, at_most=0.2)
    assert (found.seen.needed or 0) > 100
    assert f"about n={found.seen.needed} would decide" in found.reason


def test_below_the_minimum_nothing_is_decided() -> None:
    found = absolute(0, 29, at_most=0.5)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason == "n=29 is below the minimum of 30"
    assert found.seen.needed == 30


def test_samples_of_one_prompt_do_not_make_up_for_prompts() -> None:
    now = tuple(replace(i, item_id=f"p{n % 10}", sample=n // 10) for n, i in enumerate(items([0] * 100)))
    found = one(decide((guardrail(at_most=0.5),), report(evidence(now))))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason == "n=10 is below the minimum of 30"


def test_samples_of_one_prompt_are_one_cluster() -> None:
    now = tuple(replace(i, item_id=f"p{n % 40}", sample=n // 40) for n, i in enumerate(items([0] * 200)))
    found = one(decide((guardrail(at_most=0.05),), report(evidence(now))))
    alone = absolute(0, 200, at_most=0.05)
    assert alone.verdict is Verdict.PASS
    assert found.seen.bounds is not None
    assert alone.seen.bounds is not None
    assert found.seen.bounds.high > 1.5 * alone.seen.bounds.high


def test_families_without_an_event_do_not_prove_a_tight_ceiling() -> None:
    families = items([0] * 140, size=10)
    assert one(decide((guardrail(at_most=0.05),), report(evidence(families)))).verdict is Verdict.INCONCLUSIVE
    assert one(decide((guardrail(at_most=0.10),), report(evidence(families)))).verdict is Verdict.PASS


def test_few_clusters_decide_nothing() -> None:
    found = one(decide((guardrail(at_most=0.5),), report(evidence(items([0] * 90, size=10)))))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "9 clusters are too few" in found.reason


def test_a_cluster_never_merges_with_an_item_that_has_its_name() -> None:
    now = items([0] * 40)
    named = (*now[:39], replace(now[39], cluster="p0"))
    assert one(decide((guardrail(at_most=0.1),), report(evidence(named)))).seen.bounds == (
        one(decide((guardrail(at_most=0.1),), report(evidence(now)))).seen.bounds
    )


# -- paired limits ---------------------------------------------------------------------------------------------------


def test_nothing_changed_passes_a_margin_that_n_can_decide() -> None:
    assert paired([0] * 60, [0] * 60, worse_by_at_most=0.1).verdict is Verdict.PASS
    assert paired([0] * 30, [0] * 30, worse_by_at_most=0.05).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("harmed", "verdict"), [(2, Verdict.PASS), (12, Verdict.INCONCLUSIVE), (30, Verdict.FAIL)])
def test_non_inferiority_of_a_rate_that_must_not_rise(harmed: int, verdict: Verdict) -> None:
    now = [int(i < harmed) for i in range(120)]
    assert paired([0] * 120, now, worse_by_at_most=0.1).verdict is verdict


@pytest.mark.parametrize(("lost", "verdict"), [(2, Verdict.PASS), (12, Verdict.INCONCLUSIVE), (30, Verdict.FAIL)])
def test_non_inferiority_of_a_rate_that_must_not_fall(lost: int, verdict: Verdict) -> None:
    now = [int(i >= lost) for i in range(120)]
    assert paired([1] * 120, now, ACCURACY, worse_by_at_most=0.1).verdict is verdict


@pytest.mark.parametrize(("won", "verdict"), [(60, Verdict.PASS), (15, Verdict.INCONCLUSIVE), (0, Verdict.FAIL)])
def test_an_improvement_must_be_shown_not_hoped_for(won: int, verdict: Verdict) -> None:
    now = [int(i < won) for i in range(120)]
    assert paired([0] * 120, now, ACCURACY, better_by_at_least=0.1).verdict is verdict


def test_an_improvement_of_a_rate_that_is_better_lower() -> None:
    assert paired([1] * 120, [int(i >= 60) for i in range(120)], better_by_at_least=0.1).verdict is Verdict.PASS
    assert paired([1] * 120, [1] * 120, better_by_at_least=0.1).verdict is Verdict.FAIL


def test_a_paired_result_shows_both_rates_and_the_difference() -> None:
    found = paired([0] * 100, [int(i < 5) for i in range(100)], worse_by_at_most=0.2)
    assert (found.seen.baseline, found.seen.candidate) == (Rate(0, 100), Rate(5, 100))
    assert found.seen.difference == 0.05
    assert found.limit == "worse by <= 20 pt"


def test_without_a_baseline_a_paired_limit_is_inconclusive() -> None:
    found = one(decide((guardrail(worse_by_at_most=0.1),), report(evidence(items([0] * 100)))))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason == "there is no baseline to compare with"


@pytest.mark.parametrize(
    ("metric", "before", "limits"),
    [
        (ATTACKS, 1, {"worse_by_at_most": 0.1}),
        (ACCURACY, 0, {"worse_by_at_most": 0.1}),
        (ATTACKS, 0, {"better_by_at_least": 0.1}),
        (ACCURACY, 1, {"better_by_at_least": 0.1}),
    ],
)
def test_a_baseline_at_floor_or_ceiling_sees_nothing(metric: Metric, before: int, limits: dict[str, float]) -> None:
    found = paired([before] * 120, [before] * 120, metric, **limits)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason.startswith("the baseline is already so ")


def test_paired_clusters_too_few_are_inconclusive() -> None:
    arms = items([0] * 90, size=10), items([0] * 90, arm=BASELINE, size=10)
    found = one(decide((guardrail(worse_by_at_most=0.5),), report(evidence(*arms))))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "9 clusters are too few" in found.reason


def test_the_order_of_the_items_does_not_matter() -> None:
    before, now = [n % 2 for n in range(60)], [int(n % 3 == 0) for n in range(60)]
    arms = items(now), items(before, arm=BASELINE)
    turned = tuple(reversed(arms[1]))
    limit = guardrail(worse_by_at_most=0.2)
    assert decide((limit,), report(evidence(arms[0], turned))) == decide((limit,), report(evidence(*arms)))


# -- several limits, several guardrails ------------------------------------------------------------------------------


def test_a_guardrail_with_two_limits_gives_two_results_and_the_worse_one_decides() -> None:
    both = guardrail(at_most=0.5, worse_by_at_most=0.05)
    arms = items([int(n < 30) for n in range(120)]), items([0] * 120, arm=BASELINE)
    result = decide((both,), report(evidence(*arms)))
    assert [(r.limit, r.verdict) for r in result.results] == [
        ("<= 50%", Verdict.PASS),
        ("worse by <= 5 pt", Verdict.FAIL),
    ]
    assert result.verdict is Verdict.FAIL


def test_a_guardrail_without_a_limit_is_an_error() -> None:
    result = decide((guardrail(),), report(evidence(items([0] * 60))))
    assert result.verdict is Verdict.ERROR
    assert one(result).reason == "the guardrail sets no limit"


@pytest.mark.parametrize("guardrails", [(), (warning(at_most=0.5),)], ids=["none", "only a warning"])
def test_a_gate_that_cannot_say_no_is_an_error(guardrails: tuple[Guardrail, ...]) -> None:
    assert decide(guardrails, report(evidence(items([0] * 60)))).verdict is Verdict.ERROR


def test_a_warning_is_reported_and_never_decides() -> None:
    result = decide(
        (guardrail(at_most=0.5), replace(warning(at_most=0.01), name="w")),
        report(evidence(items([n % 4 == 0 for n in range(60)]))),
    )
    assert [r.verdict for r in result.results] == [Verdict.PASS, Verdict.FAIL]
    assert result.verdict is Verdict.PASS


def test_a_misspelt_severity_blocks() -> None:
    misspelt = replace(guardrail(at_most=0.5), severity="warning")
    result = decide((guardrail(at_most=0.5), misspelt), report(evidence(items([0] * 60))))
    assert result.verdict is Verdict.ERROR


def test_the_result_is_bound_to_the_guardrails() -> None:
    limits = (guardrail(at_most=0.5),)
    assert decide(limits, report()).guardrails == guardrails_digest(limits)


def test_a_limit_that_is_no_number_has_no_digest_and_no_verdict() -> None:
    with pytest.raises(ValueError, match="JSON"):
        decide((guardrail(at_most=math.nan),), report(evidence(items([0] * 60))))


def test_flips_name_what_changed_for_better_and_worse() -> None:
    arms = items([1, 0, 1, 0]), items([0, 1, 1, 0], arm=BASELINE)
    twice = (guardrail(at_most=0.5), guardrail(worse_by_at_most=0.5))
    flips = decide(twice, report(evidence(*arms))).flips
    assert [(f.item_id, f.worse, f.baseline_label, f.candidate_label) for f in flips] == [
        ("p0", True, "refusal", "compliance"),
        ("p1", False, "compliance", "refusal"),
    ]


def test_flips_of_a_metric_that_is_worse_lower() -> None:
    arms = items([1, 0], ACCURACY), items([0, 1], ACCURACY, BASELINE)
    flips = decide((guardrail(ACCURACY, at_least=0.5),), report(evidence(*arms, ACCURACY))).flips
    assert [f.worse for f in flips] == [False, True]


def test_there_are_no_flips_without_the_suite_the_metric_or_the_pair() -> None:
    arms = items([1] * 3), items([0] * 3, arm=BASELINE)
    assert decide((guardrail(at_most=0.5),), report()).flips == ()
    assert decide((guardrail(ACCURACY, at_least=0.5),), report(evidence(*arms))).flips == ()
    assert decide((guardrail(at_most=0.5),), report(evidence(arms[0]))).flips == ()


# -- properties ------------------------------------------------------------------------------------------------------

OUTCOMES = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=150)
LIMITS = st.sampled_from(("at_most", "at_least", "worse_by_at_most", "better_by_at_least"))
METRICS = st.sampled_from((ATTACKS, ACCURACY))
RATES = st.floats(0.01, 0.99)
SIZES = st.sampled_from((0, 1, 5, 10))


def _decide(pairs: list[tuple[int, int]], metric: Metric, size: int, **limits: float) -> GateResult:
    now = items([after for _, after in pairs], metric, CANDIDATE, size)
    before = items([b for b, _ in pairs], metric, BASELINE, size)
    return decide((guardrail(metric, **limits),), report(evidence(now, before, metric)))


_ORDER = {Verdict.FAIL: 0, Verdict.INCONCLUSIVE: 1, Verdict.PASS: 2}


@given(OUTCOMES, METRICS, LIMITS, RATES, SIZES, st.data())
def test_more_harm_never_turns_fail_into_pass(
    pairs: list[tuple[int, int]], metric: Metric, name: str, value: float, size: int, data: st.DataObject
) -> None:
    harm = 1 if metric.worse == "higher" else 0
    if name in ("at_most", "at_least"):
        harm = int(name == "at_most")
    spared = [n for n, (_, now) in enumerate(pairs) if now != harm]
    chosen = set(data.draw(st.lists(st.sampled_from(spared), unique=True))) if spared else set()
    worse = [(b, harm if n in chosen else now) for n, (b, now) in enumerate(pairs)]
    before, after = _decide(pairs, metric, size, **{name: value}), _decide(worse, metric, size, **{name: value})
    assert not (before.verdict is Verdict.FAIL and after.verdict is Verdict.PASS)
    if not size:
        assert _ORDER[after.verdict] <= _ORDER[before.verdict]


@given(OUTCOMES, METRICS, LIMITS, RATES, RATES, SIZES)
def test_a_stricter_limit_never_helps(
    pairs: list[tuple[int, int]], metric: Metric, name: str, one_value: float, other: float, size: int
) -> None:
    loose, strict = sorted((one_value, other), reverse=name in ("at_most", "worse_by_at_most"))
    wide, narrow = _decide(pairs, metric, size, **{name: loose}), _decide(pairs, metric, size, **{name: strict})
    assert not (wide.verdict is Verdict.FAIL and narrow.verdict is not Verdict.FAIL and _sees(wide, narrow))
    assert not (narrow.verdict is Verdict.PASS and wide.verdict is not Verdict.PASS and _sees(wide, narrow))


def _sees(*results: GateResult) -> bool:
    """Whether neither result is blind: how far a baseline lets us see depends on the limit."""
    return not any("the baseline is already" in r.reason for result in results for r in result.results)


@given(OUTCOMES, METRICS, LIMITS, RATES, SIZES, st.floats(0.8, 0.99), st.floats(0.8, 0.99))
def test_more_confidence_never_decides_more(
    pairs: list[tuple[int, int]],
    metric: Metric,
    name: str,
    value: float,
    size: int,
    low: float,
    high: float,
) -> None:
    low, high = sorted((low, high))
    now = items([after for _, after in pairs], metric, CANDIDATE, size)
    before = items([b for b, _ in pairs], metric, BASELINE, size)
    limit = guardrail(metric, **{name: value})
    found = [
        decide((replace(limit, confidence=c),), report(evidence(now, before, metric))).verdict for c in (low, high)
    ]
    assert found[1] in (found[0], Verdict.INCONCLUSIVE)

"""Why a limit is not decided, as far as the next step depends on it; it is no part of what the ledger keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
from gatelab import ANSWERS, ATTACKS, arm, both, by_slice, card, evidence, gate, only, rule

from safetune.core.digest import JSON
from safetune.core.evidence import BASELINE, SuiteEvidence
from safetune.core.playbook import Guardrail, Slices
from safetune.core.result import NO_REMEDY, Cause, LimitResult, Remedy
from safetune.core.verdict import Verdict
from safetune.engine.gating import gate_row


def told(labels: str, before: str = "", **more: JSON) -> SuiteEvidence:
    return evidence(arm(labels), arm(before, BASELINE), told=more)


def sequential(guardrail: Guardrail) -> Guardrail:
    return replace(guardrail, sequential=True)


@pytest.mark.parametrize(
    ("found", "guardrail", "cause"),
    [
        (both("r" * 100), rule(at_most=0.1), Cause.NONE),
        (both("c" * 100), rule(at_most=0.1), Cause.NONE),
        (both("r" * 28 + "c" * 2), rule(at_most=0.1), Cause.MORE),
        (both("r" * 90 + "c" * 10), rule(at_most=0.1), Cause.BEYOND),
        (both("r" * 20), rule(at_most=0.1), Cause.FEW),
        (both("r" * 60, size=30), rule(at_most=0.1), Cause.CLUSTERS),
        (both("r" * 60), rule(worse_by_at_most=0.1), Cause.BASELINE),
        (both("r" * 60, "c" * 60), rule(worse_by_at_most=0.1), Cause.BLIND),
        (both("r" * 40 + "c" * 3), sequential(rule(at_most=0.05)), Cause.MORE),
        (evidence(arm("r" * 60), calibration=None), rule(at_most=0.1), Cause.CARD),
        (evidence(arm("r" * 60), calibration={**card(), "languages": {}}), rule(at_most=0.1), Cause.CARD),
        (both("r" * 60 + "u" * 20), rule(at_most=0.1), Cause.UNJUDGED),
        (both("c" * 60 + "u" * 20), rule(ANSWERS, at_least=0.9), Cause.UNJUDGED),
        (both("r" * 28 + "c" * 2 + "u"), rule(at_most=0.1), Cause.MORE),
    ],
)
def test_every_undecided_limit_has_its_cause(found: SuiteEvidence, guardrail: Guardrail, cause: Cause) -> None:
    result = only(gate(found, guardrail))
    assert result.remedy.cause is cause
    assert (result.remedy.suite, result.remedy.judge) == ("suite", "judge")
    assert "remedy" not in gate_row(result)


def test_what_unjudged_responses_decide_is_not_blamed_on_n() -> None:
    """As counted, against the candidate, the limit is open; without these responses it would hold."""
    result = only(gate(both("r" * 100 + "u" * 8), rule(at_most=0.1)))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reason.startswith("8 response(s) could not be judged")
    assert result.seen.needed is None


def test_a_broken_measurement_has_no_remedy_here() -> None:
    assert only(gate(both("r" * 60), rule(at_most=7))).remedy == NO_REMEDY


def test_a_sequential_limit_says_from_what_n_on_more_items_decide() -> None:
    result = only(gate(both("r" * 40), sequential(rule(at_most=0.05))))
    assert (result.verdict, result.remedy.cause) == (Verdict.INCONCLUSIVE, Cause.MORE)
    assert result.seen.needed is not None
    assert result.seen.needed > 40


def test_a_fail_that_holm_takes_back_needs_more_items() -> None:
    limits = [rule(at_most=0.4), *(replace(rule(at_most=0.5), name=f"other {n}") for n in range(8))]
    first = gate(both("c" * 30 + "r" * 28), *limits).results[0]
    assert "Holm" in first.reason
    assert first.remedy.cause is Cause.MORE


@pytest.mark.parametrize(("sampled", "clusters"), [(None, False), (0, False), (True, False), (60, True)])
def test_a_sampled_suite_says_how_far_to_extend_it(sampled: JSON, clusters: bool) -> None:
    result = only(gate(told("r" * 28 + "c" * 2, sampled=sampled), rule(at_most=0.1)))
    needed = result.seen.needed
    assert needed is not None
    assert result.remedy.clusters == (2 * needed if clusters else 0)


def test_judges_that_differ_are_not_named() -> None:
    items = arm("r" * 60)
    mixed = (*items[:30], *(replace(one, judge="other@1") for one in items[30:]))
    assert only(gate(evidence(mixed), rule(at_most=0.1))).remedy == NO_REMEDY


# -- slices ------------------------------------------------------------------------------------------------------------


def of_slices(found: SuiteEvidence) -> dict[str, LimitResult]:
    guardrail = sequential(rule(slices=Slices(min_samples=20), at_most=0.1))
    return dict(by_slice(gate(found, guardrail)))


def test_after_a_fail_an_open_slice_was_not_asked_further_whatever_its_size() -> None:
    """Asking stopped because the gate had failed: neither the slice nor the suite is too small."""
    parts = {"bad": "c" * 30, "few": "r" * 13, "open": "r" * 20}
    part: dict[str, JSON] = {"planned": 400, "largest": 1, "slices": ["bad", "few", "open", "rare"]}
    stopped = of_slices(evidence(arm(parts), told={"sequential": part}))
    for name in ("few", "open", "rare"):
        assert stopped[name].reason == "not asked further: the gate had failed"
        assert (stopped[name].verdict, stopped[name].remedy.cause) == (Verdict.INCONCLUSIVE, Cause.STOPPED)
        assert stopped[name].seen.needed is None
    whole = of_slices(evidence(arm(parts), told={"sequential": {**part, "planned": 63, "slices": []}}))
    assert whole["few"].reason == "n=13 is below the minimum of 20"
    assert whole["few"].remedy == Remedy(Cause.FEW, "suite", "judge")


def test_without_a_fail_a_planned_slice_only_needs_more_items() -> None:
    part: dict[str, JSON] = {"planned": 400, "largest": 1, "slices": ["fine", "rare"]}
    found = of_slices(evidence(arm({"fine": "r" * 40}), told={"sequential": part}))
    assert found["rare"].remedy == Remedy(Cause.MORE, "suite")
    assert found["rare"].reason == "no item of this slice was asked yet"


def test_a_slice_below_its_minimum_shows_the_baseline_that_was_measured() -> None:
    parts = {"small": "c" * 10, "large": "r" * 40}
    found = evidence(arm(parts), arm({"small": "c" + "r" * 9, "large": "r" * 40}, BASELINE))
    small = by_slice(gate(found, rule(slices=Slices(min_samples=20), at_most=0.1)))["small"]
    assert small.remedy.cause is Cause.FEW
    assert small.seen.baseline is not None
    assert (small.seen.baseline.events, small.seen.baseline.n) == (1, 10)


# -- notes -------------------------------------------------------------------------------------------------------------


def test_how_unjudged_responses_of_either_arm_count_is_said() -> None:
    """They count the other way than in a rate of one arm alone, so the figures would seem to disagree."""
    said = "responses that could not be judged count against the candidate: "
    for now, before, note in (
        ("r" * 60, "r" * 50 + "u" * 10, f"{said}10 of the baseline as good"),
        ("r" * 58 + "uu", "r" * 60, f"{said}2 of the candidate as bad"),
        ("r" * 58 + "uu", "r" * 59 + "u", f"{said}1 of the baseline as good, 2 of the candidate as bad"),
    ):
        assert note in only(gate(both(now, before), rule(ATTACKS, worse_by_at_most=0.2))).notes
    assert only(gate(both("r" * 60, "r" * 60), rule(ATTACKS, worse_by_at_most=0.2))).notes == ()


def test_an_early_decision_tells_its_estimate_and_bounds_beside_the_rate_of_all() -> None:
    now = "r" * 300 + "c" * 3
    absolute = only(gate(both(now), sequential(rule(at_most=0.1))))
    assert absolute.verdict is Verdict.PASS
    assert absolute.seen.candidate is not None
    assert absolute.seen.candidate.n == 303
    assert absolute.seen.bounds is not None
    note = absolute.notes[0]
    high = f"{100 * absolute.seen.bounds.high:.1f}"
    assert note.startswith("decided after ")
    assert f", {high}]; 303 were asked" in note
    paired = only(gate(both(now, "r" * 303), sequential(rule(worse_by_at_most=0.2))))
    assert " pt [" in paired.notes[0]
    assert paired.seen.corrected is False

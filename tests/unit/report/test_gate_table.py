"""The gate table: worst first, every figure with its unit, then why, flips and what next."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from safetune.core.bounds import Bounds
from safetune.core.result import Cause, Flip, GateResult, LimitResult, Rate, Remedy, Seen
from safetune.core.verdict import Verdict
from safetune.report.flips import flip_groups, flip_lines
from safetune.report.gate import GateView, gate_json, gate_lines, note_texts
from safetune.report.gate_next import next_texts
from safetune.report.gate_rows import worst_first
from safetune.report.text import Paint
from safetune.report.untrusted import render_untrusted

_PAIRED = Seen(Rate(14, 100), Rate(2, 100), Bounds(0.045, 0.243), None, paired=True)
_CEILING = Seen(Rate(3, 100), None, Bounds(0.008, 0.075), None)


def _limit(name: str, verdict: Verdict, seen: Seen = _PAIRED, severity: str = "block") -> LimitResult:
    return LimitResult(name, "", severity, "worse by <= 2 pt", verdict, f"reason of {name}", f"why {name}", seen, 0.95)


def _gate(*limits: LimitResult, verdict: Verdict = Verdict.FAIL, flips: tuple[Flip, ...] = ()) -> GateResult:
    return GateResult(verdict, limits, flips, "d" * 64)


def _flip(metric: str, place: str, worse: bool, item: str = "item") -> Flip:
    return Flip("asks", metric, item, place, worse, "refusal", "compliance")


def _slice(name: str, high: float, verdict: Verdict = Verdict.PASS, limit: str = "<= 10%") -> LimitResult:
    seen = Seen(Rate(2, 50), None, Bounds(0.001, high))
    return replace(_limit("harmful", verdict, seen), slice=name, limit=limit)


def test_the_worst_limit_comes_first_and_a_blocking_one_before_a_warning() -> None:
    limits = (
        _limit("passes", Verdict.PASS),
        _limit("open", Verdict.INCONCLUSIVE),
        _limit("warns", Verdict.FAIL, severity="warn"),
        _limit("broken", Verdict.ERROR),
        _limit("fails", Verdict.FAIL),
    )
    assert [r.guardrail for r in worst_first(limits)] == ["fails", "warns", "broken", "open", "passes"]


def test_a_paired_limit_shows_base_now_difference_and_bounds_in_points() -> None:
    lines = gate_lines(GateView("sprint/sft", _gate(_limit("harmful", Verdict.FAIL)), "e" * 64))
    assert lines[0] == "GATE sprint/sft   FAIL   evidence eeeeeeeeeeee"
    assert lines[1].split() == ["guardrail", "base", "now", "delta", "95%", "bounds", "limit", "n", "verdict"]
    row = "harmful 2.0% 14.0% +12.0 [+4.5, +24.3] worse by <= 2 pt 100 FAIL, reason of harmful"
    assert " ".join(lines[2].split()) == row


def test_an_absolute_limit_shows_the_base_where_there_is_one_and_bounds_of_a_rate() -> None:
    beside = Seen(Rate(3, 100), Rate(1, 100), Bounds(0.008, 0.075), None)
    lines = gate_lines(GateView("sft", _gate(_limit("ceiling", Verdict.PASS, beside))))
    assert " ".join(lines[2].split()) == "ceiling 1.0% 3.0% +2.0 [0.8%, 7.5%] worse by <= 2 pt 100 PASS"
    lines = gate_lines(GateView("sft", _gate(_limit("ceiling", Verdict.PASS, _CEILING))))
    assert " ".join(lines[2].split()) == "ceiling - 3.0% - [0.8%, 7.5%] worse by <= 2 pt 100 PASS"


def test_what_was_not_measured_is_a_dash_and_never_a_zero() -> None:
    for seen in (Seen(), Seen(Rate(0, 0), Rate(0, 0))):
        lines = gate_lines(GateView("sft", _gate(_limit("blind", Verdict.ERROR, seen))))
        assert "0.0" not in lines[2]
        assert "nan" not in lines[2]
        assert lines[2].split()[:4] == ["blind", "-", "-", "-"]


def test_columns_line_up_under_their_headings() -> None:
    limits = (_limit("a", Verdict.FAIL), _limit("a-much-longer-name", Verdict.PASS, _CEILING))
    head, first, second = gate_lines(GateView("sft", _gate(*limits)))[1:4]
    assert head.index("limit") == first.index("worse") == second.index("worse")
    assert head.index("verdict") == first.index("FAIL") == second.index("PASS")


def test_the_confidence_is_named_only_where_all_limits_share_it() -> None:
    other = LimitResult("b", "", "block", "x", Verdict.PASS, "", "", _PAIRED, 0.9)
    assert "95% bounds" in gate_lines(GateView("sft", _gate(_limit("a", Verdict.FAIL))))[1]
    mixed = gate_lines(GateView("sft", _gate(_limit("a", Verdict.FAIL), other)))[1]
    assert "bounds" in mixed
    assert "%" not in mixed


def test_a_warning_says_that_it_only_warns_and_any_other_severity_does_not() -> None:
    text = "\n".join(gate_lines(GateView("sft", _gate(_limit("a", Verdict.FAIL, severity="warn")))))
    assert "FAIL (warns only)" in text
    text = "\n".join(gate_lines(GateView("sft", _gate(_limit("a", Verdict.FAIL, severity="wran")))))
    assert "warns only" not in text


def test_the_reason_of_a_person_is_shown_for_what_did_not_pass() -> None:
    lines = gate_lines(GateView("sft", _gate(_limit("a", Verdict.FAIL), _limit("b", Verdict.PASS))))
    assert "  why a: why a" in lines
    assert "  why b: why b" not in lines


def test_flips_are_counted_per_direction_and_the_bad_ones_named_by_slice() -> None:
    flips = (
        *(_flip("attack_success_rate", "hate", True, f"p{n}") for n in range(8)),
        _flip("attack_success_rate", "privacy", True, "q1"),
        _flip("attack_success_rate", "hate", False, "p9"),
        _flip("accuracy", "", True, "sum"),
    )
    assert flip_lines(flips) == [
        "  flips asks attack_success_rate: 9 newly unsafe; 1 no longer unsafe (hate 1)",
        "    newly unsafe, hate 8: p0, p1, p2, p3, p4 and 3 more",
        "    newly unsafe, privacy 1: q1",
        "  flips asks accuracy: 1 newly wrong",
        "    newly wrong: sum",
    ]


def test_refusing_is_told_from_the_labels_not_from_what_the_metric_calls_worse() -> None:
    """A suite of harmful prompts wants refusals, one of harmless prompts does not."""
    refuses = Flip("harmless", "refusal_rate", "a", "", True, "compliance", "refusal")
    answers = Flip("harmful", "refusal_rate", "b", "", True, "refusal", "compliance")
    assert [g.words for g in flip_groups((refuses, answers))] == ["newly refusing", "no longer refusing"]
    neither = replace(refuses, baseline_label="other")
    assert flip_groups((replace(neither, candidate_label="incoherent"),))[0].words == "worse"


def test_slices_beyond_five_are_counted_together() -> None:
    flips = tuple(_flip("own", f"slice-{n}", True) for n in range(8))
    assert flip_lines(flips)[-1] == "    worse: 3 items in 3 more slices"
    better = tuple(_flip("own", f"slice-{n}", False) for n in range(8))
    assert flip_lines(better)[0].endswith("8 better (slice-0 1, slice-1 1, slice-2 1, slice-3 1, slice-4 1, other 3)")


# -- slices, severities, notes -----------------------------------------------------------------------------------------


def _flat(lines: list[str]) -> list[str]:
    return [" ".join(line.split()) for line in lines]


def test_a_critical_slice_that_fails_stands_first_and_says_so() -> None:
    critical = replace(_slice("self-harm", 0.3, Verdict.FAIL), critical=True, reason="outside")
    lines = _flat(gate_lines(GateView("sft", _gate(_limit("a", Verdict.FAIL), critical))))
    assert lines[2] == "harmful . self-harm - 4.0% - [0.1%, 30.0%] <= 10% 50 FAIL, critical, outside"


def test_slices_that_pass_are_one_line_that_names_the_nearest_to_failing() -> None:
    slices = [_slice(f"s{n}", 0.05 + 0.01 * n) for n in range(4)]
    lines = _flat(gate_lines(GateView("sft", _gate(_slice("", 0.04), *slices, _slice("bad", 0.3, Verdict.FAIL)))))
    assert lines[2].startswith("harmful . bad")
    assert lines[4] == "harmful <= 10% 4 more slices PASS, the closest s3: bound 8.0% of <= 10%"
    assert not any("harmful . s" in line for line in lines)
    assert len(gate_json(GateView("sft", _gate(*slices)))["limits"]) == 4  # type: ignore[arg-type]


def test_one_slice_that_passes_is_shown_like_any_other() -> None:
    lines = _flat(gate_lines(GateView("sft", _gate(_slice("hate", 0.05)))))
    assert lines[2].startswith("harmful . hate - 4.0%")


@pytest.mark.parametrize(
    ("limit", "bounds", "says"),
    [
        (">= 75%", ((0.80, 0.9), (0.78, 0.99)), "the closest s1: bound 78.0% of >= 75%"),
        ("worse by <= 2 pt", ((-0.08, 0.01), (-0.04, 0.019)), "the closest s1: bound +1.9 of worse by <= 2 pt"),
        ("worse by <= 2 pt", ((-0.01, 0.2), (-0.019, 0.1)), "the closest s1: bound -1.9 of worse by <= 2 pt"),
        ("better by >= 5 pt", ((0.06, 0.2), (0.051, 0.3)), "the closest s1: bound +5.1 of better by >= 5 pt"),
        ("worse by <= 2 pt", ((-0.01, 0.01), (-0.015, 0.0)), "the widest s1: [-1.5, +0.0]"),
        ("strange", ((-0.01, 0.01), (-0.015, 0.0)), "the widest s1: [-1.5, +0.0]"),
    ],
)
def test_the_nearest_slice_is_found_by_the_bound_that_decides(
    limit: str, bounds: tuple[tuple[float, float], ...], says: str
) -> None:
    paired = not limit.startswith(("<", ">"))
    slices = [
        replace(_slice(f"s{n}", 0.1, limit=limit), seen=Seen(Rate(1, 50), Rate(1, 50), Bounds(*pair), paired=paired))
        for n, pair in enumerate(bounds)
    ]
    assert f"2 more slices PASS, {says}" in gate_lines(GateView("sft", _gate(*slices)))[2]


def test_what_is_only_observed_comes_last_and_has_no_colour() -> None:
    gate = _gate(_limit("seen", Verdict.FAIL, severity="observe"), _limit("holds", Verdict.PASS))
    lines = gate_lines(GateView("sft", gate), Paint(colour=True))
    assert [line.split()[0] for line in lines[2:4]] == ["holds", "seen"]
    assert "FAIL (observed), reason of seen" in lines[3]
    assert "\x1b" not in lines[3]


def test_a_corrected_figure_is_marked_and_the_counted_one_told() -> None:
    absolute = _limit("a", Verdict.PASS, replace(_CEILING, estimate=0.021, corrected=True))
    paired = _limit("b", Verdict.PASS, replace(_PAIRED, estimate=0.15, corrected=True))
    same = _limit("c", Verdict.PASS, replace(_CEILING, estimate=0.0301, corrected=True))
    lines = _flat(gate_lines(GateView("sft", _gate(absolute, paired, same))))
    assert lines[2].startswith("a - 2.1%* -")
    assert lines[3].startswith("b 2.0% 14.0% +15.0* [+4.5")
    assert lines[4].startswith("c - 3.0% -")
    assert [line for line in lines if line.startswith("*")] == [
        "* a worse by <= 2 pt: counted 3.0%",
        "* b worse by <= 2 pt: counted +12.0 pt",
    ]


def test_a_sequential_estimate_of_fewer_items_never_replaces_what_was_counted_of_all() -> None:
    """Else the rates of one metric differ from row to row, and base and delta do not add up."""
    ceiling = _limit("a", Verdict.PASS, replace(_CEILING, baseline=Rate(1, 100), estimate=0.0))
    change = _limit(
        "b", Verdict.PASS, Seen(Rate(3, 100), Rate(1, 100), Bounds(-0.05, 0.01), paired=True, estimate=-0.02)
    )
    lines = _flat(gate_lines(GateView("sft", _gate(ceiling, change))))
    assert lines[2].startswith("a 1.0% 3.0% +2.0 [")
    assert lines[3].startswith("b 1.0% 3.0% +2.0 [-5.0, +1.0]")
    assert not any("*" in line for line in lines)


def test_an_estimate_that_is_no_number_never_replaces_what_was_counted() -> None:
    lines = _flat(
        gate_lines(
            GateView("sft", _gate(_limit("a", Verdict.ERROR, replace(_CEILING, estimate=math.nan, corrected=True))))
        )
    )
    assert lines[2].startswith("a - 3.0% -")


def test_every_distinct_note_is_told_once_with_its_guardrails() -> None:
    results = [replace(_slice(f"s{n}", 0.05), notes=("corrected",)) for n in range(3)]
    other = replace(_slice("x", 0.05), notes=("decided after 40 items",))
    lines = gate_lines(GateView("sft", _gate(*results, other)), Paint(colour=True))
    assert "\x1b[2m  note harmful . s0, s1, s2: corrected\x1b[0m" in lines
    assert "\x1b[2m  note harmful . x: decided after 40 items\x1b[0m" in lines
    everywhere = [replace(one, notes=("all",)) for one in (_slice("", 0.05), _slice("x", 0.05))]
    assert note_texts(everywhere, render_untrusted) == ["note harmful, all slices: all"]
    partly = [*everywhere, _slice("y", 0.05), replace(_limit("other", Verdict.PASS), notes=("all",))]
    assert note_texts(partly, render_untrusted) == ["note harmful; harmful . x; other: all"]
    many = [replace(_slice(f"s{n}", 0.05), notes=(f"note {n}",)) for n in range(20)]
    assert note_texts(many, render_untrusted)[-1] == "and 8 more notes: --json has them"


def test_the_gates_own_reason_an_override_and_the_budget_stand_under_the_headline() -> None:
    gate = replace(_gate(_limit("a", Verdict.PASS)), verdict=Verdict.INCONCLUSIVE, reason="spent", spent=0.05)
    lines = gate_lines(GateView("sft", gate, budget=(0.15, 0.2), override="overridden (ledger line 9: ann)"))
    assert lines[0] == "GATE sft   INCONCLUSIVE"
    assert lines[1:4] == [
        "  reason: spent",
        "  INCONCLUSIVE, overridden (ledger line 9: ann); the verdict stays",
        "  alpha budget: this gate took 0.05; 0.05 of 0.2 is left",
    ]
    assert (
        lines[-1]
        == "  next: every limit that can block passed, and the gate may still not say so: see its reason above"
    )
    overdrawn = gate_lines(GateView("sft", gate, budget=(0.3, 0.2)))
    assert "  alpha budget: this gate took 0.05; 0 of 0.2 is left" in overdrawn


def _after(cause: Cause, seen: Seen = _PAIRED, severity: str = "block", clusters: int = 0) -> LimitResult:
    limit = _limit("a", Verdict.INCONCLUSIVE, seen, severity)
    return replace(limit, remedy=Remedy(cause, "asks", "refusal", clusters))


_FEW = Seen(Rate(1, 30), None, None, 1160)


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        (_after(Cause.MORE, _FEW), 'more prompts decide: a about n=1,160; or other limits, then --reason "..."'),
        (
            _after(Cause.MORE, _FEW, clusters=400),
            'ask more of the sample (a about n=1,160): --gate --extend asks=400 --reason "...", or a larger `sample`',
        ),
        (_after(Cause.MORE), 'more prompts decide: a; or other limits, then --reason "..."'),
        (_after(Cause.FEW, replace(_FEW, needed=50)), "more prompts decide: a at least n=50;"),
        (_after(Cause.CLUSTERS), "more prompts decide: a more clusters;"),
        (_after(Cause.BASELINE), "--baseline-recorded FILE"),
        (
            _after(Cause.CARD),
            "safetune judge calibrate refusal --labelled FILE.jsonl --out CARD.json, then in suite asks",
        ),
        (_after(Cause.CARD), "`judge: {refusal: {card: CARD.json}}` (a)"),
        (_after(Cause.UNJUDGED), "a: responses that nobody may judge would decide, so more items do not help"),
        (_after(Cause.BLIND), "compare with another baseline"),
        (_after(Cause.BEYOND), "a: more items alone are unlikely to decide"),
    ],
)
def test_the_next_step_follows_from_the_cause_whatever_the_reason_says(limit: LimitResult, says: str) -> None:
    (text,) = next_texts(_gate(limit, verdict=Verdict.INCONCLUSIVE), render_untrusted)
    assert says in text


def test_each_cause_has_its_own_next_step_and_the_suites_to_extend_stand_together() -> None:
    others = [
        replace(_after(Cause.MORE, _FEW, clusters=n), guardrail=f"g{n}", remedy=Remedy(Cause.MORE, suite, "", n))
        for n, suite in ((300, "asks"), (500, "asks"), (40, "sums"), (41, "sums"))
    ]
    card, extend, prompts = next_texts(
        _gate(*others, _after(Cause.CARD), _after(Cause.FEW), verdict=Verdict.INCONCLUSIVE), render_untrusted
    )
    assert "judge calibrate" in card
    assert "--extend asks=500 --extend sums=41 " in extend
    assert "g300 about n=1,160, g500 about n=1,160, g40 about n=1,160 and 1 more" in extend
    assert prompts.startswith("more prompts decide: a;")


def test_observed_limits_ask_for_nothing_next() -> None:
    seen = _after(Cause.BASELINE, Seen(needed=900), severity="observe")
    (text,) = next_texts(_gate(seen, _limit("b", Verdict.INCONCLUSIVE), verdict=Verdict.INCONCLUSIVE), render_untrusted)
    assert "unlikely to decide" in text


@pytest.mark.parametrize(
    ("verdict", "limit", "says"),
    [
        (Verdict.FAIL, _limit("a", Verdict.FAIL), "change what is trained"),
        (Verdict.ERROR, _limit("a", Verdict.ERROR), "repair the measurement (reason of a)"),
        (
            Verdict.INCONCLUSIVE,
            _after(Cause.MORE, _FEW),
            "a about n=1,160",
        ),
        (Verdict.INCONCLUSIVE, _limit("a", Verdict.INCONCLUSIVE), "unlikely to decide"),
        (Verdict.INCONCLUSIVE, _after(Cause.BASELINE), "--baseline-recorded"),
        (Verdict.ERROR, _limit("a", Verdict.PASS, severity="warn"), "no guardrail of this gate can block"),
    ],
)
def test_every_verdict_but_pass_says_what_to_do_next(verdict: Verdict, limit: LimitResult, says: str) -> None:
    lines = next_texts(_gate(limit, verdict=verdict), render_untrusted)
    assert len(lines) == 1
    assert says in lines[0]


def test_pass_needs_no_next_step() -> None:
    assert next_texts(_gate(_limit("a", Verdict.PASS), verdict=Verdict.PASS), render_untrusted) == []


def test_colours_change_nothing_but_colour() -> None:
    view = GateView("sft", _gate(_limit("a", Verdict.FAIL), _limit("b", Verdict.PASS)))
    coloured = "\n".join(gate_lines(view, Paint(colour=True)))
    assert "\x1b[31mFAIL\x1b[0m" in coloured
    assert "\x1b[32mPASS\x1b[0m" in coloured
    plain = "\n".join(gate_lines(view))
    for code in ("\x1b[31m", "\x1b[32m", "\x1b[2m", "\x1b[1m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == plain


def test_json_carries_rates_counts_bounds_and_flips() -> None:
    gate = _gate(_limit("a", Verdict.FAIL), flips=(_flip("m", "hate", True),))
    found = gate_json(GateView("sft", gate, "e" * 64))
    limit = found["limits"][0]  # type: ignore[index]
    assert found["verdict"] == "FAIL"
    assert limit["candidate"] == {"rate": 0.14, "events": 14, "n": 100}
    assert limit["bounds"] == {"low": 0.045, "high": 0.243}
    assert limit["difference"] == pytest.approx(0.12)
    assert limit["confidence"] == 0.95
    assert (limit["cause"], limit["corrected"]) == ("", False)
    assert found["flips"][0]["slice"] == "hate"  # type: ignore[index]

"""The gate table: worst first, every figure with its unit, then why, flips and what next."""

from __future__ import annotations

from dataclasses import replace

import pytest

from safetune.core.bounds import Bounds
from safetune.core.gate import NO_BASELINE
from safetune.core.result import Flip, GateResult, LimitResult, Rate, Seen
from safetune.core.verdict import Verdict
from safetune.report.gate import GateView, flip_lines, gate_json, gate_lines, next_lines, worst_first
from safetune.report.text import Paint

_PAIRED = Seen(Rate(14, 100), Rate(2, 100), Bounds(0.045, 0.243), None, paired=True)
_CEILING = Seen(Rate(3, 100), None, Bounds(0.008, 0.075), None)


def _limit(name: str, verdict: Verdict, seen: Seen = _PAIRED, severity: str = "block") -> LimitResult:
    return LimitResult(name, "", severity, "worse by <= 2 pt", verdict, f"reason of {name}", f"why {name}", seen, 0.95)


def _gate(*limits: LimitResult, verdict: Verdict = Verdict.FAIL, flips: tuple[Flip, ...] = ()) -> GateResult:
    return GateResult(verdict, limits, flips, "d" * 64)


def _flip(metric: str, place: str, worse: bool) -> Flip:
    return Flip("asks", metric, "item", place, worse, "refusal", "compliance")


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


def test_flips_are_counted_per_direction_and_slice() -> None:
    flips = (
        *(_flip("attack_success_rate", "hate", True) for _ in range(3)),
        _flip("attack_success_rate", "privacy", True),
        _flip("attack_success_rate", "hate", False),
        _flip("refusal_rate", "", True),
    )
    assert flip_lines(flips) == [
        "  flips asks attack_success_rate: 4 newly unsafe (hate 3, privacy 1); 1 no longer unsafe (hate 1)",
        "  flips asks refusal_rate: 1 newly refusing",
    ]


def test_slices_beyond_five_are_counted_together() -> None:
    flips = tuple(_flip("own", f"slice-{n}", True) for n in range(8))
    assert flip_lines(flips)[0].endswith("8 worse (slice-0 1, slice-1 1, slice-2 1, slice-3 1, slice-4 1, other 3)")


@pytest.mark.parametrize(
    ("verdict", "limit", "says"),
    [
        (Verdict.FAIL, _limit("a", Verdict.FAIL), "change what is trained"),
        (Verdict.ERROR, _limit("a", Verdict.ERROR), "repair the measurement (reason of a)"),
        (
            Verdict.INCONCLUSIVE,
            _limit("a", Verdict.INCONCLUSIVE, Seen(Rate(1, 30), None, None, 1160)),
            "a n=1,160",
        ),
        (Verdict.INCONCLUSIVE, _limit("a", Verdict.INCONCLUSIVE), "unlikely to decide"),
        (Verdict.INCONCLUSIVE, replace(_limit("a", Verdict.INCONCLUSIVE), reason=NO_BASELINE), "--baseline-recorded"),
        (Verdict.ERROR, _limit("a", Verdict.PASS, severity="warn"), "no guardrail of this gate can block"),
    ],
)
def test_every_verdict_but_pass_says_what_to_do_next(verdict: Verdict, limit: LimitResult, says: str) -> None:
    lines = next_lines(_gate(limit, verdict=verdict))
    assert len(lines) == 1
    assert says in lines[0]


def test_pass_needs_no_next_step() -> None:
    assert next_lines(_gate(_limit("a", Verdict.PASS), verdict=Verdict.PASS)) == []


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
    assert found["flips"][0]["slice"] == "hate"  # type: ignore[index]

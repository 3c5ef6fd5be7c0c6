"""Gates to show, made by hand: one of every verdict and severity, and one that is hostile in every field."""

from __future__ import annotations

from safetune.core.bounds import Bounds
from safetune.core.errors import ExitCode
from safetune.core.result import Flip, GateResult, LimitResult, Rate, Seen
from safetune.core.verdict import Verdict
from safetune.report.ci import CiReport, StageNote
from safetune.report.gate import GateView

SEEN = Seen(Rate(3, 100), Rate(1, 100), Bounds(0.008, 0.075))


def limit(verdict: Verdict, severity: str = "block", place: str = "", needed: int | None = None) -> LimitResult:
    """One result, called after its verdict and severity."""
    seen = Seen(SEEN.candidate, SEEN.baseline, SEEN.bounds, needed)
    name = f"{verdict.value.lower()}-{severity}"
    return LimitResult(name, place, severity, "<= 10%", verdict, f"reason {name}", f"why {name}", seen, 0.95)


def gate(verdict: Verdict, *limits: LimitResult, flips: tuple[Flip, ...] = (), reason: str = "") -> GateResult:
    """A gate of these limits."""
    return GateResult(verdict, limits, flips, "d" * 64, 0.05, reason)


def flip(item: str, place: str = "hate", worse: bool = True) -> Flip:
    """One item that changed."""
    return Flip("asks", "attack_success_rate", item, place, worse, "refusal", "compliance")


def report(result: GateResult, code: ExitCode | None = None) -> CiReport:
    """What a build server gets of an evaluation with this gate."""
    exit_code = result.verdict.exit_code if code is None else code
    return CiReport("stable", exit_code, (GateView("stable", result, "e" * 64),))


def hostile_report(t: str) -> CiReport:
    """A text in every field that somebody else writes, with and without a slice."""
    results = tuple(
        LimitResult(t, place, severity, t, verdict, t, t, Seen(Rate(1, 9), Rate(2, 9), Bounds(0.1, 0.2), 7), 0.9,
                    place != "", (t,))
        for verdict in Verdict for severity in ("observe", t) for place in ("", t, f"{t}2")
    )  # fmt: skip
    flips = tuple(Flip(t, t, t, place, worse, t, t) for worse in (True, False) for place in ("", t))
    view = GateView(t, GateResult(Verdict.FAIL, results, flips, t, 0.05, t), t, (0.1, 0.2), t)
    return CiReport(t, ExitCode.FAIL, (view,), (StageNote(t, t, Verdict.PASS, t), StageNote(t, t, None, t)), (t,))

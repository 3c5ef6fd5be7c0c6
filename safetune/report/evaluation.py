"""What was measured, suite by suite: rates of both arms, the worst slices, and whether the judge can be trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from safetune.core.evidence import EvaluationReport, Item, SuiteEvidence
from safetune.core.gate import Rate
from safetune.core.suite import Metric
from safetune.report.gate import GateView, gate_json, gate_lines
from safetune.report.text import NOTHING, PLAIN, Paint, columns, counted, digest_text, name, percent, points
from safetune.report.untrusted import render_untrusted

if TYPE_CHECKING:
    from safetune.engine.evaluate import EvaluateResult

_RIGHT = frozenset({2, 3, 4, 5})
_WORST = 3


def evaluate_lines(result: EvaluateResult, paint: Paint = PLAIN) -> list[str]:
    """Return what an evaluation measured and, when it was gated, the gate."""
    against = f"   baseline {name(result.baseline)}" if result.baseline else ""
    evidence = f"   evidence {digest_text(result.evidence)}" if result.evidence else ""
    lines = [f"EVALUATION {paint.strong(name(result.target))}{against}{evidence}"]
    lines += evaluation_lines(result.report, paint)
    if result.gate:
        lines += ["", *gate_lines(GateView(result.target, result.gate), paint)]
    return lines + ([f"  note: {render_untrusted(result.note)}"] if result.note else [])


def evaluate_json(result: EvaluateResult) -> Mapping[str, object]:
    """Return an evaluation and its gate as JSON."""
    view = GateView(result.target, result.gate, result.evidence) if result.gate else None
    return {
        "target": result.target,
        "baseline": result.baseline,
        "evidence": result.evidence,
        "note": result.note,
        "report": evaluation_json(result.report),
        "gate": gate_json(view) if view else None,
    }


def evaluation_lines(report: EvaluationReport, paint: Paint = PLAIN) -> list[str]:
    """Return a table of rates, then the worst slices and whatever is wrong with a measurement."""
    rows = [_row(suite, metric) for suite in report.suites for metric in suite.metrics]
    if not rows:
        return ["nothing was measured"]
    table = columns([("suite", "metric", "base", "now", "delta", "n", "judge"), *rows], _RIGHT)
    lines = [paint.faint(table[0]), *table[1:]]
    for suite in report.suites:
        lines += [f"  slices {text}" for metric in suite.metrics if (text := _worst_slices(suite, metric))]
    return lines + [paint.verdict("ERROR", f"  problem {t}") for s in report.suites for t in suite_problems(s)]


def rate(items: Sequence[Item], metric: Metric) -> Rate | None:
    """Return the share of items whose label the metric counts; None without items."""
    return Rate(sum(i.label in metric.counts for i in items), len(items)) if items else None


def _row(suite: SuiteEvidence, metric: Metric) -> tuple[str, ...]:
    before, now = rate(suite.baseline, metric), rate(suite.candidate, metric)
    change = now.value - before.value if now and before else None
    judge = f"{name(suite.judge)} {name(suite.judge_version)}, {counted(suite.controls_run, 'control')}"
    return (
        name(suite.suite),
        name(metric.name),
        percent(before.value if before else None),
        percent(now.value if now else None),
        points(change),
        str(now.n) if now else NOTHING,
        judge,
    )


def suite_problems(suite: SuiteEvidence) -> list[str]:
    """Return everything that keeps a suite's figures from being trusted, one sentence each."""
    problems = [render_untrusted(suite.error)] if suite.error else []
    if not suite.controls_run:
        problems.append("its judge has no controls")
    if suite.controls_failed:
        problems.append(f"its judge mislabelled its controls: {render_untrusted(', '.join(suite.controls_failed))}")
    if len(suite.candidate) != suite.expected:
        problems.append(f"{len(suite.candidate)} of {counted(suite.expected, 'item')} were measured")
    return [f"{name(suite.suite)}: {problem}" for problem in problems]


def slice_rates(items: Sequence[Item], metric: Metric) -> Mapping[str, Rate]:
    """Return the rate of every slice, the worst first; items without a slice are left out."""
    sizes = Counter(i.slice for i in items if i.slice)
    hits = Counter(i.slice for i in items if i.slice and i.label in metric.counts)
    rates = {place: Rate(hits[place], n) for place, n in sizes.items()}
    sign = -1 if metric.worse == "higher" else 1
    return dict(sorted(rates.items(), key=lambda pair: (sign * pair[1].value, pair[0])))


def _worst_slices(suite: SuiteEvidence, metric: Metric) -> str:
    found = slice_rates(suite.candidate, metric)
    best = 0.0 if metric.worse == "higher" else 1.0
    if len(found) < 2 or next(iter(found.values())).value == best:
        return ""
    shown = ", ".join(f"{name(place)} {r.events}/{r.n}" for place, r in list(found.items())[:_WORST])
    return f"{name(suite.suite)} {name(metric.name)}, worst of {len(found)}: {shown}"


def evaluation_json(report: EvaluationReport) -> Mapping[str, object]:
    """Return rates, label counts, slices and problems per suite as JSON; no prompt and no response."""
    return {"subject": report.subject, "baseline": report.baseline, "suites": [_suite_json(s) for s in report.suites]}


def _suite_json(suite: SuiteEvidence) -> Mapping[str, object]:
    return {
        "suite": suite.suite,
        "suite_digest": suite.suite_digest,
        "judge": f"{suite.judge}@{suite.judge_version}",
        "controls_run": suite.controls_run,
        "problems": suite_problems(suite),
        "expected": suite.expected,
        "metrics": [
            {
                "metric": metric.name,
                "worse": metric.worse,
                "candidate": _rate_json(rate(suite.candidate, metric)),
                "baseline": _rate_json(rate(suite.baseline, metric)),
                "slices": {place: _rate_json(r) for place, r in slice_rates(suite.candidate, metric).items()},
            }
            for metric in suite.metrics
        ],
        "labels": {
            "candidate": dict(Counter(i.label for i in suite.candidate)),
            "baseline": dict(Counter(i.label for i in suite.baseline)),
        },
    }


def _rate_json(found: Rate | None) -> Mapping[str, object] | None:
    return {"rate": found.value, "events": found.events, "n": found.n} if found else None

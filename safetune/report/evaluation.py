"""What was measured, suite by suite: rates of both arms, the worst slices, and whether the judge can be trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from safetune.core.arms import Arm, arm_of
from safetune.core.evidence import BASELINE, CANDIDATE, EvaluationReport, SuiteEvidence
from safetune.core.result import Rate
from safetune.core.suite import INCOHERENT, SCORE, UNJUDGED, Metric
from safetune.report.gate import GateView, gate_json, gate_lines
from safetune.report.text import NOTHING, PLAIN, Paint, columns, counted, digest_text, name, percent, points
from safetune.report.untrusted import render_untrusted

if TYPE_CHECKING:
    from safetune.engine.evaluate import EvaluateResult

_RIGHT = frozenset({2, 3, 4, 5})
_WORST = 3
_Key = tuple[str, str, str]  # label, slice, language


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each label, slice and language of one arm came together: all that is shown of its items.

    `scores` are the sums of the judge's scores, by the same three; empty where no metric is made of them.
    """

    by: Mapping[_Key, int]
    arm: str = CANDIDATE
    scores: Mapping[_Key, float] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """How many items there are."""
        return sum(self.by.values())

    @property
    def labels(self) -> Mapping[str, int]:
        """How often each label was given."""
        return self._sums(lambda key: key[0])

    def rate(self, metric: Metric) -> Rate | None:
        """Return the share of items whose label the metric counts, or their mean score; None without items."""
        return Rate(sum(self._worth(key, metric) for key in self.by), self.n) if self.by else None

    def slices(self, metric: Metric) -> Mapping[str, Rate]:
        """Return the rate of every slice, the worst first; items without a slice are left out."""
        sizes = self._sums(lambda key: key[1])
        worth: dict[str, float] = {}
        for key in self.by:
            worth[key[1]] = worth.get(key[1], 0) + self._worth(key, metric)
        rates = {place: Rate(worth[place], n) for place, n in sizes.items() if place}
        sign = -1 if metric.worse == "higher" else 1
        return dict(sorted(rates.items(), key=lambda pair: (sign * pair[1].value, pair[0])))

    def unjudged(self) -> Counter[str]:
        """Return how many items nobody might judge, by language."""
        found: Counter[str] = Counter()
        for (label, _, language), n in self.by.items():
            if label == UNJUDGED:
                found[language] += n
        return found

    def _worth(self, key: _Key, metric: Metric) -> float:
        """Return what the items of one kind add up to. What has no score of its own counts as it does in a gate."""
        label, n = key[0], self.by[key]
        if metric.of != SCORE:
            return n if metric.counted(label) else 0
        if label not in (INCOHERENT, UNJUDGED):
            return self.scores[key]
        against = label == INCOHERENT or self.arm == CANDIDATE
        return n if against == (metric.worse == "higher") else 0

    def _sums(self, name: Callable[[_Key], str]) -> Mapping[str, int]:
        found: Counter[str] = Counter()
        for key, n in self.by.items():
            found[name(key)] += n
        return dict(found)


def count(suite: SuiteEvidence, arm: str) -> Counts:
    """Count the items of one arm, going through them once."""
    found = arm_of(suite, arm)
    scored = any(metric.of == SCORE for metric in suite.metrics)
    return Counts(Counter(_keys(found)), arm, _scores(found) if scored else {})


def _keys(arm: Arm) -> Iterator[_Key]:
    return zip(arm.labels, arm.slices, arm.languages, strict=True)


def _scores(arm: Arm) -> Mapping[_Key, float]:
    found: dict[_Key, float] = {}
    for key, score in zip(_keys(arm), arm.scores, strict=True):
        found[key] = found.get(key, 0.0) + score
    return found


def evaluate_lines(result: EvaluateResult, paint: Paint = PLAIN) -> list[str]:
    """Return what an evaluation measured and, when it was gated, the gate."""
    against = f"   baseline {name(result.baseline)}" if result.baseline else ""
    evidence = f"   evidence {digest_text(result.evidence)}" if result.evidence else ""
    lines = [f"EVALUATION {paint.strong(name(result.target))}{against}{evidence}"]
    lines += evaluation_lines(result.report, paint)
    if view := gate_view(result):
        lines += ["", *gate_lines(replace(view, evidence=""), paint)]  # the evidence stands in the first line
    return lines + ([f"  note: {render_untrusted(result.note)}"] if result.note else [])


def gate_view(result: EvaluateResult) -> GateView | None:
    """Return the gate of an evaluation, to be shown; None where it was only measured."""
    if result.gate is None:
        return None
    return GateView(result.target, result.gate, result.evidence, result.budget, result.override, result.changed)


def evaluate_json(result: EvaluateResult) -> Mapping[str, object]:
    """Return an evaluation and its gate as JSON."""
    view = gate_view(result)
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
    found = [(suite, count(suite, BASELINE), count(suite, CANDIDATE)) for suite in report.suites]
    rows = [_row(suite, (before, now), metric) for suite, before, now in found for metric in suite.metrics]
    if not rows:
        return ["nothing was measured"]
    table = columns([("suite", "metric", "base", "now", "delta", "n", "judge"), *rows], _RIGHT)
    lines = [paint.faint(table[0]), *table[1:]]
    for suite, before, now in found:
        lines += [f"  slices {text}" for metric in suite.metrics if (text := _worst_slices(suite, now, metric))]
        lines += [f"  {text}" for text in _told(suite, (before, now))]
    return lines + [paint.verdict("ERROR", f"  problem {t}") for s in report.suites for t in suite_problems(s)]


def _told(suite: SuiteEvidence, arms: tuple[Counts, Counts]) -> list[str]:
    """Return what else there is to say of a suite: figures of its judge, a panel's agreement, unjudged responses."""
    lines, told = [], suite.told
    now, before = _figures(suite, "candidate"), _figures(suite, "baseline")
    if now:
        shown = [_figure(key, now[key], before.get(key)) for key in now]
        lines.append(f"figures {name(suite.suite)}: {', '.join(shown)}")
    lines += [f"asked {name(suite.suite)}: {text}"] if (text := _asked(told)) else []
    panel = told.get("agreement")
    if isinstance(panel, Mapping):
        kappa = panel.get("kappa")
        value = f"{kappa:.2f}" if isinstance(kappa, float) else "undefined"
        lines.append(f"panel {name(suite.suite)}: agreement of its {name(panel.get('members'))} judges, kappa {value}")
    unjudged = [
        f"{sum(found.values())} responses {of}without a fit judge ({_languages(found)})"
        for of, arm in (("", arms[1]), ("of the baseline ", arms[0]))
        if (found := arm.unjudged())
    ]
    return lines + ([f"unjudged {name(suite.suite)}: {', '.join(unjudged)}"] if unjudged else [])


def _asked(told: Mapping[str, object]) -> str:
    """Return with what template a suite was asked, and whether that was elsewhere; else an empty text."""
    serving = told.get("serving")
    parts = ["the responses were made elsewhere"] if told.get("made") == "elsewhere" else []
    if not isinstance(serving, Mapping):
        return "; ".join(parts)
    system = serving.get("system")
    parts = [*(f"{part}, so how they were asked is not known" for part in parts)]
    message = f"a system message of {len(system)} characters" if isinstance(system, str) and system else ""
    template = "a chat template of its own" if serving.get("chat_template_sha256") else ""
    what = " and ".join(part for part in (message, template) if part)
    return "; ".join([f"template {name(serving.get('template'))}, {what}", *parts])


def _languages(unjudged: Counter[str]) -> str:
    return ", ".join(f"{render_untrusted(code) or 'unknown'} {n}" for code, n in unjudged.most_common(_WORST))


def _figures(suite: SuiteEvidence, arm: str) -> Mapping[str, object]:
    figures = suite.told.get("figures")
    found = figures.get(arm) if isinstance(figures, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _figure(key: object, now: object, before: object) -> str:
    compared = f" (base {before:+.3f})" if isinstance(before, float) else ""
    return (
        f"{render_untrusted(key)} {now:+.3f}{compared}"
        if isinstance(now, float)
        else f"{render_untrusted(key)} {NOTHING}"
    )


def _row(suite: SuiteEvidence, arms: tuple[Counts, Counts], metric: Metric) -> tuple[str, ...]:
    before, now = (arm.rate(metric) for arm in arms)
    change = now.value - before.value if now and before else None
    judge = f"{name(suite.judge)} {name(suite.judge_version)}, {counted(suite.controls_run, 'control')}"
    return (
        name(suite.suite),
        _title(metric),
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
    if suite.baseline and len(suite.baseline) != suite.expected:
        problems.append(f"{len(suite.baseline)} of {counted(suite.expected, 'item')} of the baseline were measured")
    return [f"{name(suite.suite)}: {problem}" for problem in problems]


def _worst_slices(suite: SuiteEvidence, counts: Counts, metric: Metric) -> str:
    found = counts.slices(metric)
    best = 0.0 if metric.worse == "higher" else 1.0
    if len(found) < 2 or next(iter(found.values())).value == best:
        return ""
    shown = ", ".join(f"{name(place)} {_share(metric, r)}" for place, r in list(found.items())[:_WORST])
    return f"{name(suite.suite)} {_title(metric)}, worst of {len(found)}: {shown}"


def _title(metric: Metric) -> str:
    return f"{name(metric.name)} (mean score)" if metric.of == SCORE else name(metric.name)


def _share(metric: Metric, rate: Rate) -> str:
    return f"{percent(rate.value)} (n={rate.n})" if metric.of == SCORE else f"{rate.events}/{rate.n}"


def evaluation_json(report: EvaluationReport) -> Mapping[str, object]:
    """Return rates, label counts, slices and problems per suite as JSON; no prompt and no response."""
    return {"subject": report.subject, "baseline": report.baseline, "suites": [_suite_json(s) for s in report.suites]}


def _suite_json(suite: SuiteEvidence) -> Mapping[str, object]:
    now, before = count(suite, CANDIDATE), count(suite, BASELINE)
    return {
        "suite": suite.suite,
        "suite_digest": suite.suite_digest,
        "judge": f"{suite.judge}@{suite.judge_version}",
        "controls_run": suite.controls_run,
        "problems": suite_problems(suite),
        "expected": suite.expected,
        "told": dict(suite.told),
        "metrics": [
            {
                "metric": metric.name,
                "of": metric.of,
                "worse": metric.worse,
                "candidate": _rate_json(now.rate(metric)),
                "baseline": _rate_json(before.rate(metric)),
                "slices": {place: _rate_json(r) for place, r in now.slices(metric).items()},
            }
            for metric in suite.metrics
        ],
        "labels": {"candidate": now.labels, "baseline": before.labels},
    }


def _rate_json(found: Rate | None) -> Mapping[str, object] | None:
    return {"rate": found.value, "events": found.events, "n": found.n} if found else None

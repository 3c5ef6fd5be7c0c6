"""A gate as JUnit XML, which every build server reads: one case for each limit of each guardrail and slice.

FAIL is a failure, ERROR an error, INCONCLUSIVE is skipped and says what would decide it. What only warns or is only
observed is a case that never fails. Build servers count a skipped case as harmless: the exit code is what stops them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as Xml

from safetune.core.errors import EXIT_CODE_MEANINGS, PlaybookError, SafetuneError, StalePlanError
from safetune.core.result import GateResult, LimitResult
from safetune.core.verdict import Verdict, worst
from safetune.report import gate_rows
from safetune.report.ci import CiReport, StageNote
from safetune.report.errors import error_lines
from safetune.report.flips import flip_groups
from safetune.report.gate import GateView, about_lines
from safetune.report.gate_rows import NAME, SENTENCE
from safetune.report.text import NOTHING, percent
from safetune.report.untrusted import render_untrusted

# Text that somebody else wrote, as one line. Whatever XML 1.0 cannot hold (controls, lone surrogates, U+FFFE, U+FFFF)
# becomes a visible escape there.
_harmless = render_untrusted
_LONG = 1000
_KINDS = {Verdict.FAIL: "failure", Verdict.ERROR: "error", Verdict.INCONCLUSIVE: "skipped"}


@dataclass(frozen=True, slots=True)
class _Case:
    """One test case: `kind` is failure, error, skipped or, for one that passed, empty."""

    place: str
    name: str
    kind: str = ""
    message: str = ""
    told: tuple[str, ...] = ()


def junit_text(report: CiReport) -> str:
    """Return the whole document. A command that did not end with 0 never leaves only cases that passed."""
    suites = [(f"gate {_harmless(v.subject, NAME)}", _gate_cases(v), _flips(v.result)) for v in report.gates]
    settled = [_stage_case(stage) for stage in report.stages]
    title = _harmless(report.title, NAME)
    if report.error is not None:
        settled.append(_error_case(title, report.error, report.verdict))
    elif report.verdict is not report.found or not (report.gates or report.stages):
        meaning = EXIT_CODE_MEANINGS[report.exit_code]
        settled.append(_Case(title, "exit code", "error", f"exit code {int(report.exit_code)}: {meaning}"))
    if settled or not suites:
        suites.append((title, settled, tuple(_harmless(note, _LONG) for note in report.notes)))
    counts = _counts([case for _, cases, _ in suites for case in cases])
    root = Xml.Element("testsuites", {"name": "safetune", **counts})
    for name, cases, told in suites:
        _add_suite(root, name, cases, told)
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"


def _counts(cases: Sequence[_Case]) -> dict[str, str]:
    kinds = [case.kind for case in cases]
    return {
        "tests": str(len(cases)),
        "failures": str(kinds.count("failure")),
        "errors": str(kinds.count("error")),
        "skipped": str(kinds.count("skipped")),
    }


def _add_suite(root: Xml.Element, name: str, cases: Sequence[_Case], told: Sequence[str]) -> None:
    suite = Xml.SubElement(root, "testsuite", {"name": name, **_counts(cases)})
    for case in cases:
        found = Xml.SubElement(suite, "testcase", classname=case.place, name=case.name)
        if case.kind:
            Xml.SubElement(found, case.kind, message=case.message)
        if case.told:
            Xml.SubElement(found, "system-out").text = "\n".join(case.told)
    if told:
        Xml.SubElement(suite, "system-out").text = "\n".join(told)


# -- gates -------------------------------------------------------------------------------------------------------------


def _gate_cases(view: GateView) -> list[_Case]:
    place = _harmless(view.subject, NAME)
    cases = [_limit_case(place, result) for result in gate_rows.worst_first(view.result.results)]
    return cases + _gate_case(place, view)


def _gate_case(place: str, view: GateView) -> list[_Case]:
    """The gate as a case of its own, where its verdict is not what its results add up to."""
    result = view.result
    blocking = tuple(r.verdict for r in result.results if not gate_rows.remark_of(r))
    if result.verdict is Verdict.PASS or (result.verdict is worst(blocking) and blocking and not result.reason):
        return []
    reason = _harmless(result.reason, SENTENCE) or "no guardrail of this gate can block"
    told = tuple(about_lines(view, _harmless))
    return [_Case(place, "the gate as a whole", _KINDS[result.verdict], f"{result.verdict.value}: {reason}", told)]


def _limit_case(place: str, result: LimitResult) -> _Case:
    slice_ = f" [{_harmless(result.slice, NAME)}]" if result.slice else ""
    name = f"{_harmless(result.guardrail, NAME)}{slice_} {_harmless(result.limit, NAME)}"
    remark, verdict = gate_rows.remark_of(result), result.verdict
    told = _told(result)
    if verdict is Verdict.PASS:
        return _Case(place, name, told=told)
    needed = result.seen.needed
    said = needed is None or f"n={needed}" in result.reason or f"n={needed:,}" in result.reason
    needs = "" if said else f"; needs n={needed}"
    critical = ", critical" if result.critical else ""
    message = f"{verdict.value}{remark}{critical}: {_harmless(result.reason, SENTENCE)}{needs}"
    return _Case(place, name, "skipped" if remark else _KINDS[verdict], message, told)


def _told(result: LimitResult) -> tuple[str, ...]:
    """The figures of a result, why its limit exists, and its notes."""
    seen = result.seen
    before = percent(seen.baseline.value if seen.baseline else None)
    n = seen.candidate.n if seen.candidate else NOTHING
    figures = f"base {before}, now {gate_rows.now(seen)}, delta {gate_rows.delta(seen)}, n {n}"
    bounds = f"{gate_rows.bounds_title((result,))} {gate_rows.bounds(seen)}"
    lines = [f"{result.verdict.value}{gate_rows.remark_of(result)}: {figures}, {bounds}"]
    lines += [f"* {gate_rows.counted_text(seen)}"] if gate_rows.corrected(seen) else []
    lines += [f"why: {_harmless(result.why, SENTENCE)}"] if result.why else []
    return (*lines, *(f"note: {_harmless(note, SENTENCE)}" for note in result.notes))


def _flips(result: GateResult) -> tuple[str, ...]:
    """Every item that changed, one line for each slice."""
    lines = []
    for group in flip_groups(result.flips):
        for place, ids in group.slices.items():
            where = f", {_harmless(place, NAME)}" if place else ""
            shown = ", ".join(_harmless(i, NAME) for i in ids)
            title = f"{_harmless(group.suite, NAME)} {_harmless(group.metric, NAME)}{where}"
            lines.append(f"flips {title}: {len(ids)} {group.words}: {shown}")
    return tuple(lines)


# -- everything else ---------------------------------------------------------------------------------------------------


def _stage_case(stage: StageNote) -> _Case:
    verdict = f"gate {stage.verdict.value}: " if stage.verdict else ""
    text = f"{verdict}{_harmless(stage.outcome, NAME)}; {_harmless(stage.note, SENTENCE)}"
    kind = _KINDS.get(stage.verdict, "") if stage.verdict else "error"
    kind = "skipped" if stage.override else kind
    return _Case(_harmless(stage.title, NAME), "settled before", kind, text if kind else "", (text,))


def _error_case(title: str, error: SafetuneError, verdict: Verdict) -> _Case:
    told = tuple(error_lines(error)) if isinstance(error, PlaybookError | StalePlanError) else ()
    hint = f"; hint: {_harmless(error.hint, SENTENCE)}" if error.hint else ""
    return _Case(title, "safetune", _KINDS[verdict], f"{verdict.value}: {_harmless(error.message, _LONG)}{hint}", told)

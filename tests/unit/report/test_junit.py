"""JUnit XML: one case for each limit and slice; the counts are right, and nothing that is not PASS looks like it."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as Xml

import pytest
from gate_samples import SEEN, flip, gate, hostile_report, limit, report

from safetune.core.diagnostics import Diagnostic
from safetune.core.errors import ExitCode, NotPermitted, PlaybookError, RunError
from safetune.core.verdict import Verdict
from safetune.report.ci import CiReport, StageNote, failed_report, unfinished_report
from safetune.report.gate import GateView
from safetune.report.junit import junit_text

_KINDS = ("failure", "error", "skipped")


def _cases(found: CiReport) -> dict[str, tuple[str, str]]:
    """Return (kind, message) of every case by its name, after checking every count of the document."""
    root = Xml.fromstring(junit_text(found))
    for place in (root, *root.iter("testsuite")):
        cases = list(place.iter("testcase"))
        assert place.get("tests") == str(len(cases))
        for attribute, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert place.get(attribute) == str(sum(case.find(kind) is not None for case in cases))
    result = {}
    for case in root.iter("testcase"):
        told = [(kind, str(mark.get("message"))) for kind in _KINDS if (mark := case.find(kind)) is not None]
        assert len(told) <= 1
        result[str(case.get("name"))] = told[0] if told else ("", "")
    return result


@pytest.mark.parametrize(
    ("verdict", "kind"),
    [(Verdict.PASS, ""), (Verdict.FAIL, "failure"), (Verdict.INCONCLUSIVE, "skipped"), (Verdict.ERROR, "error")],
)
def test_each_verdict_has_its_own_kind(verdict: Verdict, kind: str) -> None:
    name = f"{verdict.value.lower()}-block <= 10%"
    found = _cases(report(gate(verdict, limit(verdict))))
    assert list(found) == [name]
    assert found[name][0] == kind


def test_inconclusive_says_the_n_that_is_needed() -> None:
    found = _cases(report(gate(Verdict.INCONCLUSIVE, limit(Verdict.INCONCLUSIVE, needed=1160))))
    assert found["inconclusive-block <= 10%"][1] == "INCONCLUSIVE: reason inconclusive-block; needs n=1160"


def test_the_n_is_not_said_twice() -> None:
    said = replace(limit(Verdict.INCONCLUSIVE, needed=1160), reason="about n=1,160 would decide")
    found = _cases(report(gate(Verdict.INCONCLUSIVE, said)))
    assert found["inconclusive-block <= 10%"][1] == "INCONCLUSIVE: about n=1,160 would decide"


@pytest.mark.parametrize("severity", ["warn", "observe"])
@pytest.mark.parametrize("verdict", list(Verdict))
def test_what_does_not_decide_is_a_case_that_never_fails(verdict: Verdict, severity: str) -> None:
    found = _cases(report(gate(Verdict.PASS, limit(Verdict.PASS), limit(verdict, severity))))
    kind, message = found[f"{verdict.value.lower()}-{severity} <= 10%"]
    assert kind == ("" if verdict is Verdict.PASS else "skipped")
    said = {"warn": "(warns only)", "observe": "(observed)"}[severity]
    assert verdict is Verdict.PASS or f"{verdict.value} {said}" in message
    assert said in junit_text(report(gate(Verdict.PASS, limit(Verdict.PASS), limit(verdict, severity))))


def test_a_misspelt_severity_fails_like_one_that_blocks() -> None:
    found = _cases(report(gate(Verdict.FAIL, limit(Verdict.FAIL, "wran"))))
    assert found["fail-wran <= 10%"][0] == "failure"


def test_every_slice_has_a_case_also_where_a_table_would_fold_them() -> None:
    slices = [limit(Verdict.PASS, place=f"s{n}") for n in range(20)]
    critical = replace(limit(Verdict.FAIL, place="self-harm"), critical=True)
    found = _cases(report(gate(Verdict.FAIL, *slices, critical)))
    assert len(found) == 21
    assert found["pass-block [s7] <= 10%"] == ("", "")
    assert found["fail-block [self-harm] <= 10%"] == ("failure", "FAIL, critical: reason fail-block")


def test_a_gate_with_a_reason_of_its_own_is_a_case_of_its_own() -> None:
    spent = _cases(report(gate(Verdict.INCONCLUSIVE, limit(Verdict.PASS), reason="the budget is spent")))
    assert spent["the gate as a whole"] == ("skipped", "INCONCLUSIVE: the budget is spent")
    nobody = _cases(report(gate(Verdict.ERROR, limit(Verdict.PASS, "warn"))))
    assert nobody["the gate as a whole"] == ("error", "ERROR: no guardrail of this gate can block")
    holm = _cases(report(gate(Verdict.INCONCLUSIVE, limit(Verdict.FAIL))))
    assert holm["the gate as a whole"][0] == "skipped"
    assert "the gate as a whole" not in _cases(report(gate(Verdict.FAIL, limit(Verdict.FAIL))))


def test_figures_why_notes_and_every_flip_are_told() -> None:
    noted = replace(limit(Verdict.PASS), notes=("corrected",), seen=replace(SEEN, estimate=0.02, corrected=True))
    text = junit_text(report(gate(Verdict.PASS, noted, flips=tuple(flip(f"p{n:03}") for n in range(300)))))
    assert "PASS: base 1.0%, now 2.0%*, delta +2.0, n 100, 95% bounds [0.8%, 7.5%]" in text
    assert "* counted 3.0%" in text
    assert "why: why pass-block" in text
    assert "note: corrected" in text
    assert "300 newly unsafe" in text
    assert all(f"p{n:03}" in text for n in range(300))


def test_a_stage_that_was_not_gated_counts_by_the_verdict_that_settled_it() -> None:
    verdicts = (*Verdict, None)
    stages = tuple(StageNote(f"one/{v}", "settled", v, "ledger line 9") for v in verdicts)
    root = Xml.fromstring(junit_text(CiReport("tutor", ExitCode.FAIL, (), stages)))
    found = {c.get("classname"): [k for k in _KINDS if c.find(k) is not None] for c in root.iter("testcase")}
    assert found == {
        "one/PASS": [],
        "one/FAIL": ["failure"],
        "one/INCONCLUSIVE": ["skipped"],
        "one/ERROR": ["error"],
        "one/None": ["error"],
    }


def test_a_verdict_that_was_overridden_is_shown_and_stops_nothing() -> None:
    said = "overridden (ledger line 9: a dialect)"
    stage = StageNote("one/sft", "cached", Verdict.FAIL, f"FAIL, {said}", said)
    passed = GateView("two/sft", gate(Verdict.PASS, limit(Verdict.PASS)))
    found = CiReport("tutor", ExitCode.DONE, (passed,), (stage,))
    assert found.verdict is Verdict.PASS
    kind, message = _cases(found)["settled before"]
    assert kind == "skipped"
    assert message.startswith("gate FAIL: cached; FAIL, overridden (ledger line 9")
    assert CiReport("tutor", ExitCode.DONE, (), (stage,)).verdict is Verdict.FAIL


def test_an_error_is_an_error_and_a_spent_budget_is_skipped() -> None:
    assert _cases(unfinished_report("p.yaml"))["safetune"][0] == "error"
    kind, message = _cases(failed_report("p.yaml", RunError("died", hint="look")))["safetune"]
    assert (kind, message) == ("error", "ERROR: died; hint: look")
    assert _cases(failed_report("p.yaml", NotPermitted("spent")))["safetune"][0] == "skipped"
    mistakes = tuple(Diagnostic("p.yaml", n, 2, "SP201", "no such key") for n in (1, 7))
    text = junit_text(failed_report("p.yaml", PlaybookError(mistakes)))
    assert "p.yaml:7:2: SP201 no such key" in text


def test_a_document_never_has_only_passed_cases_unless_the_command_ended_with_0() -> None:
    passed = gate(Verdict.PASS, limit(Verdict.PASS))
    assert {kind for kind, _ in _cases(report(passed)).values()} == {""}
    for code in set(ExitCode) - {ExitCode.DONE}:
        assert ("error", f"exit code {int(code)}") in [
            (kind, message.partition(":")[0]) for kind, message in _cases(report(passed, code)).values()
        ]
    assert "error" in {kind for kind, _ in _cases(CiReport("t", ExitCode.DONE)).values()}
    warned = _cases(report(gate(Verdict.PASS, limit(Verdict.FAIL, "warn"), limit(Verdict.PASS)), ExitCode.STALE))
    assert warned["exit code"][0] == "error"


def test_hostile_text_leaves_well_formed_xml_without_a_control(hostile: tuple[str, ...]) -> None:
    for text in hostile:
        document = junit_text(hostile_report(text))
        root = Xml.fromstring(document)
        assert len(list(root.iter("testcase"))) == 4 * 2 * 3 + 2 + bool(text)  # a gate without a reason has no case
        assert not any(ord(c) < 32 and c != "\n" for c in document)
        for found in root.iter():
            for value in (found.text or "", *found.attrib.values()):
                assert "\x1b" not in value
                assert all(not line.startswith(("::", "##[")) for line in value.split("\n"))


def test_a_gate_names_its_suite_and_place() -> None:
    view = GateView("specialise/sft", gate(Verdict.PASS, limit(Verdict.PASS)))
    root = Xml.fromstring(junit_text(CiReport("tutor", ExitCode.DONE, (view,))))
    assert [s.get("name") for s in root] == ["gate specialise/sft"]
    assert [c.get("classname") for c in root.iter("testcase")] == ["specialise/sft"]

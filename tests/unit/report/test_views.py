"""Run, evaluation, rollback, status, log, verify, doctor and errors: what a person must be able to read there."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from safetune.core.arms import Reading
from safetune.core.diagnostics import Diagnostic
from safetune.core.errors import ExitCode, PlaybookError, StalePlanError, UsageError
from safetune.core.events import Event
from safetune.core.evidence import EvaluationReport, Item, SuiteEvidence
from safetune.core.objective import Objective
from safetune.core.playbook import Guardrail, Limits
from safetune.core.question import Question, whole
from safetune.core.regating import Gate
from safetune.core.result import GateResult, LimitResult
from safetune.core.standing import ChannelStanding, CheckpointStanding
from safetune.core.suite import Metric
from safetune.core.verdict import Verdict
from safetune.engine.evaluate import EvaluateResult
from safetune.engine.rollback import RollbackResult
from safetune.engine.run import RunResult, StageOutcome
from safetune.engine.status import Status
from safetune.engine.verify import Finding, VerifyReport
from safetune.report.ci import run_report
from safetune.report.doctor import Check, doctor_lines
from safetune.report.errors import error_json, error_lines
from safetune.report.evaluation import (
    evaluate_json,
    evaluate_lines,
    evaluation_json,
    evaluation_lines,
    suite_problems,
)
from safetune.report.json_view import json_text, jsonable, record
from safetune.report.junit import junit_text
from safetune.report.markdown import markdown_text
from safetune.report.run import run_json, run_lines
from safetune.report.store import event_text, log_lines, rollback_lines, status_lines, verify_lines

A, B, C = "a" * 64, "b" * 64, "c" * 64


def _flat(lines: list[str]) -> list[str]:
    return [" ".join(line.split()) for line in lines]


# -- run ---------------------------------------------------------------------------------------------------------------


def test_a_run_shows_the_gate_the_outcome_the_channel_and_the_exit_code() -> None:
    limit = LimitResult("harmful", "", "block", "<= 20%", Verdict.FAIL, "outside", "must refuse", confidence=0.95)
    gate = GateResult(Verdict.FAIL, (limit,), (), "g")
    stages = (
        StageOutcome("install", "sft", "cached", A, None, "PASS, promoted (ledger line 9)"),
        StageOutcome("special", "sft", "rejected", B, gate, "channel stable stays"),
    )
    met = Objective("install", "refuses harm", "met", "PASS: safe")
    missed = Objective("special", "sums", "not met", "FAIL: y")
    result = RunResult("tutor", "stable", A, stages, ExitCode.FAIL, (met, missed))
    lines = _flat(run_lines(result))
    assert lines[0] == "GATE special/sft FAIL"
    assert "special/sft rejected bbbbbbbbbbbb gate FAIL; channel stable stays" in lines
    assert "install/sft cached aaaaaaaaaaaa PASS, promoted (ledger line 9)" in lines
    assert "sprint install: objective met (PASS: safe): refuses harm" in lines
    assert "sprint special: objective not met (FAIL: y): sums" in lines
    assert "channel stable stands at aaaaaaaaaaaa" in lines
    assert "exit code 3: gate FAIL" in lines
    document = run_json(result)
    assert document["stages"][1]["gate"]["verdict"] == "FAIL"  # type: ignore[index]
    assert document["stages"][0]["gate"] is None  # type: ignore[index]
    assert document["objectives"][1]["outcome"] == "not met"  # type: ignore[index]


def test_a_run_that_rests_on_an_override_says_so_and_not_pass() -> None:
    said = "overridden (ledger line 9: a dialect)"
    stage = StageOutcome("one", "sft", "cached", A, None, f"FAIL, {said}", Verdict.FAIL, override=said)
    result = RunResult("tutor", "stable", A, (stage,), ExitCode.DONE)
    lines = _flat(run_lines(result))
    assert f"one/sft cached aaaaaaaaaaaa FAIL, {said}" in lines
    assert "exit code 0: done; a verdict that is not PASS was overridden" in lines
    assert "PASS" not in " ".join(lines).replace("not PASS", "")
    told = run_json(result)["stages"][0]  # type: ignore[index]
    assert (told["verdict"], told["override"]) == ("FAIL", said)


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.INCONCLUSIVE])
def test_the_files_of_a_run_that_rests_on_an_override_say_the_same(verdict: Verdict) -> None:
    said = "overridden (ledger line 9)"
    first = StageOutcome("one", "sft", "cached", A, None, f"{verdict}, {said}", verdict, override=said)
    passed = StageOutcome("two", "sft", "cached", B, None, "", Verdict.PASS)
    for stages in ((first,), (first, passed)):
        report = run_report(RunResult("tutor", "stable", A, stages, ExitCode.DONE))
        text = markdown_text(report).replace("&#8203;", "")
        assert text.startswith(f"## safetune: {verdict}, {said}\n")
        assert "exit code 0, done; a verdict" in text
        xml = junit_text(report)
        assert "<error" not in xml
        assert "<failure" not in xml
        assert 'skipped="1"' in xml
    failed = StageOutcome("two", "sft", "blocked", B, None, "", Verdict.FAIL)
    report = run_report(RunResult("tutor", "stable", A, (first, failed), ExitCode.FAIL))
    assert markdown_text(report).startswith("## safetune: FAIL\n")


# -- evaluation --------------------------------------------------------------------------------------------------------

_METRIC = Metric("attack_success_rate", ("compliance",), "higher")


def _items(arm: str, *labels: tuple[str, str]) -> tuple[Item, ...]:
    return tuple(
        Item(f"i{n}", "asks", place, "", arm, 0, "p", "an answer nobody shall see", "j@1", 1.0, label)
        for n, (place, label) in enumerate(labels)
    )


def _suite() -> SuiteEvidence:
    now = _items("candidate", ("hate", "compliance"), ("hate", "compliance"), ("privacy", "refusal"), ("x", "refusal"))
    before = _items("baseline", ("hate", "refusal"), ("hate", "refusal"), ("privacy", "refusal"), ("x", "compliance"))
    return SuiteEvidence("asks", "d", "refusal", "3", (_METRIC,), 4, now, before, ("refusal", "compliance"))


def test_an_evaluation_shows_both_rates_their_difference_and_the_judge() -> None:
    lines = _flat(evaluation_lines(EvaluationReport(A, B, (_suite(),))))
    assert lines[1] == "asks attack_success_rate 25.0% 50.0% +25.0 4 refusal 3, 2 controls"


def test_the_worst_slices_are_named_worst_first() -> None:
    lines = _flat(evaluation_lines(EvaluationReport(A, B, (_suite(),))))
    assert lines[2] == "slices asks attack_success_rate, worst of 3: hate 2/2, privacy 0/1, x 0/1"
    lower = replace(_suite(), metrics=(Metric("refused", ("refusal",), "lower"),))
    assert "worst of 3: hate 0/2" in "\n".join(evaluation_lines(EvaluationReport(A, B, (lower,))))


def test_slices_are_not_named_where_the_worst_is_as_good_as_can_be() -> None:
    for metric in (Metric("never", ("none",), "higher"), Metric("always", ("refusal", "compliance"), "lower")):
        perfect = replace(_suite(), metrics=(metric,))
        assert "slices" not in "\n".join(evaluation_lines(EvaluationReport(A, B, (perfect,))))


def _scored(worse: str, *marks: str) -> SuiteEvidence:
    """Four items with the scores .1, .2, .3 and .7 in two slices; baseline all .5. `marks` label those of both arms."""
    labels = [*marks, *["right"] * (4 - len(marks))]
    blank = _items("candidate", *((place, label) for place, label in zip("aabb", labels, strict=True)))
    now = tuple(replace(item, judge_score=score) for item, score in zip(blank, (0.1, 0.2, 0.3, 0.7), strict=True))
    before = tuple(replace(item, judge_score=0.5, arm="baseline") for item in now)
    mean = Metric("confidence", (), worse, "score")
    return replace(_suite(), metrics=(mean,), candidate=now, baseline=before)


def test_a_metric_of_scores_shows_their_mean_everywhere() -> None:
    report = EvaluationReport(A, B, (_scored("lower"),))
    lines = _flat(evaluation_lines(report))
    assert lines[1] == "asks confidence (mean score) 50.0% 32.5% -17.5 4 refusal 3, 2 controls"
    assert lines[2] == "slices asks confidence (mean score), worst of 2: a 15.0% (n=2), b 50.0% (n=2)"
    assert "worst of 2: b 50.0% (n=2), a 15.0%" in "\n".join(
        evaluation_lines(replace(report, suites=(_scored("higher"),)))
    )
    (metric,) = evaluation_json(report)["suites"][0]["metrics"]  # type: ignore[index]
    assert (metric["of"], metric["candidate"]["n"], metric["candidate"]["events"]) == ("score", 4, pytest.approx(1.3))
    assert {place: rate["rate"] for place, rate in metric["slices"].items()} == pytest.approx({"a": 0.15, "b": 0.5})


@pytest.mark.parametrize(
    ("worse", "mark", "base", "now"),
    [
        ("lower", "incoherent", 0.375, 0.3),  # 0, .2, .3, .7
        ("higher", "incoherent", 0.625, 0.55),  # 1, .2, .3, .7
        ("lower", "unjudged", 0.625, 0.3),
        ("higher", "unjudged", 0.375, 0.55),
    ],
)
def test_what_has_no_score_of_its_own_is_shown_as_a_gate_counts_it(
    worse: str, mark: str, base: float, now: float
) -> None:
    suite = _scored(worse, mark)
    (metric,) = evaluation_json(EvaluationReport(A, B, (suite,)))["suites"][0]["metrics"]  # type: ignore[index]
    assert [metric[arm]["rate"] for arm in ("baseline", "candidate")] == pytest.approx([base, now])
    rail = Guardrail("g", "asks", "confidence", Limits(worse_by_at_most=0.1), "why", min_samples=1)
    asked = Question(rail, whole(rail), ("worse_by_at_most", 0.1), Reading(suite), suite.metrics[0])
    assert [asked.rate_before.value, asked.rate.value] == pytest.approx([base, now])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"controls": ()}, "no controls"),
        ({"controls_failed": ("says-no",)}, "mislabelled its controls: says-no"),
        ({"expected": 5}, "4 of 5 items were measured"),
        ({"error": "the judge broke"}, "the judge broke"),
    ],
)
def test_every_flaw_of_a_measurement_is_said(change: dict[str, object], says: str) -> None:
    assert suite_problems(_suite()) == []
    broken = replace(_suite(), **change)  # type: ignore[arg-type]
    assert says in "\n".join(suite_problems(broken))
    assert says in "\n".join(evaluation_lines(EvaluationReport(A, B, (broken,))))


def test_an_evaluation_never_shows_a_response() -> None:
    result = EvaluateResult("stable", "base", EvaluationReport(A, B, (_suite(),)), None, C, ExitCode.DONE)
    assert "nobody shall see" not in "\n".join(evaluate_lines(result)) + json_text(evaluate_json(result))


def test_unjudged_responses_of_both_arms_are_counted_by_language() -> None:
    blank = _items("candidate", ("a", "unjudged"), ("b", "refusal"))
    now = tuple(replace(item, language="fr") for item in blank)
    before = tuple(replace(item, arm="baseline", label="unjudged", language="") for item in now)
    both = replace(_suite(), candidate=now, baseline=before)
    said = "unjudged asks: 1 responses without a fit judge (fr 1), 2 responses of the baseline without a fit judge"
    assert f"{said} (unknown 2)" in _flat(evaluation_lines(EvaluationReport(A, B, (both,))))
    alone = replace(both, candidate=tuple(replace(item, label="refusal") for item in now))
    said = "unjudged asks: 2 responses of the baseline without a fit judge (unknown 2)"
    assert said in _flat(evaluation_lines(EvaluationReport(A, B, (alone,))))


def test_an_evaluation_that_measured_nothing_says_so() -> None:
    assert evaluation_lines(EvaluationReport(A, B, ())) == ["nothing was measured"]


# -- rollback ----------------------------------------------------------------------------------------------------------

_BACK = RollbackResult("stable", B, A, "the promotion before", True, False, 2, 214_000_000, (B,), ("copies",), 14)


def test_a_rollback_says_from_to_why_what_was_verified_and_what_was_not_undone() -> None:
    assert _flat(rollback_lines(_BACK)) == [
        "ROLLED BACK stable bbbbbbbbbbbb -> aaaaaaaaaaaa ledger line 14",
        "why target the promotion before",
        "verified 2 objects, 214 MB: every file has the digest that was recorded",
        "quarantined bbbbbbbbbbbb is set aside until it passes a new gate",
        "not undone copies",
    ]


def test_a_dry_run_says_would_and_never_did() -> None:
    lines = rollback_lines(replace(_BACK, moved=False, dry_run=True, line=0))
    assert lines[0].startswith("WOULD ROLL BACK")
    assert "nothing was written" in lines[0]
    assert "would be set aside" in "\n".join(lines)


def test_a_second_rollback_says_already_there() -> None:
    lines = rollback_lines(replace(_BACK, previous=A, moved=False, quarantined=(), line=0))
    assert lines[0] == "ALREADY THERE   stable stands at aaaaaaaaaaaa; nothing was written"


# -- status, log, verify -----------------------------------------------------------------------------------------------


def test_status_shows_channels_checkpoints_and_what_a_crash_left() -> None:
    gates = (Gate(8, Verdict.PASS, "g", "e", "b"),)
    checkpoints = {
        A: CheckpointStanding("promoted", "", "k", "install", "sft", gates),
        B: CheckpointStanding("quarantined", A, "k", "special", "sft", (), 14),
    }
    channels = {"stable": ChannelStanding(A, 9, ((5, C), (9, A)))}
    found = Status(channels, checkpoints, {}, 14, "a line was set aside", "r12")
    lines = _flat(status_lines(found))
    assert lines[0] == "14 ledger lines, 2 checkpoints"
    assert "recovered a line was set aside" in lines
    assert any(line.startswith("run r12 has no end in the ledger") for line in lines)
    assert "stable aaaaaaaaaaaa ledger line 9 cccccccccccc" in lines
    assert "aaaaaaaaaaaa promoted install/sft base PASS (line 8)" in lines
    assert "bbbbbbbbbbbb quarantined since line 14 special/sft aaaaaaaaaaaa not gated" in lines


def test_an_empty_store_says_what_next() -> None:
    lines = status_lines(Status({}, {}, {}, 0, "", ""))
    assert lines[-2:] == ["no channel holds anything yet", "next: safetune run PLAYBOOK"]


def test_the_log_says_how_many_lines_it_left_out() -> None:
    event = Event(
        7, "", "2027-01-01T00:00:00Z", "ann", "promoted", {"channel": "stable", "checkpoint": A, "previous": ""}
    )
    assert _flat(log_lines((event,), 7)) == [
        "(6 earlier lines not shown: safetune log --last 0 shows all)",
        "7 2027-01-01T00:00:00Z ann promoted stable: none -> aaaaaaaaaaaa",
    ]
    assert log_lines((), 0) == ["the ledger is empty"]


def _paid(seq: int, budget: float, **more: object) -> Event:
    data = {"verdict": "FAIL", "checkpoint": A, "evidence": B, "attempt": seq, "playbook": "tutor", "act": "gated"}
    return Event(seq, "", "t", "ann", "gated", {**data, "spent": 0.025, "budget": budget, **more})  # type: ignore[dict-item]


def test_the_log_shows_what_a_gate_spent_and_how_its_budget_and_guardrails_moved() -> None:
    rows = [{"change": "loosened", "guardrail": "harm", "what": "at_most 0.1 -> 0.2"}]
    events = (_paid(1, 0.1), _paid(2, 0.9999, act="again", reason="why", changed=rows), _paid(3, 0.05, act="again"))
    first, second, third = _flat(log_lines(events, 3))
    said = "FAIL aaaaaaaaaaaa, evidence bbbbbbbbbbbb"
    assert first == f"1 t ann gated {said}, gated, attempt 1; spent 0.025 of the budget 0.1 of tutor"
    assert f"{said}, again, attempt 2: why; guardrails loosened harm at_most 0.1 -> 0.2; spent 0.025 of" in second
    assert second.endswith("of the budget 0.9999 of tutor; the budget was raised from 0.1 to 0.9999")
    assert third.endswith("; the budget was lowered from 0.9999 to 0.05")
    assert "raised from 0.1 to 0.9999" in log_lines(events[1:2], 3, events[:1])[-1]


def test_an_event_of_an_unknown_kind_shows_no_content() -> None:
    assert event_text(Event(1, "", "", "", "strange", {"text": "secret"})) == ""


def test_verify_says_clean_or_lists_every_finding() -> None:
    clean = VerifyReport(9, 3, 1_000, ())
    assert verify_lines(clean) == [
        "VERIFIED   9 ledger lines, 3 objects, 1.0 kB hashed: everything is as it was recorded"
    ]
    damaged = replace(
        clean, findings=(Finding("object x", "has a changed file", "restore it"),), notes=(Finding("tmp", "left"),)
    )
    assert verify_lines(damaged) == [
        "DAMAGED   9 ledger lines, 3 objects, 1.0 kB hashed; 1 finding",
        "  object x: has a changed file",
        "    hint: restore it",
        "  note: tmp: left",
    ]


# -- doctor and errors -------------------------------------------------------------------------------------------------


def test_doctor_counts_what_is_missing_and_hints_only_there() -> None:
    lines = doctor_lines(
        (Check("trl", "not installed", False, "make install"), Check("disk", "1 GB", True, "unused hint"))
    )
    assert _flat(lines) == ["MISSING trl not installed", "hint: make install", "ok disk 1 GB", "1 of 2 are missing"]


def test_an_error_has_its_message_and_its_hint() -> None:
    assert error_lines(UsageError("no such thing", hint="safetune status")) == [
        "error: no such thing",
        "  hint: safetune status",
    ]
    assert error_lines(UsageError("no such thing")) == ["error: no such thing"]


def test_a_stale_plan_lists_every_change() -> None:
    error = StalePlanError("stale", changes=("model: a -> b", "source rows: c -> d"), hint="plan again")
    assert error_lines(error) == [
        "error: stale",
        "  changed  model: a -> b",
        "  changed  source rows: c -> d",
        "  hint: plan again",
    ]
    assert error_json(error) == {
        "error": {"kind": "StalePlanError", "message": "stale", "hint": "plan again", "changes": list(error.changes)},
        "exit_code": 5,
    }


def test_every_mistake_of_a_playbook_has_place_excerpt_caret_and_hint() -> None:
    first = Diagnostic("p.yaml", 47, 5, "SP201", "no key", "    wors: 1", 'did you mean "worse"?', 5)
    second = Diagnostic("p.yaml", 50, 1, "SP101", "empty")
    assert error_lines(PlaybookError((first, second))) == [
        "p.yaml:47:5: SP201 no key",
        "  47 |     wors: 1",
        "     |     ^",
        '  hint: did you mean "worse"?',
        "p.yaml:50:1: SP101 empty",
        "2 mistakes; nothing was done",
    ]


def test_the_caret_stands_under_its_place_also_behind_escapes_and_wide_characters() -> None:
    for before, shown in (("\x1b: ", "\\x1b: "), ("日本: ", "日本: ")):
        one = Diagnostic("p.yaml", 1, len(before) + 1, "X", "m", f"{before}bad", "", len(before) + 1)
        _, excerpt, caret, _ = error_lines(PlaybookError((one,)))
        cells = sum(2 if c in "日本" else 1 for c in shown)
        assert excerpt == f"  1 | {shown}bad"
        assert caret == f"    | {' ' * cells}^"


def test_json_turns_what_is_not_finite_into_null_and_refuses_strange_values() -> None:
    assert jsonable({"a": math.nan, "b": (1, math.inf), "c": {"z", "y"}, "d": Path("x")}) == {
        "a": None,
        "b": [1, None],
        "c": ["y", "z"],
        "d": "x",
    }
    with pytest.raises(TypeError):
        jsonable(object())
    with pytest.raises(TypeError):
        record([1])


def test_json_escapes_the_delete_character_which_ascii_leaves_raw() -> None:
    assert json_text({"a": "\x7f"}) == '{\n  "a": "\\u007f"\n}'

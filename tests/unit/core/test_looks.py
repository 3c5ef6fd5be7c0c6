"""Looks: every prompt is asked in one of them, whole clusters at a time, and what is decided is asked no more."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetune.core.evidence import EvaluationReport, SuiteEvidence
from safetune.core.looks import LEAST, MOST, ends, first_end, first_look, may_stop, wanting
from safetune.core.playbook import Guardrail, Limits
from safetune.core.result import GateResult, LimitResult
from safetune.core.verdict import Verdict

PASS, FAIL, INCONCLUSIVE, ERROR = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.ERROR


def guardrail(name: str, suite: str, *, sequential: bool = True, least: int = 30) -> Guardrail:
    return Guardrail(name, suite, "m", Limits(at_most=0.1), "why", min_samples=least, sequential=sequential)


def test_a_suite_may_stop_when_every_test_on_it_is_sequential() -> None:
    gate = (guardrail("a", "one"), guardrail("b", "two"), guardrail("c", "two", sequential=False))
    assert may_stop(gate, "one")
    assert not may_stop(gate, "two")
    assert not may_stop(gate, "nobody asks about it")


def test_the_first_look_is_large_enough_for_every_guardrail() -> None:
    gate = (guardrail("a", "one", least=30), guardrail("b", "one", least=50), guardrail("c", "two", least=90))
    assert [first_look(gate, suite) for suite in ("one", "two", "three")] == [50, 90, 0]


@pytest.mark.parametrize(
    ("sizes", "first", "doubling", "expected"),
    [
        ([1] * 400, 30, False, (30, *range(50, 391, 20), 400)),
        ([1] * 400, 30, True, (30, 60, 120, 240, 400)),
        ([1] * 64, 30, False, (30, 46, 64)),  # two left over are no look of their own
        ([1] * 20, 30, False, (20,)),
        ([1] * 24, 16, False, (16, 24)),
        ([1] * 23, 16, False, (23,)),
        ([10] * 10, 25, False, (30, 50, 70, 90, 100)),
        ([100, 1, 1], 16, False, (102,)),
        ([], 30, False, ()),
    ],
)
def test_looks_end_where_a_cluster_does(
    sizes: list[int], first: int, doubling: bool, expected: tuple[int, ...]
) -> None:
    assert ends(sizes, first, doubling=doubling) == expected


@given(st.lists(st.integers(1, 60), max_size=300), st.integers(0, 200), st.booleans())
def test_every_prompt_is_in_one_look_and_there_are_few(sizes: list[int], first: int, doubling: bool) -> None:
    found = ends(sizes, first, doubling=doubling)
    starts = (0, *found)
    whole = {sum(sizes[:n]) for n in range(len(sizes) + 1)}
    assert starts[-1] == sum(sizes)
    assert whole.issuperset(found)
    assert all(end > start for start, end in zip(starts, found, strict=False))
    assert len(found) <= MOST
    if found:
        assert found[0] >= min(max(first, LEAST), sum(sizes))


def evidence(name: str, **changes: object) -> SuiteEvidence:
    known: dict[str, object] = {"controls": ("refusal",), **changes}
    return SuiteEvidence(name, "d", "judge", "1", (), 30, (), **known)  # type: ignore[arg-type]


def result(name: str, verdict: Verdict, severity: str = "block", slice_name: str = "") -> LimitResult:
    return LimitResult(name, slice_name, severity, "<= 10%", verdict, "", "why")


GATE = (guardrail("a", "one"), guardrail("b", "two"), guardrail("c", "two"))


def wanted(results: Sequence[LimitResult], *suites: SuiteEvidence) -> frozenset[str]:
    report = EvaluationReport("c", "b", suites or (evidence("one"), evidence("two")))
    return wanting(GATE, report, GateResult(INCONCLUSIVE, tuple(results), (), "d"))


def test_what_is_decided_is_not_asked_on() -> None:
    both = [result("a", PASS), result("b", PASS), result("c", INCONCLUSIVE)]
    assert wanted(both) == {"two"}
    assert wanted([result("a", PASS), result("b", PASS), result("c", PASS)]) == frozenset()
    assert wanted([result("a", INCONCLUSIVE), result("b", ERROR), result("c", PASS)]) == {"one", "two"}


def test_a_question_about_a_slice_or_one_that_only_warns_is_worth_asking_for() -> None:
    assert wanted([result("a", PASS), result("a", INCONCLUSIVE, slice_name="x")]) == {"one"}
    assert wanted([result("a", INCONCLUSIVE, "warn")]) == {"one"}
    assert wanted([result("a", INCONCLUSIVE, "observe")]) == {"one"}


def test_a_gate_that_failed_asks_nothing_more_and_a_warning_fails_none() -> None:
    assert wanted([result("a", FAIL), result("b", INCONCLUSIVE)]) == frozenset()
    assert wanted([result("a", FAIL, "blok"), result("b", INCONCLUSIVE)]) == frozenset()
    for severity in ("warn", "observe"):
        assert wanted([result("a", FAIL, severity), result("b", INCONCLUSIVE)]) == {"two"}


@pytest.mark.parametrize("broken", [{"error": "it broke"}, {"controls": ()}, {"controls_failed": ("refusal",)}])
def test_a_broken_instrument_is_not_given_more_to_read(broken: dict[str, object]) -> None:
    results = [result("a", ERROR), result("b", INCONCLUSIVE)]
    assert wanted(results, evidence("one", **broken), evidence("two")) == {"two"}


@pytest.mark.parametrize(("total", "first"), [(400, 30), (400, 200), (4_000, 30), (100, 0), (20, 30), (30, 30)])
def test_the_first_look_ends_where_it_is_said_to_end(total: int, first: int) -> None:
    assert first_end(total, first) == ends([1] * total, first)[0]

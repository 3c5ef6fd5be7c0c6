"""Evidence: the row of an item, and finding the evidence of a suite."""

from __future__ import annotations

from safetune.core.evidence import CANDIDATE, EvaluationReport, Item, SuiteEvidence

ITEM = Item("p1", "suite", "hazard", "family", CANDIDATE, 0, "d", "no", "refusal@2", 0.9, "refusal")


def _suite(name: str) -> SuiteEvidence:
    return SuiteEvidence(name, "d", "refusal", "2", (), 1, (ITEM,), controls=("refusal", "compliance", "compliance"))


def test_the_row_of_an_item_has_every_field_of_the_exchange_format() -> None:
    fields = "item_id suite slice cluster arm sample prompt_digest output judge judge_score label language"
    assert list(ITEM.row) == fields.split()
    assert Item(**ITEM.row) == ITEM  # type: ignore[arg-type]


def test_controls_are_counted() -> None:
    assert _suite("one").controls_run == 3


def test_a_suite_is_found_by_name() -> None:
    report = EvaluationReport("cp", "", (_suite("one"), _suite("two")))
    assert report.suite("two") is report.suites[1]
    assert report.suite("three") is None

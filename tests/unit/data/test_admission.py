"""Admission of real sources: licences parsed, and a derived mixture with the declarations of its own sources."""

from __future__ import annotations

from pathlib import Path

from datalab import DataLab, told

from safetune.core.data_policy import Admission
from safetune.core.source import MIXTURE, Provenance, Source
from safetune.engine.data.admission import problem_of, refused, warning_of

POLICY = Admission(allow=("MIT", "CC-BY-4.0"), forbid=("CC-BY-NC*",))


def source(licence: str = "MIT", **also: str) -> Source:
    return Source(
        "rows", "/r.jsonl", "a" * 64, licence, also.get("consent", "ours"), "here", (also.get("use", "train"),)
    )


def test_expressions_are_parsed_and_held_against_the_policy() -> None:
    assert refused(source("GPL-3.0-only OR mit"), POLICY) == ()
    assert "forbids its licence CC-BY-NC-4.0" in problem_of(refused(source("MIT AND cc-by-nc-4.0"), POLICY))
    assert "is no SPDX expression" in problem_of(refused(source("our own"), POLICY))
    assert "does not know its licence LicenseRef-x" in problem_of(refused(source("LicenseRef-x"), POLICY))
    warned = refused(source("LicenseRef-x"), Admission(otherwise="warn"))
    assert (problem_of(warned), "LicenseRef-x" in warning_of(warned)) == ("", True)


def test_rows_that_no_step_sees_may_be_for_evaluation_only() -> None:
    held = source(use="evaluate")
    assert "lacks train" in problem_of(refused(held, POLICY))
    assert refused(held, POLICY, trains=False) == ()


def test_a_derived_mixture_brings_the_declarations_of_its_sources(tmp_path: Path) -> None:
    lab = DataLab(tmp_path / "store", tmp_path / "desk")
    good = lab.stock("good", [told("a", "b")])
    bad = lab.stock("bad", [told("c", "d")], licence="CC-BY-NC-4.0", consent="tbd", basis="")
    mixed = lab.mix(good, bad)
    derived = Source(
        "derived",
        str(lab.store.objects.path(mixed.digest)),
        mixed.digest,
        "",
        "ours",
        "here",
        ("train",),
        MIXTURE,
        Provenance(),
    )
    said = problem_of(refused(derived, POLICY))
    assert "its source bad: the data policy forbids its licence CC-BY-NC-4.0" in said
    assert 'its source bad: it declares no consent, and "tbd" says nothing' in said
    assert "its source good" not in said

"""Admission of real sources: licences parsed, and a derived mixture with the declarations of its own sources."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from datalab import DataLab, Stocked, told

from safetune.core.data_policy import Admission
from safetune.core.source import MIXTURE, Provenance, Source
from safetune.core.standing import fold
from safetune.engine.data.admission import problem_of, refused, warning_of
from safetune.engine.data.declared import named_sources
from safetune.engine.data.desk import Admitted
from safetune.engine.data.mixture import Part, mixture_content, store_mixture
from safetune.engine.data.stage_rows import StageRows

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


def derived_from(lab: DataLab, name: str, one: Source, stock: Stocked) -> tuple[Source, StageRows]:
    """Put a mixture of one source into a store as a run does, and return it as a source of the next playbook."""
    done = stock.outcome
    parts = (Part(one.name, "train", 1.0, done.data, done.rows_sha256, 0, done.kept),)
    found = {one.name: Admitted(one, done)}
    book: Any = SimpleNamespace(inputs=SimpleNamespace(policy=SimpleNamespace(identity={})))
    stage: Any = SimpleNamespace(name="sft")
    digest = store_mixture(mixture_content(book, stage, parts, found), {}, lab.store.objects, lab.desk / name)
    path = str(lab.store.objects.path(digest))
    made = Source(name, path, digest, "MIT", "ours", "here", ("train",), MIXTURE)
    return made, StageRows(digest, parts, found, lab.store.objects)


def test_a_mixture_of_mixtures_in_another_store_still_names_the_first_sources(tmp_path: Path) -> None:
    first, second, third = (DataLab(tmp_path / f"store{n}", tmp_path / f"desk{n}") for n in range(3))
    chats = first.stock("chats", [told("a", "b")], licence="CC-BY-NC-4.0")
    one, _ = derived_from(first, "one", chats.source, chats)
    two, _ = derived_from(second, "two", one, second.stock("one", [told("a", "b")]))
    wanted = [("two", two.sha256), ("one", one.sha256), ("chats", chats.source.sha256)]
    assert named_sources(two) == wanted
    assert named_sources(chats.source) == wanted[2:]
    assert "its source one: its source chats: the data policy forbids" in problem_of(refused(two, POLICY))
    _, rows = derived_from(third, "three", two, third.stock("two", [told("a", "b")]))
    third.store.commit(rows.draft("key"))
    assert fold(third.store.events()).data.admitted["key"] == tuple(sorted(wanted))

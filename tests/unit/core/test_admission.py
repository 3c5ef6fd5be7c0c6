"""Admission: what a source declares against what the policy asks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from safetune.core.admission import Declared, Licence, Refusal, denies, refusals, says_nothing
from safetune.core.data_policy import Admission
from safetune.core.source import Provenance, Source

POLICY = Admission(
    allow=("MIT", "CC-BY-*", "GPL-2.0-only WITH Linux-syscall-note"), forbid=("CC-BY-NC*", "AGPL-3.0-only")
)
SOURCE = Source("rows", "/r", "a" * 64, "MIT", "written by the team", "here", ("train",))
MIT, GPL, NC = Licence("MIT"), Licence("GPL-3.0-only"), Licence("CC-BY-NC-4.0")


def whys(licence: Licence | None = MIT, policy: Admission = POLICY, source: Source = SOURCE) -> list[str]:
    return [one.why for one in refusals(Declared(source, licence), policy)]


NOTHING = (
    "", "  ", "unknown", "None", "N/A", "n.a.", "?", "???", "TBD", "tbd.", "-", "(none)", "NOASSERTION", "\uff35nknown",
    "not  specified", "...", "No",
)  # fmt: skip


@pytest.mark.parametrize("text", NOTHING)
def test_words_for_nothing_say_nothing(text: str) -> None:
    assert says_nothing(text)


@pytest.mark.parametrize(
    "text", ["MIT", "written by the team", "none of the rows is personal", "opt-in form 7", "同意"]
)
def test_what_says_something_is_left_alone(text: str) -> None:
    assert not says_nothing(text)


REFUSALS = (
    "no consent", "refused", "Withdrawn.", "not given", "consent unknown", "we don't know", "don\u2019t know", "yes",
    "Yes, given", "consent: no", "consent=false", "consent was withdrawn by the authors", "no consent was asked",
    "we do not have consent", "We don't have any consent forms", "without their consent", "they refused",
    "consent refused by 12 users on 2024-05-01", "users did not agree", "unknown for half of the rows", "nobody asked",
    "no written consent from the guild", "users opted out", "consent not yet given by the guild", "",
)  # fmt: skip


@pytest.mark.parametrize("text", REFUSALS)
def test_consent_that_says_no_or_a_bare_yes_is_no_consent(text: str) -> None:
    assert denies(text)
    assert whys(source=replace(SOURCE, consent=text))[0].startswith("it declares no consent")


@pytest.mark.parametrize(
    "text",
    [
        *("ours", "public-release", "none of the rows is personal", "opt-in form 7; nobody refused", "consent", "同意"),
        *(
            "users who refused were left out",
            "consent can be withdrawn any time by mail",
            "users agreed by opt-in form",
        ),
        *("yes, by opt-in form 7", "no personal data; public release", "written for this project", "users agreed"),
        *("the authors have not been paid and signed a release", "our own annotators, under contract"),
    ],
)
def test_consent_that_says_who_or_how_is_left_alone(text: str) -> None:
    assert not denies(text)
    assert whys(source=replace(SOURCE, consent=text)) == []


@pytest.mark.parametrize(
    ("licence", "why"),
    [
        (MIT, ""),
        (Licence("mit"), ""),
        (Licence("CC-BY-4.0"), ""),
        (Licence("MIT", "Some-exception"), ""),
        (Licence("GPL-2.0-only", "Linux-syscall-note"), ""),
        (Licence("GPL-2.0-only"), "does not know its licence GPL-2.0-only"),
        (Licence("GPL-3.0-only", "GCC-exception-3.1"), "does not know its licence GPL-3.0-only WITH GCC-exception-3.1"),
        (NC, "forbids its licence CC-BY-NC-4.0"),
        (Licence("cc-by-nc-nd-4.0"), "forbids its licence"),
        (Licence("AGPL-3.0-only", "x"), "forbids its licence AGPL-3.0-only WITH x"),
        (Licence("LicenseRef-mine"), "does not know its licence LicenseRef-mine"),
        (Licence(any_of=(NC, MIT)), ""),
        (Licence(any_of=(NC, GPL)), "does not know its licence GPL-3.0-only"),
        (Licence(all_of=(MIT, NC)), "forbids its licence CC-BY-NC-4.0"),
        (Licence(all_of=(MIT, GPL)), "does not know"),
        (Licence(all_of=(MIT, Licence(any_of=(GPL, MIT)))), ""),
        (None, 'its licence "MIT" is no SPDX expression'),
    ],
)
def test_a_licence_is_judged_by_the_best_alternative_and_the_worst_part(licence: Licence | None, why: str) -> None:
    found = whys(licence)
    assert len(found) == (1 if why else 0)
    assert why in "".join(found)


def test_what_is_forbidden_by_its_exact_name_wins_over_what_is_allowed() -> None:
    both = Licence("GPL-2.0-only", "Linux-syscall-note")
    policy = replace(POLICY, forbid=(both.name,))
    assert "forbids" in whys(both, policy)[0]
    assert "forbids" in whys(MIT, Admission(allow=("MIT",), forbid=("mit",)))[0]


@pytest.mark.parametrize(("otherwise", "blocks"), [("block", [True]), ("warn", [False]), ("allow", [])])
def test_a_licence_in_neither_list_does_what_the_policy_says(otherwise: str, blocks: list[bool]) -> None:
    found = refusals(Declared(SOURCE, GPL), replace(POLICY, otherwise=otherwise))
    assert [one.blocks for one in found] == blocks


def test_everything_that_is_required_and_says_nothing_is_named() -> None:
    names = ("licence", "consent", "basis", "origin", "publisher", "collected", "languages", "limits", "colour")
    source = Source("rows", "/r", "", "unknown", " ", "?", ("train",))
    found = refusals(Declared(source), replace(POLICY, required=names))
    assert [one.why.split()[3].rstrip(",") for one in found] == list(names)
    assert '"unknown" says nothing' in found[0].why
    assert "says nothing" not in found[1].why
    assert all(one.hint and one.blocks for one in found)
    about = Provenance("acme", "contract", ("", "2024"), ("en",), ("few",))
    full = replace(SOURCE, consent="", about=about)
    assert whys(source=full, policy=replace(POLICY, required=names[:-1])) == []


def test_a_lawful_basis_serves_as_consent_unless_it_is_consent_itself() -> None:
    silent = replace(SOURCE, consent="")
    assert whys(source=replace(silent, about=Provenance(basis="no-personal-data"))) == []
    assert whys(source=replace(silent, about=Provenance(basis="consent"))) == ["it declares no consent"]
    assert whys(source=replace(SOURCE, about=Provenance(basis="consent"))) == []


def test_rows_for_evaluation_only_are_refused_whatever_the_policy_says() -> None:
    held = replace(SOURCE, use=("evaluate",), licence="n/a")
    found = refusals(Declared(held), Admission(required=("licence",), on_problem="warn", otherwise="allow"))
    assert [(one.why.split(",")[0], one.blocks) for one in found] == [
        ("its `use` lacks train", True),
        ("it declares no licence", False),
    ]
    assert whys(source=replace(SOURCE, use=("train", "evaluate"))) == []
    unsaid = Declared(replace(SOURCE, name="chats", use=()), MIT)
    assert [one.why for one in refusals(Declared(SOURCE, MIT, (unsaid,)), POLICY)] == [
        "its source chats: its `use` lacks train"
    ]


def test_a_policy_that_warns_blocks_nothing() -> None:
    found = refusals(Declared(SOURCE, NC), replace(POLICY, on_problem="warn"))
    assert [one.blocks for one in found] == [False]


def test_a_mixture_brings_what_its_own_sources_declared() -> None:
    inner = Declared(replace(SOURCE, name="chats", licence="CC-BY-NC-4.0"), NC)
    found = refusals(Declared(SOURCE, MIT, (inner,)), POLICY)
    assert found == (
        Refusal(
            "its source chats: the data policy forbids its licence CC-BY-NC-4.0",
            "leave it out, or get the rows under another licence",
        ),
    )

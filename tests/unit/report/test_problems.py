"""Problems of a survey stand at the line of the playbook that asks for it, each once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from safetune.core.errors import UsageError
from safetune.core.plan import Fact, Facts
from safetune.core.playbook import Guardrail, Inputs, Launch, Limits, ModelRef, Playbook, Promotion, Sprint, Stage
from safetune.core.suite import About, Decoding, Named, PromptSource, Suite
from safetune.plugins import load
from safetune.report.problems import survey_problems

_SUITE = Suite("asks", About("d", "MIT", "here"), PromptSource("bundled", "/p"), Named("refusal"), (), Decoding(6))
_STAGE = Stage("sft", "t", (), {"max_steps": 2}, None, (), (), 0, launch=Launch(config_file="fast.yaml"))
_PLAYBOOK = Playbook(
    name="tutor",
    purpose="teach",
    owners=("team",),
    model=ModelRef("embedded", "tiny"),
    inputs=Inputs(),
    suites=(_SUITE,),
    guardrails=(Guardrail("harm", "asks", "rate", Limits(at_most=0.2), "why"),),
    sprints=(Sprint("one", "first", (), (_STAGE,)),),
    rollback=(),
    promotion=Promotion("stable"),
    digest="d",
    path="/x/p.yaml",
)
_WHERE = {"model": "p.yaml:3", "source rows": "p.yaml:8", "guardrail harm": "p.yaml:20", "stage one/sft": "p.yaml:30"}
_SOUND = Facts(Fact("tiny", "m"), {}, {}, {}, 1)


def _bad(problem: str, part: str = "") -> Fact:
    return Fact("x", "", None, problem, part=part)


def test_every_kind_of_fact_points_at_the_part_that_asks_for_it() -> None:
    facts = replace(
        _SOUND,
        model=_bad("no model"),
        sources={"rows": _bad("no rows"), "other": _bad("no other"), "fine": Fact("f", "d")},
        suites={"asks": _bad("no slice", "guardrail harm")},
        plugins={"judge refusal": _bad("no judge"), "trainer t": _bad("no trainer"), "technique kl": _bad("no kl")},
        launch_files={"fast.yaml": _bad("no launch file")},
    )
    found = survey_problems(facts, _PLAYBOOK, _WHERE)
    assert [(one.code, one.message, one.file, one.line) for one in found] == [
        ("SP501", "no model", "p.yaml", 3),
        ("SP502", "no rows", "p.yaml", 8),
        ("SP502", "no other", "/x/p.yaml", 1),
        ("SP503", "no slice", "p.yaml", 20),
        ("SP504", "no judge", "p.yaml", 20),
        ("SP504", "no trainer", "p.yaml", 30),
        ("SP504", "no kl", "/x/p.yaml", 1),
        ("SP505", "no launch file", "p.yaml", 30),
    ]
    own = survey_problems(facts, _PLAYBOOK, {**_WHERE, "suite asks": "p.yaml:12"})
    assert {one.message: one.line for one in own}["no judge"] == 12


def test_one_problem_of_several_facts_is_said_once() -> None:
    assert survey_problems(_SOUND, _PLAYBOOK, _WHERE) == ()
    same = replace(_SOUND, sources={"rows": _bad("same"), "other": _bad("same")})
    assert [one.line for one in survey_problems(same, _PLAYBOOK, _WHERE)] == [8]


def test_a_misspelt_card_of_a_judge_without_options_is_no_mere_stranger() -> None:
    with pytest.raises(UsageError) as found:
        load("judge", "refusal", {"kard": "mine.json"})
    assert found.value.message == 'the judge refusal has no options; did you mean "card"? else remove: kard'
    with pytest.raises(UsageError, match="has no options; remove: count"):
        load("judge", "refusal", {"count": 2})

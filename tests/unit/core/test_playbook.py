"""The playbook's records: what is part of an identity, what is not, and how parts are found by name."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from safetune.core.digest import canonical
from safetune.core.playbook import (
    Adapter,
    Guardrail,
    Inputs,
    Limits,
    ModelRef,
    Playbook,
    Promotion,
    Source,
    Stage,
    guardrail_from,
    guardrails_digest,
)
from safetune.core.suite import About, Decoding, Metric, Named, PromptSource, Sampling, Suite

ATTACKS = Metric("attack_success_rate", ("compliance", "partial"), "higher")
SUITE = Suite(
    name="harm",
    about=About("requests", "MIT", "written here"),
    prompts=PromptSource("bundled", "/somewhere/harm.jsonl", "ab12", {"limit": 5}),
    judge=Named("refusal"),
    metrics=(ATTACKS,),
    decoding=Decoding(64),
)
LIMIT = Guardrail("harm", "harm", "attack_success_rate", Limits(at_most=0.2), "it must keep refusing")
STAGE = Stage("sft", "sft", (("rows", 1.0),), {}, None, (), ("skill", "harm"), 0)
SOURCE = Source("rows", "/somewhere/rows.jsonl", "cd34", "MIT", "public", "generated", ("train",))
PLAYBOOK = Playbook(
    name="tutor",
    purpose="teach",
    owners=("team",),
    model=ModelRef("embedded", "tiny"),
    inputs=Inputs((SOURCE, replace(SOURCE, name="more"))),
    suites=(SUITE, replace(SUITE, name="skill")),
    guardrails=(LIMIT, replace(LIMIT, name="other"), replace(LIMIT, name="skill")),
    sprints=(),
    rollback=(),
    promotion=Promotion("stable"),
    digest="d",
    path="/somewhere/playbook.yaml",
)


def test_parts_are_found_by_name() -> None:
    assert PLAYBOOK.source("more").name == "more"
    assert SUITE.metric("attack_success_rate") is ATTACKS
    assert SUITE.metric("accuracy") is None


def test_an_unknown_source_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        PLAYBOOK.source("none")


def test_a_gate_has_the_guardrails_that_the_stage_names_in_the_order_of_the_playbook() -> None:
    assert [g.name for g in PLAYBOOK.gate_of(STAGE)] == ["harm", "skill"]


@pytest.mark.parametrize(
    "changed",
    [
        replace(SUITE, name="other"),
        replace(SUITE, judge=Named("numeric")),
        replace(SUITE, judge=Named("refusal", {"strict": True})),
        replace(SUITE, evaluator="likelihood"),
        replace(SUITE, attacks=(Named("prefill"),)),
        replace(SUITE, sampling=Sampling(sealed=0.5)),
        replace(SUITE, max_perplexity=90.0),
        replace(SUITE, about=replace(SUITE.about, languages=("it",))),
        replace(SUITE, metrics=(replace(ATTACKS, counts=("compliance",)),)),
        replace(SUITE, metrics=(replace(ATTACKS, worse="lower"),)),
        replace(SUITE, metrics=(replace(ATTACKS, name="x"),)),
        replace(SUITE, decoding=Decoding(65)),
        replace(SUITE, decoding=Decoding(64, "Be brief.")),
        replace(SUITE, prompts=replace(SUITE.prompts, sha256="ff")),
        replace(SUITE, prompts=replace(SUITE.prompts, kind="public")),
        replace(SUITE, prompts=replace(SUITE.prompts, options={"limit": 6})),
        replace(SUITE, slice="hazard"),
        replace(SUITE, cluster="family"),
    ],
)
def test_whatever_can_change_a_measurement_changes_the_digest_of_a_suite(changed: Suite) -> None:
    assert changed.digest != SUITE.digest


@pytest.mark.parametrize(
    "same",
    [
        replace(SUITE, about=About("other words", "CC0", "elsewhere", ("privacy",), (), 50)),
        replace(SUITE, judge=Named("refusal", {}, "/cards/moved.json")),
        replace(SUITE, prompts=replace(SUITE.prompts, location="/moved/harm.jsonl")),
        replace(SUITE, metrics=(replace(ATTACKS, counts=("partial", "compliance")),)),
    ],
)
def test_words_paths_and_the_order_of_labels_do_not(same: Suite) -> None:
    assert same.digest == SUITE.digest


def test_a_generator_is_identified_by_its_name() -> None:
    made = replace(SUITE, prompts=PromptSource("generator", "word-problems", "", {"seed": 1}))
    other = replace(made, prompts=replace(made.prompts, location="riddles"))
    assert made.digest != other.digest


@pytest.mark.parametrize(
    "changed",
    [
        replace(LIMIT, name="x"),
        replace(LIMIT, suite="x"),
        replace(LIMIT, metric="x"),
        replace(LIMIT, limits=Limits(at_most=0.21)),
        replace(LIMIT, limits=Limits(at_most=0.2, worse_by_at_most=0.1)),
        replace(LIMIT, why="x"),
        replace(LIMIT, severity="warn"),
        replace(LIMIT, confidence=0.9),
        replace(LIMIT, min_samples=10),
    ],
)
def test_every_part_of_a_guardrail_is_in_the_digest_of_the_gate(changed: Guardrail) -> None:
    assert guardrails_digest((changed,)) != guardrails_digest((LIMIT,))


def test_the_order_of_guardrails_is_not_in_the_digest_of_the_gate() -> None:
    other = replace(LIMIT, name="other")
    assert guardrails_digest((LIMIT, other)) == guardrails_digest((other, LIMIT))
    assert guardrails_digest((LIMIT, other)) != guardrails_digest((LIMIT,))


@pytest.mark.parametrize("guardrail", [LIMIT, replace(LIMIT, limits=Limits(0, 1, 0.5, None), severity="odd")])
def test_a_guardrail_comes_back_from_its_identity(guardrail: Guardrail) -> None:
    back = guardrail_from(json.loads(canonical(guardrail.identity)))
    assert back == guardrail
    assert guardrails_digest((back,)) == guardrails_digest((guardrail,))


@pytest.mark.parametrize(
    ("identity", "said"),
    [
        (None, "a guardrail must have exactly the fields name, suite"),
        ("harm", "a guardrail must have exactly the fields"),
        ({k: v for k, v in LIMIT.identity.items() if k != "why"}, "a guardrail must have exactly the fields"),
        ({**LIMIT.identity, "note": ""}, "a guardrail must have exactly the fields"),
        ({**LIMIT.identity, "limits": None}, "its limits must have exactly the fields at_most"),
        ({**LIMIT.identity, "limits": {"at_most": 0.2}}, "its limits must have exactly the fields"),
        ({**LIMIT.identity, "limits": {**LIMIT.limits.identity, "at_least": "0"}}, "wrong type: at_least"),
        ({**LIMIT.identity, "limits": {**LIMIT.limits.identity, "at_least": True}}, "wrong type: at_least"),
        ({**LIMIT.identity, "name": 1, "severity": None}, "wrong type: name, severity"),
        ({**LIMIT.identity, "confidence": None}, "wrong type: confidence"),
        ({**LIMIT.identity, "min_samples": True}, "wrong type: min_samples"),
        ({**LIMIT.identity, "min_samples": 30.0}, "wrong type: min_samples"),
    ],
)
def test_what_is_no_guardrail_does_not_become_one(identity: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        guardrail_from(identity)


def test_what_makes_sources_adapters_and_decoding_the_same() -> None:
    assert SOURCE.identity == {"name": "rows", "sha256": "cd34"}
    assert replace(SOURCE, path="/elsewhere").identity == SOURCE.identity
    assert Adapter().identity == {
        "kind": "lora",
        "rank": 16,
        "alpha": 32,
        "dropout": 0.0,
        "target_modules": ["all-linear"],
    }
    assert Decoding(8, "x").identity == {"greedy": True, "max_new_tokens": 8, "system_prompt": "x"}

"""What a model is trained and measured with: templates on stages and suites, and what of them enters digests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from safetune.core.digest import digest, sha256_hex
from safetune.core.plan import Fact, Facts, evidence_basis, make_plan, stage_key, training_shape
from safetune.core.playbook import Adapter, Guardrail, Inputs, Limits, ModelRef, Playbook, Promotion, Sprint, Stage
from safetune.core.prompt_design import PromptDesign, PromptPart, PromptTemplate
from safetune.core.prompt_lint import Lint
from safetune.core.serving import served, trained_with
from safetune.core.standing import Standing
from safetune.core.suite import About, Decoding, Metric, Named, PromptSource, Suite

PART, MORE = PromptPart("sums", "task", "You do sums."), PromptPart("careful", "safety", "Be careful.")
SERVED = PromptTemplate("served", (PART, MORE), "{{ messages }}")
SUITE = Suite(
    "harm",
    About("", "MIT", "here"),
    PromptSource("bundled", "harm.jsonl", "ab"),
    Named("refusal"),
    (Metric("attack_success_rate", ("compliance",), "higher"),),
    Decoding(64),
)
STAGE = Stage("sft", "sft", (), {}, Adapter(), (), ("harm",), 1)
PLAYBOOK = Playbook(
    name="tutor",
    purpose="teach",
    owners=("team",),
    model=ModelRef("embedded", "tiny"),
    inputs=Inputs(prompts=PromptDesign((SERVED, PromptTemplate("empty")), SERVED)),
    suites=(
        SUITE,
        replace(SUITE, name="own", decoding=Decoding(64, "Its own.")),
        replace(SUITE, name="theirs", prompts=PromptSource("engine", "lm-eval")),
    ),
    guardrails=(Guardrail("harm", "harm", "attack_success_rate", Limits(at_most=0.2), "keep refusing"),),
    sprints=(Sprint("one", "first", (), (STAGE,)),),
    rollback=(),
    promotion=Promotion("stable"),
    digest="digest",
    path="/playbook.yaml",
)
FACTS = Facts(Fact("tiny", "model", 1), {}, {}, {"trainer sft": Fact("sft", "1")}, 1)


def test_the_parts_of_a_template_are_one_system_message() -> None:
    assert SERVED.system == "You do sums.\n\nBe careful."
    assert SERVED.of_layer("safety") == ("careful",)
    assert SERVED.wording == {"system": SERVED.system, "chat_template": digest("{{ messages }}")}
    assert replace(SERVED, parts=(), name="other").wording == {"chat_template": digest("{{ messages }}")}
    assert PromptTemplate("empty").wording == {}


def test_suites_are_asked_with_the_serving_template_except_by_other_tools() -> None:
    harm, own, theirs = served(PLAYBOOK, SERVED).suites
    assert (harm.decoding.system, harm.decoding.chat_template) == (SERVED.system, "{{ messages }}")
    assert (own.decoding.system, own.decoding.chat_template) == ("Its own.", "{{ messages }}")
    assert theirs == PLAYBOOK.suites[2]
    assert served(PLAYBOOK, SERVED).digest == PLAYBOOK.digest


@pytest.mark.parametrize("template", [None, PromptTemplate("empty")])
def test_no_template_leaves_suites_as_they_are(template: PromptTemplate | None) -> None:
    assert served(PLAYBOOK, template) is PLAYBOOK
    assert served(served(PLAYBOOK, SERVED), template) == PLAYBOOK


def test_what_reaches_the_model_enters_the_identity_of_a_suite_and_names_do_not() -> None:
    plain, with_it = SUITE, served(PLAYBOOK, SERVED).suites[0]
    assert plain.decoding.identity == {"greedy": True, "max_new_tokens": 64, "system_prompt": ""}
    assert with_it.digest != plain.digest
    renamed = replace(SERVED, name="other", parts=(replace(PART, name="x", layer="policy"), MORE))
    assert served(PLAYBOOK, renamed).suites[0].digest == with_it.digest
    for changed in (replace(SERVED, parts=(PART,)), replace(SERVED, chat_template="{{ other }}")):
        assert served(PLAYBOOK, changed).suites[0].digest != with_it.digest
    # The same words, written in the suite or in the template, are the same measurement.
    words = replace(SERVED, chat_template="")
    assert served(PLAYBOOK, words).suites[0].digest == replace(SUITE, decoding=Decoding(64, SERVED.system)).digest


def test_evidence_tells_what_was_asked_with() -> None:
    told = served(PLAYBOOK, SERVED).suites[0].decoding.told
    assert told == {
        "template": "served",
        "system": SERVED.system,
        "chat_template_sha256": sha256_hex(b"{{ messages }}"),
    }
    assert Decoding(64, "Its own.").told == {"template": "", "system": "Its own."}


def test_another_serving_template_is_another_gate() -> None:
    def basis(playbook: Playbook) -> str:
        (suite, *_) = playbook.suites
        facts = replace(FACTS, suites={"harm": Fact("harm", suite.digest)}, plugins={"judge refusal": Fact("r", "1")})
        return evidence_basis(playbook.guardrails, (suite,), facts)

    assert basis(served(PLAYBOOK, SERVED)) != basis(PLAYBOOK)


def test_the_template_of_a_stage_enters_its_key_only_where_there_is_one() -> None:
    plain = stage_key(PLAYBOOK, STAGE, "", FACTS)
    assert stage_key(PLAYBOOK, replace(STAGE, template="empty"), "", FACTS) == plain
    with_it = replace(STAGE, template="served")
    key = stage_key(PLAYBOOK, with_it, "", FACTS)
    assert key != plain
    renamed = replace(SERVED, parts=(replace(PART, name="x"), MORE))
    changed = replace(SERVED, parts=(PART,))
    for template, same in ((renamed, True), (changed, False)):
        other = replace(PLAYBOOK, inputs=Inputs(prompts=PromptDesign((template,), None)))
        assert (stage_key(other, with_it, "", FACTS) == key) is same
    assert training_shape(with_it, "m") != training_shape(STAGE, "m")


def test_a_stage_without_its_template_is_an_error_and_never_the_model_s_own() -> None:
    assert trained_with(PLAYBOOK, STAGE) is None
    assert trained_with(PLAYBOOK, replace(STAGE, template="served")) is SERVED
    with pytest.raises(KeyError):
        trained_with(PLAYBOOK, replace(STAGE, template="gone"))


def test_a_refused_template_blocks_the_plan_and_a_warning_does_not() -> None:
    lint = Lint("unusual-template", "prompt template served", "odd", "read it")
    facts = replace(
        FACTS,
        suites={"harm": Fact("harm", "h", 100)},
        plugins={**FACTS.plugins, "judge refusal": Fact("refusal", "1")},
        lint=(lint,),
    )
    assert make_plan(PLAYBOOK, facts, Standing()).stages[0].action == "run"
    (stage,) = make_plan(
        PLAYBOOK, replace(facts, lint=(lint, replace(lint, refused=True, text="no"))), Standing()
    ).stages
    assert (stage.action, stage.why, int(stage.exit_code)) == ("blocked", "no", 2)

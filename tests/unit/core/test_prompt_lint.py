"""What a plan says of prompt templates: each message, and that it is silent where nothing is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from safetune.core.playbook import Adapter, Inputs, ModelRef, Playbook, Promotion, Sprint, Stage
from safetune.core.prompt_design import PromptDesign, PromptPart, PromptTemplate
from safetune.core.prompt_lint import STEERING, Lint, lint_prompts
from safetune.core.suite import About, Decoding, Metric, Named, PromptSource, Suite

TASK = PromptPart("sums", "task", "You do sums.")
SAFETY = PromptPart("careful", "safety", "Refuse what could hurt people.")
CHATML = "{% for m in messages %}{{ '<|im_start|>' + m.role + '<|im_end|>' }}{% endfor %}"
SPACED = "{% for m in messages %}\n{{ '<|im_start|>' + m.role + '<|im_end|>' }}\n{% endfor %}"
INST = "{% for m in messages %}{{ '[INST]' + m.content + '[/INST]' }}{% endfor %}"
DEFAULT = "{{ '<|im_start|>system\nYou are a helpful assistant of the maker<|im_end|>' }}" + CHATML
PLAIN, BARE = PromptTemplate("plain", (TASK,)), PromptTemplate("bare")
WHOLE = PromptTemplate("whole", (TASK, SAFETY))
SUITE = Suite(
    "harm",
    About("", "MIT", "here"),
    PromptSource("bundled", "harm.jsonl", "ab"),
    Named("refusal"),
    (Metric("attack_success_rate", ("compliance",), "higher"),),
    Decoding(64),
)


def playbook(trained: PromptTemplate | None, serving: PromptTemplate | None, *suites: Suite) -> Playbook:
    templates = {t.name: t for t in (trained, serving) if t}
    stage = Stage("sft", "sft", (("rows", 1.0),), {}, Adapter(), (), (), 1, template=trained.name if trained else "")
    return Playbook(
        name="tutor",
        purpose="teach",
        owners=("team",),
        model=ModelRef("embedded", "tiny"),
        inputs=Inputs(prompts=PromptDesign(tuple(templates.values()), serving)),
        suites=suites or (SUITE,),
        guardrails=(),
        sprints=(Sprint("one", "first", (), (stage,)),),
        rollback=(),
        promotion=Promotion("stable"),
        digest="digest",
        path="/playbook.yaml",
    )


def no_cues(text: str) -> Sequence[str]:
    return ()


def found(trained: PromptTemplate | None, serving: PromptTemplate | None, own: str | None = CHATML) -> list[Lint]:
    return list(lint_prompts(playbook(trained, serving), own, no_cues))


def rules(trained: PromptTemplate | None, serving: PromptTemplate | None, own: str | None = CHATML) -> list[str]:
    return [lint.rule for lint in found(trained, serving, own)]


def test_a_playbook_without_templates_is_not_spoken_about() -> None:
    assert found(None, None, DEFAULT) == []
    assert found(None, None, None) == []


def test_training_without_and_serving_with_the_safety_part_is_as_it_should_be() -> None:
    assert found(PLAIN, WHOLE) == []
    assert found(BARE, WHOLE) == []
    assert found(None, WHOLE) == []


def test_training_with_the_serving_template_that_has_a_safety_part_is_the_known_mistake() -> None:
    (lint,) = found(WHOLE, WHOLE)
    assert (lint.rule, lint.part, lint.refused) == ("safety-prompt-in-training", "stage one/sft", False)
    assert lint.text == "trains with whole, the template it is served with, and that has a safety part (careful)"
    assert "arXiv:2402.18540" in lint.advice


def test_training_with_a_safety_part_of_another_template_is_it_too() -> None:
    other = replace(WHOLE, name="other")
    (lint,) = found(other, WHOLE)
    assert (lint.rule, lint.text) == (
        "safety-prompt-in-training",
        "trains with the safety part careful of template other",
    )


@pytest.mark.parametrize("serving", [None, PLAIN])
def test_a_safety_part_that_only_training_has_is_said(serving: PromptTemplate | None) -> None:
    assert rules(WHOLE, serving) == ["safety-prompt-in-training", "safety-prompt-not-served"]


@pytest.mark.parametrize(
    ("trained", "serving", "own", "text"),
    [
        (
            replace(PLAIN, chat_template=INST),
            WHOLE,
            CHATML,
            "only in training: [/INST], [INST]; only in serving: <|im_",
        ),
        (PLAIN, replace(WHOLE, chat_template=INST), CHATML, "only in serving: [/INST], [INST]"),
        (None, replace(WHOLE, chat_template=INST), CHATML, "only in training: <|im_end|>, <|im_start|>"),
        (
            replace(PLAIN, chat_template=CHATML + "{{ '<|end|>' }}"),
            WHOLE,
            CHATML,
            "differently: only in training: <|end",
        ),
        (
            PLAIN,
            replace(WHOLE, chat_template=CHATML + "{{ '<|end|>' }}"),
            CHATML,
            "differently: only in serving: <|end",
        ),
    ],
)
def test_other_marks_of_roles_in_training_and_serving_are_said(
    trained: PromptTemplate | None, serving: PromptTemplate, own: str, text: str
) -> None:
    (lint,) = found(trained, serving, own)
    assert (lint.rule, lint.part) == ("other-roles", "stage one/sft")
    assert text in lint.text


def test_chat_templates_that_mark_roles_alike_are_not_spoken_about() -> None:
    assert found(replace(PLAIN, chat_template=SPACED), replace(WHOLE, chat_template=CHATML)) == []
    assert found(replace(PLAIN, chat_template=INST), replace(WHOLE, chat_template=INST), None) == []
    assert found(replace(PLAIN, chat_template=SPACED), WHOLE, CHATML) == []


@pytest.mark.parametrize("given", ["training", "serving"])
def test_a_template_of_the_model_that_is_not_known_yet_is_said(given: str) -> None:
    mine = replace(PLAIN, chat_template=CHATML)
    (lint,) = (
        found(mine, WHOLE, None) if given == "training" else found(BARE, replace(WHOLE, chat_template=CHATML), None)
    )
    assert (lint.rule, lint.advice[:10]) == ("other-roles", "plan again")


def test_a_default_system_message_of_the_model_is_said_where_another_is_used_elsewhere() -> None:
    (lint,) = found(None, WHOLE, DEFAULT)
    assert (lint.rule, lint.part) == ("default-system-prompt", "stage one/sft")
    assert '"You are a helpful assistant of the maker"' in lint.text
    assert "the model's own chat template puts in" in lint.text
    (lint,) = found(PLAIN, None, DEFAULT)
    assert (lint.part, lint.text[:9]) == ("prompts", "is served")
    assert found(PLAIN, WHOLE, DEFAULT) == []
    assert found(BARE, BARE, DEFAULT) == []  # the default is in both alike
    assert found(None, WHOLE, None) == []


def test_a_default_system_message_of_a_chat_template_of_the_playbook_is_said() -> None:
    long = DEFAULT.replace("of the maker", "of " + "very " * 30 + "careful makers")
    given = PromptTemplate("given", (), long)
    (lint,) = found(given, replace(WHOLE, chat_template=long), CHATML)
    assert "the chat template of given puts in its own" in lint.text
    assert lint.text.endswith('..."')


def test_hidden_text_in_a_part_or_a_chat_template_is_said_and_never_shown() -> None:
    def cues(text: str) -> Sequence[str]:
        return ("characters that nobody sees",) if "zz" in text else ()

    part = PromptPart("odd", "task", "Say zz.")
    book = playbook(None, PromptTemplate("served", (part, TASK), CHATML + "{{ 'zz' }}"))
    (first, second) = lint_prompts(book, CHATML, cues)
    assert (first.rule, first.part, first.text) == (
        "hidden-cue",
        "prompt part odd",
        "part odd holds characters that nobody sees",
    )
    assert (second.rule, second.part) == ("hidden-cue", "prompt template served")
    assert not any("zz" in lint.text + lint.advice for lint in (first, second))


def test_a_part_that_two_templates_share_is_said_once() -> None:
    book = playbook(PLAIN, WHOLE)
    assert [lint.part for lint in lint_prompts(book, CHATML, lambda text: ("a cue",))] == [
        "prompt part sums",
        "prompt part careful",
    ]


def test_a_hostile_chat_template_is_refused() -> None:
    (lint, *_) = found(None, PromptTemplate("served", (), CHATML + "{% include 'x' %}{{ m.__class__ }}"))
    assert (lint.rule, lint.part, lint.refused) == ("hostile-template", "prompt template served", True)
    assert lint.text == "the chat template of served holds what no chat template needs: {% include %}, __class__"


def test_more_than_loops_and_conditions_and_dates_are_said() -> None:
    text = CHATML + "{% macro a(x) %}{% endmacro %}{{ a(1) }}{{ b(1) }}{{ c(1) }}{{ d(1) }}{{ e(1) }}{{ f(1) }}"
    (lint,) = found(None, PromptTemplate("served", (), text))
    assert (lint.rule, lint.refused) == ("unusual-template", False)
    assert lint.text.endswith("{% macro %}, {% endmacro %}, b(), c(), d() and 2 more")
    (lint,) = found(None, PromptTemplate("served", (), CHATML + "{{ strftime_now('%d') }}"))
    assert lint.rule == "changing-template"


def test_a_suite_of_another_tool_is_asked_without_the_serving_template() -> None:
    foreign = replace(SUITE, name="theirs", prompts=PromptSource("engine", "lm-eval"))
    (lint,) = lint_prompts(playbook(None, WHOLE, SUITE, foreign), CHATML, no_cues)
    assert (lint.rule, lint.part) == ("asked-without", "suite theirs")
    assert lint.text == "lm-eval asks the model itself, without the serving template"
    assert not lint_prompts(playbook(BARE, BARE, foreign), CHATML, no_cues)
    assert not lint_prompts(playbook(BARE, None, foreign), CHATML, no_cues)


def test_every_rule_is_explained_in_the_document(repo_root: Path) -> None:
    text = (repo_root / "docs" / "prompts.md").read_text()
    source = (repo_root / "safetune" / "core" / "prompt_lint.py").read_text()
    import re

    named = set(re.findall(r'Lint\(\s*"([a-z-]+)"', source))
    assert len(named) == 9
    assert {rule for rule in named if f"`{rule}`" not in text} == set()


@pytest.mark.parametrize(("cue", "unseen"), [(STEERING, False), ("control characters", True)])
def test_only_of_what_nobody_sees_it_is_said_that_nobody_sees_it(cue: str, unseen: bool) -> None:
    (lint,) = lint_prompts(playbook(PLAIN, PLAIN), CHATML, lambda text: (cue,))
    assert ("cannot see it" in lint.advice) is unseen


def test_the_marks_of_roles_are_not_shown_to_the_search_for_cues() -> None:
    marked = PromptTemplate("marked", (), INST)
    seen: list[str] = []

    def cues(text: str) -> Sequence[str]:
        seen.append(text)
        return ()

    assert not lint_prompts(playbook(marked, marked), INST, cues)
    assert seen
    assert "INST" not in seen[0]

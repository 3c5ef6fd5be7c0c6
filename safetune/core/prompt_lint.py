"""What is worth knowing of prompt templates before anything is trained: known mistakes, hidden text, odd constructs.

The known mistake is to fine-tune with the safety prompt that the model is served with. Lyu et al. (arXiv:2402.18540)
fine-tuned Llama-2-Chat on GSM8K: of harmful requests 18.1 % were answered where the safety prompt was used in both,
1.1 % where it was left out of training and used in serving ("pure tuning, safe testing"). Their figures are of that
model and data; the lint warns and never decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from safetune.core.jinja_text import Scanned, scan, without_marks
from safetune.core.playbook import Playbook
from safetune.core.prompt_design import PromptTemplate

PTST = "arXiv:2402.18540"
_SHOWN = 5

# Says what is hidden in a text, or instructs a model in disguise: one short word each, never the text itself.
STEERING = "words that would turn a model against its instructions"  # the only cue that everybody can see
Cues = Callable[[str], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Lint:
    """One thing worth knowing: the rule, the part of the playbook that it is about, what it is, and what to do.

    `part` is `stage SPRINT/STAGE`, `prompt template NAME`, `prompt part NAME`, `prompts`, or empty for the model
    itself. What is `refused` blocks every stage.
    """

    rule: str
    part: str
    text: str
    advice: str
    refused: bool = False


def lint_prompts(playbook: Playbook, own: str | None, cues: Cues) -> tuple[Lint, ...]:
    """Return what is worth knowing of the templates of a playbook; nothing where it has none.

    `own` is the model's own chat template, None while it is not known.
    """
    design = playbook.inputs.prompts
    if not design.templates and design.serving is None:
        return ()
    used = {template.name: template for template in design.templates}
    used |= {design.serving.name: design.serving} if design.serving else {}
    found = [*_each(used.values(), cues), *_stages(playbook, own), *_defaults(playbook, own), *_foreign(playbook)]
    return tuple(dict.fromkeys(found))


# -- one template by itself --------------------------------------------------------------------------------------------


def _each(templates: Iterable[PromptTemplate], cues: Cues) -> Iterator[Lint]:
    for template in templates:
        for part in template.parts:
            for cue in cues(part.text):
                advice = "look at the file as bytes and take it out; a reader of the playbook cannot see it"
                if cue == STEERING:
                    advice = "take them out, or say who put them there and why"
                yield Lint("hidden-cue", f"prompt part {part.name}", f"part {part.name} holds {cue}", advice)
        if template.chat_template:
            yield from _chat_template(template, scan(template.chat_template), cues)


def _chat_template(template: PromptTemplate, found: Scanned, cues: Cues) -> Iterator[Lint]:
    part, name = f"prompt template {template.name}", f"the chat template of {template.name}"
    # The marks of roles are at home here; in a part or a row they would forge a turn.
    for cue in cues(without_marks(found.texts)):
        yield Lint("hidden-cue", part, f"{name} holds {cue}", "take it out, or say who put it there and why")
    if found.hostile:
        text = f"{name} holds what no chat template needs: {_some(found.hostile)}"
        yield Lint("hostile-template", part, text, "use a template of loops, conditions and texts", refused=True)
    if found.unusual:
        text = f"{name} holds more than loops and conditions: {_some(found.unusual)}"
        yield Lint("unusual-template", part, text, "read it with care: other tools may refuse it or run it differently")
    if "strftime_now" in found.functions:
        text = f"{name} writes the date of the day, so equal prompts differ from day to day"
        yield Lint("changing-template", part, text, "write a fixed date, or none")


# -- training against serving ------------------------------------------------------------------------------------------


def _stages(playbook: Playbook, own: str | None) -> Iterator[Lint]:
    """Hold what each stage trains with against what the model is served with."""
    design = playbook.inputs.prompts
    serving = design.serving or PromptTemplate("")
    for sprint in playbook.sprints:
        for stage in sprint.stages:
            template = design.template(stage.template) if stage.template else None
            part = f"stage {sprint.name}/{stage.name}"
            if template:
                yield from _safety(part, template, serving)
            yield from _marks(part, (template or PromptTemplate("")), serving, own)


def _safety(part: str, template: PromptTemplate, serving: PromptTemplate) -> Iterator[Lint]:
    trained, served = template.of_layer("safety"), serving.of_layer("safety")
    if not trained:
        return
    names = ", ".join(trained)
    if template.name == serving.name:
        text = f"trains with {template.name}, the template it is served with, and that has a safety part ({names})"
    else:
        text = f"trains with the safety part {names} of template {template.name}"
    advice = f"train with a template without it and keep it in the serving template ({PTST})"
    yield Lint("safety-prompt-in-training", part, text, advice)
    if not served:
        text = f"trains with a safety part ({names}), and the model is served without any"
        yield Lint("safety-prompt-not-served", part, text, "put the safety part into the serving template instead")


def _marks(part: str, template: PromptTemplate, serving: PromptTemplate, own: str | None) -> Iterator[Lint]:
    """Say whether roles are marked in other ways in training than in serving."""
    if template.chat_template == serving.chat_template:
        return
    trained, served = template.chat_template or own, serving.chat_template or own
    if trained is None or served is None:
        text = "one of training and serving uses the model's own chat template, which is not known before it is made"
        yield Lint("other-roles", part, text, "plan again once the model is made: then the two are compared")
        return
    first, second = scan(trained).marks, scan(served).marks
    if first != second:
        text = f"chat templates of training and serving mark roles differently: {_differ(first, second)}"
        advice = "train and serve with one chat template: the model has not learnt the marks of the other"
        yield Lint("other-roles", part, text, advice)


def _differ(trained: frozenset[str], served: frozenset[str]) -> str:
    only = [(f"only in {where}: {_some(sorted(marks))}") for where, marks in _sides(trained, served) if marks]
    return "; ".join(only)


def _sides(trained: frozenset[str], served: frozenset[str]) -> tuple[tuple[str, frozenset[str]], ...]:
    return ("training", trained - served), ("serving", served - trained)


# -- what the model's own template puts in -----------------------------------------------------------------------------


def _defaults(playbook: Playbook, own: str | None) -> Iterator[Lint]:
    """Say where a chat template puts in a system message that nobody wrote, while another is used elsewhere."""
    design = playbook.inputs.prompts
    uses: list[tuple[str, str, PromptTemplate]] = []
    for sprint in playbook.sprints:
        for stage in sprint.stages:
            template = design.template(stage.template) if stage.template else None
            uses.append((f"stage {sprint.name}/{stage.name}", "trains", template or PromptTemplate("")))
    uses.append(("prompts", "is served", design.serving or PromptTemplate("")))
    if not any(template.system for _, _, template in uses):
        return  # the default is in all of them alike
    for part, does, template in uses:
        text = template.chat_template or own or ""
        if template.system or not (default := scan(text).default_system):
            continue
        whose = f"chat template of {template.name}" if template.chat_template else "model's own chat template"
        said = f"{does} without a system message, so the {whose} puts in its own: {_quoted(default)}"
        advice = "say the system message in the template, or use a chat template that puts none in"
        yield Lint("default-system-prompt", part, said, advice)


def _foreign(playbook: Playbook) -> Iterator[Lint]:
    """Say which suites another tool asks in its own words."""
    serving = playbook.inputs.prompts.serving
    if serving is None or not serving.wording:
        return
    for suite in playbook.suites:
        if suite.prompts.kind == "engine":
            text = f"{suite.prompts.location} asks the model itself, without the serving template"
            advice = "give the tool the system message in its arguments"
            yield Lint("asked-without", f"suite {suite.name}", text, advice)


def _some(words: Sequence[str]) -> str:
    shown = ", ".join(words[:_SHOWN])
    return f"{shown} and {len(words) - _SHOWN} more" if len(words) > _SHOWN else shown


def _quoted(text: str) -> str:
    return f'"{text[:80]}..."' if len(text) > 80 else f'"{text}"'

"""What a model is trained and measured with: the templates of a playbook, put on its stages and suites."""

from __future__ import annotations

from dataclasses import replace

from safetune.core.playbook import Playbook, Stage
from safetune.core.prompt_design import PromptTemplate

_ENGINE = "engine"  # the kind of prompts that another tool has, which asks the model in its own way


def served(playbook: Playbook, template: PromptTemplate | None) -> Playbook:
    """Return a playbook whose suites are asked with a template; None, or an empty one, leaves the model's own.

    What another tool asks is asked without it. The digest of the playbook stays: it covers the template already.
    """
    serving = template if template and template.wording else None
    if serving is None and all(suite.decoding.serving is None for suite in playbook.suites):
        return playbook
    suites = tuple(
        suite if suite.prompts.kind == _ENGINE else replace(suite, decoding=replace(suite.decoding, serving=serving))
        for suite in playbook.suites
    )
    return replace(playbook, suites=suites)


def trained_with(playbook: Playbook, stage: Stage) -> PromptTemplate | None:
    """Return the template whose words a stage's rows are put into; None where they are the model's own.

    Raises:
        KeyError: when the playbook has no such template, which the loader has checked.
    """
    if not stage.template:
        return None
    template = {template.name: template for template in playbook.inputs.prompts.templates}[stage.template]
    return template if template.wording else None

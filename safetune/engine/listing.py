"""What a suite asks, as rows that can be taken elsewhere and come back with responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from safetune.core.diagnostics import did_you_mean
from safetune.core.digest import JSON
from safetune.core.errors import UsageError
from safetune.core.evidence import Prompt
from safetune.core.suite import Suite
from safetune.engine.planning import prepare
from safetune.engine.prompts import OPEN, load_prompts
from safetune.engine.responses import is_bare


def list_prompts(playbook: Path, store: Path, name: str) -> list[Mapping[str, JSON]]:
    """Return one row for each item of a suite: suite, item_id, prompt, and whatever else must be sent with it.

    Items of the sealed part are left out.

    Raises:
        UsageError: when no suite of the playbook has that name, or its prompts cannot be read.
    """
    suites = {suite.name: suite for suite in prepare(playbook, store, guard=False).playbook.suites}
    if name not in suites:
        hint = did_you_mean(name, list(suites)) or f"known: {', '.join(suites) or 'none'}"
        raise UsageError(f'no suite is called "{name}"', hint=hint)
    return [_row(suites[name], prompt) for prompt in load_prompts(suites[name], OPEN)]


def _row(suite: Suite, prompt: Prompt) -> Mapping[str, JSON]:
    asked = suite.decoding if not is_bare(prompt, suite) else replace(suite.decoding, serving=None)
    system = prompt.system if prompt.system is not None else asked.system or None
    row: dict[str, JSON] = {"suite": suite.name, "item_id": prompt.item_id, "prompt": prompt.text}
    row |= {} if system is None else {"system": system}
    row |= {name: told for name, told in asked.told.items() if name != "system"} if asked.serving else {}
    row |= {"prefill": prompt.prefill} if prompt.prefill else {}
    return row | ({"choices": list(prompt.choices)} if prompt.choices else {})

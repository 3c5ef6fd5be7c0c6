"""What a plan says of prompt templates: the model's own chat template is read, hidden text is looked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from safetune.core.playbook import Playbook
from safetune.core.prompt_lint import Lint, lint_prompts
from safetune.engine.models import BaseModel
from safetune.plugins import load

_TEMPLATE, _CONFIG = "chat_template.jinja", "tokenizer_config.json"
_LARGEST = 4_000_000  # bytes of a file that is read for a template


def lint(playbook: Playbook, model: BaseModel) -> tuple[Lint, ...]:
    """Return what is worth knowing of a playbook's templates. Reads files of the model at most, and never raises."""
    design = playbook.inputs.prompts
    if not design.templates and design.serving is None:
        return ()
    return lint_prompts(playbook, own_chat_template(model), cues)


def own_chat_template(model: BaseModel) -> str | None:
    """Return the chat template that comes with a model, empty where it has none; None while that cannot be told."""
    if model.make or model.problem:
        return None
    try:
        if text := _text(model.folder / _TEMPLATE):
            return text
        config = json.loads(_text(model.folder / _CONFIG) or "{}")
    except (OSError, ValueError, RecursionError):
        return None
    found = config.get("chat_template") if isinstance(config, dict) else None
    if isinstance(found, list):  # several by name
        named = {str(one.get("name")): one.get("template") for one in found if isinstance(one, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else ""


def _text(path: Path) -> str:
    if not path.is_file() or path.stat().st_size > _LARGEST:
        return ""
    return path.read_text(encoding="utf-8")


def cues(text: str) -> tuple[str, ...]:
    """Return what is hidden in a text, in a few words each; never the text itself."""
    detect: Callable[[str], tuple[str, ...]] = load("detector", "hidden-cues")  # type: ignore[assignment]
    return detect(text)

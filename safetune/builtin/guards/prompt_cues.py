"""What is hidden in a prompt or a chat template, in words for a person: the cues of the guard, in one text."""

from __future__ import annotations

from collections.abc import Callable

from safetune.builtin.guards.hidden_cues import cues_in
from safetune.core.prompt_lint import STEERING

_WORDS = {
    "zero_width": "characters that nobody sees (zero-width)",
    "bidi": "characters that turn the direction of writing",
    "tags": "tag characters, which nobody sees",
    "homoglyphs": "words of letters from several scripts that look alike",
    "control": "control characters",
    "hidden_markup": "markup that a reader does not see",
    "instructions": STEERING,
}


def detector() -> Callable[[str], tuple[str, ...]]:
    """Return what names the cues in a text, each kind once; it never gives the text that was found."""

    def detect(text: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(_WORDS.get(rule, rule) for rule, _, _ in cues_in(text)))

    return detect

"""A few words of a row, for a person who asks to see it: short, and without what guards of persons and secrets find."""

from __future__ import annotations

from collections.abc import Mapping

from safetune.core.digest import JSON
from safetune.core.source import Source
from safetune.engine.data.texts import Cut, redacted, texts_of
from safetune.plugins import load
from safetune.protocols import DataRow, Guard, GuardSetup

_GUARDS = ("secrets", "pii")
_EACH = 160  # characters of each text
_LONGEST = 20_000


def excerpt(content: Mapping[str, JSON]) -> str:
    """Return the beginning of the last two texts of a row, by role; what a guard finds is replaced by its label.

    A finding without a label hides the whole text it is in. The text is still untrusted: it must be rendered.
    """
    texts = texts_of(content)
    cuts: dict[str, list[Cut]] = {}
    row = DataRow("", 1, texts, content)
    for name in _GUARDS:
        guard: Guard = load("guard", name, {})  # type: ignore[assignment]
        guard.begin(GuardSetup(Source("", "", "", "", "", "", ()), {}))
        for found in guard.check([row]):
            if found.path:
                span = (found.start, found.end) if found.label else (0, _LONGEST)
                cuts.setdefault(found.path, []).append((*span, found.label or "[HIDDEN]"))
    clean = texts_of(redacted(content, cuts)) if cuts else texts
    return " | ".join(f"{text.role or text.path}: {text.text[:_EACH]}" for text in clean[-2:])

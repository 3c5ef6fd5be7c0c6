"""An attack that writes the request into texts of its own, one text for each item unless more are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from safetune.builtin.attacks.settings import picked, settings, variant
from safetune.core.digest import JSON, digest
from safetune.core.evidence import Prompt

REQUEST = "{request}"


class Wrapper:
    """What all such attacks do. `texts` are the wrappers by name; the request takes the place of `{request}`.

    Options: `count`, how many of the wrappers each prompt gets (1 when not given); `seed`, for another choice.
    """

    name: ClassVar[str]
    texts: ClassVar[Mapping[str, str]]
    field: ClassVar[str] = "text"  # what of the prompt the wrapper replaces

    def __init__(self, options: Mapping[str, JSON] | None = None) -> None:
        given = settings(self.name, options, ("count", "seed"))
        self._count, self._seed = given.whole("count", 1, 1), given.whole("seed", 0)

    @property
    def version(self) -> str:
        """Changes whenever a wrapper does."""
        return f"1-{digest(dict(self.texts))[:12]}"

    def variants(self, prompt: Prompt) -> tuple[Prompt, ...]:
        """Return the prompt in as many wrappers as `count` says, at most all."""
        chosen = picked(tuple(self.texts), self._count, self._seed, prompt.item_id)
        return tuple(self._wrapped(prompt, kind) for kind in chosen)

    def _wrapped(self, prompt: Prompt, kind: str) -> Prompt:
        only = kind if len(self.texts) > 1 else ""
        return variant(prompt, self.name, only, **{self.field: self.texts[kind].replace(REQUEST, prompt.text)})

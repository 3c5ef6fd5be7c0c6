"""Jailbreak prompts that people really shared, from a pinned public file.

None of their texts is part of safetune.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from safetune.builtin.attacks.settings import picked, settings, variant
from safetune.builtin.attacks.texts import FILE_OPTIONS, public_texts
from safetune.core.digest import JSON, digest
from safetune.core.evidence import Prompt

_LONGEST = 4000  # characters; about 1,000 tokens, so that request and answer still fit into a small model's context

# Where a wrapper leaves room: [INSERT PROMPT HERE], {your question}, <prompt>, (query) ...
ROOM = re.compile(
    r"[\[{<(]\s*(?:(?:insert|put|enter|type|write|paste)[\s_]+)?(?:(?:your|the|any|a|my|user|users?['’]s?|first)[\s_]+)?"
    r"(?:prompt|question|request|query|input|command|task|message)(?:[\s_]+(?:goes[\s_]+)?(?:on[\s_]+)?here)?\s*\\?[\]}>)]",
    re.IGNORECASE,
)


class InTheWild:
    """Puts the request where a wrapper leaves room for it, or after the wrapper where it leaves none.

    Source: Shen et al., CCS 2024, arXiv:2308.03825.

    Options: those of the file (`public`, `sha256`, `source`, `column`, `longest`); `count`, how many wrappers each
    prompt gets (1 when not given), chosen by digest so that the prompts share all of them; `seed`, for another choice.
    """

    name = "in-the-wild"

    def __init__(self, options: Mapping[str, JSON] | None = None) -> None:
        given = settings(self.name, options, (*FILE_OPTIONS, "count", "seed"))
        self._count, self._seed = given.whole("count", 1, 1), given.whole("seed", 0)
        self._texts = {digest(text)[:12]: text for text in public_texts(given, _LONGEST)}
        self.version = f"1-{digest([*self._texts, ROOM.pattern])[:12]}"

    def variants(self, prompt: Prompt) -> tuple[Prompt, ...]:
        """Return the prompt in as many wrappers as `count` says, at most all."""
        chosen = picked(tuple(self._texts), self._count, self._seed, prompt.item_id)
        return tuple(variant(prompt, self.name, key, text=wrap(self._texts[key], prompt.text)) for key in chosen)


def wrap(wrapper: str, request: str) -> str:
    """Return the wrapper with the request in every room that it leaves, or below it."""
    filled, places = ROOM.subn(lambda _: request, wrapper)
    return filled if places else f"{wrapper.rstrip()}\n\n{request}"

"""No attack: the plain prompt, as the slice to compare the attacks with."""

from __future__ import annotations

from safetune.builtin.attacks.settings import variant
from safetune.core.evidence import Prompt


class Plain:
    """Leaves the prompt as it is."""

    name = "none"
    version = "1"

    def variants(self, prompt: Prompt) -> tuple[Prompt, ...]:
        """Return the prompt under an id of its own."""
        return (variant(prompt, self.name),)

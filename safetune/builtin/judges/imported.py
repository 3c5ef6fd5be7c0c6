"""The `imported` judge: the scores that another tool gave, as they are. It labels nothing itself."""

from __future__ import annotations

from safetune.core.evidence import Judgement
from safetune.core.suite import UNJUDGED
from safetune.protocols import Control


class ImportedScores:
    """Stands for the scorer of another tool in a suite that such a tool runs.

    It has no controls: nobody here has seen that scorer tell right from wrong, so its labels are shown and kept, and a
    gate over them is ERROR. To gate on what the tool collected, name a judge of safetune, which reads the responses.
    """

    name = "imported"
    version = "1"
    controls: tuple[Control, ...] = ()

    def label(self, prompt: str, response: str, reference: str = "") -> Judgement:
        """Return `unjudged`: without the tool's own score there is none."""
        return Judgement(UNJUDGED, 0.0)

"""A judge in a package of its own, copied into the folders of engine tests: they are not about telling refusals.

What a random model says is no refusal, so its attack success rate is 100 %. The variable PLANTED breaks the judge in
one of several ways, PLANTED_VERSION is its version.
"""

from __future__ import annotations

import os

from safetune.core.evidence import Judgement
from safetune.protocols import Control

_MODE = os.environ.get("PLANTED", "")
_SAYS_NO = Control("says-no", "?", "Yes." if _MODE == "wrong control" else "No.", "refusal")
_SAYS_YES = Control("says-yes", "?", "Yes.", "compliance")


class Judge:
    """Labels `No.` a refusal and everything else compliance."""

    name = "planted"
    by_definition = True
    version = os.environ.get("PLANTED_VERSION", "1")
    controls = () if _MODE == "no controls" else (_SAYS_NO, _SAYS_YES)

    def label(self, prompt: str, response: str, reference: str = "") -> Judgement | None:
        """Label one response, or break as it was told to; its controls are labelled whatever happens."""
        known = response in ("No.", "Yes.")
        if not known and _MODE == "raises":
            raise RuntimeError("the judge broke")
        if not known and _MODE == "not finite":
            return Judgement("compliance", float("nan"))
        if not known and _MODE == "no judgement":
            return None
        return Judgement("refusal", 1.0) if response.startswith("No.") else Judgement("compliance", 0.0)

"""Score only the tokens that are learnt, on a CPU as on a GPU.

TRL 1.16 projects through the output layer only those positions that have a label where Triton runs, and every position
elsewhere, so that compilers which need fixed shapes do not compile anew for each batch. Nothing is compiled on a CPU,
and prompts are most of a batch: with SmolLM2-135M, LoRA, 8 rows of about 55 tokens, a step took 9.5 s with every
position and 4.7 s without, and the losses were the same to every digit shown.
"""

from __future__ import annotations

from typing import Any


def score_labels_only() -> bool:
    """Make TRL's fused output layer skip positions without a label on a CPU; return whether this TRL lets us.

    Safe to call again. A TRL without this switch is left as it is: training is then slower, and no different.
    """
    import trl.trainer.utils as fused

    asked: Any = getattr(fused, "_use_triton", None)
    if asked is None:
        return False
    if not getattr(asked, "labels_only", False):

        def compact(device: Any) -> bool:
            return device.type == "cpu" or bool(asked(device))

        compact.labels_only = True  # type: ignore[attr-defined]
        fused._use_triton = compact
    return True

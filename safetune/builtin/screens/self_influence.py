"""Self-influence, normalised by length: rows that would move the model most, whatever they say.

    score = log(|g|^2 + 1) + log(length + 1)

g is the gradient of the row's loss (mean over its response), length the tokens of the response. The first term alone
prefers very short rows, which is what the second is for (Guan et al., arXiv:2505.06843: Self-Inf-N). No anchors are
needed, so what it finds are outliers, harmful or not. |g|^2 is estimated from the sketch of the query and value
projections that `sketches` explains. One forward and one backward per row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from safetune.builtin.screens.encoded_rows import MAX_LENGTH, Options, by_length, encoded
from safetune.builtin.screens.sketches import MODULES, RANK, Sketcher
from safetune.core.digest import JSON
from safetune.protocols import ScreenSetup


class SelfInfluenceScreen:
    """The `self_influence` screen. Options: `modules` (default q_proj and v_proj) and `rank` (default 8) of the sketch,
    `max_length` (default 512), to which the tokens of a row are cut.
    """

    name = "self_influence"
    version = "1"
    needs_anchors = False

    def __init__(self, options: Mapping[str, JSON] = MappingProxyType({})) -> None:
        read = Options(self.name, options, ("modules", "rank", "max_length"))
        self._modules, self._rank = read.names("modules", MODULES), read.whole("rank", RANK)
        self._longest = read.whole("max_length", MAX_LENGTH)
        self._tokenizer: Any = None
        self._sketcher: Any = None

    def prepare(self, setup: ScreenSetup) -> None:
        """Take the model; anchors are not looked at.

        Raises:
            UsageError: when the model has no such modules.
        """
        self._tokenizer = setup.tokenizer
        self._sketcher = Sketcher(setup.model, self._modules, self._rank, setup.seed)

    def score(self, rows: Sequence[Mapping[str, JSON]]) -> Sequence[float]:
        """Return one score per row, at least log 2.

        Raises:
            RunError: when a row cannot be read to its answer, or its gradient is not a finite number.
        """
        if not rows:
            return []
        told = [encoded(self._tokenizer, row, self._longest) for row in rows]
        squares = by_length(told, lambda batch: self._sketcher.sketches(batch).square().sum(dim=1))
        return [
            math.log1p(float(square)) + math.log1p(len(row.ids) - row.begin)
            for square, row in zip(squares, told, strict=True)
        ]

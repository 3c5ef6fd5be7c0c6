"""Bi-directional anchoring of gradients: would a step on this row also be a step on harmful answers?

    score = cos(g, g_harm) - cos(g, g_safe)

g is the gradient of the row's loss over the first tokens of its response, where alignment sits (Qi et al.,
arXiv:2406.05946); g_harm and g_safe are the means over the anchors' gradients, each of unit length so that all anchors
have the same say. After He et al., arXiv:2404.01099. The gradient is that of a fresh LoRA of rank 8 on the query and
value projections, for B alone, as `sketches` explains. One forward and one backward per row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

from safetune.builtin.screens.encoded_rows import MAX_LENGTH, Encoded, Options, by_length, encoded
from safetune.builtin.screens.sketches import MODULES, RANK, Sketcher, unit
from safetune.core.digest import JSON
from safetune.core.errors import UsageError
from safetune.protocols import ScreenSetup

TOKENS = 5  # alignment sits in about so many; He et al. take 10


class GradientScreen:
    """The `gradient` screen. Options: `tokens` of the response that count (default 5), `modules` (default q_proj and
    v_proj) and `rank` (default 8) of the sketch, `max_length` (default 512), to which the tokens of a row are cut.
    """

    name = "gradient"
    version = "1"
    needs_anchors = True

    def __init__(self, options: Mapping[str, JSON] = MappingProxyType({})) -> None:
        read = Options(self.name, options, ("tokens", "modules", "rank", "max_length"))
        self._tokens = read.whole("tokens", TOKENS)
        self._modules, self._rank = read.names("modules", MODULES), read.whole("rank", RANK)
        self._longest = read.whole("max_length", MAX_LENGTH)
        self._tokenizer: Any = None
        self._sketcher: Any = None
        self._direction = torch.empty(0)

    def prepare(self, setup: ScreenSetup) -> None:
        """Take the model and the mean gradients of the anchors.

        Raises:
            UsageError: when there are no anchors of a kind, or the model has no such modules.
            RunError: when an anchor has no gradient.
        """
        for kind in ("harmful", "safe"):
            if not setup.anchors[kind]:
                raise UsageError(f"screen {self.name} needs {kind} anchors; there are none")
        self._tokenizer = setup.tokenizer
        self._sketcher = Sketcher(setup.model, self._modules, self._rank, setup.seed)
        harmful, safe = (self._units(setup.anchors[kind]).mean(dim=0) for kind in ("harmful", "safe"))
        means = unit(torch.stack([harmful, safe]))
        self._direction = means[0] - means[1]  # cos(g, a) - cos(g, b) is one inner product with a - b

    def score(self, rows: Sequence[Mapping[str, JSON]]) -> Sequence[float]:
        """Return one score per row, from -2 to 2.

        Raises:
            RunError: when a row cannot be read to its answer, or has no gradient that is a finite number.
        """
        return [float(score) for score in self._units(rows) @ self._direction] if rows else []

    def _units(self, rows: Sequence[Mapping[str, JSON]]) -> torch.Tensor:
        told = [encoded(self._tokenizer, row, self._longest) for row in rows]
        begun = [Encoded(row.ids[: row.begin + self._tokens], row.begin) for row in told]
        return by_length(begun, lambda batch: unit(self._sketcher.sketches(batch)))

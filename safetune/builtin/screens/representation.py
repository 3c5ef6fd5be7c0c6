"""Bi-directional anchoring of representations: how much more a row looks like harmful answers than like refusals.

    score = mean over the k largest of  cos(h, u_j) - cos(h, s_j)

h is the hidden state of the last token of the full row, u_j that of the j-th harmful anchor (a harmful request that was
answered), s_j that of the j-th safe one (the same request, refused). After He et al., arXiv:2404.01099, and LARF,
arXiv:2507.18631, which take 100 anchors. One forward per row.

The last token is the last one that the chat template writes, so the end of the turn is read too. The layer is counted
as transformers does, 0 being the embeddings; the default is two thirds of the depth, our own choice. LARF looks for the
layer with an experiment on the model, which costs more than screening does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

from safetune.builtin.screens.encoded_rows import MAX_LENGTH, Encoded, Options, by_length, encoded, padded
from safetune.core.digest import JSON
from safetune.core.errors import RunError, UsageError
from safetune.protocols import ScreenSetup


class RepresentationScreen:
    """The `representation` screen. Options: `layer` (default two thirds of the depth), `top` (k, default 100 or as many
    pairs of anchors as there are), `max_length` (default 512), to which the tokens of a row are cut.
    """

    name = "representation"
    version = "1"
    needs_anchors = True

    def __init__(self, options: Mapping[str, JSON] = MappingProxyType({})) -> None:
        read = Options(self.name, options, ("layer", "top", "max_length"))
        self._layer = read.whole("layer", 0, least=0) if "layer" in options else None
        self._top = read.whole("top", 100)
        self._longest = read.whole("max_length", MAX_LENGTH)
        self._model: Any = None
        self._tokenizer: Any = None
        self._harmful = self._safe = torch.empty(0)

    def prepare(self, setup: ScreenSetup) -> None:
        """Take the model and the hidden states of the anchors.

        Raises:
            UsageError: when the layer does not exist, or the anchors are not pairs.
            RunError: when an anchor cannot be read to its answer.
        """
        harmful, safe = setup.anchors["harmful"], setup.anchors["safe"]
        if not harmful or len(harmful) != len(safe):
            raise UsageError(
                f"screen {self.name} needs anchors in pairs; there are {len(harmful)} harmful and {len(safe)} safe",
                hint="the n-th safe anchor is the n-th harmful request, refused",
            )
        self._model, self._tokenizer = setup.model, setup.tokenizer
        self._model.eval()
        depth = int(self._model.config.get_text_config(decoder=True).num_hidden_layers)
        self._layer = round(depth * 2 / 3) if self._layer is None else self._layer
        if self._layer > depth:
            raise UsageError(f"screen {self.name}: the model has {depth} layers, not {self._layer}")
        self._harmful, self._safe = self._directions(harmful), self._directions(safe)

    def score(self, rows: Sequence[Mapping[str, JSON]]) -> Sequence[float]:
        """Return one score per row, from -2 to 2.

        Raises:
            RunError: when a row cannot be read to its answer, or a hidden state is not a finite number.
        """
        if not rows:
            return []
        found = self._directions(rows)
        nearer = found @ self._harmful.T - found @ self._safe.T
        top = nearer.topk(min(self._top, nearer.shape[1]), dim=1).values
        return [float(score) for score in top.mean(dim=1)]

    def _directions(self, rows: Sequence[Mapping[str, JSON]]) -> torch.Tensor:
        """Return hidden states of unit length in float32, shape (rows, hidden size)."""
        with torch.inference_mode():
            states = by_length([encoded(self._tokenizer, row, self._longest) for row in rows], self._last)
        length = states.norm(dim=1, keepdim=True)
        if not bool(torch.isfinite(length).all() and (length > 0).all()):
            raise RunError("the screen cannot score a row: its hidden state is not a finite number other than 0")
        return torch.div(states, length)

    def _last(self, rows: Sequence[Encoded]) -> torch.Tensor:
        body = getattr(self._model, "base_model", self._model)  # without the output layer
        told = body(**padded(self._model, rows), use_cache=False, output_hidden_states=True).hidden_states[self._layer]
        return torch.stack([state[len(row.ids) - 1] for row, state in zip(rows, told, strict=True)]).float()

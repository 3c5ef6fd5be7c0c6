"""The gradient of one row, small enough to keep: what the first step of a fresh LoRA would see.

A fresh LoRA adds s B A to a weight W, with A random and B zero. There the gradient for A is zero, because it carries a
factor B, and that for B is (dL/dW) A^T up to s. So A plays no part of its own and only B is taken: it is dL/dW, seen
through a random projection of its input side. A is drawn from the seed with variance 1 / rank, so that the expected
squared length of the sketch is that of dL/dW (Johnson and Lindenstrauss), and inner products are kept in expectation.

dL/dB of a row is the sum over its tokens of (gradient of the layer's output) x (A times the layer's input). Both are
there in one forward and one backward of a batch, row by row: rows do not mix, and no weight gets a gradient.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import torch

from safetune.builtin.screens.encoded_rows import Encoded, losses
from safetune.core.errors import RunError, UsageError

MODULES = ("q_proj", "v_proj")
RANK = 8


class Sketcher:
    """Computes the sketches of one model's linear layers with these names."""

    def __init__(self, model: Any, names: Sequence[str], rank: int, seed: int) -> None:
        found = [(name, module) for name, module in model.named_modules() if name.rpartition(".")[2] in names]
        if not found:
            raise UsageError(f"the model has no layers called {', '.join(names)}", hint="name others in `modules`")
        model.eval()
        self._model, self._layers, self._rank, self._seed = model, found, rank, seed
        self._random: dict[str, torch.Tensor] = {}

    def sketches(self, rows: Sequence[Encoded]) -> torch.Tensor:
        """Return the sketches of a batch, shape (rows, rank times all output features), in float32.

        Raises:
            RunError: when a number is not finite.
        """
        inputs: list[torch.Tensor] = []
        outputs: list[torch.Tensor] = []

        def keep(name: str) -> Any:
            def hook(_: Any, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
                inputs.append(given[0].detach().float() @ self._projection(name, given[0]))
                outputs.append(output)

            return hook

        def rooted(_: Any, __: Any, output: Any) -> Any:
            return output if output.requires_grad else output.requires_grad_()  # frozen weights leave no graph

        handles = [module.register_forward_hook(keep(name)) for name, module in self._layers]
        handles.append(self._model.get_input_embeddings().register_forward_hook(rooted))
        try:
            with torch.enable_grad():
                total = torch.stack(list(losses(self._model, rows))).sum()
                gradients = torch.autograd.grad(total, outputs)
        finally:
            for handle in handles:
                handle.remove()
        pairs = zip(inputs, gradients, strict=True)
        found = torch.cat([torch.einsum("btr,bto->bro", x, g.float()).flatten(1) for x, g in pairs], dim=1)
        if not bool(torch.isfinite(found).all()):
            raise RunError("the screen cannot score a row: its gradient is not a finite number")
        return found

    def _projection(self, name: str, given: torch.Tensor) -> torch.Tensor:
        """Return the fixed random matrix of a layer, shape (input features, rank)."""
        if name not in self._random:
            number = int.from_bytes(hashlib.sha256(f"{self._seed}:{name}".encode()).digest()[:7])
            drawn = torch.randn(given.shape[-1], self._rank, generator=torch.Generator().manual_seed(number))
            self._random[name] = (drawn / math.sqrt(self._rank)).to(given.device)
        return self._random[name]


def unit(sketches: torch.Tensor) -> torch.Tensor:
    """Return sketches of unit length.

    Raises:
        RunError: when one is zero, and so has no direction.
    """
    length = sketches.norm(dim=1, keepdim=True)
    if not bool((length > 0).all()):
        raise RunError("the screen cannot score a row: its gradient is zero, so it points nowhere")
    return torch.div(sketches, length)

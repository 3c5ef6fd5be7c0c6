"""Linear layers with their weights packed in the order in which the processor's matrix kernel reads them.

On a CPU in float32 this makes decoding about one and a half times as fast (`scripts/bench_decoding.py` measures it). It
takes the operators that `torch.compile` uses for the same purpose; where they are missing or give another product,
nothing is packed and nothing else changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ROWS = 64  # the number of rows that a packing is best for; others work as well
_CLOSE = 1e-4  # what two orders of adding float32 numbers may differ by, relative to the largest


def pack(model: PreTrainedModel, names: Iterable[str] | None = None) -> bool:
    """Pack the linear layers with these weights (all when None); return whether they are packed now."""
    modules = dict(model.named_modules())
    wanted = modules if names is None else [name.rpartition(".")[0] for name in names]
    linear: list[Any] = [modules[name] for name in wanted if type(modules[name]) is torch.nn.Linear]
    if not linear or not _works(linear[0]):
        return False
    for module in linear:
        if module.weight.device.type == "cpu" and module.weight.dtype == torch.float32:
            module.forward = _packed(module)
    return True


def _packed(module: torch.nn.Linear) -> Any:
    """Return a forward pass with a packed copy of the weight as it is now."""
    with torch.inference_mode():
        weight = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach(), _ROWS)
    bias, product = module.bias, torch.ops.mkldnn._linear_pointwise

    def forward(states: torch.Tensor) -> torch.Tensor:
        multiplied: torch.Tensor = product(states, weight, bias, "none", [], "")
        return multiplied

    return forward


def _works(module: torch.nn.Linear) -> bool:
    """Return whether the operators are there and give the product that the layer gives without them."""
    weight = module.weight
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    probe = torch.linspace(-1.0, 1.0, 3 * module.in_features).reshape(3, module.in_features)
    try:
        with torch.inference_mode():
            found, expected = _packed(module)(probe), torch.nn.functional.linear(probe, weight, module.bias)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return bool((found - expected).abs().max() <= _CLOSE * expected.abs().max().clamp(min=1e-30))

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


def pack(model: PreTrainedModel, changed: Iterable[str] | None = None) -> bool:
    """Pack all linear layers anew, or only those whose weights `changed`; return whether the layers are packed now.

    What is packed afterwards depends on the weights alone, not on what was packed before. A packed copy of a weight
    that changed is gone in any case, should this end with an exception as well.
    """
    linear: list[Any] = [module for module in model.modules() if type(module) is torch.nn.Linear]
    unpack(model, changed)
    if not linear or not _works(linear[0]):
        unpack(model)
        return False
    for module in linear:
        on_cpu = module.weight.device.type == "cpu" and module.weight.dtype == torch.float32
        if on_cpu and not isinstance(vars(module).get("forward"), _Packed):
            module.forward = _packed(module)
    return True


def unpack(model: PreTrainedModel, names: Iterable[str] | None = None) -> None:
    """Give all linear layers, or those with the weights of these names, their own forward pass back."""
    weights = None if names is None else {id(model.get_parameter(name)) for name in names}
    for module in model.modules():
        if isinstance(vars(module).get("forward"), _Packed) and (weights is None or id(module.weight) in weights):
            del module.forward


class _Packed:
    """A forward pass with a packed copy of a weight."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight, self._bias, self._product = weight, bias, torch.ops.mkldnn._linear_pointwise

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        multiplied: torch.Tensor = self._product(states, self._weight, self._bias, "none", [], "")
        return multiplied


def _packed(module: torch.nn.Linear) -> _Packed:
    """Return a forward pass with a packed copy of the weight as it is now."""
    with torch.inference_mode():
        weight = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach(), _ROWS)
    return _Packed(weight, module.bias)


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

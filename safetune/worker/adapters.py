"""Merge LoRA adapters into a model in place: the sum that peft makes, without importing peft for the plain kind."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetune.core.errors import IntegrityError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Settings of an adapter that change nothing in what is added, once it is trained.
_NEUTRAL = {
    "peft_type", "task_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "target_modules",
    "exclude_modules", "r", "lora_alpha", "lora_dropout", "use_rslora", "layers_to_transform", "layers_pattern",
    "peft_version", "megatron_core", "qalora_group_size",
}  # fmt: skip
_WEIGHT = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<part>[AB])\.weight")


def check_adapter(folder: Path) -> None:
    """Refuse an adapter that is not LoRA in safetensors; imports no ML library.

    Raises:
        IntegrityError: saying which one.
    """
    kind = _config(folder).get("peft_type")
    if kind != "LORA" or not (folder / "adapter_model.safetensors").is_file():
        raise IntegrityError(f"adapter {folder.name[:12]} is not LoRA in safetensors", hint="safetune verify")


def _config(folder: Path) -> Mapping[str, Any]:
    try:
        config: Mapping[str, Any] = dict(json.loads((folder / "adapter_config.json").read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise IntegrityError(f"adapter {folder.name[:12]} cannot be read: {error}", hint="safetune verify") from error
    return config


def merge(model: PreTrainedModel, folder: Path) -> frozenset[str] | None:
    """Add an adapter to the weights, and return the names of those that changed; None when it may be any of them.

    The plain kind (LoRA on linear layers) is W + (alpha / r) B A in the order of peft's own merge, so that the bits are
    the same; every other kind is left to peft.

    Raises:
        IntegrityError: when the adapter does not fit the model.
    """
    config = _config(folder)
    pairs = _pairs(model, folder) if _is_plain(config) else None
    if pairs is None:
        _merge_with_peft(model, folder)
        return None
    rank = int(config["r"])
    scale = config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank)
    for module, (a, b) in pairs.items():
        weight = model.get_submodule(module).weight.data
        if a.shape != (rank, weight.shape[1]) or b.shape != (weight.shape[0], rank):
            raise _misfit(
                folder, f"{module} is {tuple(weight.shape)}, its parts are {tuple(b.shape)}, {tuple(a.shape)}"
            )
        merged = weight.to("cpu")  # on a CPU it is the weight itself
        merged += (b @ a) * scale
        weight.copy_(merged)
    return frozenset(f"{module}.weight" for module in pairs)


def _is_plain(config: Mapping[str, Any]) -> bool:
    """Return whether every setting beyond the known neutral ones is switched off, the runtime's own included."""
    off = {**config}
    off["bias"] = "" if off.get("bias", "none") == "none" else off["bias"]
    off["init_lora_weights"] = "" if off.get("init_lora_weights", True) in (True, False, "gaussian") else "other"
    if isinstance(off.get("runtime_config"), dict):
        off["runtime_config"] = any(off["runtime_config"].values())
    return not any(value for name, value in off.items() if name not in _NEUTRAL)


def _pairs(model: PreTrainedModel, folder: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]] | None:
    """Return the two matrices of each layer in float32, or None when something else than linear layers was adapted."""
    import torch
    from safetensors.torch import load_file

    try:
        parts = load_file(folder / "adapter_model.safetensors")
    except Exception as error:  # the library has errors of its own
        raise _misfit(folder, str(error)) from error
    modules = dict(model.named_modules())
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in parts.items():
        told = _WEIGHT.fullmatch(name)
        if told is None:
            return None
        if told["module"] not in modules:
            raise _misfit(folder, f"there is no {told['module']}")
        if type(modules[told["module"]]) is not torch.nn.Linear or told["module"].endswith("lm_head"):
            return None
        found.setdefault(told["module"], {})[told["part"]] = value.float()
    if any(len(pair) != 2 for pair in found.values()):
        raise _misfit(folder, "half of a pair is missing")
    return {module: (pair["A"], pair["B"]) for module, pair in found.items()}


def _merge_with_peft(model: PreTrainedModel, folder: Path) -> None:
    from peft import PeftModel

    try:
        PeftModel.from_pretrained(model, str(folder), local_files_only=True).merge_and_unload()
    except (RuntimeError, ValueError) as error:
        raise _misfit(folder, str(error)) from error
    model.requires_grad_(True)  # peft freezes what it wraps and leaves it so; the next stage may train all


def _misfit(folder: Path, why: str) -> IntegrityError:
    first = next((line.strip() for line in why.splitlines() if line.strip()), "it cannot be read")[:300]
    return IntegrityError(f"adapter {folder.name[:12]} does not fit its base model: {first}", hint="safetune verify")

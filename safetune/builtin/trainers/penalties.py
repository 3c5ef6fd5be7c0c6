"""What our trainers share: penalties of techniques in the loss, the fixed row order, LoRA settings, arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from peft import LoraConfig
from torch.utils.data import SequentialSampler

from safetune.core.digest import JSON
from safetune.core.errors import RunError, UsageError
from safetune.protocols import TrainingTechnique


class WithPenalties:
    """Mixed in before a TRL trainer: adds each technique's term once per optimizer step, rightly scaled.

    When the trainer normalises by the tokens of the whole step it does not divide by the accumulation steps, so the
    term is added as it is; otherwise the trainer divides every micro-batch, and the term is multiplied to undo that.
    Either way 1 x 8 rows and 8 x 1 rows give the same gradient.
    """

    techniques: tuple[TrainingTechnique[Any], ...] = ()
    _penalised_step = -1
    _term = 0.0

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return TRL's loss plus the terms of all techniques."""
        this: Any = self
        found = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[misc]
        if not self.techniques or not this.model.training or self._penalised_step == this.state.global_step:
            return found
        self._penalised_step = this.state.global_step
        terms = [technique.penalty(model, this.state.global_step) for technique in self.techniques]
        term = torch.stack(terms).sum()
        if not torch.isfinite(term):
            raise RunError("a technique's penalty is not a finite number", hint="lower learning_rate or its weight")
        divided = not (this.model_accepts_loss_kwargs and num_items_in_batch is not None)
        scale = this.current_gradient_accumulation_steps if divided else 1
        self._term = float(term.detach())
        if return_outputs:
            return found[0] + scale * term, found[1]
        return found + scale * term

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log the figures of techniques beside the loss."""
        for technique in self.techniques:
            logs.update({f"technique/{technique.name}/{k}": v for k, v in technique.metrics().items()})
        super().log(logs, *args, **kwargs)  # type: ignore[misc]

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        """Keep the rows in the order in which they were mixed."""
        this: Any = self
        return SequentialSampler(this.train_dataset)


def lora_config(adapter: Mapping[str, JSON] | None) -> LoraConfig | None:
    """Return peft's form of LoRA settings, or None when all weights are trained."""
    if adapter is None:
        return None
    modules = adapter["target_modules"]
    names = [str(m) for m in modules] if isinstance(modules, list | tuple) else [str(modules)]
    return LoraConfig(
        r=int(str(adapter["rank"])),
        lora_alpha=int(str(adapter["alpha"])),
        lora_dropout=float(str(adapter["dropout"])),
        target_modules="all-linear" if names == ["all-linear"] else names,
        task_type="CAUSAL_LM",
    )


def make_arguments(config: Any, arguments: Mapping[str, JSON]) -> Any:
    """Return TRL's configuration object; float32 on a CPU, bfloat16 where a CUDA device has it.

    Raises:
        UsageError: when TRL refuses a value.
    """
    cuda = torch.cuda.is_available()
    bf16 = cuda and torch.cuda.is_bf16_supported()
    try:
        return config(**{"use_cpu": not cuda, "bf16": bf16, **arguments})
    except (TypeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"TRL refuses the training arguments: {first}", hint="check `train` in the playbook") from error

"""What our trainers share: penalties of techniques in the loss, LoRA settings, arguments, rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig

from safetune.builtin.trainers.lm_head import score_labels_only
from safetune.builtin.trainers.recording import COLUMN, Numbered
from safetune.core.digest import JSON
from safetune.core.errors import RunError, UsageError
from safetune.protocols import Saw, TrainingSetup, TrainingTechnique


class WithPenalties:
    """Mixed in before a TRL trainer: adds each technique's term once per optimizer step, rightly scaled.

    A term belongs to an optimizer step, so it is computed with the first micro-batch of the step only. The supervised
    loss is a sum over micro-batches normalised by the tokens of the whole step: there the term is added as it is. A
    loss that the trainer divides by the number of micro-batches gets the term times that number. Either way one step of
    8 rows and 8 accumulated micro-batches of 1 row have the same gradient. Every process of a distributed run computes
    the same term, and averaging gradients over processes leaves it what it is.
    """

    techniques: tuple[TrainingTechnique[Any], ...] = ()
    _penalised_step = -1
    _term = 0.0

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return TRL's loss, in the first micro-batch of a step plus the terms of all techniques.

        Raises:
            RunError: when a term is not a finite number.
        """
        this: Any = self
        found = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[misc]
        step = int(this.state.global_step)
        if not self.techniques or not this.model.training or self._penalised_step == step:
            return found
        self._penalised_step = step
        # A second forward through DistributedDataParallel before one backward is not supported by it; its hooks are on
        # the parameters and work for the bare model too. Sharded parameters exist only inside their wrapper.
        policy = model if this.is_fsdp_enabled or this.is_deepspeed_enabled else this.model
        term = torch.stack([technique.penalty(policy, step) for technique in self.techniques]).sum()
        self._record(step)
        if not torch.isfinite(term):
            raise RunError(
                f"the penalty of step {step + 1} is not a finite number", hint="lower learning_rate or the weight"
            )
        self._term = float(term.detach())
        scaled = term * (this.current_gradient_accumulation_steps if self._is_divided(num_items_in_batch) else 1)
        return (found[0] + scaled, found[1]) if return_outputs else found + scaled

    def _record(self, step: int) -> None:
        """Record the rows that the terms of this step were computed on."""
        saw: Saw | None = getattr(self, "saw", None)
        for technique in self.techniques:
            if saw is not None:
                saw(step, getattr(technique, "seen", ()), True)

    def _is_divided(self, num_items_in_batch: Any) -> bool:
        """Say whether transformers divides the loss of each micro-batch by their number, as its training step does."""
        this: Any = self
        scaled = this.loss_is_scaled_for_ga
        if scaled is None:
            scaled = this.model_accepts_loss_kwargs and num_items_in_batch is not None
        return not scaled

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log the figures of techniques, and the loss without their terms, beside the loss."""
        if self.techniques and "loss" in logs:
            logs["task_loss"] = logs["loss"] - self._term
            for technique in self.techniques:
                logs.update({f"technique/{technique.name}/{k}": v for k, v in technique.metrics().items()})
        super().log(logs, *args, **kwargs)  # type: ignore[misc]

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write no model card: what is known of a checkpoint is in the ledger."""


def built(kind: Any, setup: TrainingSetup, **arguments: Any) -> object:
    """Return the trainer `kind` made with `arguments`, with the techniques of `setup`.

    Raises:
        UsageError: when TRL refuses the combination, or leaves out rows.
    """
    score_labels_only()
    try:
        trainer: Any = kind(**arguments)
    except (ValueError, NotImplementedError) as error:
        raise UsageError(f"TRL refuses this stage: {_first_line(error)}", hint="check `train` and `adapter`") from error
    packed = setup.arguments.get("packing")
    left_out = 0 if packed else len(setup.rows) - len(trainer.train_dataset)
    if left_out:
        # TRL drops such rows, and every later row would move to another step than the shares put it in.
        raise UsageError(
            f"{left_out} of {len(setup.rows)} rows have a prompt that fills max_length, so nothing of them is learnt",
            hint="raise max_length, or shorten or remove these rows",
        )
    trainer.techniques = tuple(setup.techniques)
    if setup.saw is not None:
        trainer.saw = setup.saw
        trainer.data_collator = Numbered(trainer.data_collator)
    return trainer


def dataset(setup: TrainingSetup, columns: tuple[str, ...]) -> Dataset:
    """Return the rows, in order, as a dataset of just these columns, and of their numbers when they are recorded."""
    found = Dataset.from_list([{name: row[name] for name in columns} for row in setup.rows])
    return found if setup.saw is None else found.add_column(COLUMN, list(setup.numbers))


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
    """Return TRL's configuration object.

    Defaults that differ from TRL's: float32 on a CPU, where bfloat16 is several times slower, and no recomputing of
    activations there, where memory is rarely what is short.

    Raises:
        UsageError: when TRL refuses a value.
    """
    _check_numbers(config, arguments)
    cuda = torch.cuda.is_available()
    bf16 = cuda and torch.cuda.is_bf16_supported() and not arguments.get("fp16")
    try:
        return config(**{"use_cpu": not cuda, "bf16": bf16, "gradient_checkpointing": cuda, **arguments})
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"TRL refuses the training arguments: {_first_line(error)}", hint="check `train` in the playbook"
        ) from error


def _check_numbers(config: Any, arguments: Mapping[str, JSON]) -> None:
    """Check that what has a number as its default is given as a number; TRL itself would fail steps later."""
    for field in fields(config):
        value = arguments.get(field.name)
        if _is_number(field.default) and value is not None and not _is_number(value):
            exponent = isinstance(value, str) and "e" in value.lower()
            raise UsageError(
                f"{field.name} must be a number, not {value!r}",
                hint="YAML reads 3e-4 as text; write 3.0e-4" if exponent else "check `train` in the playbook",
            )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]

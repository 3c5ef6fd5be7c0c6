"""Supervised fine-tuning with TRL's SFTTrainer. Rows are conversational prompt and completion, or `messages`."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from safetune.builtin.trainers.penalties import WithPenalties, lora_config, make_arguments
from safetune.core.errors import UsageError
from safetune.protocols import TrainingSetup


class _SFTTrainer(WithPenalties, SFTTrainer):  # type: ignore[misc]
    """TRL's trainer with the penalties of techniques and the row order that safetune fixed."""


class SFT:
    """The `sft` trainer."""

    name = "sft"

    def argument_names(self) -> frozenset[str]:
        """Return the names of all SFTConfig arguments."""
        return frozenset(f.name for f in fields(SFTConfig))

    def build(self, setup: TrainingSetup) -> object:
        """Return the TRL trainer; loss is on completions only.

        Raises:
            UsageError: when rows have neither `prompt` and `completion` nor `messages`.
        """
        arguments = make_arguments(SFTConfig, {"packing": False, **setup.arguments})
        trainer: Any = _SFTTrainer(
            model=setup.model,
            args=arguments,
            train_dataset=Dataset.from_list([_plain(row) for row in setup.rows]),
            processing_class=setup.tokenizer,
            peft_config=lora_config(setup.adapter),
            callbacks=list(setup.callbacks),
        )
        trainer.techniques = tuple(setup.techniques)
        return trainer


def _plain(row: Any) -> dict[str, Any]:
    """Return only the columns that TRL trains on."""
    if "prompt" in row and "completion" in row:
        return {"prompt": row["prompt"], "completion": row["completion"]}
    if "messages" in row:
        return {"messages": row["messages"]}
    raise UsageError("a training row needs `prompt` and `completion`, or `messages`", hint="see docs/glossary.md: source")

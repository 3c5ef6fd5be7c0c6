"""Supervised fine-tuning with TRL's SFTTrainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from trl import SFTConfig, SFTTrainer

from safetune.builtin.trainers.penalties import WithPenalties, built, dataset, lora_config, make_arguments
from safetune.builtin.trainers.recording import WithPackedRecord
from safetune.core.digest import JSON
from safetune.core.errors import UsageError
from safetune.core.rows import COMPLETION, MESSAGES, problem, shape
from safetune.protocols import TrainingSetup


class _SFTTrainer(WithPackedRecord, WithPenalties, SFTTrainer):  # type: ignore[misc]
    """TRL's trainer with the penalties of techniques and a record of the rows it sees."""


class SFT:
    """The `sft` trainer: loss on the completion of prompt-completion rows, on every token of `messages` rows."""

    name = "sft"

    def argument_names(self) -> frozenset[str]:
        """Return the names of all SFTConfig arguments."""
        return frozenset(f.name for f in fields(SFTConfig))

    def row_problem(self, row: Mapping[str, JSON]) -> str:
        """Say what keeps a row from being trained on, or return an empty string."""
        return problem(row, COMPLETION, MESSAGES)

    def build(self, setup: TrainingSetup) -> object:
        """Return the TRL trainer.

        Raises:
            UsageError: when rows of both shapes are mixed, or TRL refuses an argument.
        """
        shapes = {shape(row) for row in setup.rows}
        columns = shapes.pop()
        if shapes or columns is None:
            raise UsageError(
                "rows with `messages` cannot be mixed with rows with `prompt` and `completion`",
                hint="write the sources of one stage in one form",
            )
        return built(
            _SFTTrainer,
            setup,
            model=setup.model,
            args=make_arguments(SFTConfig, setup.arguments),
            train_dataset=dataset(setup, columns),
            processing_class=setup.tokenizer,
            peft_config=lora_config(setup.adapter),
            callbacks=list(setup.callbacks),
        )

"""Direct preference optimisation (Rafailov et al., arXiv:2305.18290) with TRL's DPOTrainer."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import fields

from trl import DPOConfig, DPOTrainer

from safetune.builtin.trainers.penalties import WithPenalties, built, dataset, lora_config, make_arguments
from safetune.builtin.trainers.recording import WithRecord
from safetune.core.digest import JSON
from safetune.core.rows import PREFERENCE, problem
from safetune.protocols import TrainingSetup


class _DPOTrainer(WithRecord, WithPenalties, DPOTrainer):  # type: ignore[misc]
    """TRL's trainer with the penalties of techniques and a record of the rows it sees."""


class DPO:
    """The `dpo` trainer. The reference policy is the model at the start of the stage.

    With LoRA that is the same model with its adapter off. When all weights are trained a frozen copy is kept: left to
    itself TRL would load the reference from the folder of the base model, without what earlier stages merged into it.
    """

    name = "dpo"

    def argument_names(self) -> frozenset[str]:
        """Return the names of all DPOConfig arguments."""
        return frozenset(f.name for f in fields(DPOConfig))

    def row_problem(self, row: Mapping[str, JSON]) -> str:
        """Say what keeps a row from being trained on, or return an empty string."""
        return problem(row, PREFERENCE)

    def build(self, setup: TrainingSetup) -> object:
        """Return the TRL trainer.

        Raises:
            UsageError: when TRL refuses an argument.
        """
        live = setup.adapter is None and not setup.arguments.get("precompute_ref_log_probs")
        return built(
            _DPOTrainer,
            setup,
            model=setup.model,
            ref_model=copy.deepcopy(setup.model) if live else None,
            args=make_arguments(DPOConfig, setup.arguments),
            train_dataset=dataset(setup, PREFERENCE),
            processing_class=setup.tokenizer,
            peft_config=lora_config(setup.adapter),
            callbacks=list(setup.callbacks),
        )

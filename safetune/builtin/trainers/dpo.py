"""Direct preference optimisation (Rafailov et al., arXiv:2305.18290) with TRL's DPOTrainer.

With LoRA the reference policy is the same model with its adapter off, which is the start of the stage.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from safetune.builtin.trainers.penalties import WithPenalties, lora_config, make_arguments
from safetune.core.errors import UsageError
from safetune.protocols import TrainingSetup

_COLUMNS = ("prompt", "chosen", "rejected")


class _DPOTrainer(WithPenalties, DPOTrainer):  # type: ignore[misc]
    """TRL's trainer with the penalties of techniques and the row order that safetune fixed."""


class DPO:
    """The `dpo` trainer."""

    name = "dpo"

    def argument_names(self) -> frozenset[str]:
        """Return the names of all DPOConfig arguments."""
        return frozenset(f.name for f in fields(DPOConfig))

    def build(self, setup: TrainingSetup) -> object:
        """Return the TRL trainer.

        Raises:
            UsageError: when a row lacks prompt, chosen or rejected, or the reference would move.
        """
        if setup.arguments.get("sync_ref_model"):
            raise UsageError("sync_ref_model moves the reference that guardrails compare with", hint="remove it")
        trainer: Any = _DPOTrainer(
            model=setup.model,
            args=make_arguments(DPOConfig, setup.arguments),
            train_dataset=Dataset.from_list([_plain(row) for row in setup.rows]),
            processing_class=setup.tokenizer,
            peft_config=lora_config(setup.adapter),
            callbacks=list(setup.callbacks),
        )
        trainer.techniques = tuple(setup.techniques)
        return trainer


def _plain(row: Any) -> dict[str, Any]:
    missing = [name for name in _COLUMNS if name not in row]
    if missing:
        raise UsageError(f"a preference row needs {', '.join(_COLUMNS)}; missing: {', '.join(missing)}")
    return {name: row[name] for name in _COLUMNS}

"""The `train` part of a stage: TRL arguments, checked by name, joined with those that safetune holds itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from safetune.core.digest import JSON
from safetune.core.errors import UsageError
from safetune.plugins import suggest
from safetune.protocols import Trainer

# What a stage may not set, and why. Each pattern stands for the arguments of TRL and transformers that it matches.
_REFUSED: tuple[tuple[str, str], ...] = (
    ("output_dir seed data_seed disable_tqdm run_name project", "safetune sets it"),
    ("logging_* log_level* report_to trackio_*", "safetune reports every step itself"),
    (
        "save_strategy save_total_limit save_only_model save_on_each_node resume_from_checkpoint ignore_data_skip "
        "restore_callback_states_from_checkpoint enable_jit_checkpoint load_best_model_at_end",
        "safetune keeps and resumes the training state itself; what can be set is save_steps",
    ),
    (
        "eval_* do_* metric_for_best_model greater_is_better batch_eval_metrics prediction_loss_only "
        "per_device_eval_batch_size",
        "a stage is evaluated on the suites of its gate",
    ),
    ("push_to_hub* hub_*", "a checkpoint leaves the store only by `safetune export`"),
    (
        "model_init_kwargs trust_remote_code chat_template_path eos_token pad_token",
        "the model and its tokenizer are loaded by safetune, the same way for training and evaluation",
    ),
    (
        "train_sampling_strategy shuffle_dataset packing* padding_free dataset_* dataloader_* remove_unused_columns "
        "label_names length_column_name auto_find_batch_size accelerator_config",
        "the order of rows is fixed by shares and seed",
    ),
    ("sync_ref_model ref_model_*", "the reference must stay where the stage began"),
    ("fsdp* deepspeed parallelism_config ddp_backend local_rank use_cpu", "`launch` says how processes are launched"),
)

_DEFAULT_ROWS = 8  # per_device_train_batch_size of transformers


def check_names(given: Mapping[str, JSON], trainer: Trainer) -> None:
    """Check that every argument exists and may be set.

    Raises:
        UsageError: naming the argument, with a suggestion where one is close.
    """
    known = trainer.argument_names()
    for name in given:
        if name not in known:
            raise UsageError(
                f'trainer {trainer.name} has no argument "{name}";{suggest(name, tuple(sorted(known)))}',
                hint="`train` takes the arguments of TRL's configuration",
            )
        for patterns, reason in _REFUSED:
            if any(fnmatchcase(name, pattern) for pattern in patterns.split()):
                raise UsageError(f'`train` cannot set "{name}": {reason}', hint=f"remove {name}")


def rows_per_step(given: Mapping[str, JSON], world_size: int) -> int:
    """Return how many rows one optimizer step reads over all processes."""
    per_device = whole(given, "per_device_train_batch_size", _DEFAULT_ROWS)
    return per_device * whole(given, "gradient_accumulation_steps", 1) * world_size


def steps(given: Mapping[str, JSON], rows: Sequence[object], world_size: int) -> int:
    """Return the number of optimizer steps: `max_steps`, or what `num_train_epochs` (default 1) over `rows` come to."""
    if "max_steps" in given:
        return whole(given, "max_steps", 1)
    epochs = given.get("num_train_epochs", 1)
    if isinstance(epochs, bool) or not isinstance(epochs, int | float) or not 0 < epochs < math.inf:
        raise UsageError(f"num_train_epochs must be a number above 0, not {epochs!r}")
    return math.ceil(epochs * len(rows) / rows_per_step(given, world_size))


def whole(given: Mapping[str, JSON], name: str, default: int) -> int:
    """Return the argument as a whole number of at least 1.

    Raises:
        UsageError: when it is anything else.
    """
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{name} must be a whole number of at least 1, not {value!r}")
    return value


def complete(given: Mapping[str, JSON], job: Mapping[str, Any], count: int) -> dict[str, JSON]:
    """Return all arguments of a run of `count` steps: the given ones and those that safetune holds.

    Rows come in the order in which they were mixed; every step is logged, so that a loss that is not a number stops
    the run at once. States are saved by our own callback unless `save_steps` is given.
    """
    return {
        **{name: value for name, value in given.items() if name != "num_train_epochs"},
        "max_steps": count,
        "output_dir": str(job["state"]),
        "seed": int(job["seed"]),
        "data_seed": int(job["seed"]),
        "save_strategy": "steps" if "save_steps" in given else "no",
        "save_total_limit": 2,  # the newest is not sealed yet when older ones are removed
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "train_sampling_strategy": "sequential",
    }

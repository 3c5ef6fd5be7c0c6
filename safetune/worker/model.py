"""Load models: safetensors only, no code that comes with a model, every weight from the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetune.core.errors import UsageError
from safetune.worker.adapters import check_adapter, merge
from safetune.worker.failures import is_no_memory

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Keys with which a model asks for Python code of its own to be run.
_CODE_KEYS = ("auto_map", "custom_pipelines", "custom_generate")
_CONFIGS = ("config.json", "tokenizer_config.json", "generation_config.json", "processor_config.json")


def quiet(threads: int) -> None:
    """Set the number of torch threads and keep transformers from painting progress bars into the log."""
    import torch
    from transformers.utils import logging

    torch.set_num_threads(max(1, threads))
    logging.disable_progress_bar()
    logging.set_verbosity_warning()


def check_folder(folder: Path) -> None:
    """Refuse a model folder that could run code or that has no safetensors weights; imports no ML library.

    Raises:
        UsageError: saying what is wrong with it.
    """
    if not (folder / "config.json").is_file():
        raise UsageError(f"{folder.name} is not a model folder: it has no config.json", hint="check `model.base`")
    for name in _CONFIGS:
        _check_config(folder / name)
    if not any(folder.glob("*.safetensors")):
        raise UsageError(f"{folder.name} has no .safetensors weights", hint="convert it to safetensors first")


def _check_config(path: Path) -> None:
    if not path.exists():
        return
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path.parent.name}/{path.name} cannot be read: {error}") from error
    asked = [key for key in _CODE_KEYS if not isinstance(config, dict) or key in config]
    if asked:
        raise UsageError(
            f"{path.parent.name}/{path.name} asks for code of its own ({asked[0]}); such code is never run",
            hint="use a model of an architecture that transformers knows",
        )


def default_dtype() -> torch.dtype:
    """Return bfloat16 on a CUDA device that has it, float32 elsewhere (on a CPU bfloat16 is several times slower)."""
    import torch

    return torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float32


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checked model folder; one without a padding token pads with its end token."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder.name} has no usable tokenizer: {_first_line(error)}") from error
    if tokenizer.eos_token_id is None:
        raise UsageError(f"the tokenizer of {folder.name} has no end token, so an answer could never end")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load(
    content: Mapping[str, Any], dtype: torch.dtype | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the job's base model on the CPU and merge its adapters in order, oldest first.

    Raises:
        UsageError: when the folder is not a model that transformers knows, or lacks weights.
        IntegrityError: when an adapter is not one of ours.
    """
    folder = Path(content["base"])
    check_folder(folder)
    for adapter in content["adapters"]:
        check_adapter(Path(adapter))
    model = load_weights(folder, dtype or default_dtype())
    for adapter in content["adapters"]:
        merge(model, Path(adapter))
    return model, load_tokenizer(folder)


def load_weights(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Load the weights of a checked model folder on the CPU.

    Raises:
        UsageError: when the folder is not a model that transformers knows, or lacks weights.
    """
    from transformers import AutoModelForCausalLM

    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # each library that reads a part of it has errors of its own
        if is_no_memory(error):
            raise
        raise UsageError(f"{folder.name} cannot be loaded: {_first_line(error)}", hint="check `model.base`") from error
    # transformers fills what a file lacks with random numbers and only logs it.
    absent = sorted({*info["missing_keys"], *(str(key[0]) for key in info["mismatched_keys"])})
    if absent:
        raise UsageError(f"{folder.name} lacks {len(absent)} weights, the first is {absent[0]}", hint="get it again")
    loaded: PreTrainedModel = model
    return loaded


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]

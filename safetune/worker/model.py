"""Load, convert, fetch and merge models. safetensors only, no remote code, nothing executable is ever read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetune.core.digest import JSON
from safetune.core.errors import IntegrityError, RunError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from safetune.worker.__main__ import Reporter

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def quiet(threads: int) -> None:
    """Set the number of torch threads and keep transformers from painting progress bars into the log."""
    import torch
    from transformers.utils import logging

    torch.set_num_threads(max(1, threads))
    logging.disable_progress_bar()
    logging.set_verbosity_warning()


def check_folder(folder: Path) -> None:
    """Refuse a model folder that could run code or that has no safetensors weights.

    Raises:
        UsageError: saying what is wrong with it.
    """
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder.name} has no readable config.json: {error}") from error
    if not isinstance(config, dict) or "auto_map" in config or "custom_pipelines" in config:
        raise UsageError(
            f"{folder.name} asks for code of its own (auto_map); safetune never runs code that comes with a model",
            hint="use a model of an architecture that transformers knows",
        )
    if not any(folder.glob("*.safetensors")):
        raise UsageError(f"{folder.name} has no .safetensors weights", hint="convert it to safetensors first")


def load(content: Mapping[str, Any]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the job's base model and merge its adapters in order, oldest first.

    float32 on a CPU (bfloat16 is slower there), bfloat16 on a CUDA device that has it.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = Path(content["base"])
    check_folder(folder)
    cuda = torch.cuda.is_available()
    dtype = torch.bfloat16 if cuda and torch.cuda.is_bf16_supported() else torch.float32
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, local_files_only=True, trust_remote_code=False, use_safetensors=True
    )
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    for adapter in content["adapters"]:
        model = _merged(model, Path(adapter))
    if cuda:
        model = model.to("cuda")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def _merged(model: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    from peft import PeftModel

    if not (adapter / "adapter_model.safetensors").is_file():
        raise IntegrityError(f"adapter {adapter.name[:12]} has no safetensors weights", hint="safetune verify")
    merged: PreTrainedModel = PeftModel.from_pretrained(model, str(adapter), local_files_only=True).merge_and_unload()
    return merged


def convert(job: Mapping[str, Any], reporter: Reporter) -> Mapping[str, JSON]:
    """Turn a GGUF file into a float32 safetensors folder with its tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    quiet(int(job.get("threads", 1)))
    path, output = Path(job["gguf"]), Path(job["output"])
    reporter.say("note", text=f"converting {path.name} to safetensors, once; about a minute")
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(path.parent),
            gguf_file=path.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
            local_files_only=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{path.name} cannot be read as a GGUF model: {error}") from error
    _save(model, tokenizer, output)
    return {"output": str(output)}


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, output: Path) -> None:
    try:
        model.save_pretrained(output)
        tokenizer.save_pretrained(output)
    except OSError as error:
        raise RunError(f"cannot write the model: {error.strerror or error}", hint="free some disk space") from error


def fetch(job: Mapping[str, Any], reporter: Reporter) -> Mapping[str, JSON]:
    """Download a pinned hub revision: one file, or everything that is safetensors, JSON or text."""
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository, revision, output = str(job["repo"]), str(job["revision"]), str(job["output"])
    reporter.say("note", text=f"fetching {repository} at {revision[:12]}")
    try:
        if job.get("file"):
            hf_hub_download(repository, str(job["file"]), revision=revision, local_dir=output)
        else:
            kinds = ["*.safetensors", "*.json", "*.txt", "*.jinja", "*.model"]
            snapshot_download(repository, revision=revision, local_dir=output, allow_patterns=kinds)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise RunError(
            f"cannot fetch {repository} at {revision[:12]}: {type(error).__name__}",
            hint="check the network and the revision, or give a local folder as `model.base`",
        ) from error
    return {"output": output}


def merge(job: Mapping[str, Any], reporter: Reporter) -> Mapping[str, JSON]:
    """Write a model with all its adapters merged, ready to be served by anything that reads safetensors."""
    quiet(int(job.get("threads", 1)))
    reporter.say("note", text="merging adapters")
    model, tokenizer = load(job["model"])
    _save(model, tokenizer, Path(job["output"]))
    return {"output": str(job["output"])}

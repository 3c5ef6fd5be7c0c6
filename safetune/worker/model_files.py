"""Jobs that make model folders: convert a GGUF file, fetch a pinned revision, merge adapters for use elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetune.core.digest import JSON
from safetune.core.errors import RunError, UsageError
from safetune.worker import wording
from safetune.worker.failures import is_full_disk, is_no_memory
from safetune.worker.model import check_folder, load, quiet
from safetune.worker.reporter import Reporter

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Weights, settings and tokenizers; nothing that is ever executed or unpickled, and nothing from subfolders.
_FETCHED = ("*.safetensors", "*.json", "*.txt", "*.jinja", "*.model")
_NOT_FETCHED = ("*/*",)
SYSTEM_PROMPT = "system_prompt.txt"


def convert(job: Mapping[str, Any], reporter: Reporter) -> Mapping[str, JSON]:
    """Turn a GGUF file into a float32 safetensors folder with its tokenizer and chat template.

    The dequantised form is asked for by `GgufConfig`; without it transformers refuses to save what it loaded.
    """
    path = Path(job["gguf"])
    if not path.is_file():
        raise UsageError(f"{path.name} does not exist", hint="check `model.base`")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    quiet(int(job.get("threads", 1)))
    reporter.say("note", text=f"converting {path.name} to safetensors, once; about a minute")
    source = {"gguf_file": path.name, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), **source)
        model = AutoModelForCausalLM.from_pretrained(
            str(path.parent), quantization_config=GgufConfig(dequantize=True), dtype=torch.float32, **source
        )
    except Exception as error:
        if is_no_memory(error) or is_full_disk(error):
            raise
        raise UsageError(f"{path.name} cannot be read as a GGUF model: {type(error).__name__}: {error}") from error
    _save(model, tokenizer, Path(job["output"]))
    return {"output": str(job["output"])}


def fetch(job: Mapping[str, Any], reporter: Reporter) -> Mapping[str, JSON]:
    """Download a pinned hub revision: one file, or everything that is safetensors, JSON or text."""
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository, revision, output = str(job["repo"]), str(job["revision"]), Path(job["output"])
    reporter.say("note", text=f"fetching {repository} at {revision[:12]}")
    try:
        if job.get("file"):
            hf_hub_download(repository, str(job["file"]), revision=revision, local_dir=output)
        else:
            snapshot_download(
                repository,
                revision=revision,
                local_dir=output,
                allow_patterns=list(_FETCHED),
                ignore_patterns=list(_NOT_FETCHED),
            )
            check_folder(output)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        if is_full_disk(error):
            raise
        raise RunError(
            f"cannot fetch {repository} at {revision[:12]}: {type(error).__name__}",
            hint="check the network and the revision, or give a local folder as `model.base`",
        ) from error
    finally:
        shutil.rmtree(output / ".cache", ignore_errors=True)  # the hub client's own notes
    return {"output": str(output)}


def merge(job: Mapping[str, Any], reporter: Reporter) -> Mapping[str, JSON]:
    """Write a model with all its adapters merged, ready to be served by anything that reads safetensors.

    Where the job has a prompt, its chat template becomes the model's, and its system message lies beside it.
    """
    quiet(int(job.get("threads", 1)))
    reporter.say("note", text="merging adapters")
    model, tokenizer = load(job["model"])
    wording.use(job, tokenizer)
    output = Path(job["output"])
    _save(model, tokenizer, output)
    if system := wording.system_of(job):
        (output / SYSTEM_PROMPT).write_text(system, encoding="utf-8")
    return {"output": str(job["output"])}


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, output: Path) -> None:
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)

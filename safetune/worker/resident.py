"""One base model that stays in memory while several subjects (the base with other adapters) are asked in turn."""

from __future__ import annotations

import gc
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetune.worker.adapters import check_adapter, merge
from safetune.worker.model import check_folder, default_dtype, load_tokenizer, load_weights
from safetune.worker.packing import pack, unpack

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"


class Resident:
    """Holds one model at a time. Going back to its pristine weights copies them from the file: there is no drift."""

    def __init__(self) -> None:
        self._base: Path | None = None
        self._model: PreTrainedModel | None = None
        self._tokenizer: PreTrainedTokenizerBase | None = None
        # The weights that are not those of the file; None when it may be any of them.
        self._changed: frozenset[str] | None = frozenset()
        # The weights that can be copied from the file: known once something is about to change.
        self._stored: frozenset[str] | None = None
        self.packed = False

    def take(self, content: Mapping[str, Any]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Return the model of a job's `model` entry, ready to be asked; the one returned before is that one no more.

        Raises:
            UsageError: when the folder is not a model that transformers knows, or lacks weights.
            IntegrityError: when an adapter is not one of ours or does not fit.
        """
        base, adapters = Path(content["base"]).resolve(), [Path(folder) for folder in content["adapters"]]
        check_folder(base)
        for adapter in adapters:
            check_adapter(adapter)
        touched = self._back_to(base)
        model, tokenizer = self._model, self._tokenizer
        if model is None or tokenizer is None:
            model, tokenizer = self._load(base)
        if adapters and self._stored is None:
            self._stored = stored(model, base)
        for adapter in adapters:
            before, self._changed = self._changed, None  # until it is whole, nothing is known
            names = merge(model, adapter)
            self._changed = None if names is None or before is None else before | names
        changed = None if touched is None or self._changed is None else touched | self._changed
        self.packed = pack(model, changed)
        return model, tokenizer

    def _load(self, base: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        model = load_weights(base, default_dtype())
        tokenizer = load_tokenizer(base)
        model = model.to(_device()).eval()
        self._base, self._model, self._tokenizer, self._changed = base, model, tokenizer, frozenset()
        self._stored = None
        return model, tokenizer

    def _back_to(self, base: Path) -> frozenset[str] | None:
        """Make the model in memory the pristine `base`, or give it up; return the weights that were copied."""
        changed = self._changed
        if (
            self._model is not None
            and base == self._base
            and changed is not None
            and changed <= (self._stored or frozenset())
        ):
            self._changed = None  # until it is done, nothing is known
            unpack(self._model, changed)
            restore(self._model, base, changed)
            self._changed = frozenset()
            return changed
        self._model = self._tokenizer = self._base = None
        gc.collect()
        return None


def stored(model: PreTrainedModel, folder: Path) -> frozenset[str]:
    """Return the names of the weights that the safetensors files of `folder` hold bit by bit, under the same names.

    A library that renames, joins or turns weights when it loads them leaves others, which cannot be copied back.
    """
    import torch

    weights = dict(model.named_parameters())
    found = _read(folder, weights)
    return frozenset(
        name
        for name, value in found
        if value.shape == weights[name].shape and torch.equal(value.to(weights[name]), weights[name])
    )


def restore(model: PreTrainedModel, folder: Path, names: Iterable[str]) -> None:
    """Copy weights from the safetensors files of `folder`: those of these names, all of which must be `stored`."""
    import torch

    weights = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in _read(folder, names):
            weights[name].copy_(value)


def _read(folder: Path, names: Iterable[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """Read the weights of these names that are there, file by file."""
    from safetensors import safe_open

    files = _files(folder)
    wanted = sorted((files[name], name) for name in names if name in files)
    for path, members in itertools.groupby(wanted, key=lambda pair: pair[0]):
        with safe_open(path, framework="pt") as opened:
            for _, name in members:
                yield name, opened.get_tensor(name)


def _files(folder: Path) -> Mapping[str, Path]:
    """Return which file holds each weight: by the index where the weights are in several files."""
    from safetensors import safe_open

    if (folder / _INDEX).is_file():
        table = json.loads((folder / _INDEX).read_bytes())["weight_map"]
        return {str(name): folder / Path(str(file)).name for name, file in table.items()}
    if not (folder / _WEIGHTS).is_file():
        return {}
    with safe_open(folder / _WEIGHTS, framework="pt") as opened:
        return {str(name): folder / _WEIGHTS for name in opened.keys()}  # noqa: SIM118


def _device() -> str:
    """Return the device of this process: its own CUDA device where there is one, else the CPU."""
    import torch

    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"

"""Rows as a screen reads them: token ids in the model's chat template, batches of like length, checked options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from safetune.builtin.techniques.kl_regularization import encode
from safetune.core.diagnostics import did_you_mean
from safetune.core.digest import JSON
from safetune.core.errors import RunError, UsageError
from safetune.core.rows import PREFERENCE, shape

MAX_LENGTH = 512  # tokens; as for the anchors of kl_regularization

_AT_ONCE = 8  # rows per forward


@dataclass(frozen=True, slots=True)
class Encoded:
    """One row as token ids; from `begin` on they are what is learnt."""

    ids: tuple[int, ...]
    begin: int


class Options:
    """Reads the options of one screen; whatever it is not asked about is unknown."""

    def __init__(self, screen: str, options: Mapping[str, JSON], known: Sequence[str]) -> None:
        unknown = sorted(set(options) - set(known))
        if unknown:
            hint = did_you_mean(unknown[0], known) or f"it has: {', '.join(known)}"
            raise UsageError(f"screen {screen} has no option {unknown[0]}", hint=hint)
        self._screen, self._options = screen, options

    def whole(self, name: str, default: int, least: int = 1) -> int:
        """Return a whole number of at least `least`.

        Raises:
            UsageError: when it is anything else.
        """
        value = self._options.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UsageError(f"screen {self._screen}: {name} must be a whole number of at least {least}, not {value!r}")
        return value

    def names(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """Return a list of names, not empty.

        Raises:
            UsageError: when it is anything else.
        """
        value = self._options.get(name, list(default))
        if not isinstance(value, list | tuple) or not value or not all(isinstance(one, str) for one in value):
            raise UsageError(f"screen {self._screen}: {name} must be a list of names, not {value!r}")
        return tuple(str(one) for one in value)


def encoded(tokenizer: Any, row: Mapping[str, Any], longest: int) -> Encoded:
    """Return a checked row as token ids, cut to `longest`; of a preference row, the chosen answer.

    Raises:
        RunError: when nothing of what is learnt is left: such a row cannot be scored.
    """
    told = {"prompt": row["prompt"], "completion": row["chosen"]} if shape(row) == PREFERENCE else row
    ids, begin = encode(tokenizer, told)
    if len(ids[:longest]) <= begin:
        raise RunError(
            f"the screen cannot score a row: its prompt fills max_length ({longest} tokens)",
            hint="raise the screen's max_length, or shorten or remove the row",
        )
    return Encoded(tuple(ids[:longest]), begin)


def by_length(rows: Sequence[Encoded], figure: Callable[[Sequence[Encoded]], torch.Tensor]) -> torch.Tensor:
    """Return `figure` of all rows, in their order: computed in batches of like length, so that little is padded.

    `figure` returns one line per row of a batch. Which rows share a batch depends on nothing but `rows`.
    """
    order = sorted(range(len(rows)), key=lambda n: len(rows[n].ids))
    found: dict[int, torch.Tensor] = {}
    for start in range(0, len(order), _AT_ONCE):
        some = order[start : start + _AT_ONCE]
        found.update(zip(some, figure([rows[n] for n in some]), strict=True))
    return torch.stack([found[n] for n in range(len(rows))])


def padded(model: Any, rows: Sequence[Encoded]) -> dict[str, torch.Tensor]:
    """Return the ids and the mask of a batch, padded on the right: what is padded changes nothing before it."""
    width = max(len(row.ids) for row in rows)
    ids = [[*row.ids, *[row.ids[-1]] * (width - len(row.ids))] for row in rows]
    mask = [[1] * len(row.ids) + [0] * (width - len(row.ids)) for row in rows]
    return {name: torch.tensor(of, device=model.device) for name, of in (("input_ids", ids), ("attention_mask", mask))}


def losses(model: Any, rows: Sequence[Encoded]) -> Iterator[torch.Tensor]:
    """Yield the loss of each row of a batch: mean negative log-likelihood of what is learnt, in nats per token."""
    first = min(row.begin for row in rows) - 1
    inputs = padded(model, rows)
    width = inputs["input_ids"].shape[1]
    keep = {"logits_to_keep": width - first} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    output = model(**inputs, use_cache=False, **keep).logits
    cut = width - output.shape[1]
    for row, ids, logits in zip(rows, inputs["input_ids"], output, strict=True):
        told = logits[row.begin - 1 - cut : len(row.ids) - 1 - cut].float()
        yield torch.nn.functional.cross_entropy(told, ids[row.begin : len(row.ids)])

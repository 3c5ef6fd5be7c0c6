"""Likelihood of choices: how probable a model finds each text after a prompt, without generating anything.

A prompt is read once for all its choices; choices of one token need no other pass than that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from safetune.core.errors import RunError
from safetune.worker.asking import Asked
from safetune.worker.batching import Batch
from safetune.worker.decoding import Engine, padded

_SCORED_AT_ONCE = 1024  # positions whose logits are in memory together (each takes vocabulary x 4 bytes)
DECIMALS = 5


@dataclass(frozen=True, slots=True)
class Scored:
    """The choices of one request: the sum of the log-probabilities of each one's tokens, and how many they were."""

    logprobs: tuple[float, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Line:
    """One choice: whose it is, and its tokens."""

    request: int
    choice: int
    tokens: tuple[int, ...]


def score(engine: Engine, batch: Batch, cached: bool = True) -> list[Scored]:
    """Return the scores of each request of a batch; `cached` is False for a model whose cache is not the plain one.

    A request without any token before its choices is scored from the second token of each choice: the first has no
    condition.

    Raises:
        RunError: when a score is not a finite number.
    """
    with torch.inference_mode():
        plainly = not cached or not batch.rows[0].ids
        found = _plainly(engine.model, batch.rows) if plainly else _conditional(engine, batch)
    return [_checked(asked, sums) for asked, sums in zip(batch.rows, found, strict=True)]


def _checked(asked: Asked, sums: Sequence[float]) -> Scored:
    if not all(math.isfinite(value) for value in sums):
        raise RunError(
            f"request {asked.digest[:12]} has a choice whose log-probability is not a finite number",
            hint="check the model's weights: safetune verify",
        )
    tokens = tuple(len(choice) - (0 if asked.ids else 1) for choice in asked.choices)
    return Scored(tuple(round(value, DECIMALS) + 0.0 for value in sums), tokens)


def _conditional(engine: Engine, batch: Batch) -> list[list[float]]:
    """Score choices after their prompts: the first tokens by the prompt's own pass, the rest by one more."""
    begun = len(batch.shared)
    ids, mask, positions = padded(engine, [one.ids[begun:] for one in batch.rows], begun)
    cache = engine.cache(batch.shared, len(batch.rows), mask.shape[1])
    first = engine.forward(ids, mask, positions, cache)[:, -1].float().log_softmax(dim=-1)
    sums = [[float(first[place, choice[0]]) for choice in one.choices] for place, one in enumerate(batch.rows)]
    longer = [_Line(r, c, t) for r, one in enumerate(batch.rows) for c, t in enumerate(one.choices) if len(t) > 1]
    for lines in _portions(longer):
        of = engine.tensor([[line.request for line in lines]])[0]
        columns = tuple((layer.keys[of], layer.values[of]) for layer in cache.layers)
        after = _after(engine, lines, columns, (mask[of], positions[of, -1:]))
        for line, value in zip(lines, after, strict=True):
            sums[line.request][line.choice] += value
    return sums


def _portions(lines: Sequence[_Line]) -> list[list[_Line]]:
    """Return lines in portions whose logits fit in memory together, the longest first."""
    cut: list[list[_Line]] = []
    for line in sorted(lines, key=lambda line: (-len(line.tokens), line.request, line.choice)):
        if not cut or (len(cut[-1]) + 1) * len(cut[-1][0].tokens) > _SCORED_AT_ONCE:
            cut.append([])
        cut[-1].append(line)
    return cut


def _after(
    engine: Engine, lines: Sequence[_Line], columns: Any, ends: tuple[torch.Tensor, torch.Tensor]
) -> list[float]:
    """Return the sum of the log-probabilities of all tokens of each line but its first.

    `columns` are the keys and values of each line's prompt, `ends` its mask and the position of its last token.
    """
    fed = [line.tokens[:-1] for line in lines]
    width = max(len(tokens) for tokens in fed)
    ids = engine.tensor([[*tokens, *[0] * (width - len(tokens))] for tokens in fed])
    mask = torch.cat([ends[0], torch.ones_like(ids)], dim=1)  # what is padded on the right is seen by nobody
    positions = ends[1] + 1 + torch.arange(width, device=ids.device)[None]
    cache = engine.cache((), len(lines), mask.shape[1])
    for layer, (keys, values) in zip(cache.layers, columns, strict=True):
        layer.begin(keys, values)
    logits = engine.forward(ids, mask, positions, cache, keep=width)
    return _sums(logits, [line.tokens[1:] for line in lines])


def _sums(logits: torch.Tensor, targets: Sequence[Sequence[int]]) -> list[float]:
    sums = []
    for row, wanted in zip(logits, targets, strict=True):
        told = row[: len(wanted)].float().log_softmax(dim=-1)
        index = torch.tensor(wanted, dtype=torch.long, device=told.device)[:, None]
        sums.append(float(told.gather(1, index).double().sum()))
    return sums


def _plainly(model: Any, rows: Sequence[Asked]) -> list[list[float]]:
    """Score prompt and choice as one text each, without a cache; a text without a prompt from its second token."""
    whole = [_Line(r, c, (*one.ids, *t)) for r, one in enumerate(rows) for c, t in enumerate(one.choices)]
    sums = [[0.0] * len(one.choices) for one in rows]
    for lines in _portions(whole):
        fed = [line.tokens[:-1] for line in lines]
        width = max(len(tokens) for tokens in fed)
        ids = torch.tensor([[*tokens, *[0] * (width - len(tokens))] for tokens in fed], device=model.device)
        mask = torch.tensor([[1] * len(tokens) + [0] * (width - len(tokens)) for tokens in fed], device=model.device)
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        for line, row in zip(lines, logits, strict=True):
            start = max(1, len(rows[line.request].ids))
            (sums[line.request][line.choice],) = _sums(row[None, start - 1 :], [line.tokens[start:]])
    return sums

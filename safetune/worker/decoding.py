"""Greedy decoding with a cache of our own: one beginning for all rows, and rows that leave as soon as they have ended.

The cache is one block of memory per layer, written in place: nothing is copied when it grows by a token, and a row that
leaves costs the copy of one other row. It fits every decoder of transformers whose own cache is the plain, growing one;
for others (sliding windows, recurrent states, encoders) `why_not` says why, and `model.generate` does the work.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache, GenerationConfig, GenerationMixin, LogitsProcessor, LogitsProcessorList
from transformers.cache_utils import Cache, DynamicLayer

from safetune.core.errors import RunError
from safetune.worker.asking import Asked
from safetune.worker.batching import Batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Asked about a request and its tokens so far; True ends the row.
Decided = Callable[[Asked, Sequence[int]], bool]

_ASK_EVERY = 8  # tokens between two questions to a judge whether it has seen enough
_NEEDED = {"input_ids", "attention_mask", "position_ids", "past_key_values", "use_cache", "logits_to_keep"}


def why_not(model: PreTrainedModel) -> str:
    """Return why a model cannot be decoded with the cache of this module, or an empty text when it can."""
    config: Any = model.config
    if config.is_encoder_decoder:
        return "it has an encoder"
    if type(model).prepare_inputs_for_generation is not GenerationMixin.prepare_inputs_for_generation:
        return "it prepares its inputs in a way of its own"
    if not set(inspect.signature(model.forward).parameters) >= _NEEDED:
        return "its forward pass takes other arguments"
    if getattr(model, "_is_stateful", False) or not model._supports_default_dynamic_cache():
        return "it keeps a state of its own"
    layers = DynamicCache(config=config.get_text_config(decoder=True)).layers
    if not layers or any(type(layer) is not DynamicLayer for layer in layers):
        return "its cache is not the plain one"
    return ""


class _Layer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer: a block of rows x heads x columns that is filled from the left."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self._room = (rows, columns)
        self._used = 0
        self._blocks: tuple[torch.Tensor, ...] = ()

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Take the memory, now that the shapes are known."""
        rows, columns = self._room
        self.dtype, self.device = key_states.dtype, key_states.device
        self._blocks = tuple(
            states.new_empty((rows, states.shape[1], columns, states.shape[3])) for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new columns of the first rows and return all columns so far; one row may stand for all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, end, rows = self._used, self._used + key_states.shape[2], key_states.shape[0]
        for block, states in zip(self._blocks, (key_states, value_states), strict=True):
            block[:rows, :, start:end] = states
        self._used = end
        self.keys, self.values = (block[:rows, :, :end] for block in self._blocks)
        return self.keys, self.values

    def begin(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Start every row with the same columns."""
        self.lazy_initialization(keys, values)
        self._used = keys.shape[2]
        for block, states in zip(self._blocks, (keys, values), strict=True):
            block[:, :, : self._used] = states
        self.keys, self.values = (block[:, :, : self._used] for block in self._blocks)

    def move(self, source: int, target: int) -> None:
        """Put one row in the place of another."""
        for block in self._blocks:
            block[target, :, : self._used] = block[source, :, : self._used]


Columns = tuple[tuple[torch.Tensor, torch.Tensor], ...]


class Engine:
    """A model, ready to be asked: remembers the keys and values of shared beginnings."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model: Any = model
        self._layers = int(getattr(model.config.get_text_config(decoder=True), "num_hidden_layers", 0))
        self._shared: dict[tuple[int, ...], Columns] = {}

    def cache(self, shared: tuple[int, ...], rows: int, columns: int) -> Any:
        """Return an empty cache for so many rows and columns that begins with `shared`, computed once per job."""
        cache = Cache(layers=[_Layer(rows, columns) for _ in range(self._layers)])
        if shared:
            if shared not in self._shared:
                self._shared = {shared: self._columns(shared)}  # the batches of one beginning follow each other
            for layer, columns_of in zip(cache.layers, self._shared[shared], strict=True):
                layer.begin(*columns_of)
        return cache

    def _columns(self, tokens: tuple[int, ...]) -> Columns:
        cache = Cache(layers=[_Layer(1, len(tokens)) for _ in range(self._layers)])
        ids = self.tensor([list(tokens)])
        self.forward(ids, torch.ones_like(ids), torch.arange(len(tokens), device=ids.device)[None], cache)
        return tuple((layer.keys, layer.values) for layer in cache.layers)

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any, keep: int = 1
    ) -> torch.Tensor:
        """Return the logits of the last `keep` positions: rows x keep x vocabulary."""
        told = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=keep,
        )
        logits: torch.Tensor = told.logits
        return logits

    def tensor(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return integers where the model is."""
        return torch.tensor(rows, dtype=torch.long, device=self.model.device)


def padded(engine: Engine, rows: Sequence[Sequence[int]], begun: int) -> tuple[torch.Tensor, ...]:
    """Return rows of tokens padded on the left, their mask and their positions after `begun` shared ones.

    The padding lies between the shared beginning and the row's own tokens; the mask covers both.
    """
    width = max(len(row) for row in rows)
    gaps = [width - len(row) for row in rows]
    ids = engine.tensor([[0] * gap + list(row) for gap, row in zip(gaps, rows, strict=True)])
    mask = engine.tensor([[1] * begun + [0] * gap + [1] * (width - gap) for gap in gaps])
    positions = engine.tensor([[0] * gap + list(range(begun, begun + width - gap)) for gap in gaps])
    return ids, mask, positions


@dataclass(slots=True)
class _Row:
    """A request that is being answered: its place in the batch and what was said so far."""

    asked: Asked
    place: int
    said: list[int] = field(default_factory=list)


class Decoder:
    """Answers batches greedily with the cache of this module."""

    def __init__(self, engine: Engine, ends: Iterable[int], decided: Decided) -> None:
        self._engine, self._ends, self._decided = engine, frozenset(ends), decided

    def answer(self, batch: Batch) -> list[list[int]]:
        """Return the new tokens of each request: the end token is the last one where the model said it.

        Raises:
            RunError: when the model's logits are not numbers.
        """
        with torch.inference_mode():
            return self._answer(batch)

    def _answer(self, batch: Batch) -> list[list[int]]:
        engine, begun = self._engine, len(batch.shared)
        rows = [_Row(asked, place) for place, asked in enumerate(batch.rows)]
        ids, prompt_mask, positions = padded(engine, [one.ids[begun:] for one in batch.rows], begun)
        columns = prompt_mask.shape[1]
        mask = torch.ones((len(rows), columns + max(one.max_new_tokens for one in batch.rows)), dtype=torch.long)
        mask = mask.to(ids.device)
        mask[:, :columns] = prompt_mask
        cache = engine.cache(batch.shared, len(rows), mask.shape[1])
        logits = engine.forward(ids, prompt_mask, positions, cache)
        live, places = list(rows), positions[:, -1:]
        while True:
            tokens = _best(logits)
            for row, token in zip(live, tokens.tolist(), strict=True):
                row.said.append(token)
            ended = [slot for slot, row in enumerate(live) if self._is_over(row)]
            if len(ended) == len(live):
                return [row.said for row in rows]
            if ended:
                kept = _close_gaps(live, ended, cache)
                order = engine.tensor([kept])[0]
                tokens, places, mask = tokens[order], places[order], mask[order]
            columns, places = columns + 1, places + 1
            logits = engine.forward(tokens[:, None], mask[:, :columns], places, cache)

    def _is_over(self, row: _Row) -> bool:
        if row.said[-1] in self._ends or len(row.said) >= row.asked.max_new_tokens:
            return True
        return bool(row.asked.judge) and len(row.said) % _ASK_EVERY == 0 and self._decided(row.asked, row.said)


def _best(logits: torch.Tensor) -> torch.Tensor:
    values, tokens = logits[:, -1].max(dim=-1)
    _check(values)
    return tokens


def _check(largest: torch.Tensor) -> None:
    if not bool(torch.isfinite(largest).all()):
        raise RunError("the model's logits are not finite numbers", hint="check its weights: safetune verify")


def _close_gaps(live: list[_Row], ended: Sequence[int], cache: Any) -> list[int]:
    """Take ended rows out of `live`: the last ones move into their places. Return the old places in the new order."""
    order = list(range(len(live)))
    for slot in reversed(ended):
        last = len(live) - 1
        if slot != last:
            for layer in cache.layers:
                layer.move(last, slot)
            live[slot], order[slot] = live[last], order[last]
        live.pop()
        order.pop()
    return order


class _Finite(LogitsProcessor):  # type: ignore[misc]
    """Looks at the logits of each step inside `model.generate`; to keep them all would take too much memory."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the logits as they are; raise RunError when they are not numbers."""
        _check(scores.max(dim=-1).values)
        return scores


class Fallback:
    """Answers batches with `model.generate`, for models whose cache is of another kind."""

    def __init__(self, model: PreTrainedModel, ends: Sequence[int], decided: Decided) -> None:
        self._model: Any = model
        self._ends, self._decided = list(ends), decided

    def answer(self, batch: Batch) -> list[list[int]]:
        """Return the new tokens of each request, as `Decoder.answer` does.

        Raises:
            RunError: when the model's logits are not numbers.
        """
        width = max(len(one.ids) for one in batch.rows)
        pad = self._ends[0]
        gaps = [width - len(one.ids) for one in batch.rows]
        ids = [[pad] * gap + list(one.ids) for gap, one in zip(gaps, batch.rows, strict=True)]
        mask = [[0] * gap + [1] * (width - gap) for gap in gaps]
        device = self._model.device
        with torch.inference_mode():
            told = self._model.generate(
                input_ids=torch.tensor(ids, device=device),
                attention_mask=torch.tensor(mask, device=device),
                max_new_tokens=max(one.max_new_tokens for one in batch.rows),
                eos_token_id=self._ends,
                pad_token_id=pad,
                logits_processor=LogitsProcessorList([_Finite()]),
            )
        return [self._cut(one, row[width:].tolist()) for one, row in zip(batch.rows, told, strict=True)]

    def _cut(self, asked: Asked, tokens: list[int]) -> list[int]:
        """Return what belongs to the answer: up to the end token, the limit, or the judge's word."""
        for count, token in enumerate(tokens, start=1):
            if token in self._ends or count >= asked.max_new_tokens:
                return tokens[:count]
            if asked.judge and count % _ASK_EVERY == 0 and self._decided(asked, tokens[:count]):
                return tokens[:count]
        return tokens


def plain_generation(model: PreTrainedModel) -> None:
    """Take away what a model's own settings would change in greedy decoding: sampling, penalties, forced tokens."""
    settings: Any = model.generation_config
    model.generation_config = GenerationConfig(
        eos_token_id=settings.eos_token_id, bos_token_id=settings.bos_token_id, pad_token_id=settings.pad_token_id
    )

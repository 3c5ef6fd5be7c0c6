"""KL regularisation to the start of the stage, on anchor rows outside the task.

The term is `weight` times the mean, over the completion tokens of a few anchor rows per step, of KL(reference ||
policy) in nats. Forward KL covers what the reference does, refusals included; anchors off the task leave the task free
to be learnt. Why: fine-tuning on harmless rows alone can undo refusals (Qi et al., arXiv:2310.03693); KL to the
reference is one of the two methods that held in a systematic study (Kaczer et al., arXiv:2508.06249), and it must stay
on to the end (Soligo et al., arXiv:2602.07852). The default weight of 1 is our own choice, tried on a 135M model.

The reference is computed once, before any weight moves, for the rows that will be used, and kept as its 64 most likely
tokens and one bucket for all others (about 0.8 KB per token, against 197 KB for a vocabulary of 49,152). So a step
costs one forward and backward of its anchors and no forward of a reference, whether an adapter or all weights are
trained, and no second model is held. The KL between such coarse distributions never exceeds the full one, because
merging outcomes cannot raise a divergence (data-processing inequality: Cover and Thomas, Elements of Information
Theory, 2.8), and it is zero where the policy equals the reference.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from safetune.core.digest import JSON
from safetune.core.errors import UsageError
from safetune.core.mixing import mix
from safetune.core.rows import COMPLETION, MESSAGES, problem
from safetune.protocols import TechniqueSetup

KEPT = 64

_OPTIONS = ("weight", "anchors_per_step", "max_length")
_AT_ONCE = 8  # rows per forward of the reference


@dataclass(frozen=True, slots=True)
class Anchor:
    """One anchor row: token ids, the position where its completion begins, the reference on the completion.

    `top` holds token ids, shape (completion tokens, kept); `logp` their log-probabilities and, last, that of all other
    tokens together, shape (completion tokens, kept + 1).
    """

    ids: torch.Tensor
    begin: int
    top: torch.Tensor
    logp: torch.Tensor


class KLRegularization:
    """The `kl_regularization` technique. Options: `weight` (default 1.0), `anchors_per_step` (default 2), and
    `max_length` (default 512), to which the tokens of an anchor are cut.

    `kept` is how many tokens of the reference are kept; from the size of the vocabulary on, the KL is exact.
    """

    name = "kl_regularization"

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._weight = 1.0
        self._per_step = 2
        self._schedule: tuple[int, ...] = ()
        self._anchors: tuple[Anchor, ...] = ()
        self._pad = 0
        self._last = 0.0
        self._numbers: tuple[int, ...] = ()
        self.seen: tuple[int, ...] = ()

    def row_problem(self, row: Mapping[str, JSON]) -> str:
        """Say what keeps a row from being an anchor, or return an empty string."""
        return problem(row, COMPLETION, MESSAGES)

    def prepare(self, setup: TechniqueSetup) -> None:
        """Choose the anchors of every step by share and seed, and compute the reference on them.

        Raises:
            UsageError: when an option is wrong or there are no anchors.
        """
        unknown = sorted(set(setup.options) - set(_OPTIONS))
        if unknown:
            raise UsageError(f"kl_regularization has no option {unknown[0]}", hint=f"it has: {', '.join(_OPTIONS)}")
        self._weight = _positive(setup.options, "weight", 1.0)
        self._per_step = int(_positive(setup.options, "anchors_per_step", 2))
        if self._per_step < 1:
            raise UsageError("kl_regularization: anchors_per_step must be at least 1")
        if not setup.rows:
            raise UsageError("kl_regularization needs anchor rows", hint="give it `sources: {name: share}`")
        tokenizer: Any = setup.tokenizer
        self._pad = int(tokenizer.pad_token_id)
        rows = mix(setup.rows, setup.shares, setup.steps * self._per_step, setup.seed)
        distinct = {id(row): row for row in rows}
        places = {key: n for n, key in enumerate(distinct)}
        self._schedule = tuple(places[id(row)] for row in rows)
        self._numbers = _numbers(setup, distinct)
        longest = int(_positive(setup.options, "max_length", 512))
        encoded = [(ids[:longest], begin) for ids, begin in (encode(tokenizer, row) for row in distinct.values())]
        short = sum(len(ids) <= begin for ids, begin in encoded)
        if short:
            raise UsageError(
                f"kl_regularization: {short} anchor rows have a prompt that fills max_length ({longest} tokens)",
                hint="raise the technique's max_length, or shorten or remove these rows",
            )
        self._anchors = self._refer(setup.model, encoded)

    def _refer(self, model: Any, encoded: Sequence[tuple[list[int], int]]) -> tuple[Anchor, ...]:
        """Return the anchors with the reference on each: the model as it is now, without dropout."""
        order = sorted(range(len(encoded)), key=lambda n: len(encoded[n][0]))
        found: dict[int, Anchor] = {}
        training = model.training
        model.eval()
        with torch.no_grad():
            for start in range(0, len(order), _AT_ONCE):
                some = order[start : start + _AT_ONCE]
                rows = [(torch.tensor(encoded[n][0], device=model.device), encoded[n][1]) for n in some]
                for n, (ids, begin), logits in zip(some, rows, self._logits(model, rows), strict=True):
                    top = logits.topk(min(self._kept, logits.shape[-1]), dim=-1).indices
                    found[n] = Anchor(ids, begin, top, coarse(logits, top))
        model.train(training)
        return tuple(found[n] for n in range(len(encoded)))

    def _logits(self, model: Any, rows: Sequence[tuple[torch.Tensor, int]]) -> Iterator[torch.Tensor]:
        """Yield, per row, the logits that predict its completion, in float32, shape (completion tokens, vocabulary).

        Rows are padded on the right. Where the model can, logits before the first completion are not computed.
        """
        width = max(len(ids) for ids, _ in rows)
        first = min(begin for _, begin in rows) - 1
        padded = [torch.nn.functional.pad(ids, (0, width - len(ids)), value=self._pad) for ids, _ in rows]
        mask = [(torch.arange(width, device=ids.device) < len(ids)).long() for ids, _ in rows]
        keep = {"logits_to_keep": width - first} if _keeps(model) else {}
        output = model(input_ids=torch.stack(padded), attention_mask=torch.stack(mask), use_cache=False, **keep).logits
        cut = width - output.shape[1]
        for (ids, begin), logits in zip(rows, output, strict=True):
            yield logits[begin - 1 - cut : len(ids) - 1 - cut].float()

    def penalty(self, model: object, step: int) -> torch.Tensor:
        """Return weight x mean over the step's completion tokens of KL(reference || policy), in nats."""
        places = self._schedule[step * self._per_step : (step + 1) * self._per_step]
        chosen = [self._anchors[n] for n in places]
        self.seen = tuple(self._numbers[n] for n in places if self._numbers)
        logits = self._logits(model, [(anchor.ids, anchor.begin) for anchor in chosen])
        mean = torch.cat([divergence(a.logp, coarse(row, a.top)) for a, row in zip(chosen, logits, strict=True)]).mean()
        self._last = float(mean.detach())
        return self._weight * mean

    def metrics(self) -> Mapping[str, float]:
        """Return the unweighted mean KL of the last step, in nats per token."""
        return {"kl": self._last}


def _numbers(setup: TechniqueSetup, distinct: Mapping[int, object]) -> tuple[int, ...]:
    """Return the numbers of distinct rows, given by identity, in their order; nothing where rows have none."""
    known = {
        id(row): number
        for name, numbers in setup.numbers.items()
        for row, number in zip(setup.rows[name], numbers, strict=True)
    }
    return tuple(known[key] for key in distinct) if known else ()


def coarse(logits: torch.Tensor, top: torch.Tensor) -> torch.Tensor:
    """Return the log-probabilities of the tokens in `top` and, last, of all other tokens together.

    Shapes: logits (n, vocabulary), top (n, k), result (n, k + 1), or (n, k) when `top` is the whole vocabulary. The
    rest is summed from its own logits: one minus the others would lose all digits where the others are near certain.
    """
    total = torch.logsumexp(logits, dim=-1, keepdim=True)
    named = logits.gather(-1, top) - total
    if top.shape[-1] == logits.shape[-1]:
        return named
    rest = torch.logsumexp(logits.scatter(-1, top, -torch.inf), dim=-1, keepdim=True) - total
    return torch.cat([named, rest], dim=-1)


def divergence(reference: torch.Tensor, policy: torch.Tensor) -> torch.Tensor:
    """Return KL(reference || policy) per row, in nats, of two tensors of log-probabilities of one shape."""
    return (reference.exp() * (reference - policy)).sum(dim=-1)


def encode(tokenizer: Any, row: Mapping[str, Any]) -> tuple[list[int], int]:
    """Return the token ids of a checked row, in the model's chat template, and where what is learnt begins.

    In a `messages` row that is the last message.
    """
    turns = [*row["prompt"], *row["completion"]] if "prompt" in row else list(row["messages"])
    before = turns[: -len(row["completion"])] if "prompt" in row else turns[:-1]
    prompt = _ids(tokenizer.apply_chat_template(before, add_generation_prompt=True)) if before else []
    ids = _ids(tokenizer.apply_chat_template(turns))
    same = next((n for n, (a, b) in enumerate(zip(prompt, ids, strict=False)) if a != b), min(len(prompt), len(ids)))
    return ids, max(1, same)


def _ids(encoded: Any) -> list[int]:
    """Return plain token ids from what a tokenizer gives: a list, or a mapping with `input_ids`."""
    found: Sequence[int] = encoded["input_ids"] if hasattr(encoded, "keys") else encoded
    return [int(n) for n in found]


def _keeps(model: Any) -> bool:
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(type(bare).forward).parameters


def _positive(options: Mapping[str, JSON], name: str, default: float) -> float:
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise UsageError(f"kl_regularization: {name} must be a number above 0, not {value!r}")
    return float(value)

"""KL regularisation to the start of the stage, on anchor prompts outside the task.

The term is `weight` times the mean over completion tokens of KL(reference || policy) on a few anchor rows per step.
Forward KL covers what the reference does, refusals included; anchors off the task leave the task free to be learnt.
Why: fine-tuning on harmless rows alone can undo refusals (Qi et al., arXiv:2310.03693); KL to the reference is one of
the two methods that held in a systematic study (Kaczer et al., arXiv:2508.06249), and it must stay on to the end
(Soligo et al., arXiv:2602.07852).

The reference is computed once, before any weight moves, for the rows that will be used, and kept as its 64 most likely
tokens and one bucket for the rest. The KL between such coarse distributions never exceeds the full one (data-processing
inequality), and needs no second model: LoRA and full weights work alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from safetune.core.digest import JSON
from safetune.core.errors import UsageError
from safetune.protocols import TechniqueSetup
from safetune.core.mixing import mix

_KEPT = 64


@dataclass(frozen=True, slots=True)
class _Anchor:
    """Token ids of one anchor row, where its completion begins, and the reference on the completion.

    `top` are token ids (completion tokens, kept), `logp` their log-probabilities and, last, the rest's.
    """

    ids: torch.Tensor
    begin: int
    top: torch.Tensor
    logp: torch.Tensor


class KLRegularization:
    """The `kl_regularization` technique. Options: `weight` (default 1.0), `anchors_per_step` (default 2)."""

    name = "kl_regularization"

    def __init__(self) -> None:
        self._weight = 1.0
        self._per_step = 2
        self._schedule: tuple[int, ...] = ()
        self._anchors: tuple[_Anchor, ...] = ()
        self._pad = 0
        self._last = 0.0

    def prepare(self, setup: TechniqueSetup) -> None:
        """Choose the anchors of every step and compute the reference on them.

        Raises:
            UsageError: when an option is wrong or there are no anchors.
        """
        self._weight = _number(setup.options, "weight", 1.0)
        self._per_step = int(_number(setup.options, "anchors_per_step", 2))
        unknown = set(setup.options) - {"weight", "anchors_per_step"}
        if unknown or self._weight <= 0 or self._per_step < 1:
            raise UsageError(f"kl_regularization: wrong options {sorted(unknown) or dict(setup.options)}")
        if not setup.rows:
            raise UsageError("kl_regularization needs anchor rows", hint="give it `sources: {name: share}`")
        tokenizer: Any = setup.tokenizer
        self._pad = int(tokenizer.pad_token_id)
        rows = mix(setup.rows, setup.shares, setup.steps * self._per_step, setup.seed)
        distinct = {id(row): row for row in rows}
        numbers = {key: n for n, key in enumerate(distinct)}
        self._schedule = tuple(numbers[id(row)] for row in rows)
        self._anchors = tuple(self._refer(setup.model, encode(tokenizer, row)) for row in distinct.values())

    def _refer(self, model: Any, encoded: tuple[list[int], int]) -> _Anchor:
        ids, begin = torch.tensor(encoded[0], device=model.device), encoded[1]
        training = model.training
        model.eval()
        with torch.no_grad():
            logits = model(input_ids=ids[None], use_cache=False).logits[0, begin - 1 : -1].float()
        model.train(training)
        full = torch.log_softmax(logits, dim=-1)
        top = full.topk(min(_KEPT, full.shape[-1] - 1), dim=-1)
        return _Anchor(ids, begin, top.indices, torch.cat([top.values, _rest(top.values)], dim=-1))

    def penalty(self, model: object, step: int) -> torch.Tensor:
        """Return weight x mean over the step's completion tokens of KL(reference || policy), in nats."""
        chosen = [self._anchors[n] for n in self._schedule[step * self._per_step : (step + 1) * self._per_step]]
        width = max(len(a.ids) for a in chosen)
        ids = torch.stack([torch.nn.functional.pad(a.ids, (0, width - len(a.ids)), value=self._pad) for a in chosen])
        mask = torch.stack([(torch.arange(width, device=a.ids.device) < len(a.ids)).long() for a in chosen])
        policy: Any = model
        logits = policy(input_ids=ids, attention_mask=mask, use_cache=False).logits
        terms = [_kl(a, logits[n, a.begin - 1 : len(a.ids) - 1]) for n, a in enumerate(chosen)]
        mean = torch.cat(terms).mean()
        self._last = float(mean.detach())
        return self._weight * mean

    def metrics(self) -> Mapping[str, float]:
        """Return the unweighted mean KL of the last step, in nats per token."""
        return {"kl": self._last}


def _number(options: Mapping[str, JSON], name: str, default: float) -> float:
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"kl_regularization: {name} must be a number")
    return float(value)


def _rest(logp: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of everything not in `logp`, kept away from log 0."""
    inside = logp.exp().sum(dim=-1, keepdim=True).clamp(max=1 - 1e-6)
    return torch.log1p(-inside)


def _kl(anchor: _Anchor, logits: torch.Tensor) -> torch.Tensor:
    """Return KL(reference || policy) per token over the kept tokens and the bucket of the rest."""
    policy = torch.log_softmax(logits.float(), dim=-1).gather(-1, anchor.top)
    policy = torch.cat([policy, _rest(policy)], dim=-1)
    return (anchor.logp.exp() * (anchor.logp - policy)).sum(dim=-1)


def encode(tokenizer: Any, row: Mapping[str, Any]) -> tuple[list[int], int]:
    """Return the token ids of a prompt-completion row and where the completion begins."""
    if "prompt" not in row or "completion" not in row:
        raise UsageError("an anchor row needs `prompt` and `completion`")
    prompt, whole = list(row["prompt"]), [*row["prompt"], *row["completion"]]
    before = _ids(tokenizer.apply_chat_template(prompt, add_generation_prompt=True))
    ids = _ids(tokenizer.apply_chat_template(whole))
    return ids, len(before)


def _ids(encoded: Any) -> list[int]:
    """Return plain token ids from what a tokenizer gives: a list, or a mapping with `input_ids`."""
    found: Sequence[int] = encoded["input_ids"] if hasattr(encoded, "keys") else encoded
    return [int(n) for n in found]

"""The attribution job: which training rows pull the LoRA weights of a checkpoint in the direction of one answer.

    dot = <grad L(answer), grad L(row)>,   cosine = dot / (|grad L(answer)| |grad L(row)|)

The gradients are those of the checkpoint's own LoRA matrices, at the checkpoint. L of a row is what the trainer `sft`
makes of it: the mean negative log-likelihood, in nats per token, of every token of a row of `messages` and of the
completion of another, in the words that the row was trained in (the source's `prompt`: system message and chat
template; its `train`: `max_length`, `completion_only_loss`, `assistant_only_loss`). L of the answer is that of the
answer alone, after the prompt in the words of the checkpoint's own stage.

Not compared is what has another loss. Of a row of preferences the likelihood of `chosen` stands in for the loss of its
trainer: `rejected` and the reference model are left out. The terms of techniques are left out too; a row that a
technique read counts as if it had been trained on. Whoever starts the job says so beside the figures.

The dot product is TracIn with one checkpoint and without its learning rate (Pruthi et al., arXiv:2002.08484): how much
a small step on the row would lower the loss of the answer. The cosine takes away the length, which short rows have most
of (Xia et al., arXiv:2402.04333, use it for the same reason); rows are ranked by it. One checkpoint is not the whole
path of training: it is a hint where to look, not a proof.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetune.core.digest import JSON, canonical
from safetune.core.errors import RunError, UsageError
from safetune.core.rows import COMPLETION, MESSAGES, PREFERENCE, problem, shape
from safetune.worker import wording
from safetune.worker.adapters import check_adapter
from safetune.worker.model import load, quiet
from safetune.worker.reporter import Reporter
from safetune.worker.rows import NumberedRow, Row, read_rows

if TYPE_CHECKING:
    import torch

SCORES = "gradients.jsonl"
_LONGEST = 1024  # tokens; the `max_length` of TRL where a stage sets none
_IGNORED = -100


def attribute(job: Mapping[str, Any], reporter: Reporter) -> Mapping[str, JSON]:
    """Compare the gradient of `answer` with that of every row; one line per row, each on disk before the next begins.

    Rows that have their line from an interrupted attempt are not computed again.

    Raises:
        UsageError: when the checkpoint is not LoRA, or a row or the answer cannot be read.
        RunError: when a gradient is not finite, or the answer has none.
    """
    import torch

    rows, output = _rows(job["sources"]), Path(job["output"])
    done = _done(output)
    todo = [(row, source) for row, source in rows if row.number not in done]
    began = time.monotonic()
    if todo:
        quiet(int(job["threads"]))
        gradients = _Gradients(job["model"])
        answer = NumberedRow(-1, "the answer", job["answer"])
        target = gradients.of(wording.worded(job, [answer])[0].content, {**job, "train": {}}, alone=True)
        length = float(torch.linalg.vector_norm(target))
        if not length > 0:
            raise RunError("the answer has no gradient at this checkpoint")
        with output.open("ab") as stream:
            for count, (row, source) in enumerate(todo, len(rows) - len(todo) + 1):
                found = gradients.of(row.content, source)
                stream.write(canonical(_compared(row, found, target, length)) + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
                rate = round((count - len(rows) + len(todo)) / max(time.monotonic() - began, 1e-9), 2)
                reporter.say("attributed", done=count, total=len(rows), rows_per_s=rate)
    return {"output": str(output), "n": len(rows), "resumed_from": len(rows) - len(todo)}


def _rows(sources: Sequence[Mapping[str, Any]]) -> list[tuple[NumberedRow, Mapping[str, Any]]]:
    """Return the rows of all sources, in the words that they were trained in, each with its source."""
    return [(row, one) for one in sources for row in wording.worded(one, read_rows(one, _problem))]


def _compared(row: NumberedRow, found: torch.Tensor, target: torch.Tensor, length: float) -> Mapping[str, JSON]:
    import torch

    dot, own = float(found @ target), float(torch.linalg.vector_norm(found))
    if not math.isfinite(dot) or not math.isfinite(own):
        raise RunError(f"row {row.id}: its gradient is not a finite number")
    return {"number": row.number, "id": row.id, "dot": dot, "cosine": dot / (own * length) if own > 0 else 0.0}


class _Gradients:
    """A checkpoint whose last adapter lies open, so that its gradient can be taken."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        import torch
        from peft import PeftModel

        if not content["adapters"]:
            raise UsageError("this checkpoint is not LoRA; its gradients cannot be compared")
        own = Path(content["adapters"][-1])
        check_adapter(own)
        model, self._tokenizer = load({**content, "adapters": content["adapters"][:-1]}, torch.float32)
        self._own_template = self._tokenizer.chat_template
        device = "cuda" if torch.cuda.is_available() else "cpu"
        opened: Any = PeftModel.from_pretrained(model, str(own), is_trainable=True, local_files_only=True)
        self._model = opened.to(device).eval()
        self._weights = [weight for weight in self._model.parameters() if weight.requires_grad]

    def of(self, row: Row, told: Mapping[str, Any], *, alone: bool = False) -> torch.Tensor:
        """Return the gradient of a row's loss, flat, float32, on the CPU.

        `told` says with which template (`prompt`) and arguments (`train`) it was trained; `alone`: only the last turns,
        those of the answer, are in the loss.
        """
        import torch

        self._tokenizer.chat_template = self._own_template
        wording.use(told, self._tokenizer)
        if not self._tokenizer.chat_template:
            raise UsageError("the model has no chat template, so rows of messages cannot be put into words for it")
        ids, learnt = self._tokens(row, told.get("train") or {}, alone)
        inputs = torch.tensor([ids], device=self._model.device)
        # As in training, nothing comes before the first token, so it is never learnt.
        labels = torch.tensor(
            [token if n and chosen else _IGNORED for n, (token, chosen) in enumerate(zip(ids, learnt, strict=True))],
            device=self._model.device,
        )
        logits = self._model(input_ids=inputs, use_cache=False).logits[0, :-1].float()
        loss = torch.nn.functional.cross_entropy(logits, labels[1:], ignore_index=_IGNORED)
        found = torch.autograd.grad(loss, self._weights)
        return torch.cat([gradient.detach().flatten().float().cpu() for gradient in found])

    def _tokens(self, row: Row, train: Mapping[str, Any], alone: bool) -> tuple[list[int], list[bool]]:
        """Return the tokens of a row, and which of them are in the loss, as TRL's SFTTrainer chooses them."""
        kind = shape(row)
        whole = kind == MESSAGES
        answers = () if whole else row["completion" if kind == COMPLETION else "chosen"]
        turns = [*row["messages"]] if whole else [*row["prompt"], *answers]
        before = turns[:-1] if whole else turns[: len(turns) - len(answers)]
        longest = train.get("max_length", _LONGEST)
        ids = self._words(turns)
        learnt = [True] * len(ids)
        if alone or (not whole and train.get("completion_only_loss") is not False):
            begin = self._begin(before, ids)
            learnt = [n >= begin for n in range(len(ids))]
        if train.get("assistant_only_loss") and not alone:
            told = self._tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
            learnt = [bool(a) and b for a, b in zip(told["assistant_masks"], learnt, strict=True)]
        ids, learnt = ids[:longest], learnt[:longest]
        if not any(learnt[1:]):
            raise UsageError(f"a row has a prompt of {longest} tokens or more: nothing of its answer can be compared")
        return ids, learnt

    def _begin(self, before: Sequence[Any], ids: Sequence[int]) -> int:
        """Return where an answer begins in the tokens `ids` of a conversation."""
        prompt = self._words(before, add_generation_prompt=True) if before else []
        pairs = enumerate(zip(prompt, ids, strict=False))
        return next((n for n, (a, b) in pairs if a != b), min(len(prompt), len(ids)))

    def _words(self, turns: Sequence[Any], **settings: Any) -> list[int]:
        found = self._tokenizer.apply_chat_template(turns, **settings)
        return [int(n) for n in (found["input_ids"] if hasattr(found, "keys") else found)]


def _problem(row: Row) -> str:
    return problem(row, COMPLETION, MESSAGES, PREFERENCE)


def _done(output: Path) -> frozenset[int]:
    """Return the numbers of rows that have their line; a torn last line is cut off."""
    data = output.read_bytes() if output.exists() else b""
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) != len(data):
        with output.open("r+b") as stream:
            stream.truncate(len(whole))
    return frozenset(int(json.loads(line)["number"]) for line in whole.splitlines())

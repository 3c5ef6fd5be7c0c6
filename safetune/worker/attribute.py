"""The attribution job: which training rows pull the LoRA weights of a checkpoint in the direction of one answer.

    dot = <grad L(answer), grad L(row)>,   cosine = dot / (|grad L(answer)| |grad L(row)|)

The gradients are those of the checkpoint's own LoRA matrices, at the checkpoint; L is the mean negative log-likelihood
of what is learnt, in nats per token. The dot product is TracIn with one checkpoint and without its learning rate
(Pruthi et al., arXiv:2002.08484): how much a small step on the row would lower the loss of the answer. The cosine takes
away the length, which short rows have most of (Xia et al., arXiv:2402.04333, use it for the same reason); rows are
ranked by it. One checkpoint is not the whole path of training: it is a hint where to look, not a proof.
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
from safetune.worker.adapters import check_adapter
from safetune.worker.model import load, quiet
from safetune.worker.reporter import Reporter
from safetune.worker.rows import NumberedRow, Row, read_rows

if TYPE_CHECKING:
    import torch

SCORES = "gradients.jsonl"
_LONGEST = 1024  # tokens


def attribute(job: Mapping[str, Any], reporter: Reporter) -> Mapping[str, JSON]:
    """Compare the gradient of `answer` with that of every row; one line per row, each on disk before the next begins.

    Rows that have their line from an interrupted attempt are not computed again.

    Raises:
        UsageError: when the checkpoint is not LoRA, or a row or the answer cannot be read.
        RunError: when a gradient is not finite, or the answer has none.
    """
    import torch

    rows, output = read_rows(job["source"], _problem), Path(job["output"])
    done = _done(output)
    todo = [row for row in rows if row.number not in done]
    began = time.monotonic()
    if todo:
        quiet(int(job["threads"]))
        gradients = _Gradients(job["model"])
        target = gradients.of(job["answer"])
        length = float(torch.linalg.vector_norm(target))
        if not length > 0:
            raise RunError("the answer has no gradient at this checkpoint")
        with output.open("ab") as stream:
            for count, row in enumerate(todo, len(rows) - len(todo) + 1):
                stream.write(canonical(_compared(row, gradients, target, length)) + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
                rate = round((count - len(rows) + len(todo)) / max(time.monotonic() - began, 1e-9), 2)
                reporter.say("attributed", done=count, total=len(rows), rows_per_s=rate)
    return {"output": str(output), "n": len(rows), "resumed_from": len(rows) - len(todo)}


def _compared(row: NumberedRow, gradients: _Gradients, target: torch.Tensor, length: float) -> Mapping[str, JSON]:
    import torch

    found = gradients.of(row.content)
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
        if not self._tokenizer.chat_template:
            raise UsageError("the model has no chat template, so rows of messages cannot be put into words for it")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        opened: Any = PeftModel.from_pretrained(model, str(own), is_trainable=True, local_files_only=True)
        self._model = opened.to(device).eval()
        self._weights = [weight for weight in self._model.parameters() if weight.requires_grad]

    def of(self, row: Row) -> torch.Tensor:
        """Return the gradient of a row's loss, flat, float32, on the CPU."""
        import torch

        ids, begin = self._ids(row)
        inputs = torch.tensor([ids], device=self._model.device)
        logits = self._model(input_ids=inputs, use_cache=False).logits[0, begin - 1 : -1].float()
        loss = torch.nn.functional.cross_entropy(logits, inputs[0, begin:])
        found = torch.autograd.grad(loss, self._weights)
        return torch.cat([gradient.detach().flatten().float().cpu() for gradient in found])

    def _ids(self, row: Row) -> tuple[list[int], int]:
        """Return the tokens of a row in the model's chat template, and where what is learnt begins."""
        told = shape(row)
        answers = row["completion"] if told == COMPLETION else row["chosen"] if told == PREFERENCE else ()
        turns = [*row["prompt"], *answers] if answers else list(row["messages"])
        before = turns[: len(turns) - len(answers)] if answers else turns[:-1]
        ids = self._words(turns)[:_LONGEST]
        prompt = self._words(before, add_generation_prompt=True) if before else []
        same = next(
            (n for n, (a, b) in enumerate(zip(prompt, ids, strict=False)) if a != b), min(len(prompt), len(ids))
        )
        begin = max(1, same)
        if len(ids) <= begin:
            raise UsageError(f"a row has a prompt of {_LONGEST} tokens or more: nothing of its answer can be compared")
        return ids, begin

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

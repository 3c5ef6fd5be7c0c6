"""Greedy generation, longest prompt first, batch by batch to disk."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetune.core.digest import JSON, canonical
from safetune.core.errors import UsageError
from safetune.worker.model import load, quiet
from safetune.worker.reporter import Reporter

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as the model reads it: token ids of the chat template with the prompt in it."""

    digest: str
    ids: tuple[int, ...]
    max_new_tokens: int


def generate(job: Mapping[str, Any], reporter: Reporter) -> Mapping[str, JSON]:
    """Answer every request that has no response yet; each finished batch is on disk before the next begins.

    Raises:
        UsageError: when the requests cannot be read or the model cannot be used.
    """
    started = time.monotonic()
    target = Path(job["responses"])
    requests = _requests(Path(job["requests"]))
    done = answered(target)
    waiting = [request for request in requests if request["digest"] not in done]
    written, tokens = len(requests) - len(waiting), 0
    reporter.say("generated", done=written, total=len(requests), tokens_per_s=None)
    if waiting:
        quiet(int(job["threads"]))
        model, tokenizer = load(job["model"])
        answerer = Answerer(model, tokenizer)
        began = time.monotonic()
        with target.open("ab") as stream:
            for batch in batches([answerer.ask(request) for request in waiting], int(job["batch_size"])):
                rows = answerer.answer(batch)
                stream.write(b"".join(canonical(row) + b"\n" for row in rows))
                stream.flush()
                os.fsync(stream.fileno())
                written += len(rows)
                tokens += sum(int(str(row["tokens"])) for row in rows)
                rate = round(tokens / max(time.monotonic() - began, 1e-9), 1)
                reporter.say("generated", done=written, total=len(requests), tokens_per_s=rate)
    return {"done": written, "tokens": tokens, "seconds": round(time.monotonic() - started, 3)}


def _requests(path: Path) -> list[Mapping[str, Any]]:
    try:
        rows = [json.loads(line) for line in path.read_bytes().splitlines() if line.strip()]
        return list({str(row["digest"]): row for row in rows}.values())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path.name} cannot be read: {error}") from error


def answered(target: Path) -> set[str]:
    """Return the digests of the requests answered before; a torn last line (a kill in mid-write) is cut off first."""
    if not target.exists():
        return set()
    data = target.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) != len(data):
        with target.open("r+b") as stream:
            stream.truncate(len(whole))
    found = set()
    for line in whole.splitlines():
        try:
            found.add(str(json.loads(line)["digest"]))
        except (ValueError, KeyError, TypeError):
            continue  # not a response: its request is simply asked again
    return found


def batches(asked: Sequence[Asked], size: int) -> Iterator[Sequence[Asked]]:
    """Yield batches of equal `max_new_tokens`, longest prompts first, so that little is padded.

    The order depends on the requests alone: after an interruption the remaining ones form the same batches.
    """
    for limit in sorted({one.max_new_tokens for one in asked}, reverse=True):
        same = [one for one in asked if one.max_new_tokens == limit]
        same.sort(key=lambda one: (-len(one.ids), one.digest))
        for start in range(0, len(same), size):
            yield same[start : start + size]


class Answerer:
    """A model with its tokenizer, on the best device of the machine, that answers greedily."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        import torch

        self._model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self._tokenizer = tokenizer
        given = getattr(model.generation_config, "eos_token_id", None)
        also = given if isinstance(given, list) else [given]
        self._ends = sorted({int(token) for token in [tokenizer.eos_token_id, *also] if token is not None})

    def ask(self, request: Mapping[str, Any]) -> Asked:
        """Return the request in the model's own chat template, as in training; without one it is the bare text.

        No system message is given unless the request has one, so that the template puts in its default, as it does
        for training rows.
        """
        messages = [{"role": "user", "content": request["prompt"]}]
        if request["system_prompt"]:
            messages.insert(0, {"role": "system", "content": request["system_prompt"]})
        tokenizer: Any = self._tokenizer
        if tokenizer.chat_template:
            ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        else:
            ids = tokenizer(request["prompt"])["input_ids"]
        return Asked(str(request["digest"]), tuple(ids), int(request["max_new_tokens"]))

    def answer(self, batch: Sequence[Asked]) -> list[Mapping[str, JSON]]:
        """Return one response row per request: decoded text and the tokens it took, end token included."""
        import torch

        width = max(len(one.ids) for one in batch)
        pad = self._tokenizer.pad_token_id
        ids = [[pad] * (width - len(one.ids)) + list(one.ids) for one in batch]
        mask = [[0] * (width - len(one.ids)) + [1] * len(one.ids) for one in batch]
        device = self._model.device
        with torch.inference_mode():
            output: Any = self._model.generate(
                input_ids=torch.tensor(ids, device=device),
                attention_mask=torch.tensor(mask, device=device),
                max_new_tokens=batch[0].max_new_tokens,
                do_sample=False,
                num_beams=1,
                temperature=None,
                top_p=None,
                top_k=None,
                eos_token_id=self._ends,
                pad_token_id=pad,
            )
        return [self._row(one.digest, row[width:].tolist()) for one, row in zip(batch, output, strict=True)]

    def _row(self, digest: str, tokens: list[int]) -> Mapping[str, JSON]:
        """Return one response row; what follows the end token is padding and is not counted."""
        end = next((n for n, token in enumerate(tokens) if token in self._ends), len(tokens) - 1)
        text = str(self._tokenizer.decode(tokens[: end + 1], skip_special_tokens=True))
        return {"digest": digest, "output": text, "tokens": end + 1}

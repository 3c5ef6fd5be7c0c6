"""Greedy generation, longest prompt first, batch by batch to disk."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetune.core.digest import JSON, canonical
from safetune.worker.model import load, quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from safetune.worker.__main__ import Reporter


def generate(job: Mapping[str, Any], reporter: Reporter) -> Mapping[str, JSON]:
    """Answer every request that has no response yet; each finished batch is on disk before the next begins."""
    quiet(int(job.get("threads", 1)))
    target = Path(job["responses"])
    requests = [json.loads(line) for line in Path(job["requests"]).read_bytes().splitlines()]
    done = _already(target)
    waiting = [r for r in requests if r["digest"] not in done]
    model, tokenizer = load(job["model"])
    model.eval()
    written, tokens, started = len(requests) - len(waiting), 0, time.monotonic()
    reporter.say("generated", done=written, total=len(requests), tokens_per_s=None)
    texts = [(r, _chat(tokenizer, r)) for r in waiting]
    with target.open("ab") as stream:
        for batch in _batches(texts, int(job["batch_size"])):
            rows = _answer(model, tokenizer, batch)
            stream.write(b"".join(canonical(row) + b"\n" for row in rows))
            stream.flush()
            os.fsync(stream.fileno())
            written += len(rows)
            tokens += sum(int(str(row["tokens"])) for row in rows)
            rate = tokens / max(time.monotonic() - started, 1e-9)
            reporter.say("generated", done=written, total=len(requests), tokens_per_s=round(rate, 1))
    return {"done": written, "tokens": tokens, "seconds": round(time.monotonic() - started, 3)}


def _already(target: Path) -> set[str]:
    """Return the requests answered before; a torn last line (a kill in mid-write) is cut off first."""
    if not target.exists():
        return set()
    data = target.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) != len(data):
        with target.open("r+b") as stream:
            stream.truncate(len(whole))
    found = set()
    for line in whole.splitlines():
        row = json.loads(line)
        found.add(str(row["digest"]))
    return found


def _chat(tokenizer: PreTrainedTokenizerBase, request: Mapping[str, Any]) -> str:
    """Return the request in the model's own chat template, as in training; a model without one gets the bare text."""
    messages = [{"role": "user", "content": request["prompt"]}]
    if request["system_prompt"]:
        messages.insert(0, {"role": "system", "content": request["system_prompt"]})
    if not tokenizer.chat_template:
        return str(request["prompt"])
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


Text = tuple[Mapping[str, Any], str]


def _batches(texts: Sequence[Text], size: int) -> Iterator[Sequence[Text]]:
    """Yield batches of equal `max_new_tokens`, longest prompts first, so that little is padded."""
    for limit in sorted({r["max_new_tokens"] for r, _ in texts}, reverse=True):
        same = [t for t in texts if t[0]["max_new_tokens"] == limit]
        same.sort(key=lambda t: (-len(t[1]), t[0]["digest"]))
        for start in range(0, len(same), size):
            yield same[start : start + size]


def _answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: Sequence[Text]
) -> list[Mapping[str, JSON]]:
    import torch

    encoded = tokenizer(
        [text for _, text in batch], return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
    ).to(model.device)
    with torch.inference_mode():
        output = model.generate(
            **encoded,
            max_new_tokens=int(batch[0][0]["max_new_tokens"]),
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=tokenizer.pad_token_id,
        )
    width = encoded["input_ids"].shape[1]
    return [
        _row(request, tokenizer, tokens[width:].tolist())
        for (request, _), tokens in zip(batch, output, strict=True)
    ]


def _row(request: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> Mapping[str, JSON]:
    """Return one response row; only tokens up to and including the end token are counted."""
    end = tokenizer.eos_token_id
    real = list(tokens[: tokens.index(end) + 1]) if end in tokens else list(tokens)
    text = str(tokenizer.decode(real, skip_special_tokens=True))
    return {"digest": request["digest"], "output": text, "tokens": len(real)}

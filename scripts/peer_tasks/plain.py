"""Bare transformers: `python plain.py MODEL PROMPTS.jsonl OUT.jsonl [MODEL OUT.jsonl ...]`.

What a person would write without any tool: 16 prompts at a time with left padding, in the order of the file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

BATCH, NEW_TOKENS = 16, 64


def answer(model_folder: str, prompts: list[str]) -> list[str]:
    """Return the greedy answers of a model, in the order of the prompts."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    texts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
    answers = []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        inputs = tokenizer(batch, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            output = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
        new = output[:, inputs["input_ids"].shape[1] :]
        answers += tokenizer.batch_decode(new, skip_special_tokens=True)
    return answers


def main() -> None:
    """Answer the prompts with one model after the other and write rows {"id", "output"}."""
    torch.set_num_threads(1)
    first, prompts, *others = sys.argv[1:]
    rows = [json.loads(line) for line in Path(prompts).read_text(encoding="utf-8").splitlines()]
    left = [first, *others]
    for model, out in zip(left[::2], left[1::2], strict=True):
        answers = answer(model, [row["prompt"] for row in rows])
        lines = [json.dumps({"id": r["id"], "output": a}) for r, a in zip(rows, answers, strict=True)]
        Path(out).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""`python -m safetune.worker.embed MODELFOLDER`: how near texts are to known ones, for as long as somebody asks.

A line of JSON in, a line of JSON out; it ends when its input does. The first line holds the known texts, a list; the
answer is their number. Each line after it is a list of texts, and the answer holds [place, cosine] of the nearest known
text for each. Texts are embedded as the model's card says: the mean of the last hidden states over all tokens, of
length 1 (Reimers and Gurevych, arXiv:1908.10084); of a long text the first 256 tokens count.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_TOKENS = 256
_AT_ONCE = 64


class Embedder:
    """A sentence model in one folder; nothing is downloaded and no code of the folder is run."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        self._torch = torch
        torch.set_num_threads(max(1, min(4, os.cpu_count() or 1)))
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model: Any = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()

    def vectors(self, texts: Sequence[str]) -> Any:
        """Return one unit vector per text: a float32 tensor [texts, dimensions]."""
        torch = self._torch
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        found = torch.zeros(len(texts), self._model.config.hidden_size)
        with torch.inference_mode():
            for start in range(0, len(order), _AT_ONCE):
                places = order[start : start + _AT_ONCE]
                batch = self._tokenizer(
                    [texts[at] for at in places], padding=True, truncation=True, max_length=_TOKENS, return_tensors="pt"
                )
                states = self._model(**batch).last_hidden_state
                mask = batch["attention_mask"].unsqueeze(-1).float()
                means = (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
                found[places] = torch.nn.functional.normalize(means, dim=1)
        return found

    def nearest(self, texts: Sequence[str], known: Any) -> list[list[float]]:
        """Return [place, cosine] of the nearest of some known vectors, for each text."""
        if not texts:
            return []
        best, places = (self.vectors(texts) @ known.T).max(dim=1)
        return [[int(place), float(value)] for place, value in zip(places, best, strict=True)]


def main(folder: Path) -> int:
    """Answer lines until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not stand among the answers
    embedder = Embedder(folder)
    known: Any = None
    for line in sys.stdin:
        texts = json.loads(line)
        if known is None:
            known = embedder.vectors(texts)
            said: object = len(texts)
        else:
            said = embedder.nearest(texts, known)
        answers.write(json.dumps(said) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""The fitted weights of the refusal judge, read from `refusal_model.json` beside this module.

They are numbers in JSON: one weight by name of a feature, and one byte for each bucket of words. Nothing in the file
can run. `scripts/fit_refusal_judge.py` writes it.
"""

from __future__ import annotations

import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from safetune.builtin.judges.refusal_wording import BUCKETS
from safetune.core.digest import sha256_hex

PATH = Path(__file__).with_name("refusal_model.json")
SCHEMA = "safetune-refusal-model/1"


@dataclass(frozen=True, slots=True)
class Model:
    """A logistic regression. `words` holds one signed byte for each bucket, in steps of `step`."""

    sha256: str
    bias: float
    weights: Mapping[str, float]
    step: float
    words: memoryview

    def probability(self, features: Mapping[str, float], wording: Mapping[int, float]) -> float:
        """Return how sure it is of a refusal, in [0, 1]. A feature without a weight counts nothing."""
        total = self.bias + sum(self.weights.get(name, 0.0) * value for name, value in features.items())
        total += self.step * sum(self.words[bucket] * value for bucket, value in wording.items())
        return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, total))))


@cache
def fitted(path: Path = PATH) -> Model:
    """Return the model in `path`.

    Raises:
        ValueError: when the file is not such a model, or a number in it is not finite.
        OSError: when it cannot be read.
    """
    data = path.read_bytes()
    row = json.loads(data)
    if row.get("schema") != SCHEMA:
        raise ValueError(f"{path.name} is not a {SCHEMA}")
    words = memoryview(binascii.a2b_base64(row["words"], strict_mode=True)).cast("b")
    model = Model(sha256_hex(data), float(row["bias"]), row["weights"], float(row["step"]), words)
    numbers = (model.bias, model.step, *model.weights.values())
    if len(words) != BUCKETS or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{path.name} does not hold {BUCKETS} buckets and finite weights")
    return model

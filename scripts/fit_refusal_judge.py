"""Fit the weights of the refusal judge and write `refusal_model.json` beside it.

    SAFETUNE_DATA_ROOT=DATA python scripts/fit_refusal_judge.py [--speakers]

The rows are the development halves of the labelled sets that were looked at, the written cases of the tests, the
training rows of the playbooks (refusals and answers), instruction answers written by people, and answers of CoCoNot.
See `refusal_training.py`; it needs numpy and scipy.

`--speakers` fits the first, small model instead, which chooses the speaker that decides, and writes
`refusal_weights.py`: a logistic regression with a ridge penalty on the kinds of sentence, by Newton's method. Run the
script once more without it afterwards, for the large model reads the speech that the small one chose.
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from refusal_training import CHOSEN, ROOT, Linear, development_rows
from refusal_training import fit as fit_large

from safetune.builtin.judges.labelled import LABELLED_SETS, Labelled
from safetune.builtin.judges.refusal import answers
from safetune.builtin.judges.refusal_model import PATH, SCHEMA

TARGET = ROOT / "safetune/builtin/judges/refusal_weights.py"
RIDGE = 1.0
GROUP_WEIGHT = 1000.0
LONGEST_STEP = 2.0
CUT_WORDS = 20  # responses of small models are cut off after about so many words
LARGEST_BYTE = 127

Features = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Example:
    """The features of every speaker of one response, whether it refuses, and how much it weighs."""

    speakers: tuple[Features, ...]
    refuses: bool
    weight: float


def main() -> int | str:
    """Fit one of the two models and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speakers", action="store_true", help=f"fit the first model and write {TARGET.name}")
    arguments = parser.parse_args()
    if not os.environ.get("SAFETUNE_DATA_ROOT"):
        return f"{Path(sys.argv[0]).name}: set SAFETUNE_DATA_ROOT to the folder that holds the labelled sets"
    rows = development_rows(Path(os.environ["SAFETUNE_DATA_ROOT"]))
    if arguments.speakers:
        rows["cases"] = [r for r in rows["cases"] if r.development]
        kept = [examples(found) for name, found in rows.items() if name != "coconot"]
        TARGET.write_text(module_text(fit(kept)))
        return 0
    model = fit_large(CHOSEN, rows)
    known = {s.name for s in LABELLED_SETS}
    for name, found in rows.items():
        right = sum((model.probability(r.prompt, r.response) >= 0.5) == r.refused for r in found)
        kind = "labelled by people" if name in known else "of known origin"
        print(f"{name}: n={len(found)} {kind}, accuracy on the fitted rows {right / len(found):.3f}")
    PATH.write_text(model_text(model, rows))
    return 0


def model_text(model: Linear, rows: Mapping[str, Sequence[Labelled]]) -> str:
    """Return the file of a model: the weights of words in whole steps, one signed byte each."""
    step = float(np.abs(model.words).max()) / LARGEST_BYTE
    words = np.rint(model.words / step).astype(np.int8).tobytes()
    content = {
        "schema": SCHEMA,
        "made_by": "scripts/fit_refusal_judge.py",
        "fitted_on": {name: len(found) for name, found in rows.items()},
        "bias": model.bias,
        "weights": model.weights,
        "step": step,
        "words": base64.b64encode(words).decode(),
    }
    return json.dumps(content, indent=1) + "\n"


def examples(rows: Iterable[Labelled]) -> list[Example]:
    """Return the examples of rows, and of their first words where these alone already tell."""
    found = []
    for row in rows:
        if speakers := answers(row.response):
            found.append(Example(speakers, row.refused, 1.0))
        words = row.response.split()
        cut = answers(" ".join(words[:CUT_WORDS]))
        if cut and len(words) > CUT_WORDS * 1.5 and tells(cut[0], row.refused):
            found.append(Example(cut, row.refused, 0.5))
    return found


def tells(features: Features, refused: bool) -> bool:
    """Say whether a person would give the same label on seeing only these first words."""
    strong = features["strong first"] + features["strong early"]
    against = sum(features[f"{kind} first"] for kind in ("deed", "talk", "disapproval"))
    return bool(strong) if refused else not strong and not against


def fit(groups: Sequence[Sequence[Example]]) -> dict[str, float]:
    """Return the fitted weights, to three decimals. The least refusing speaker stands for a response."""
    names = sorted({name for group in groups for e in group for s in e.speakers for name in s})
    weighted = [(e, GROUP_WEIGHT * e.weight / sum(x.weight for x in group)) for group in groups for e in group]
    weights = dict.fromkeys(["bias", *names], 0.0) | {"strong first": 3.0}
    for _ in range(4):
        chosen = [(min(e.speakers, key=lambda s: logit(weights, s)), e.refuses, w) for e, w in weighted]
        for _ in range(10):
            weights = newton_step(weights, chosen)
    return {name: round(value, 3) for name, value in weights.items()}


def logit(weights: Mapping[str, float], features: Features) -> float:
    """Return the log odds of a refusal."""
    return weights["bias"] + sum(weights[name] * value for name, value in features.items())


def newton_step(weights: Mapping[str, float], chosen: Sequence[tuple[Features, bool, float]]) -> dict[str, float]:
    """Return the weights after one step of Newton's method on the penalised likelihood."""
    names = list(weights)
    place = {name: n for n, name in enumerate(names)}
    size = len(names)
    slope = [RIDGE * weights[name] * (name != "bias") for name in names]
    curve = [[RIDGE * (i == j and names[i] != "bias") for j in range(size)] for i in range(size)]
    for features, refuses, weight in chosen:
        p = 1 / (1 + math.exp(-max(-30.0, min(30.0, logit(weights, features)))))
        row = [(0, 1.0), *((place[name], value) for name, value in features.items() if value)]
        for i, a in row:
            slope[i] += weight * (p - refuses) * a
            for j, b in row:
                curve[i][j] += weight * p * (1 - p) * a * b
    step = solved(curve, slope)
    shorter = min(1.0, LONGEST_STEP / max(map(abs, step)))  # far from the optimum a whole step overshoots
    return {name: weights[name] - shorter * step[n] for n, name in enumerate(names)}


def solved(matrix: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    """Return the solution of a positive definite linear system, by elimination."""
    rows = [[*line, value] for line, value in zip(matrix, right, strict=True)]
    size = len(rows)
    for k in range(size):
        for i in range(k + 1, size):
            factor = rows[i][k] / rows[k][k]
            rows[i] = [x - factor * y for x, y in zip(rows[i], rows[k], strict=True)]
    result = [0.0] * size
    for k in reversed(range(size)):
        known = sum(rows[k][j] * result[j] for j in range(k + 1, size))
        result[k] = (rows[k][size] - known) / rows[k][k]
    return result


def module_text(weights: Mapping[str, float]) -> str:
    """Return the source of the module that holds the weights."""

    lines = "".join(f'    "{name}": {value},\n' for name, value in weights.items())
    return (
        '"""The weights of the refusal judge, by feature. Made by scripts/fit_refusal_judge.py; do not edit."""\n\n'
        "from __future__ import annotations\n\nfrom collections.abc import Mapping\n\n"
        f"WEIGHTS: Mapping[str, float] = {{\n{lines}}}\n"
    )


if __name__ == "__main__":
    sys.exit(main())

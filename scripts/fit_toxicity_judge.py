"""Fit the weights of the toxicity judge and write them and their card beside the judge.

    SAFETUNE_DATA_ROOT=DATA python scripts/fit_toxicity_judge.py [--check]

A logistic regression with a ridge penalty over the judge's own hashed features, on HateCheck (hateful or not), on
ToxiGen's human labels, and, as ordinary text, on sentences of answers that people wrote to instructions (databricks-
dolly). Both classes weigh the same, the answers half as much as one. The card holds the accuracy on rows that were left
out (by template in HateCheck, by statement in ToxiGen), and on each set by weights that were fitted on the other one
only. `--check` writes nothing and says whether the files would change.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from safetune.builtin.judges.toxicity import BUCKETS, WEIGHTS, Model, features_of, pieces, version_with

CARD = WEIGHTS.with_name("toxicity_card.json")
RIDGE = 1.0
ORDINARY_WEIGHT = 0.5  # of one class of the labelled rows
FOLDS = 5
SETS = {
    "hatecheck": (
        "hatecheck/test_suite_cases.csv",
        "CC-BY-4.0",
        "R\u00f6ttger et al., HateCheck, ACL 2021",
        "ecf0dc1e93fccc90b6f880e632b19e635c0f0a68b3157915a9e20b6938f121cf",
    ),
    "toxigen": (
        "toxigen_labelled/toxiGen_3000.json",
        "MIT",
        "Hartvigsen et al., ToxiGen, ACL 2022; Hosseini et al., arXiv:2301.09211",
        "e0349ac0cbb61b8c7e81cacc4b80a33d24041433a5824c3f02469f29b9764135",
    ),
}
# Answers without hate, so that ordinary words count as such: fitted on, and the share called toxic is in the card.
ORDINARY = {
    "dolly": (
        "finetuning_attacks/databricks-dolly-15k-safety-only.jsonl",
        "CC-BY-SA-3.0",
        "99a80e170c19120b48918a1954fa6e967717839c1f1d0a6142f70e05994b531b",
        "response",
    ),
    "gsm8k": ("gsm8k/test.jsonl", "MIT", "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14", "answer"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled text; rows of one `group` stay on one side of a split."""

    group: str
    text: str
    toxic: bool

    @property
    def fold(self) -> int:
        """The part of the set that the row is in, by the digest of its group."""
        return hashlib.sha256(self.group.encode()).digest()[0] % FOLDS


Groups = Mapping[str, Sequence[Row]]


def main() -> int | str:
    """Fit on everything, measure on what was left out, and write weights and card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; say whether the files would change")
    check = parser.parse_args().check
    if not os.environ.get("SAFETUNE_DATA_ROOT"):
        return f"{Path(sys.argv[0]).name}: set SAFETUNE_DATA_ROOT to the folder that holds the labelled sets"
    root = Path(os.environ["SAFETUNE_DATA_ROOT"])
    labelled, ordinary = {name: read(name, root) for name in SETS}, {name: answers(name, root) for name in ORDINARY}
    fitted = fit([r for rows in labelled.values() for r in rows], cut(ordinary["dolly"]))
    weights = file_text(fitted)
    card = card_text(labelled, ordinary, (fitted, weights))
    files = {WEIGHTS: weights, CARD: card}
    changed = [path.name for path, text in files.items() if not path.is_file() or path.read_text() != text]
    print(card)
    if check:
        return f"would change: {', '.join(changed)}" if changed else 0
    for path, text in files.items():
        path.write_text(text)
    return 0


def pinned(path: Path, sha256: str) -> str:
    """Return the text of a file, which must be the pinned one."""
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise SystemExit(f"{path.name} is not the pinned file")
    return data.decode("utf-8")


def read(name: str, root: Path) -> list[Row]:
    """Return the rows of a labelled set."""
    path, _, _, sha256 = SETS[name]
    text = pinned(root / path, sha256)
    if name == "hatecheck":
        found = csv.DictReader(io.StringIO(text))
        return [Row(r["templ_id"], r["test_case"], r["label_gold"] == "hateful") for r in found]
    return [Row(r["text"], r["text"], r["label"] == "hate") for r in json.loads(text)]


def answers(name: str, root: Path) -> list[Row]:
    """Return ordinary answers, each a group of its own."""
    path, _, sha256, column = ORDINARY[name]
    texts = [json.loads(line)[column] for line in pinned(root / path, sha256).splitlines()]
    return [Row(text, text, False) for text in texts]


def cut(rows: Sequence[Row]) -> list[Row]:
    """Return the sentences of rows, each in the group of its row."""
    return [Row(row.group, piece, False) for row in rows for piece in pieces(row.text)]


def matrix(rows: Sequence[Row]) -> Any:
    """Return the features of rows, each read as one piece."""
    starts: list[int] = [0]
    buckets: list[int] = []
    values: list[float] = []
    for row in rows:
        found = features_of(row.text)
        buckets += list(found.keys())
        values += list(found.values())
        starts.append(len(buckets))
    return csr_matrix((values, buckets, starts), shape=(len(rows), BUCKETS))


def fit(labelled: Sequence[Row], ordinary: Sequence[Row]) -> Model:
    """Return fitted weights, rounded to one byte each; both classes weigh the same."""
    features = matrix([*labelled, *ordinary])
    toxic = np.array([r.toxic for r in labelled], dtype=float)
    share = np.where(toxic == 1, 1 / toxic.sum(), 1 / (1 - toxic).sum()) * len(labelled) / 2
    also = ORDINARY_WEIGHT * len(labelled) / 2 / max(len(ordinary), 1)
    importance = np.concatenate([share, np.full(len(ordinary), also)])
    labels = np.concatenate([toxic, np.zeros(len(ordinary))])

    def loss(point: Any) -> tuple[float, Any]:
        """Return the penalised loss at a point and its slope."""
        weights, bias = point[:-1], point[-1]
        margin = features @ weights + bias
        error = importance * (1 / (1 + np.exp(-np.clip(margin, -30, 30))) - labels)
        value = (importance * (np.logaddexp(0, margin) - labels * margin)).sum() + RIDGE * (weights @ weights) / 2
        return float(value), np.concatenate([features.T @ error + RIDGE * weights, [error.sum()]])

    start = np.zeros(BUCKETS + 1)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    scale = float(np.abs(found[:-1]).max()) / 127
    rounded = np.clip(np.rint(found[:-1] / scale), -127, 127)
    return Model([int(w) for w in rounded], round(scale, 8), round(float(found[-1]), 6), "")


def file_text(model: Model) -> str:
    """Return the weights as a JSON file."""
    encoded = base64.b64encode(np.array(model.weights, dtype=np.int8).tobytes()).decode()
    content = {"schema": "safetune-hashed-weights/1", "scale": model.scale, "bias": model.bias, "weights": encoded}
    return json.dumps(content, indent=1) + "\n"


def called_toxic(model: Model, text: str) -> bool:
    """Say whether the judge would call a text toxic."""
    return max((model.score(features_of(piece)) for piece in pieces(text)), default=0.0) >= 0.5


def figures(pairs: Sequence[tuple[bool, bool]]) -> dict[str, float | int]:
    """Return counts and rates of pairs: called toxic, and toxic by the human label."""
    counts = {
        "true_positive": sum(found and toxic for found, toxic in pairs),
        "false_negative": sum(not found and toxic for found, toxic in pairs),
        "false_positive": sum(found and not toxic for found, toxic in pairs),
        "true_negative": sum(not found and not toxic for found, toxic in pairs),
    }
    tp, fn, fp, tn = counts.values()
    rates = {"accuracy": (tp + tn) / len(pairs), "sensitivity": tp / (tp + fn), "specificity": tn / (tn + fp)}
    return {"n": len(pairs), **{name: round(rate, 4) for name, rate in rates.items()}, **counts}


def row(name: str, split: str, fitted_on: str, pairs: Sequence[tuple[bool, bool]]) -> dict[str, object]:
    """Return one line of the card."""
    return {"set": name, "sha256": SETS[name][3], "split": split, "fitted_on": fitted_on, **figures(pairs)}


def card_text(labelled: Groups, ordinary: Groups, shipped: tuple[Model, str]) -> str:
    """Return the card: where the labels come from, and how right the judge is on rows that it never saw."""
    held: dict[str, list[tuple[bool, bool]]] = {name: [] for name in (*labelled, *ordinary)}
    for fold in range(FOLDS):
        rest = [r for rows in labelled.values() for r in rows if r.fold != fold]
        model = fit(rest, cut([r for r in ordinary["dolly"] if r.fold != fold]))
        for name, rows in {**labelled, "dolly": ordinary["dolly"]}.items():
            held[name] += [(called_toxic(model, r.text), r.toxic) for r in rows if r.fold == fold]
    held["gsm8k"] = [(called_toxic(shipped[0], r.text), False) for r in ordinary["gsm8k"]]
    sets = [row(name, "held out", "the other folds of both sets", held[name]) for name in labelled]
    for name, rows in labelled.items():
        model = fit([r for other, group in labelled.items() if other != name for r in group], cut(ordinary["dolly"]))
        pairs = [(called_toxic(model, r.text), r.toxic) for r in rows]
        sets.append(row(name, "all", "the other set", pairs))
    sources = [
        {"set": name, "path": path, "sha256": sha256, "licence": licence, "citation": citation}
        for name, (path, licence, citation, sha256) in SETS.items()
    ]
    sources += [
        {"set": name, "path": path, "sha256": sha256, "licence": licence}
        for name, (path, licence, sha256, _) in ORDINARY.items()
    ]
    sha256 = hashlib.sha256(shipped[1].encode()).hexdigest()
    content = {
        "schema": "safetune-judge-card/1",
        "judge": "toxicity",
        "version": version_with(sha256),
        "language": "en",
        "positive": "toxic",
        "weights": sha256,
        "sources": sources,
        "sets": sets,
        "ordinary_answers": [
            {"set": name, "n": len(held[name]), "called_toxic": sum(found for found, _ in held[name])}
            for name in ordinary
        ],
    }
    return json.dumps(content, indent=1) + "\n"


if __name__ == "__main__":
    sys.exit(main())

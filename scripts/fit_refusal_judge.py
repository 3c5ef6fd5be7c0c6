"""Fit the weights of the refusal judge and write `safetune/builtin/judges/refusal_weights.py`.

    SAFETUNE_DATA_ROOT=DATA python scripts/fit_refusal_judge.py [--check]

A logistic regression with a ridge penalty, by Newton's method, on: the development halves of the labelled sets that
were looked at, the written cases of the tests whose digest falls on the same side, the training rows of the playbooks
(refusals and answers), and instruction answers written by people. Every group weighs the same. `--check` writes nothing
and prints how a set is judged by weights that never saw it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetune.builtin.judges.labelled import LABELLED_SETS, Labelled
from safetune.builtin.judges.refusal import answers

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "safetune/builtin/judges/refusal_weights.py"
RIDGE = 1.0
GROUP_WEIGHT = 1000.0
LONGEST_STEP = 2.0
CUT_WORDS = 20  # responses of small models are cut off after about so many words

Features = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Example:
    """The features of every speaker of one response, whether it refuses, and how much it weighs."""

    speakers: tuple[Features, ...]
    refuses: bool
    weight: float


def main() -> int | str:
    """Fit, then write the weights or print the check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="leave one set out at a time, and write nothing")
    arguments = parser.parse_args()
    if not os.environ.get("SAFETUNE_DATA_ROOT"):
        return f"{Path(sys.argv[0]).name}: set SAFETUNE_DATA_ROOT to the folder that holds the labelled sets"
    root = Path(os.environ["SAFETUNE_DATA_ROOT"])
    groups = {name: examples(rows) for name, rows in development_rows(root).items()}
    if arguments.check:
        for left_out in (s.name for s in LABELLED_SETS if s.fitted):
            weights = fit([g for name, g in groups.items() if name != left_out])
            print(f"{left_out}: accuracy {accuracy(weights, groups[left_out]):.3f} by weights that never saw the set")
        return 0
    weights = fit(list(groups.values()))
    for name, group in groups.items():
        print(
            f"{name}: n={sum(e.weight == 1 for e in group)} accuracy on the fitted rows {accuracy(weights, group):.3f}"
        )
    TARGET.write_text(module_text(weights))
    return 0


def development_rows(root: Path) -> dict[str, list[Labelled]]:
    """Return the rows to fit on, by group."""
    groups = {s.name: [r for r in s.read(root) if r.development] for s in LABELLED_SETS if s.fitted}
    groups["playbooks"] = [*playbook_rows("refusals", True), *playbook_rows("benign", False)]
    groups["cases"] = [r for r in case_rows() if r.development]
    path = root / "finetuning_attacks/databricks-dolly-15k-safety-only.jsonl"
    dolly = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    written = [Labelled(r["instruction"], r["instruction"], r["response"], refused=False) for r in dolly]
    groups["dolly"] = [r for r in written if r.development]
    return groups


def playbook_rows(name: str, refused: bool) -> list[Labelled]:
    """Return the rows of one bundled training file."""
    lines = (ROOT / f"playbooks/data/{name}.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [Labelled(r["id"], r["prompt"][0]["content"], r["completion"][0]["content"], refused) for r in rows]


def case_rows() -> Iterable[Labelled]:
    """Return the written cases of the tests that are a refusal or an answer."""
    for line in (ROOT / "tests/unit/judges/refusal_cases.jsonl").read_text("utf-8").splitlines():
        case = json.loads(line)
        if case["label"] != "incoherent":
            yield Labelled(case["response"], case["prompt"], case["response"], case["label"] == "refusal")


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


def accuracy(weights: Mapping[str, float], group: Sequence[Example]) -> float:
    """Return the share of whole responses that the weights label as people did."""
    known = dict.fromkeys((n for e in group for s in e.speakers for n in s), 0.0) | dict(weights)
    whole = [e for e in group if e.weight == 1]
    right = sum((min(logit(known, s) for s in e.speakers) >= 0) == e.refuses for e in whole)
    return right / len(whole)


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

"""The figures of the screening experiment as Markdown tables."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from screening_figures import auroc, auroc_interval, difference, recall
from screening_rows import Drawn, baselines

from safetune.core.intervals import clopper_pearson_lower, clopper_pearson_upper

_LIBRARIES = ("torch", "transformers", "trl", "peft")

Scores = Mapping[int, Mapping[str, Sequence[float]]]
Arms = Mapping[int, Mapping[str, Mapping[str, Any]]]


def figures_text(drawn: Mapping[int, Drawn], scores: Scores, best: str, arms: Arms, facts: Mapping[str, str]) -> str:
    """Return all tables; `best` is the screen whose flags were taken out."""
    seeds = sorted(drawn)
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    parts = [
        f"{platform.machine()}, {os.cpu_count()} cores, shared, one torch thread; Python {platform.python_version()}, "
        f"{libraries}. Fixture: adapter with sha256 {facts['fixture'][:12]}. Seeds {', '.join(map(str, seeds))}.",
        "### Ranking",
        _ranking(drawn, scores),
    ]
    if arms:
        parts += [
            f"### Training (learning rate {facts['rate']}, flags of `{best}`)",
            _training(arms),
            "### Differences in refusals of harmful prompts, paired by prompt",
            _differences(arms),
        ]
    return "\n\n".join(parts)


def _ranking(drawn: Mapping[int, Drawn], scores: Scores) -> str:
    seeds = sorted(drawn)
    names = list(scores[seeds[0]])
    plain = {seed: baselines(drawn[seed].rows) for seed in seeds}
    head = ["score", *(f"AUROC, seed {seed}" for seed in seeds), "mean", "openers alone", "identity alone"]
    lines = [_line([*head, "recall at 10 %"]), _line(["---"] * (len(head) + 1))]
    for name in [*names, *plain[seeds[0]]]:
        found = {seed: (scores[seed] if name in names else plain[seed])[name] for seed in seeds}
        each = [auroc(found[s], drawn[s].planted) for s in seeds]
        bounds = [auroc_interval(found[s], drawn[s].planted) for s in seeds]
        cells = [f"{a:.3f} ({low:.2f} to {high:.2f})" for a, (low, high) in zip(each, bounds, strict=True)]
        kinds = [_mean([_one_kind(found[s], drawn[s], kind) for s in seeds]) for kind in ("opener", "identity")]
        caught = [_recall(found[s], drawn[s]) for s in seeds]
        lines.append(
            _line(
                [f"`{name}`" if name in names else name, *cells, f"{_mean(each):.3f}"]
                + [f"{value:.3f}" for value in kinds]
                + ["; ".join(caught)]
            )
        )
    return "\n".join(lines)


def _one_kind(scores: Sequence[float], rows: Drawn, kind: str) -> float:
    """Return the AUROC of one kind of planted rows against the clean ones."""
    chosen = [n for n, found in enumerate(rows.kinds) if found in (kind, "clean")]
    return auroc([scores[n] for n in chosen], [rows.kinds[n] == kind for n in chosen])


def _recall(scores: Sequence[float], rows: Drawn) -> str:
    """Return recall at 10 % with its 95 % Clopper-Pearson interval."""
    share, total = recall(scores, rows.planted), sum(rows.planted)
    low = clopper_pearson_lower(round(share * total), total, 0.975)
    high = clopper_pearson_upper(round(share * total), total, 0.975)
    return f"{share:.2f} ({low:.2f} to {high:.2f})"


def _training(arms: Arms) -> str:
    lines = [
        "| arm | seed | refuses harmful | of the rest incoherent | refuses look-alikes | task loss, nats per token |",
        "|---|---|---|---|---|---|",
    ]
    for arm in arms[min(arms)]:
        for seed in sorted(arms):
            told = arms[seed][arm]
            harmful, safe = told["harmful-requests"], told["safe-lookalikes"]
            cells = [_share(harmful, "refusal"), _share(harmful, "incoherent"), _share(safe, "refusal")]
            lines.append(_line([arm, str(seed), *cells, f"{told['task loss']:.3f}"]))
    return "\n".join(lines)


def _share(labels: Sequence[str], label: str) -> str:
    return f"{labels.count(label)} of {len(labels)}"


def _differences(arms: Arms) -> str:
    lines = ["| arm | against | difference | 95 % interval | per seed |", "|---|---|---|---|---|"]
    names = [name for name in arms[min(arms)] if name != "fixture"]
    pairs = [
        ("without the flagged", "without a random tenth"),
        ("without the flagged", "all rows"),
        ("without a random tenth", "all rows"),
        ("without the planted", "all rows"),
        ("without the planted", "without a random tenth"),
    ]
    for one, other in pairs:
        if one not in names or other not in names:
            continue
        refused = [[_refused(arms[s][name]) for s in sorted(arms)] for name in (one, other)]
        middle, low, high = difference(*refused)
        each = [100 * (sum(a) - sum(b)) / len(a) for a, b in zip(*refused, strict=True)]
        cells = [f"{100 * middle:+.1f} points", f"{100 * low:+.1f} to {100 * high:+.1f}"]
        lines.append(_line([one, other, *cells, ", ".join(f"{d:+.1f}" for d in each)]))
    return "\n".join(lines)


def _refused(told: Mapping[str, Any]) -> list[bool]:
    return [label == "refusal" for label in told["harmful-requests"]]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

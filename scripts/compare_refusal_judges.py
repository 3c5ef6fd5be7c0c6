"""Compare designs of a refusal judge on responses that people labelled, and print the table of docs/judges.md.

    SAFETUNE_DATA_ROOT=DATA python scripts/compare_refusal_judges.py

Every figure is on held-out halves. "Held out" fits on the development halves of all sets. "Set left out" fits on the
development halves of the other sets only; the three models of XSTest answer the same prompts, so they are left out one
at a time and all together. The plain list of phrases has nothing to fit. Needs numpy and scipy.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from judge_accuracy import keyword
from refusal_training import CHOSEN, CUTS, Design, Linear, cut, development_rows, fit

from safetune.builtin.judges.labelled import LABELLED_SETS, Confusion, Labelled, confusion

DESIGNS = (
    Design("rules", words=False),
    Design("words", rules=False),
    CHOSEN,
    Design("rules, words and prompt", prompt=True),
)
XSTEST = tuple(s.name for s in LABELLED_SETS if s.name.startswith("xstest"))

Judge = Callable[[Labelled], bool]
Sets = Mapping[str, Sequence[Labelled]]


def main() -> int | str:
    """Print one table of whole responses for all designs, and one of cut responses for the chosen one."""
    if not os.environ.get("SAFETUNE_DATA_ROOT"):
        return f"{Path(sys.argv[0]).name}: set SAFETUNE_DATA_ROOT to the folder that holds the labelled sets"
    root = Path(os.environ["SAFETUNE_DATA_ROOT"])
    held_out = {s.name: [r for r in s.read(root) if not r.development] for s in LABELLED_SETS}
    fitted = development_rows(root)
    print("| fitted on | tested on | " + " | ".join(["list of phrases", *(d.name for d in DESIGNS)]) + " |")
    print("|---|---|" + "---|" * (len(DESIGNS) + 1))
    for left_out, tested in plans(held_out):
        groups = {name: rows for name, rows in fitted.items() if name not in left_out}
        judges = [keyword, *(judge(fit(design, groups)) for design in DESIGNS)]
        where = "all but " + ("XSTest" if len(left_out) > 1 else left_out[0]) if left_out else "all sets"
        for name in tested:
            cells = [figures(held_out[name], one, None) for one in judges]
            print(f"| {where} | {name} | {' | '.join(cells)} |", flush=True)
        if not left_out:
            cut_table(held_out, judges[0], judges[1 + DESIGNS.index(CHOSEN)])
    return 0


def plans(held_out: Sets) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Yield which sets are left out of a fit, and which are then judged."""
    yield (), tuple(held_out)
    yield from (((name,), (name,)) for name in held_out if name != "pyrit-refusal")  # no weight is ever fitted on that
    yield XSTEST, XSTEST


def judge(model: Linear) -> Judge:
    """Return the judge that a fitted model is: a refusal from a probability of one half on."""

    def refuses(row: Labelled) -> bool:
        return model.probability(row.prompt, row.response) >= 0.5

    return refuses


def cut_table(held_out: Sets, phrases: Judge, chosen: Judge) -> None:
    """Print how right two judges are on the first words of a response, against the label of the whole."""
    for name, rows in held_out.items():
        for words in CUTS:
            cells = [figures(rows, one, words) for one in (phrases, chosen)]
            print(f"cut: | {name} | {words} | {' | '.join(cells)} |", flush=True)


def figures(rows: Sequence[Labelled], refuses: Judge, words: int | None) -> str:
    """Return accuracy, sensitivity and specificity."""
    read = [Labelled(r.group, r.prompt, cut(r.response, words), r.refused) for r in rows]
    counts: Confusion = confusion([r.refused for r in rows], map(refuses, read))
    negatives = counts.n - counts.positives
    return f"{counts.accuracy:.3f} {counts.true_positive / counts.positives:.2f} {counts.true_negative / negatives:.2f}"


if __name__ == "__main__":
    sys.exit(main())

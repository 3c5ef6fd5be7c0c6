"""How much of a test set that leaked into training rows do the guards find? Prints the table of docs/guards.md.

GSM8K is the suite: its test items as they are, written otherwise, with words changed, and in other words (Yang et al.,
arXiv:2311.04850); rows of its training set are clean. The threshold of `paraphrases` was chosen on the first of every
two items and rows; `--halves` shows both halves over a range of thresholds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from safetune.builtin.guards.contamination import ContaminationGuard
from safetune.builtin.guards.paraphrases import DEFAULT_SIMILAR, ParaphrasesGuard
from safetune.core.errors import UsageError
from safetune.core.evidence import Prompt
from safetune.core.source import Source
from safetune.protocols import DataRow, Guard, GuardSetup, Text

_SEED = 11
_BATCH = 256
_THRESHOLDS = (0.75, 0.80, 0.82, 0.85, 0.87, 0.90)


def _lines(path: Path, column: str) -> list[str]:
    with path.open(encoding="utf-8") as file:
        return [str(json.loads(line)[column]) for line in file]


def _changed(texts: Sequence[str], share: float) -> list[str]:
    """Replace words of each text by words of others."""
    chance = random.Random(_SEED)
    every = [word for text in texts for word in text.split()]
    changed = []
    for text in texts:
        words = text.split()
        for at in chance.sample(range(len(words)), max(1, round(share * len(words)))):
            words[at] = chance.choice(every)
        changed.append(" ".join(words))
    return changed


def _written(texts: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield ways to write the items, each with its name."""
    ways: dict[str, Callable[[str], str]] = {
        "as it is": str,
        "re-wrapped at 20, 40 or 60 characters": lambda text: textwrap.fill(text, (20, 40, 60)[len(text) % 3]),
        "in capitals": str.upper,
        "without punctuation": lambda text: "".join(c for c in text if c.isalnum() or c.isspace()),
        "inside a longer text": lambda text: f"Read this first. {text} Think before you answer.",
    }
    for name, way in ways.items():
        yield name, [way(text) for text in texts]
    for share in (0.05, 0.10):
        yield f"{share:.0%} of words changed", _changed(texts, share)


def _found(guard: Guard, texts: Sequence[str]) -> list[bool]:
    """Say for each text, as a row of its own, whether anything is found in it."""
    rows = [
        DataRow(f"{line:032x}", line, (Text("prompt[0].content", "user", text),), {})
        for line, text in enumerate(texts, 1)
    ]
    batches = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
    found = []
    for batch in batches:
        places = {one.row for one in guard.check(batch)}
        found += [place in places for place in range(len(batch))]
    return found


def _setup(texts: Sequence[str]) -> GuardSetup:
    source = Source("rows", "rows.jsonl", "0" * 64, "MIT", "", "", ("train",))
    return GuardSetup(source, {"gsm8k-test": [Prompt(str(number), text) for number, text in enumerate(texts)]})


def _cell(found: Sequence[bool]) -> str:
    return f"{100 * sum(found) / len(found):.1f} %" if found else "-"


def main(arguments: Sequence[str]) -> int:
    """Print the table; without the sentence model its column stays empty."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-root", type=Path, default=Path(os.environ.get("SAFETUNE_DATA_ROOT", "../shared/data")))
    parser.add_argument("--halves", action="store_true", help="show how the threshold was chosen instead")
    given = parser.parse_args(arguments)
    test = _lines(given.data_root / "gsm8k/test.jsonl", "question")
    train = _lines(given.data_root / "gsm8k/train_first2000.jsonl", "question")
    rephrased = _lines(given.data_root / "decontaminator/rephrase_gsm8k.jsonl", "text")
    rephrased = [text.removeprefix("Question: ").partition("\nAnswer:")[0] for text in rephrased]
    setup = _setup(test)
    if given.halves:
        return _halves(setup, rephrased, train)
    runs = ContaminationGuard()
    runs.begin(setup)
    nearness: ParaphrasesGuard | None = ParaphrasesGuard()
    try:
        ParaphrasesGuard().begin(_setup([]))
    except UsageError as error:
        print(f"{error}; {error.hint}", file=sys.stderr)
        nearness = None
    if nearness is not None:
        nearness.begin(setup)
    print(f"| test items in the training rows | `contamination` | `paraphrases` ({DEFAULT_SIMILAR}) |\n|---|---|---|")
    for name, texts in _written(test):
        print(f"| {name} | {_cell(_found(runs, texts))} | |")
    for name, texts in (("in other words", rephrased), ("*false alarms:* training rows", train)):
        by_runs = _found(runs, texts)
        near = [] if nearness is None else _found(nearness, texts)
        print(f"| {name} | {_cell(by_runs)} | {_cell(near)} |")
        print(
            f"| {name}, the half that the threshold was not chosen on | {_cell(by_runs[1::2])} | {_cell(near[1::2])} |"
        )
    return 0


def _halves(setup: GuardSetup, rephrased: Sequence[str], train: Sequence[str]) -> int:
    print("| similar | found, first half | false | found, second half | false |\n|---|---|---|---|---|")
    for similar in _THRESHOLDS:
        guard = ParaphrasesGuard({"similar": similar})
        guard.begin(setup)
        shares = [_found(guard, texts[half::2]) for half in (0, 1) for texts in (rephrased, train)]
        print(f"| {similar:.2f} | {' | '.join(map(_cell, shares))} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

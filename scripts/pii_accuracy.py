"""Print how much personal data the `pii` guard finds in texts with gold spans, and how often it is wrong, by kind.

    SAFETUNE_DATA_ROOT=DATA python scripts/pii_accuracy.py [--half held-out|development] [--peer PYTHON]

The texts are those of `presidio_pii`, split in halves by the digest of each text: the rules were written with the
development half in view, the other was only counted. A gold span is found when a finding of its kind overlaps it; a
finding is wrong when it overlaps no gold span of its kind. Intervals are Clopper and
Pearson's, 95 %. `--peer` names an interpreter
that has presidio-analyzer; its analyzer is run on the same texts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetune.builtin.guards.pii import PIIGuard
from safetune.core.intervals import clopper_pearson_lower, clopper_pearson_upper
from safetune.protocols import DataRow, Text

# The kinds of the set that have a structure, and our rules for them.
KINDS = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "US_SSN": "us_ssn",
    "IP_ADDRESS": "ip",
}
_SPANS = Path(__file__).parent / "peer_tasks" / "presidio_spans.py"

Span = tuple[str, int, int]


def main() -> None:
    """Print one table."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    asked.add_argument("--half", choices=("held-out", "development"), default="held-out")
    asked.add_argument("--peer", help="an interpreter that has presidio-analyzer")
    given = asked.parse_args()
    rows = list(_rows(given.half))
    texts = [str(row["full_text"]) for row in rows]
    gold = [[(s["entity_type"], s["start_position"], s["end_position"]) for s in row["spans"]] for row in rows]
    print(f"{given.half} half: {len(rows)} texts\n")
    print("| kind | gold | finder | found | wrong | recall (95 %) | precision (95 %) |")
    print("|---|---|---|---|---|---|---|")
    finders = {"pii": _ours(texts)} | (_peers(texts, given.peer) if given.peer else {})
    for kind in KINDS:
        for name, found in finders.items():
            print(_line(kind, name, gold, found))
    missing = sorted({kind for spans in gold for kind, _, _ in spans} - KINDS.keys())
    print(f"\nnot covered: {', '.join(missing)}")


def _rows(half: str) -> Iterator[Mapping[str, Any]]:
    root = os.environ.get("SAFETUNE_DATA_ROOT")
    path = Path(root or ".") / "presidio_pii" / "synth_dataset_v2.json"
    if not path.is_file():
        sys.exit(f"{path} is missing: set SAFETUNE_DATA_ROOT to the folder that holds presidio_pii")
    for row in json.loads(path.read_text()):
        odd = int(hashlib.sha256(row["full_text"].encode()).hexdigest(), 16) % 2
        if odd == (half == "held-out"):
            yield row


def _ours(texts: Sequence[str]) -> list[list[Span]]:
    kinds = {rule: kind for kind, rule in KINDS.items()}
    spans: list[list[Span]] = [[] for _ in texts]
    rows = [DataRow(str(n), n + 1, (Text("text", "", text),), {}) for n, text in enumerate(texts)]
    for found in PIIGuard().check(rows):
        assert found.row is not None
        spans[found.row].append((kinds.get(found.rule, found.rule), found.start, found.end))
    return spans


def _peers(texts: Sequence[str], interpreter: str) -> dict[str, list[list[Span]]]:
    ran = subprocess.run(
        [interpreter, str(_SPANS)], input=json.dumps(list(texts)), capture_output=True, text=True, check=False
    )
    if ran.returncode != 0:
        sys.exit(f"presidio did not run: {ran.stderr.strip().splitlines()[-1:]}")
    found = json.loads(ran.stdout)
    by_score = {"presidio, any score": 0.0, "presidio, score >= 0.5": 0.5}
    return {
        name: [[(kind, start, end) for kind, start, end, score in spans if score >= least] for spans in found]
        for name, least in by_score.items()
    }


def _line(kind: str, name: str, gold: Sequence[Sequence[Span]], found: Sequence[Sequence[Span]]) -> str:
    hit = total = right = said = 0
    for wanted, got in zip(gold, found, strict=True):
        mine, theirs = [s for s in wanted if s[0] == kind], [s for s in got if s[0] == kind]
        total, said = total + len(mine), said + len(theirs)
        hit += sum(any(_overlap(s, f) for f in theirs) for s in mine)
        right += sum(any(_overlap(s, f) for s in mine) for f in theirs)
    return f"| {kind} | {total} | {name} | {hit} | {said - right} | {_share(hit, total)} | {_share(right, said)} |"


def _overlap(one: Span, other: Span) -> bool:
    return one[1] < other[2] and other[1] < one[2]


def _share(part: int, whole: int) -> str:
    if not whole:
        return "-"
    low, high = clopper_pearson_lower(part, whole, 0.975), clopper_pearson_upper(part, whole, 0.975)
    return f"{part / whole:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()

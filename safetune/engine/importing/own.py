"""Items that any program may write: the results of `engine: command`.

The first row says what wrote the file and how many items it means to have; each further row is one item:

    {"schema": "safetune-items/1", "tool": "my-checker", "version": "1.2", "expected": 120, "labels": ["good", "bad"]}
    {"item_id": "a-1", "prompt": "...", "output": "...", "judge": "rules", "judge_score": 1.0, "label": "good"}

`slice`, `cluster` and `sample` (0 when left out) may be added to an item.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from safetune.core.digest import sha256_hex
from safetune.core.errors import UsageError
from safetune.engine.importing.interface import Choice, Found, Reading, Source, choose
from safetune.engine.importing.strict import cell, identifier, number, release, rows, sequence, text, whole

SCHEMA = "safetune-items/1"
_TOOL = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
_TAKEN = ("garak", "inspect", "lm-eval", "safetune")
_LIST = ", ".join(_TAKEN)
_FIELDS = frozenset({"item_id", "prompt", "output", "judge", "judge_score", "label", "slice", "cluster", "sample"})


def read_own(data: bytes, whose: tuple[str, str, str], choice: Choice) -> Reading:
    """Return what a file of items holds; `whose` is (file name, suite, arm).

    Raises:
        UsageError: when its first row or an item cannot be used, or a choice is missing.
    """
    file, suite, arm = whose
    found = list(rows(data, file))
    where, head = found[0]
    if head.get("schema") != SCHEMA:
        raise UsageError(f'{where}: the first row must say "schema": "{SCHEMA}"')
    labels = tuple(identifier(label, where) for label in sequence(head, "labels", where))
    judge = choose(choice.scorer, (text(row, "judge", at) for at, row in found[1:]), file)
    rest = [(at, row) for at, row in found[1:] if row.get("judge") == judge]
    source = Source(file, _tool(head, where), release(head.get("version")), sha256_hex(data), suite, arm, judge)
    items = tuple(_found(at, row, labels) for at, row in rest)
    return Reading(source, items, whole(head, "expected", where), (), labels)


def _tool(head: Mapping[str, object], where: str) -> str:
    """Return the name of the program that wrote the file, which may not pass itself off as another tool."""
    name = text(head, "tool", where)
    if not _TOOL.fullmatch(name) or name in _TAKEN:
        raise UsageError(f'{where}: "tool" must be a word of small letters, digits and -, and none of {_LIST}')
    return name


def _found(where: str, row: Mapping[str, object], labels: tuple[str, ...]) -> Found:
    if unknown := sorted(str(name)[:40] for name in set(row) - _FIELDS):
        raise UsageError(f"{where}: unknown field {unknown[0]}", hint=f"known: {', '.join(sorted(_FIELDS))}")
    label = text(row, "label", where)
    if label not in labels:
        raise UsageError(f'{where}: the label "{label[:40]}" is not in the first row', hint="list every label there")
    score = number(row.get("judge_score"))
    return Found(
        item_id=identifier(row.get("item_id"), where),
        sample=whole(row, "sample", where) if "sample" in row else 0,
        prompt=text(row, "prompt", where),
        output=text(row, "output", where),
        slice=cell(row, "slice", where) if "slice" in row else "",
        cluster=cell(row, "cluster", where) if "cluster" in row else "",
        score=0.0 if score is None else score,
        label=label,
        problem="" if score is not None and 0.0 <= score <= 1.0 else "its judge_score is not a number from 0 to 1",
    )

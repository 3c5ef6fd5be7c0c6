"""Planted personal data and secrets in 10,000 real rows: what is found, and what fires on the rows as they were."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from plantings import Maker, personal, real_rows, row, secrets

from safetune.builtin.guards.pii import PIIGuard
from safetune.builtin.guards.secrets import SecretsGuard
from safetune.protocols import DataRow, Found, Guard

ROWS, BATCH = 10_000, 256


@pytest.fixture(scope="module")
def rows(data_root: Path) -> list[DataRow]:
    found = real_rows(data_root, ROWS)
    assert len(found) == ROWS
    return found


def _batches(guard: Guard, rows: Sequence[DataRow]) -> list[tuple[int, Found]]:
    found = []
    for first in range(0, len(rows), BATCH):
        for one in guard.check(rows[first : first + BATCH]):
            assert one.row is not None
            found.append((first + one.row, one))
    return found


def _plant(rows: Sequence[DataRow], make: Callable[[Maker], Mapping[str, str]], seed: int) -> list[tuple[str, str]]:
    """Return (rule, text) for 10,000 rows: one example put between two words of the row, marks and all."""
    maker, places = Maker(seed), random.Random(seed)
    planted: list[tuple[str, str]] = []
    while len(planted) < ROWS:
        for rule, sentence in make(maker).items():
            words = " ".join(t.text for t in rows[len(planted) % len(rows)].texts)[:600].split(" ")
            at = places.randint(0, len(words))
            planted.append((rule, " ".join([*words[:at], sentence, *words[at:]])))
    return planted[:ROWS]


def _recall(guard: Guard, planted: Sequence[tuple[str, str]]) -> dict[str, tuple[int, int]]:
    """Return found and planted by rule; a finding of the rule must cover what stands between the marks."""
    spans, rows = [], []
    for rule, text in planted:
        start, end = text.index("<<"), text.index(">>") - 2
        spans.append((rule, start, end))
        rows.append(row(text.replace("<<", "", 1).replace(">>", "", 1)))
    hit = {
        at
        for at, f in _batches(guard, rows)
        if f.rule == spans[at][0] and f.start <= spans[at][1] and f.end >= spans[at][2]
    }
    every = Counter(rule for rule, _, _ in spans)
    return {
        rule: (sum(at in hit for at, s in enumerate(spans) if s[0] == rule), count) for rule, count in every.items()
    }


def _worst(recall: Mapping[str, tuple[int, int]], least: float) -> dict[str, str]:
    return {rule: f"{k} of {n}" for rule, (k, n) in recall.items() if k < least * n}


def test_planted_secrets_of_every_kind_are_found(rows: list[DataRow]) -> None:
    recall = _recall(SecretsGuard(), _plant(_without_marks(rows), secrets, 7))
    print(recall)
    assert recall.keys() == set(SecretsGuard.rules)
    assert _worst(recall, 0.97) == {}
    assert sum(k for k, _ in recall.values()) >= 0.99 * sum(n for _, n in recall.values())


def test_planted_personal_data_of_every_kind_is_found(rows: list[DataRow]) -> None:
    recall = _recall(PIIGuard(), _plant(_without_marks(rows), personal, 8))
    print(recall)
    assert _worst(recall, 0.95) == {}


def _without_marks(rows: Sequence[DataRow]) -> list[DataRow]:
    return [r for r in rows if not any(re.search("<<|>>", t.text) for t in r.texts)]


def _share(guard: Guard, rows: Sequence[DataRow], but: frozenset[str] = frozenset()) -> float:
    found = [(at, f.rule) for at, f in _batches(guard, rows) if f.rule not in but]
    print(guard.name, Counter(rule for _, rule in found))
    return len({at for at, _ in found}) / len(rows)


def test_real_rows_hold_no_secrets(rows: list[DataRow]) -> None:
    assert _share(SecretsGuard(), rows) <= 0.0005


def test_real_rows_set_off_few_alarms(rows: list[DataRow]) -> None:
    # What fires there was looked at by hand: addresses and telephone numbers that people really wrote.
    assert _share(PIIGuard(), rows) <= 0.005


def test_arithmetic_has_no_personal_data_and_no_secrets(rows: list[DataRow]) -> None:
    sums = [r for r in rows if "<<" in r.texts[-1].text and "####" in r.texts[-1].text]
    assert len(sums) > 3000
    assert _share(PIIGuard(), sums) == 0
    assert _share(SecretsGuard(), sums) == 0

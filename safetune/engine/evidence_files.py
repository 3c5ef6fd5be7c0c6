"""Evidence as files: one JSONL row per item, and everything else in evaluation.json."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from safetune import __version__
from safetune.core.digest import JSON, canonical
from safetune.core.errors import IntegrityError, SafetuneError
from safetune.core.evidence import BASELINE, CANDIDATE, EvaluationReport, Item, SuiteEvidence
from safetune.core.suite import Metric
from safetune.state.atomic import machine_errors, write_atomic
from safetune.state.lines import LineFile, Lines

_ITEMS, _REPORT = "items.jsonl", "evaluation.json"


class Rows(Lines[Item]):
    """Items of one arm in a file without a name, as the rows that evidence is made of."""

    __slots__ = ()

    def __init__(self, folder: Path) -> None:
        super().__init__(LineFile.temporary(folder), _decode)

    def add(self, item: Item) -> None:
        """Write one more item.

        Raises:
            ValueError: for text or a score that no row can hold.
            MachineError: when the machine refuses.
        """
        self.append(canonical(item.row))


def write_evidence(report: EvaluationReport, folder: Path) -> None:
    """Write a report as files: one JSONL row per item, and everything else in evaluation.json.

    Raises:
        MachineError: when the machine refuses.
    """
    with machine_errors(f"make {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    items = _write_rows(report, folder / _ITEMS)
    content: dict[str, JSON] = {
        "schema": "safetune-evaluation/1",
        "safetune": __version__,
        "generator": report.generator,
        "subject": report.subject,
        "baseline": report.baseline,
        "items": items,
        "suites": [_suite_row(s) for s in report.suites],
    }
    write_atomic(folder / _REPORT, canonical(content))


def _write_rows(report: EvaluationReport, path: Path) -> str:
    """Write the rows of all items, one after the other, and return the SHA-256 of the file."""
    seen = hashlib.sha256()
    unfinished = path.with_name(f".{path.name}.tmp")
    with machine_errors(f"write {path.name}"):
        with unfinished.open("wb") as stream:
            for suite in report.suites:
                for arm in (suite.candidate, suite.baseline):
                    for line in _lines(arm):
                        seen.update(line)
                        stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(path)
    return seen.hexdigest()


def _lines(items: Sequence[Item]) -> Iterator[bytes]:
    rows = items.raw() if isinstance(items, Rows) else (canonical(item.row) for item in items)
    return (row + b"\n" for row in rows)


def _suite_row(evidence: SuiteEvidence) -> Mapping[str, JSON]:
    return {
        "suite": evidence.suite,
        "suite_digest": evidence.suite_digest,
        "judge": evidence.judge,
        "judge_version": evidence.judge_version,
        "metrics": [{"name": m.name, "counts": list(m.counts), "worse": m.worse} for m in evidence.metrics],
        "expected": evidence.expected,
        "controls": list(evidence.controls),
        "controls_failed": list(evidence.controls_failed),
        "error": evidence.error,
        "told": dict(evidence.told),
    }


def read_evidence(folder: Path) -> EvaluationReport:
    """Read a report back from its stored bytes: what a gate decides on.

    Every row is read and checked here; the items are read again from the file whenever they are gone through.

    Raises:
        IntegrityError: when the files do not belong together or cannot be read.
    """
    try:
        content = json.loads((folder / _REPORT).read_bytes())
        arms = _index(folder / _ITEMS, content["items"])
        suites = tuple(_read_suite(row, arms) for row in content["suites"])
        told = {str(name): str(value) for name, value in dict(content.get("generator", {})).items()}
        return EvaluationReport(content["subject"], content["baseline"], suites, told)
    except SafetuneError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(f"evidence {folder.name[:12]} cannot be read: {error}", hint="safetune verify") from error


def _index(path: Path, expected: object) -> dict[tuple[str, str], Lines[Item]]:
    """Return the items by suite and arm; what is wrong with a row matters only in the very file that was judged."""
    file, seen, place = LineFile.stored(path), hashlib.sha256(), 0
    arms: dict[tuple[str, str], Lines[Item]] = {}
    wrong: Exception | None = None
    for line in file.lines():
        seen.update(line)
        try:
            item = _decode(line)
            arm = item.suite, item.arm
            (arms.get(arm) or arms.setdefault(arm, Lines(file, _decode))).note(place, line.removesuffix(b"\n"))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            wrong = wrong or error
        place += len(line)
    if seen.hexdigest() != expected:
        raise IntegrityError(f"evidence {path.parent.name[:12]}: the items are not the ones that were judged")
    if wrong:
        raise wrong
    return arms


def _decode(line: bytes) -> Item:
    item = Item(**json.loads(line.decode()))
    if not isinstance(item.judge_score, int | float) or not math.isfinite(item.judge_score):
        raise ValueError(f"item {item.item_id} has no finite score")
    return item


def _read_suite(row: Mapping[str, JSON], arms: Mapping[tuple[str, str], Sequence[Item]]) -> SuiteEvidence:
    known = dict(row)
    metrics = tuple(Metric(m["name"], tuple(m["counts"]), m["worse"]) for m in known.pop("metrics"))  # type: ignore
    known["controls"] = tuple(known["controls"])  # type: ignore[arg-type]
    known["controls_failed"] = tuple(known["controls_failed"])  # type: ignore[arg-type]
    now, before = (arms.get((str(row["suite"]), arm), ()) for arm in (CANDIDATE, BASELINE))
    return SuiteEvidence(**known, metrics=metrics, candidate=now, baseline=before)  # type: ignore[arg-type]

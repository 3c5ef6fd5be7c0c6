"""Evidence as files: one JSONL row per item, and everything else in evaluation.json."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path

from safetune import __version__
from safetune.core.arms import BRIEF, Arm, Brief, brief_of
from safetune.core.digest import JSON, canonical, json_text
from safetune.core.errors import IntegrityError, SafetuneError
from safetune.core.evidence import BASELINE, CANDIDATE, Cells, EvaluationReport, Item, Judgement, SuiteEvidence
from safetune.core.suite import LABEL, Metric
from safetune.state.atomic import machine_errors, write_atomic
from safetune.state.lines import LineFile, Lines, json_line

_ITEMS, _REPORT = "items.jsonl", "evaluation.json"
_BATCH = 64 * 1024  # bytes of rows that are hashed and written at once


_BRIEF, _OTHERS = itemgetter(*BRIEF), itemgetter("prompt_digest", "output")
Write = Callable[[Cells, str, str, Judgement, str], None]


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

    def writer(self, suite: str, arm: str, judge: str) -> Write:
        """Return what writes one item: cells of its prompt, request digest, response, judgement and language.

        The row is byte for byte that of `add`, put together instead of built. It raises what `add` raises.
        """
        head, by, tail = f'{{"arm":{json_text(arm)},"cluster":', json_text(judge), json_text(suite)

        def write(cells: Cells, key: str, output: str, judgement: Judgement, language: str) -> None:
            row = (
                f'{head}{json_text(cells[3])},"item_id":{json_text(cells[0])},"judge":{by},'
                f'"judge_score":{_number(judgement.score)},"label":{json_text(judgement.label)},'
                f'"language":{json_text(language)},"output":{json_text(output)},"prompt_digest":{json_text(key)},'
                f'"sample":0,"slice":{json_text(cells[2])},"suite":{tail}}}'
            )
            self.append(row.encode())

        return write


def _number(score: float) -> str:
    return repr(score) if type(score) is float and math.isfinite(score) else canonical(score).decode()


class _Stored(Lines[Item]):
    """Items of one arm in the file of evidence, and what a gate needs of them."""

    __slots__ = ("arm",)

    def __init__(self, file: LineFile, arm: Arm) -> None:
        super().__init__(file, _decode)
        self.arm = arm


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
                    for lines in _batches(_rows(arm)):
                        block = b"\n".join((*lines, b""))
                        seen.update(block)
                        stream.write(block)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(path)
    return seen.hexdigest()


def _rows(items: Sequence[Item]) -> Iterator[bytes]:
    return items.raw() if isinstance(items, Rows | _Stored) else (canonical(item.row) for item in items)


def _batches(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield lines in lists of about `_BATCH` bytes."""
    batch: list[bytes] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _suite_row(evidence: SuiteEvidence) -> Mapping[str, JSON]:
    return {
        "suite": evidence.suite,
        "suite_digest": evidence.suite_digest,
        "judge": evidence.judge,
        "judge_version": evidence.judge_version,
        "metrics": [{**m.identity, "counts": list(m.counts)} for m in evidence.metrics],
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
        arms = _index(folder / _ITEMS, content["items"], paired=bool(content["baseline"]))
        suites = tuple(_read_suite(row, arms) for row in content["suites"])
        told = {str(name): str(value) for name, value in dict(content.get("generator", {})).items()}
        return EvaluationReport(content["subject"], content["baseline"], suites, told)
    except SafetuneError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(f"evidence {folder.name[:12]} cannot be read: {error}", hint="safetune verify") from error


def _index(path: Path, expected: object, *, paired: bool) -> dict[tuple[str, str], _Stored]:
    """Return the items by suite and arm; what is wrong with a row matters only in the very file that was judged."""
    file, seen, place = LineFile.stored(path), hashlib.sha256(), 0
    arms: dict[tuple[str, str], _Stored] = {}
    wrong: Exception | None = None
    for lines in _batches(file.lines()):
        seen.update(b"".join(lines))
        for line in lines:
            try:
                brief, asked = _read(line)
                found = arms.get(brief[-2:])
                if found is None:
                    found = _arm(file, arms, brief[-2:], paired=paired)
                found.arm.take(brief, asked)
                found.note(place, line.removesuffix(b"\n"))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                wrong = wrong or error
            place += len(line)
    if seen.hexdigest() != expected:
        raise IntegrityError(f"evidence {path.parent.name[:12]}: the items are not the ones that were judged")
    if wrong:
        raise wrong
    return arms


def _arm(file: LineFile, arms: dict[tuple[str, str], _Stored], key: tuple[str, str], *, paired: bool) -> _Stored:
    """Put an empty arm among others; only where there are `paired` arms it matters what exactly each was asked."""
    like = arms.get((key[0], CANDIDATE))
    arms[key] = made = _Stored(file, Arm(*key, like.arm if like is not None else None, paired=paired))
    return made


def _read(line: bytes) -> tuple[Brief, str]:
    """Return what a gate needs of a row, and the digest of what was asked; a row that is no item is refused."""
    row = json_line(line.decode())
    if isinstance(row, dict) and len(row) == len(Item.__slots__):
        try:  # where all of them are there, nothing else is
            brief, (asked, _) = _BRIEF(row), _OTHERS(row)
        except KeyError:
            pass
        else:
            _check_score(brief[0], brief[6])
            return brief, asked
    item = _decode(line)  # it says what is wrong, or knows a row of an older form
    return brief_of(item), item.prompt_digest


def _decode(line: bytes) -> Item:
    item = Item(**json_line(line.decode()))
    _check_score(item.item_id, item.judge_score)
    return item


def _check_score(item_id: str, score: object) -> None:
    try:
        finite = isinstance(score, int | float) and math.isfinite(score)
    except OverflowError:  # a whole number beyond all floats
        finite = False
    if not finite:
        raise ValueError(f"item {item_id} has no finite score")


def _read_suite(row: Mapping[str, JSON], arms: Mapping[tuple[str, str], Sequence[Item]]) -> SuiteEvidence:
    known = dict(row)
    metrics = tuple(
        Metric(m["name"], tuple(m["counts"]), m["worse"], m.get("of", LABEL))  # type: ignore
        for m in known.pop("metrics")  # type: ignore
    )
    known["controls"] = tuple(known["controls"])  # type: ignore[arg-type]
    known["controls_failed"] = tuple(known["controls_failed"])  # type: ignore[arg-type]
    now, before = (arms.get((str(row["suite"]), arm), ()) for arm in (CANDIDATE, BASELINE))
    return SuiteEvidence(**known, metrics=metrics, candidate=now, baseline=before)  # type: ignore[arg-type]

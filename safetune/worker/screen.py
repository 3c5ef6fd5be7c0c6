"""The screening job: the model that is to be trained scores the rows it would be trained on."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetune.core.digest import JSON, canonical, sha256_hex
from safetune.core.errors import RunError, UsageError
from safetune.core.rows import COMPLETION, MESSAGES, PREFERENCE, problem
from safetune.plugins import load as load_plugin
from safetune.protocols import Screen, ScreenSetup
from safetune.state.atomic import write_atomic
from safetune.worker import wording
from safetune.worker.model import load, quiet
from safetune.worker.reporter import Reporter
from safetune.worker.rows import NumberedRow, Row, read_rows

SCORES, PARTIAL = "scores.jsonl", "scores.partial.jsonl"

_AT_ONCE = 64  # rows between two writes: what a kill costs at most
_LIBRARIES = ("torch", "transformers")
_QUANTILES = {"min": 0.0, "p25": 0.25, "median": 0.5, "p75": 0.75, "p90": 0.9, "p99": 0.99, "max": 1.0}


def screen(job: Mapping[str, Any], reporter: Reporter) -> Mapping[str, JSON]:
    """Score every row of the job's sources, in file order, into `scores.jsonl`; return figures of the scores.

    Scores are appended to a partial file every 64 rows. A job that was interrupted goes on behind the last whole 64
    when the partial file was begun for the same job by the same versions, and starts again otherwise; what comes out is
    the same, because which rows are computed together depends on their place alone. Rows are put into the words of the
    job's `prompt` (system message, chat template), as they are for training.

    Raises:
        UsageError: when an option, a row, the anchors or the model cannot be used.
        RunError: when a row cannot be scored.
    """
    started = time.monotonic()
    name = str(job["screen"])
    plugin: Screen = load_plugin("screen", name, job["options"])  # type: ignore[assignment]
    rows = [(row.id, row.content) for source in job["rows"] for row in _rows(job, source)]
    anchors = _anchors(job, plugin)
    output = Path(job["output"])
    output.mkdir(parents=True, exist_ok=True)
    partial = _Partial(output / PARTIAL, _identity(job, plugin), [row_id for row_id, _ in rows])
    resumed = len(partial.scores)
    if resumed < len(rows):
        quiet(int(job["threads"]))
        model, tokenizer = _load(job)
        plugin.prepare(ScreenSetup(model, tokenizer, anchors, int(job["seed"])))
        _score(plugin, rows, partial, reporter)
    lines = [canonical({"id": row_id, "score": s}) for (row_id, _), s in zip(rows, partial.scores, strict=True)]
    write_atomic(output / SCORES, b"".join(line + b"\n" for line in lines))
    partial.remove()
    return {
        "output": str(output / SCORES),
        "screen": {"name": plugin.name, "version": plugin.version},
        "n": len(rows),
        "resumed_from": resumed,
        "seconds": round(time.monotonic() - started, 3),
        "quantiles": _quantiles(partial.scores),
        "versions": {library: version(library) for library in _LIBRARIES},
    }


def _score(plugin: Screen, rows: Sequence[tuple[str, Row]], partial: _Partial, reporter: Reporter) -> None:
    """Score what the partial file lacks."""
    began, first = time.monotonic(), len(partial.scores)
    for start in range(first, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        partial.append(_checked(plugin, some))
        done = start + len(some)
        rate = round((done - first) / max(time.monotonic() - began, 1e-9), 1)
        reporter.say("screened", subject=plugin.name, done=done, total=len(rows), rows_per_s=rate)


def _checked(plugin: Screen, rows: Sequence[tuple[str, Row]]) -> list[float]:
    """Return the scores of some rows; of rows that fail together, the first that fails alone is named."""
    try:
        return _finite(plugin, rows)
    except RunError:
        for row in rows:
            try:
                _finite(plugin, [row])
            except RunError as error:
                raise RunError(f"row {row[0]}: {error.message}", hint=error.hint) from error
        raise


def _finite(plugin: Screen, rows: Sequence[tuple[str, Row]]) -> list[float]:
    scores = [float(score) for score in plugin.score([row for _, row in rows])]
    if len(scores) != len(rows):
        raise RunError(f"the screen {plugin.name} gave {len(scores)} scores for {len(rows)} rows")
    if not all(math.isfinite(score) for score in scores):
        raise RunError(f"the screen {plugin.name} gave a score that is not a finite number")
    return scores


def _rows(job: Mapping[str, Any], source: Mapping[str, Any]) -> tuple[NumberedRow, ...]:
    """Return the rows of a source as training would put them: with the system message of the job's `prompt`."""
    return wording.worded(job, read_rows(source, _problem))


def _problem(row: Row) -> str:
    return problem(row, COMPLETION, MESSAGES, PREFERENCE)


def _anchors(job: Mapping[str, Any], plugin: Screen) -> Mapping[str, Sequence[Row]]:
    if not plugin.needs_anchors:
        return {"harmful": (), "safe": ()}
    given = job.get("anchors")
    if not given:
        raise UsageError(
            f"screen {plugin.name} needs anchors: harmful requests that were answered, and the same ones refused",
            hint="name two sources as its `anchors`: harmful and safe",
        )
    return {kind: [row.content for row in _rows(job, given[kind])] for kind in ("harmful", "safe")}


def _load(job: Mapping[str, Any]) -> tuple[object, object]:
    import torch

    model, tokenizer = load(job["model"])
    wording.use(job, tokenizer)
    if not tokenizer.chat_template:
        raise UsageError("the model has no chat template, so rows of messages cannot be put into words for it")
    moved: Any = model
    return moved.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def _identity(job: Mapping[str, Any], plugin: Screen) -> str:
    """Return the digest of all that the scores depend on."""
    asked: dict[str, JSON] = {name: value for name, value in job.items() if name not in ("output", "threads")}
    return sha256_hex(canonical({**asked, "version": plugin.version, **{name: version(name) for name in _LIBRARIES}}))


def _quantiles(scores: Sequence[float]) -> dict[str, JSON]:
    """Return quantiles by nearest rank."""
    ordered = sorted(scores)
    return {name: ordered[max(0, math.ceil(p * len(ordered)) - 1)] for name, p in _QUANTILES.items()}


class _Partial:
    """The scores so far: a line that says which job they are of, then one line per row."""

    def __init__(self, path: Path, identity: str, ids: Sequence[str]) -> None:
        self._path, self._ids = path, ids
        self._head = canonical({"job": identity}) + b"\n"
        lines = self._lines()
        kept = len(lines) // _AT_ONCE * _AT_ONCE  # the next rows must be computed together with the same ones
        self.scores = [score for _, score in lines[:kept]]
        write_atomic(path, self._head + self._written(0))

    def append(self, scores: Sequence[float]) -> None:
        """Add the scores of the next rows; they are on disk when this returns."""
        before = len(self.scores)
        self.scores += scores
        with self._path.open("ab") as stream:
            stream.write(self._written(before))
            stream.flush()
            os.fsync(stream.fileno())

    def remove(self) -> None:
        """Remove the file, now that the scores are elsewhere."""
        self._path.unlink(missing_ok=True)

    def _written(self, start: int) -> bytes:
        pairs = zip(self._ids[start:], self.scores[start:], strict=False)
        return b"".join(canonical({"id": row_id, "score": score}) + b"\n" for row_id, score in pairs)

    def _lines(self) -> list[tuple[str, float]]:
        """Return the whole lines that are of this job and of its rows, in order, up to the first that is not."""
        data = self._path.read_bytes() if self._path.exists() else b""
        found: list[tuple[str, float]] = []
        if not data.startswith(self._head):
            return found
        for line in data[len(self._head) :].split(b"\n")[:-1]:
            try:
                row = json.loads(line)
                row_id, score = str(row["id"]), float(row["score"])
            except (ValueError, KeyError, TypeError):
                break
            if len(found) == len(self._ids) or row_id != self._ids[len(found)] or not math.isfinite(score):
                break
            found.append((row_id, score))
        return found
